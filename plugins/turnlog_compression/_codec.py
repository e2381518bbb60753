"""Codecs: their ids in envelopes, and the base class of the compressors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from turnlog.payload import codec_of

GZIP: Final = 1
ZSTD: Final = 2
ZSTD_WITH_DICTIONARY: Final = 3
"""The codec ids (`turnlog.payload.CODECS`)."""


class Unreadable(Exception):
    """A body cannot be decompressed; the message says why."""


class DictionaryMissing(Exception):
    """A body needs a dictionary that is not in memory.

    Attributes:
        id: The dictionary's id.
    """

    def __init__(self, id: int) -> None:
        super().__init__(f"dictionary {id} is missing")
        self.id = id


class Codec(ABC):
    """A compression format with its parameters, such as a level."""

    id: int
    """The codec id in the envelope."""

    floors: tuple[int, int] = 4096, 1024
    """Bytes: smaller payloads stay plain.  The first is for one or two messages, the second for more.

    A question with its answer is prose, and short prose shrinks by less than 40 %; the lists and objects of tool
    results shrink sooner.  Measured on 1,510 turns of real conversations: 4,096 compresses 32 % of them and saves as
    much as 256, which compresses 81 %.
    """

    slow: ClassVar[int]
    """Bytes that take about a millisecond to compress: larger work is done in a thread."""

    @abstractmethod
    def compress(self, body: bytes) -> bytes:
        """Return a plain body, compressed."""

    def wrote(self, payload: bytes) -> bool:
        """Return whether a payload was written with this codec; levels are not distinguished."""
        return codec_of(payload) == self.id

    @abstractmethod
    def __str__(self) -> str:
        """Return the name of the codec and its parameters."""

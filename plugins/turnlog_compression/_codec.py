"""Codec ids in envelopes, and the base class of the codecs."""

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
    """Smallest payloads that are compressed, in bytes: with one or two messages, and with more messages.

    A question and its answer are prose, and short prose shrinks by less than 40 %.  The lists and objects of tool
    results shrink already at smaller sizes.  Measured on 1,510 turns of real conversations: 4,096 compresses 32 % of
    them and saves as much as 256, which compresses 81 %.
    """

    slow: ClassVar[int]
    """Number of bytes that take about a millisecond to compress; more bytes are compressed in a thread."""

    @abstractmethod
    def compress(self, body: bytes) -> bytes:
        """Compress a plain body."""

    def wrote(self, payload: bytes) -> bool:
        """Return whether a payload was written with this codec; levels are not distinguished."""
        return codec_of(payload) == self.id

    @abstractmethod
    def __str__(self) -> str:
        """Return the name of the codec and its parameters."""

"""Codecs: the ids in envelopes, and what compresses a body."""

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
    """A body needs a dictionary that was not fetched.

    Attributes:
        id: The dictionary's id.
    """

    def __init__(self, id: int) -> None:
        super().__init__(f"dictionary {id} is not there")
        self.id = id


class Codec(ABC):
    """A way to write a body, with all that it depends on, such as a level."""

    id: int
    """As the envelope names it."""

    floors: tuple[int, int] = 4096, 1024
    """Bytes: a smaller payload is left plain; the first is for one or two messages, the second for more.

    A question with its answer is prose, which shrinks by less than 40 % while it is short; tools answer in lists and
    objects, which repeat themselves.  On 1,510 turns of real conversations 4,096 tries 32 % of them and saves as much
    as 256, which tries 81 %.
    """

    slow: ClassVar[int]
    """Bytes that take about a millisecond to compress: more is done off the event loop."""

    @abstractmethod
    def compress(self, body: bytes) -> bytes:
        """A plain body, written with this codec."""

    def wrote(self, payload: bytes) -> bool:
        """Whether a payload is written with this codec; levels are not told apart."""
        return codec_of(payload) == self.id

    @abstractmethod
    def __str__(self) -> str:
        """The codec and all that it depends on."""

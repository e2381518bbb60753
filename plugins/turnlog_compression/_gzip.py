"""gzip (RFC 1952): the codec that needs no third-party package."""

from __future__ import annotations

import zlib
from typing import ClassVar, Final

from turnlog import Backend
from turnlog.errors import InvalidInput

from ._codec import GZIP, Codec
from ._layer import CompressionLayer

_WBITS: Final = 31  # zlib's value for a window of 32 KiB in the gzip format


class _Gzip(Codec):
    id = GZIP
    slow: ClassVar[int] = 32 * 1024

    def __init__(self, level: int) -> None:
        self._level = level

    def compress(self, body: bytes) -> bytes:
        return zlib.compress(body, self._level, _WBITS)

    def __str__(self) -> str:
        return f"gzip {self._level}"


class GzipLayer(CompressionLayer):
    """A layer that writes gzip.

    It needs no third-party package.  `zstd` is several times faster, with similar sizes.

    Args:
        inner: The backend to wrap.
        level: The compression level, 1 (fastest) to 9 (smallest).
        seal: Seal old turns in the background, 32 in a record.

    Raises:
        InvalidInput: An argument breaks a rule, or a layer in `inner` must be outside of this one.
    """

    def __init__(self, inner: Backend, *, level: int = 6, seal: bool = True) -> None:
        if type(level) is not int or not 1 <= level <= 9:
            raise InvalidInput(f"level must be a whole number from 1 to 9, not {level!r}")
        super().__init__(inner, _Gzip(level), seal=seal)

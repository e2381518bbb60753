"""Decompression with bounds: no size that is read from data decides how much memory is allocated.

A body states its decompressed size, and so does the envelope.  Both are compared with each other and with the limit
before anything is decompressed; then one call is made that cannot return more than that.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

from turnlog import Record
from turnlog.errors import CorruptRecord, PluginError
from turnlog.payload import PLAIN, rewrap, unwrap

from ._codec import GZIP, ZSTD, ZSTD_WITH_DICTIONARY, DictionaryMissing, Unreadable

if TYPE_CHECKING:
    from ._zstd import Dictionary

_TRAILER: Final = 4  # ISIZE, the last bytes of gzip: the size, modulo 2**32 (RFC 1952, section 2.3.1)
_LEAST: Final = 18  # bytes of gzip's header and trailer
_CHUNK: Final = 256 * 1024  # zlib holds a result twice while it puts it together: never much at once


def decompressed(record: Record, dictionaries: Mapping[int, Dictionary], *, fetched: bool) -> Record:
    """Return a record with a plain payload; one that cannot be decompressed raises when its messages are read.

    Args:
        record: A compressed one.
        dictionaries: By id.
        fetched: Whether these are all there are.

    Raises:
        DictionaryMissing: It needs one that may be there, and was not fetched.
        PluginError: It needs a package that is not installed.
    """
    payload = record.payload
    try:
        codec, size, body = unwrap(payload)
    except CorruptRecord:
        return record  # it says so itself
    opener = _OPENERS.get(codec)
    if opener is None:
        return record  # the same
    try:
        raw = opener(body, size, dictionaries)
    except DictionaryMissing as missing:
        if not fetched:
            raise
        return record.damaged(f"a record is compressed with dictionary {missing.id}, which is not there")
    except Unreadable as error:
        return record.damaged(f"a compressed record cannot be opened: {error}")
    return record.with_payload(rewrap(payload, PLAIN, raw))


def _open_gzip(body: bytes, size: int, _: Mapping[int, Dictionary]) -> bytes:
    if len(body) < _LEAST:
        raise Unreadable(f"gzip takes at least {_LEAST} bytes, {len(body)} are there")
    stated = int.from_bytes(body[-_TRAILER:], "little")
    if stated != size:
        raise Unreadable(f"gzip says that it holds {stated} bytes, the envelope says {size}")
    expander = zlib.decompressobj(31)
    parts: list[bytes] = []
    try:
        while not expander.eof and size >= 0:
            part = expander.decompress(expander.unconsumed_tail if parts else body, min(size + 1, _CHUNK))
            if not part and not expander.eof:
                raise Unreadable("gzip ends too early")
            parts.append(part)
            size -= len(part)
    except zlib.error as error:
        raise Unreadable(f"gzip is damaged: {error}") from None
    if size != 0 or not expander.eof or expander.unused_data:
        raise Unreadable("gzip does not hold as many bytes as it says")
    return parts[0] if len(parts) == 1 else b"".join(parts)


@cache
def _zstd() -> Callable[[bytes, int, Mapping[int, Dictionary]], bytes]:
    try:
        from ._zstd import expand
    except ImportError:
        raise PluginError("a record is compressed with zstd: pip install 'turnlog[zstd]' to read it") from None
    return expand


def _open_zstd(body: bytes, size: int, dictionaries: Mapping[int, Dictionary]) -> bytes:
    return _zstd()(body, size, dictionaries)


_OPENERS: Final = {GZIP: _open_gzip, ZSTD: _open_zstd, ZSTD_WITH_DICTIONARY: _open_zstd}

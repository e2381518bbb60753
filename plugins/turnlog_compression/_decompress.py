"""Bounded decompression: stored data cannot make it allocate more than the limit of a payload.

The body and the envelope both state the decompressed size.  Before the decompression, the two sizes are compared with
each other and with the limit.  The decompressor stops at the stated size.
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
_CHUNK: Final = 256 * 1024  # zlib copies each result while it assembles it: small results limit the memory


def decompressed(record: Record, dictionaries: Mapping[int, Dictionary], *, fetched: bool) -> Record:
    """Return a record with a plain payload.

    If the record cannot be decompressed, the messages of the returned record raise `CorruptRecord`.

    Args:
        record: A compressed record.
        dictionaries: The dictionaries in memory, by id.
        fetched: Whether `dictionaries` has all stored dictionaries.

    Raises:
        DictionaryMissing: The record needs a dictionary that may be stored, but is not in memory.
        PluginError: The record needs a package that is not installed.
    """
    payload = record.payload
    try:
        codec, size, body = unwrap(payload)
    except CorruptRecord:
        return record  # its `messages` raise the same error
    expand = _EXPANDERS.get(codec)
    if expand is None:
        return record  # its `messages` raise an error that names the codec
    try:
        raw = expand(body, size, dictionaries)
    except DictionaryMissing as missing:
        if not fetched:
            raise
        return record.damaged(f"a record is compressed with dictionary {missing.id}, which is not stored")
    except Unreadable as error:
        return record.damaged(f"a stored record is damaged: it cannot be decompressed ({error})")
    return record.with_payload(rewrap(payload, PLAIN, raw))


def _expand_gzip(body: bytes, size: int, _: Mapping[int, Dictionary]) -> bytes:
    if len(body) < _LEAST:
        raise Unreadable(f"a gzip body has at least {_LEAST} bytes, this one has {len(body)}")
    stated = int.from_bytes(body[-_TRAILER:], "little")
    if stated != size:
        raise Unreadable(f"the gzip trailer states {stated} bytes, the envelope states {size}")
    expander = zlib.decompressobj(31)
    parts: list[bytes] = []
    try:
        while not expander.eof and size >= 0:
            part = expander.decompress(expander.unconsumed_tail if parts else body, min(size + 1, _CHUNK))
            if not part and not expander.eof:
                raise Unreadable("the gzip body is truncated")
            parts.append(part)
            size -= len(part)
    except zlib.error as error:
        raise Unreadable(f"the gzip body is damaged: {error}") from None
    if size != 0 or not expander.eof or expander.unused_data:
        raise Unreadable("the gzip body does not have the number of bytes that its trailer states")
    return parts[0] if len(parts) == 1 else b"".join(parts)


@cache
def _zstd() -> Callable[[bytes, int, Mapping[int, Dictionary]], bytes]:
    try:
        from ._zstd import expand
    except ImportError:
        raise PluginError("a record is compressed with zstd: pip install 'turnlog[zstd]' to read it") from None
    return expand


def _expand_zstd(body: bytes, size: int, dictionaries: Mapping[int, Dictionary]) -> bytes:
    return _zstd()(body, size, dictionaries)


_EXPANDERS: Final = {GZIP: _expand_gzip, ZSTD: _expand_zstd, ZSTD_WITH_DICTIONARY: _expand_zstd}

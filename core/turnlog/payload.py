"""The envelope around a record's body, version 1: what a layer that compresses or encrypts opens and makes anew.

offset  bytes  field
0       2      magic C1 54: MessagePack never uses C1, so an envelope is never taken for a bare value
2       1      format version: 1
3       1      codec id: how the body is written
4       4      length of the plain body, big-endian
8       4      CRC-32 (zlib's) over bytes 4 to 7 and the plain body, big-endian
12      -      body

Length and digest are those of the plain body, whatever the codec: who compresses a payload carries them over, and who
reads it in the end checks them.  Specified, with what is in a body, in `docs/reference/format.md`.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

from .errors import CorruptRecord, FormatTooNew, TooLarge
from .limits import MAX_PAYLOAD_BYTES

__all__ = [
    "CODECS",
    "HEAD",
    "PLAIN",
    "Envelope",
    "checked_body",
    "codec_of",
    "plain_body",
    "plain_size",
    "rewrap",
    "unwrap",
    "wrap",
]

HEAD: Final = 12
"""Bytes of an envelope before its body."""

PLAIN: Final = 0
"""The codec of a body that is as it was encoded."""

CODECS: Final = {1: "gzip", 2: "zstd", 3: "zstd"}
"""The other codec ids, and the layer that reads each; 128 to 255 are free for private use."""

_MAGIC: Final = b"\xc1\x54"
_FORMAT: Final = 1
_START: Final = _MAGIC + bytes([_FORMAT])
_STARTS: Final = [_START + bytes([codec]) for codec in range(256)]
_PLAIN: Final = _STARTS[PLAIN]
_HEAD = struct.Struct(">4sII")


class Envelope(NamedTuple):
    """What stands around a body.

    Attributes:
        codec: How the body is written.
        size: Bytes of the plain body; at most 16 MiB.
        body: All that follows.
    """

    codec: int
    size: int
    body: bytes


def codec_of(payload: bytes) -> int:
    """Return the codec of a payload, unchecked; `PLAIN` if it is too short to say."""
    return payload[3] if len(payload) > 3 else PLAIN


def plain_size(payload: bytes) -> int:
    """Return the bytes that a payload takes once its body is plain, as its envelope states them, unchecked."""
    if codec_of(payload) == PLAIN:
        return len(payload)
    return HEAD + min(int.from_bytes(payload[4:8]), MAX_PAYLOAD_BYTES)


def wrap(raw: bytes, codec: int = PLAIN) -> bytes:
    """Return a payload: an envelope around an encoded body.

    Args:
        raw: The plain body; with another codec, the bytes that the envelope's length and digest are of.
        codec: How the body is written.

    Raises:
        TooLarge: More than 16 MiB.
    """
    size = len(raw)
    if size > MAX_PAYLOAD_BYTES:
        raise TooLarge(
            f"a record takes {size} bytes encoded, the limit is {MAX_PAYLOAD_BYTES}: split the turn into rounds"
        )
    length = size.to_bytes(4)
    return b"%b%b%b%b" % (_STARTS[codec], length, crc32(raw, crc32(length)).to_bytes(4), raw)


def rewrap(payload: bytes, codec: int, body: bytes) -> bytes:
    """Return a payload whose body is written with another codec; the length and digest of the plain body stay."""
    return b"%b%b%b" % (_STARTS[codec], payload[4:12], body)


def unwrap(payload: bytes) -> Envelope:
    """Return the envelope, checked as far as it can be before the body is read.

    Raises:
        FormatTooNew: Written by a newer turnlog.
        CorruptRecord: Not an envelope, cut short, or larger than the limit.
    """
    if len(payload) < HEAD:
        raise CorruptRecord(f"a record of {len(payload)} bytes is cut short: an envelope alone takes {HEAD}")
    size = int.from_bytes(payload[4:8])
    if payload[:3] != _START:
        if payload[:2] != _MAGIC:
            raise CorruptRecord(
                f"a record begins with {payload[:2].hex()}, not with {_MAGIC.hex()}: turnlog did not write it, or it "
                "was damaged"
            )
        if payload[2] > _FORMAT:
            raise FormatTooNew(
                f"a record is of format {payload[2]}, this turnlog reads up to {_FORMAT}: upgrade turnlog"
            )
        raise CorruptRecord(f"a record is of format {payload[2]}, which never was")
    if size > MAX_PAYLOAD_BYTES:
        raise CorruptRecord(f"a record says that it takes {size} bytes, the limit is {MAX_PAYLOAD_BYTES}")
    return Envelope(payload[3], size, payload[HEAD:])


def plain_body(payload: bytes) -> bytes:
    """Return the body of a plain payload, checked.

    Raises:
        FormatTooNew: A newer turnlog wrote it.
        CorruptRecord: It is cut short, damaged, compressed, or something else.
    """
    body, size = payload[HEAD:], len(payload) - HEAD
    if 0 <= size <= MAX_PAYLOAD_BYTES and _HEAD.unpack_from(payload) == (
        _PLAIN,
        size,
        crc32(body, crc32(payload[4:8])),
    ):
        return body
    envelope = unwrap(payload)
    if envelope.codec != PLAIN:
        layer = CODECS.get(envelope.codec)
        if layer is None:
            raise CorruptRecord(
                f"a record is written with codec {envelope.codec}, which is not known here: add the layer that wrote it"
            )
        raise CorruptRecord(f"a record is compressed with {layer}: add the layer {layer!r} to read it")
    return checked_body(payload)


def checked_body(payload: bytes) -> bytes:
    """Return the body of a payload whose length and digest are of the body as it is written.

    Raises:
        FormatTooNew: A newer turnlog wrote it.
        CorruptRecord: It is cut short, damaged, or something else.
    """
    envelope = unwrap(payload)
    size = len(envelope.body)
    if size != envelope.size:
        raise CorruptRecord(
            f"a record holds {size} bytes of the {envelope.size} that it says: it was cut short, or grew"
        )
    if crc32(envelope.body, crc32(payload[4:8])) != int.from_bytes(payload[8:HEAD]):
        raise CorruptRecord("a record's digest does not fit its contents: it was damaged")
    return envelope.body

"""The envelope around a record's body, version 1, which layers for compression and encryption replace.

offset  bytes  field
0       2      magic C1 54: MessagePack never uses C1, so an envelope differs from every bare value
2       1      format version: 1
3       1      codec id of the body
4       4      length of the plain body, big-endian
8       4      CRC-32 (zlib's) over bytes 4 to 7 and the plain body, big-endian
12      -      body

Length and digest are those of the plain body, with every codec.  Compression keeps them, and the reader checks them
after decompression.  `docs/reference/format.md` specifies the envelope and the body.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

from .errors import CorruptRecord, FormatTooNew, LayerMissing, TooLarge
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
"""Number of bytes of an envelope before its body."""

PLAIN: Final = 0
"""The codec id of a plain body."""

CODECS: Final = {1: "gzip", 2: "zstd", 3: "zstd"}
"""The other codec ids, and the layer that reads each; 128 to 255 are free for private use."""

_MAGIC: Final = b"\xc1\x54"
_FORMAT: Final = 1
_START: Final = _MAGIC + bytes([_FORMAT])
_STARTS: Final = [_START + bytes([codec]) for codec in range(256)]
_PLAIN: Final = _STARTS[PLAIN]
_HEAD = struct.Struct(">4sII")


class Envelope(NamedTuple):
    """The parts of an envelope.

    Attributes:
        codec: The codec id of the body.
        size: Number of bytes of the plain body; at most 16 MiB.
        body: The body.
    """

    codec: int
    size: int
    body: bytes


def codec_of(payload: bytes) -> int:
    """Return the codec id of a payload, unchecked; `PLAIN` if the payload is too short."""
    return payload[3] if len(payload) > 3 else PLAIN


def plain_size(payload: bytes) -> int:
    """Return the size of a payload with its plain body, as its envelope states it, unchecked."""
    if codec_of(payload) == PLAIN:
        return len(payload)
    return HEAD + min(int.from_bytes(payload[4:8]), MAX_PAYLOAD_BYTES)


def wrap(raw: bytes, codec: int = PLAIN) -> bytes:
    """Return a payload: an envelope around an encoded body.

    Args:
        raw: The encoded body; the envelope states its length and digest.
        codec: The codec id of the body.

    Raises:
        TooLarge: The body is larger than 16 MiB.
    """
    size = len(raw)
    if size > MAX_PAYLOAD_BYTES:
        raise TooLarge(
            f"the messages of a turn take {size} bytes encoded, and the limit is {MAX_PAYLOAD_BYTES}: store large "
            "content elsewhere, or write a turn of several messages in rounds with write_turn"
        )
    length = size.to_bytes(4)
    return b"%b%b%b%b" % (_STARTS[codec], length, crc32(raw, crc32(length)).to_bytes(4), raw)


def rewrap(payload: bytes, codec: int, body: bytes) -> bytes:
    """Return a payload with the body in another codec; the length and digest of the plain body stay."""
    return b"%b%b%b" % (_STARTS[codec], payload[4:12], body)


def unwrap(payload: bytes) -> Envelope:
    """Return the envelope of a payload, after all checks that do not need the body.

    Raises:
        FormatTooNew: A newer turnlog wrote it.
        CorruptRecord: It is not an envelope, is cut short, or states a length over the limit.
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
        raise CorruptRecord(f"a record is of format {payload[2]}, which does not exist")
    if size > MAX_PAYLOAD_BYTES:
        raise CorruptRecord(f"a record states a length of {size} bytes, the limit is {MAX_PAYLOAD_BYTES}")
    return Envelope(payload[3], size, payload[HEAD:])


def plain_body(payload: bytes) -> bytes:
    """Return the body of a plain payload, checked.

    Raises:
        FormatTooNew: A newer turnlog wrote it.
        LayerMissing: It is compressed or encrypted.
        CorruptRecord: It is cut short, damaged, or not an envelope.
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
            raise LayerMissing(
                f"a record is encoded with codec {envelope.codec}, which is unknown: add the layer that wrote it"
            )
        raise LayerMissing(f"a record is compressed with {layer}: to read it, open the store with ?layers={layer}")
    return checked_body(payload)


def checked_body(payload: bytes) -> bytes:
    """Return the body of a payload whose envelope states the length and digest of the stored body.

    Raises:
        FormatTooNew: A newer turnlog wrote it.
        CorruptRecord: It is cut short, damaged, or not an envelope.
    """
    envelope = unwrap(payload)
    size = len(envelope.body)
    if size != envelope.size:
        raise CorruptRecord(
            f"a record holds {size} bytes, its envelope states {envelope.size}: it was cut short, or extended"
        )
    if crc32(envelope.body, crc32(payload[4:8])) != int.from_bytes(payload[8:HEAD]):
        raise CorruptRecord("a stored record is damaged: its checksum does not match")
    return envelope.body

"""The payload format, version 1: an envelope around MessagePack.  Specified in `docs/reference/format.md`.

offset  bytes  field
0       2      magic C1 54: MessagePack never uses C1, so an envelope is never taken for a bare value
2       1      format version: 1
3       1      codec id: how the body is compressed
4       4      length of the body before compression, big-endian
8       4      CRC-32 (zlib's) over bytes 0 to 7 and the body before compression, big-endian
12      -      body
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from .errors import CorruptRecord, FormatTooNew, TooLarge
from .limits import MAX_PAYLOAD_BYTES
from .message import Message

MAGIC: Final = b"\xc1\x54"
FORMAT: Final = 1
PLAIN: Final = 0
CODECS: Final = {PLAIN: "plain", 1: "gzip", 2: "zstd"}
"""Codec ids and the layers that read them; 128 to 255 are free for private use."""

_PLAIN = MAGIC + bytes([FORMAT, PLAIN])
_FAST = struct.Struct(">4sII")
_HEAD = struct.Struct(">2sBBII")
_START = struct.Struct(">2sBBI")


class Round(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One round inside a sealed record, as it is encoded."""

    id: str
    part: int
    open: bool
    time: float
    messages: tuple[Message, ...]


class Envelope(NamedTuple):
    """What stands around a body."""

    codec: int
    size: int
    digest: int
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_messages = msgspec.msgpack.Decoder(tuple[Message, ...]).decode
_decode_rounds = msgspec.msgpack.Decoder(tuple[Round, ...]).decode


def encode(body: tuple[Message, ...] | tuple[Round, ...]) -> bytes:
    """The plain payload of a round's messages, or of a sealed run's rounds.

    Raises:
        TooLarge: More than 16 MiB.
    """
    return wrap(_encode(body))


def wrap(raw: bytes) -> bytes:
    """A plain envelope around an encoded body."""
    size = len(raw)
    if size > MAX_PAYLOAD_BYTES:
        raise TooLarge(
            f"a record takes {size} bytes encoded, the limit is {MAX_PAYLOAD_BYTES}: split the turn into rounds"
        )
    start = _START.pack(MAGIC, FORMAT, PLAIN, size)
    return b"%b%b%b" % (start, crc32(raw, crc32(start)).to_bytes(4), raw)


def unwrap(payload: bytes) -> Envelope:
    """The envelope, checked as far as it can be before the body is decompressed.

    Raises:
        FormatTooNew: Written by a newer turnlog.
        CorruptRecord: Not an envelope, cut short, or larger than the limit.
    """
    if len(payload) < _HEAD.size:
        raise CorruptRecord(f"a record of {len(payload)} bytes is cut short: an envelope alone takes {_HEAD.size}")
    magic, version, codec, size, digest = _HEAD.unpack_from(payload)
    if magic != MAGIC:
        raise CorruptRecord(
            f"a record begins with {magic.hex()}, not with {MAGIC.hex()}: turnlog did not write it, or it was damaged"
        )
    if version > FORMAT:
        raise FormatTooNew(f"a record is of format {version}, this turnlog reads up to {FORMAT}: upgrade turnlog")
    if version < FORMAT:
        raise CorruptRecord(f"a record is of format {version}, which never was")
    if size > MAX_PAYLOAD_BYTES:
        raise CorruptRecord(f"a record says that it takes {size} bytes, the limit is {MAX_PAYLOAD_BYTES}")
    return Envelope(codec, size, digest, payload[_HEAD.size :])


def _checked(payload: bytes) -> bytes:
    codec, size, digest, body = unwrap(payload)
    if codec != PLAIN:
        name = CODECS.get(codec)
        if name is None:
            raise CorruptRecord(
                f"a record is written with codec {codec}, which is not known here: add the layer that wrote it"
            )
        raise CorruptRecord(f"a record is compressed with {name}: add the layer {name!r} to read it")
    if len(body) != size:
        raise CorruptRecord(f"a record holds {len(body)} bytes of the {size} that it says: it was cut short, or grew")
    if crc32(body, crc32(payload[:8])) != digest:
        raise CorruptRecord("a record's digest does not fit its contents: it was damaged")
    return body


def decode_messages(payload: bytes) -> tuple[Message, ...]:
    """The messages of one round.

    Raises:
        CorruptRecord: Cut short, damaged, compressed, or something else.
    """
    body, size = payload[12:], len(payload) - 12
    if not 0 <= size <= MAX_PAYLOAD_BYTES or _FAST.unpack_from(payload) != (
        _PLAIN,
        size,
        crc32(body, crc32(payload[:8])),
    ):
        body = _checked(payload)  # which says what is wrong
    try:
        return _decode_messages(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecord(f"a record does not hold messages: {error}") from None


def decode_rounds(payload: bytes) -> tuple[Round, ...]:
    """The rounds of a sealed run.

    Raises:
        CorruptRecord: Cut short, damaged, compressed, or something else.
    """
    body = _checked(payload)
    try:
        return _decode_rounds(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecord(f"a sealed record does not hold rounds: {error}") from None

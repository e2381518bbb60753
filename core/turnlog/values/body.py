"""A body in MessagePack: the messages of a round, or the rounds of a sealed run.  See `docs/reference/format.md`."""

from __future__ import annotations

import msgspec

from ..errors import CorruptRecord
from ..payload import plain_body
from .message import Message


class Round(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One round inside a sealed record, as it is encoded."""

    id: str
    part: int
    open: bool
    time: float
    messages: tuple[Message, ...]


class EncodedRound(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The same, of a body that is encoded already."""

    id: str
    part: int
    open: bool
    time: float
    messages: msgspec.Raw


encode = msgspec.msgpack.Encoder().encode
_decode_messages = msgspec.msgpack.Decoder(tuple[Message, ...]).decode
_decode_rounds = msgspec.msgpack.Decoder(tuple[Round, ...]).decode


def decode_messages(payload: bytes) -> tuple[Message, ...]:
    """The messages of one round.

    Raises:
        CorruptRecord: Cut short, damaged, compressed, or something else.
    """
    body = plain_body(payload)
    try:
        return _decode_messages(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecord(f"a record does not hold messages: {error}") from None


def decode_rounds(payload: bytes) -> tuple[Round, ...]:
    """The rounds of a sealed run.

    Raises:
        CorruptRecord: Cut short, damaged, compressed, or something else.
    """
    body = plain_body(payload)
    try:
        return _decode_rounds(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptRecord(f"a sealed record does not hold rounds: {error}") from None

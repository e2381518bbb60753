"""The body of a record in MessagePack: the messages of a round, or the rounds of a sealed run.

`docs/reference/format.md` specifies it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from .message import Message
from .stored import Count, Finite


class Round(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The encoded form of one round in a sealed record."""

    id: str
    part: Count
    open: bool
    time: Finite
    messages: tuple[Message, ...]


class EncodedRound(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A `Round` whose messages are already encoded."""

    id: str
    part: int
    open: bool
    time: float
    messages: msgspec.Raw


encode: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
decode_messages: Callable[[bytes], tuple[Message, ...]] = msgspec.msgpack.Decoder(tuple[Message, ...]).decode
decode_rounds: Callable[[bytes], tuple[Round, ...]] = msgspec.msgpack.Decoder(tuple[Round, ...]).decode
decode_encoded_rounds: Callable[[bytes], tuple[EncodedRound, ...]] = msgspec.msgpack.Decoder(
    tuple[EncodedRound, ...]
).decode


def length(data: bytes | msgspec.Raw) -> int:
    """Return the number of items that an encoded array states, without decoding them; -1 if it is not an array."""
    head = bytes(memoryview(data)[:5])
    first = head[0] if head else 0
    if 0x90 <= first < 0xA0:
        return first & 15
    size = {0xDC: 2, 0xDD: 4}.get(first, 0)
    return int.from_bytes(head[1 : 1 + size]) if size else -1

"""Forged bytes: stored data in which each value in turn is replaced, as an attacker with database access can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from turnlog import Key, Record
from turnlog.limits import MAX_NUMBER
from turnlog.payload import HEAD

_NUMBERS: list[Any] = [
    *[None, True, -1, 0, 1, 7, MAX_NUMBER, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)],
    *[0.0, -1.0, 1e308, "", "x", "a\0b", "x" * 300, [], [[]], {}, {"": None}, [None] * 20],
]
PACKED: list[Any] = [
    *_NUMBERS,
    *[float("nan"), float("inf"), float("-inf"), b"", b"x", b"\xff" * 100, b"\x91" * 10_000, {1: 2}],
    *[msgspec.Raw(b"\x91" * depth + b"\x90") for depth in (500, 100_000)],
    *[msgspec.msgpack.Ext(5, b"x"), msgspec.Raw(b"\xd6\xff\x00\x00\x00\x01")],  # the last one decodes as a datetime
    msgspec.Raw(b"\xc1"),  # MessagePack never uses this byte
]
LINES: list[Any] = [
    *_NUMBERS,
    *[msgspec.Raw(b"[" * depth + b"]" * depth) for depth in (500, 100_000)],
    *[msgspec.Raw(number) for number in (b"1e999", b"-0.0", b"NaN", b"9" * 5_000)],
]


def forged(data: bytes) -> Iterator[bytes]:
    """Yield variants of MessagePack with one value replaced, removed or added."""
    for value in _one_other(msgspec.msgpack.decode(data), PACKED):
        yield msgspec.msgpack.encode(value)


def forged_json(data: bytes) -> Iterator[bytes]:
    """Yield variants of a JSON object with one value replaced, removed or added, without the member `crc32`."""
    value = msgspec.json.decode(data)
    del value["crc32"]
    for other in _one_other(value, LINES):
        yield msgspec.json.encode(other)


def packed_head(key: Key, head: bytes, payload: bytes) -> bytes:
    """Return a head with its checksums, as `Record.pack` does, from encoded fields."""
    head += key.checksum(head)
    return head + key.checksum(payload[:HEAD] + head)


def with_records_inside(record: Record, depth: int) -> bytes:
    """Return the fields of a sealed record's head whose rounds are such records too, nested to a depth."""
    fields = [
        *("t", 0, False, 0.0, 1, 2, 1, 0, 2, 1, b""),  # as in `HEAD_FIELDS`
        *(None, None),
    ]
    inner = msgspec.msgpack.encode([*fields[:5], 1, *fields[6:]])
    start, end = b"\xdc\x00\x10" + msgspec.msgpack.encode(fields)[1:] + b"\x91", b"\xc0\xc0"
    inside = start * depth + inner + end * depth
    head = msgspec.msgpack.encode([getattr(record, name) for name in record.__struct_fields__[:11]])
    return b"\xdc\x00\x10" + head[1:] + b"\xc0\xc0\x91" + inside + b"\xc0\xc0"


def _one_other(value: Any, others: Sequence[Any]) -> Iterator[Any]:
    yield from others
    if isinstance(value, list):
        for place, item in enumerate(value):
            before, after = value[:place], value[place + 1 :]
            yield before + after
            yield from ([*before, other, *after] for other in _one_other(item, others))
        for other in others:
            yield [*value, other]
            yield [*value, None, None, other, None, None]  # in memory, a record's head has five more fields
    if isinstance(value, dict):
        for name, item in value.items():
            yield {key: one for key, one in value.items() if key != name}
            yield from ({**value, name: other} for other in _one_other(item, others))
        yield from ({**value, "more": other} for other in others)

"""The rows of sessions, and the values for the rows of sessions, records and changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from turnlog import Change, CorruptRecord, Key, Record
from turnlog.rules import Header, Remembered, missing

from ._statements import WIDTH, Value

Row: TypeAlias = "Sequence[Any]"


class Seen(NamedTuple):
    """The last seen state of a session, with which an append needs no read before."""

    row: int
    header: Header
    """The header without the metadata."""
    head: bytes
    """The stored header."""


def key_values(key: Key) -> dict[str, Value]:
    """Return the values of a key."""
    try:
        return {"namespace": key.namespace.encode(), "session": key.session.encode()}
    except AttributeError:
        raise missing(key) from None  # raises InvalidInput if `key` is not a key


def seen_from(key: Key, row: Row, before: Seen | None = None) -> tuple[float, Seen]:
    """Return the time, and the state of the session in a row, without its metadata.

    Args:
        key: The session.
        row: The clock and the columns of a header.
        before: The last seen state, which is returned if nothing has changed.
    """
    now, number, updated, owner, expires, times, head = row[:WIDTH]
    if before is not None and before.head == head and before.row == number:
        header = before.header
        if header.updated == updated and header.expires == expires and header.owner.encode() == owner:
            return now, before
    header = Header.unpack(key, head, updated=updated, expires=expires)
    times_are_floats = type(updated) is float and type(times) is float and (expires is None or type(expires) is float)
    if type(number) is not int or type(owner) is not bytes or not times_are_floats:
        raise CorruptRecord("its row has a value of the wrong type", key=key)
    if header.owner.encode() != owner:
        raise CorruptRecord("its owner in the column differs from its owner in the header", key=key)
    if times != updated + (expires or 0.0):
        raise CorruptRecord("the time of its last update, or of its expiry, is damaged", key=key)
    return now, Seen(number, header, head)


def size_from(key: Key, size: object) -> int:
    """Return a sum of sizes."""
    try:
        return int(size)  # type: ignore[call-overload, no-any-return]  # raises if `size` is not a number
    except (TypeError, ValueError, OverflowError):
        raise CorruptRecord("the size of a record is damaged", key=key) from None


def header_values(header: Header) -> dict[str, Value]:
    """Return the values of the row of a session."""
    version = header.version
    return {
        "epoch": version.epoch,
        "generation": version.generation,
        "rounds": version.rounds,
        "start": header.start,
        "messages_until": header.messages_until,
        "bytes": header.bytes,
        "updated": header.updated,
        "owner": header.owner.encode(),
        "expires": header.expires,
        "times": header.updated + (header.expires or 0.0),
        "head": header.pack(),
    }


def record_values(key: Key, row: int, record: Record) -> dict[str, Value]:
    """Return the values of the row of a record."""
    return {
        "row": row,
        "number": record.number,
        "part": record.part,
        "rounds": record.rounds_until,
        "begin": record.messages_until - record.count if record.turns else None,
        "messages_until": record.messages_until,
        "size": record.size,
        "head": record.pack(key),
        "payload": record.payload,
    }


def change_values(row: int, change: Change, after: Header, number: int | None) -> dict[str, Value]:
    """Return the values of the row of a remembered change."""
    return {
        "row": row,
        "id": change.id.encode(),
        "place": after.changes - 1,
        "answer": Remembered(change.digest, after.version, number).pack(after.key),
    }

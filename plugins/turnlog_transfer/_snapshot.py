"""Consistent snapshots of sessions, read in parts from the beginning: a long session need not fit into memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from turnlog import Record, Session, SessionInfo, Store
from turnlog.limits import MAX_MESSAGES

_MESSAGES: Final = 1_000
"""Number of messages to read at once: usually a few megabytes, and few sessions have more."""

_BYTES: Final = 4 * 1024 * 1024
"""Approximate number of bytes to read or write at once, for large messages."""


class Changed(Exception):
    """The session was cut, replaced or deleted, or turns were dropped, while it was read."""


async def snapshot(store: Store, session_id: str) -> tuple[SessionInfo, AsyncIterator[tuple[Record, ...]]]:
    """Return the info of a session, and its rounds in order.  No time to live is restarted.

    A session of up to `_MESSAGES` messages is read at once.  A longer session is read in parts.  Rounds that other
    writers append during the read are left out.

    Args:
        store: The store.
        session_id: The session.

    Returns:
        The info, and an iterator that raises `Changed` if the rest of the snapshot cannot be read any more.

    Raises:
        SessionNotFound: The session does not exist.
    """
    session = await store.session(session_id, last=_MESSAGES, touch=False)
    info, records = session.info, session.records
    if records and records[0].number > info.first:
        return info, _parts(store, info)
    return info, _whole(records)


async def checked_snapshot(store: Store, session_id: str) -> tuple[SessionInfo, AsyncIterator[tuple[Record, ...]]]:
    """Return a snapshot after decoding all its rounds; a long session is read twice.

    Raises:
        SessionNotFound: The session does not exist.
        CorruptRecord: A round cannot be decoded.
        Changed: The rest of the snapshot cannot be read any more.
    """
    info, parts = await snapshot(store, session_id)
    records: tuple[Record, ...] = ()
    read = 0
    async for records in parts:
        check_rounds(records)
        read += 1
    return info, _whole(records) if read < 2 else _parts(store, info)


def check_rounds(records: Sequence[Record]) -> None:
    """Decode rounds.

    Raises:
        CorruptRecord: A round cannot be decoded.
    """
    for record in records:
        contents(record)


async def _whole(records: tuple[Record, ...]) -> AsyncIterator[tuple[Record, ...]]:
    if records:
        yield records


async def _parts(store: Store, info: SessionInfo) -> AsyncIterator[tuple[Record, ...]]:
    last = max(1, min(_MESSAGES, _BYTES * info.messages // max(1, info.bytes)))
    step = max(1, last * (info.turns - info.first) // (2 * info.messages))  # turns with about half as many messages
    start = info.first
    while start < info.turns:
        end = min(start + step, info.turns)
        while True:
            records = await _read(store, info, last, end)
            if records and records[0].number <= start:
                break
            if end == start + 1:
                raise Changed
            end = start + (end - start) // 2  # these turns have more messages than the average: read fewer turns
        yield tuple([record for record in records if record.number >= start])
        start = end


async def _read(store: Store, info: SessionInfo, last: int, before: int) -> Sequence[Record]:
    """Return the last rounds of the turns below `before`, without rounds that were added after the snapshot.

    Raises:
        Changed: The session was cut or recreated after the snapshot.
    """
    part = await store.session(info.key.session, last=last, before=before, touch=False)
    then, now = info.version, part.version
    if (now.epoch, now.generation) != (then.epoch, then.generation) or now.rounds < then.rounds:
        raise Changed
    return [record for record in part.records if record.rounds_until <= then.rounds]


async def read_back(store: Store, session_id: str, records: Sequence[Record]) -> Session:
    """Return the part of a session that contains these rounds, if they are stored, and ends with their last turn.

    Raises:
        SessionNotFound: The session does not exist.
    """
    first, last = records[0].number, records[-1].number
    messages = max(1, sum([record.count for record in records]))
    while True:
        part = await store.session(session_id, last=messages, before=last + 1, touch=False)
        if not part.records or part.records[0].number <= max(first, part.info.first):
            return part
        messages *= 2  # the first round only closes its turn, or the last turn has further rounds


def batches(records: Sequence[Record]) -> Iterator[tuple[Record, ...]]:
    """Yield records in groups for one change: at most `MAX_MESSAGES` messages and about `_BYTES` bytes."""
    batch: list[Record] = []
    count = size = 0
    for record in records:
        count += record.count
        size += record.size
        if batch and (count > MAX_MESSAGES or size > _BYTES):
            yield tuple(batch)
            batch, count, size = [], record.count, record.size
        batch.append(record)
    if batch:
        yield tuple(batch)


def contents(record: Record) -> tuple[object, ...]:
    """Return the values that must be equal in a round and its copy."""
    return record.number, record.id, record.part, record.open, record.time, record.messages

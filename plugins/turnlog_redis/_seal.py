"""Seals: the replacement of records by one sealed record."""

from __future__ import annotations

from turnlog import Key, Record
from turnlog.rules import check_seal, fits, missing

from . import _layout, _scripts
from ._connection import Argument
from ._layout import keys_of
from ._retry import RetryingServer


async def seal(server: RetryingServer, key: Key, record: Record) -> bool:
    """Replace the stored records of the rounds in a record with it, as `Backend.seal`."""
    check_seal(key, record)
    keys, until = keys_of(key.namespace, key.session.encode()), server.deadline()
    answer = await server.run(until, _scripts.READ, (keys.session,), "", "0", "", record.next_turn, "", 0, 0)
    if answer is None:
        raise missing(key)
    raw, metadata, left, _, rows = answer
    header = _layout.header_from(key, raw, metadata, left)
    run = _layout.records_from(key, rows)
    before = sum(one.number < record.number for one in run)
    del rows[:before], run[:before]
    if not fits(record, run, last=record.next_turn >= header.turns):
        return False
    ends = [_layout.head_of(rows[0]), _layout.head_of(rows[-1])]
    data = _layout.record_bytes(key, record.sealed_at(run[-1], record.size))
    arguments: list[Argument] = [*ends, len(rows), data, record.number]
    done = await server.run(until, _scripts.SEAL, (keys.session,), *arguments, writes=True)
    return bool(done)

"""The replacement of records by one sealed record as steps."""

from __future__ import annotations

import msgspec

from turnlog import Key, Record
from turnlog.rules import fits, missing

from ._operations import Steps, lock_and_read, row_of_new
from ._rows import Seen, header_values, key_values, record_values, seen_from, size_from
from ._statements import Statements, Value


def seal(statements: Statements, key: Key, record: Record, now: float) -> Steps[tuple[bool, Seen]]:
    """Execute `Backend.seal`; return whether the records were replaced, and the seen state of the session."""
    values: dict[str, Value] = {**key_values(key), "now": now}
    rows = yield from lock_and_read(statements, statements.header, values)
    if not rows:
        yield from row_of_new(statements, key)
        raise missing(key)
    now, seen = seen_from(key, rows[0])
    header = seen.header
    if not header.alive(now):
        raise missing(key)
    at: dict[str, Value] = {"row": seen.row, "number": record.number, "until": record.next_turn}
    found = yield statements.heads, statements.heads.bind(at)
    run = [Record.unpack(key, head) for head, _ in found]
    if not fits(record, run, last=record.next_turn >= header.turns):
        return False, seen
    sealed = record.sealed_at(run[-1], record.size)
    header = msgspec.structs.replace(
        header, bytes=header.bytes - sum(size_from(key, size) for _, size in found) + sealed.size
    )
    yield statements.cut_between, statements.cut_between.bind(at)
    yield statements.insert_record, statements.insert_record.bind(record_values(key, seen.row, sealed))
    values = header_values(header)
    yield statements.move_session, statements.move_session.bind({**values, "row": seen.row})
    head = values["head"]
    assert isinstance(head, bytes)
    return True, Seen(seen.row, header, head)

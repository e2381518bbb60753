"""Commits as steps: the shortcut for an append to a session that was seen, and the commit of any change."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import msgspec

from turnlog import ABSENT, Change, CorruptRecord, Key, Metadata, Receipt, Record
from turnlog.errors import TurnlogError
from turnlog.limits import MAX_NUMBER, REMEMBERED_CHANGES
from turnlog.rules import NOTHING, Header, Near, Remembered, latest_due, needs, plan

from ._operations import Steps, lock_and_read, remove, row_of_new, slide
from ._rows import Seen, change_values, header_values, key_values, record_values, seen_from, size_from
from ._statements import WIDTH, Statements, Value

_NO_METADATA: Final = Metadata({})


def append(
    statements: Statements, seen: Seen | None, change: Change, now: float, ttl: float | None
) -> Steps[tuple[Receipt, Seen] | None]:
    """Append one record to a session without reading it first, if the session is in the last seen state.

    Otherwise, and for any other change, nothing is stored and the answer is None: the caller then uses `commit`.  A
    repeat violates the primary key of the table of changes.
    """
    if seen is None:
        return None
    header = seen.header
    if len(change.append) != 1 or not _is_plain(change):
        return None
    if header.changes % REMEMBERED_CHANGES == 0:
        return None  # `commit` also removes old changes
    if statements.append is None and (change.owner is not None or not header.alive(now)):
        return None
    if header.expires is not None and header.expiry_ttl is None:
        return None  # the expiry comes from another store, and the statement could not tell that it is too far away
    try:  # `seen` may be outdated, so only `commit` may refuse the change
        if needs(header.key, header, change) is not NOTHING:
            return None
        done = plan(header.key, header, change, NOTHING, now, ttl=ttl, nonce=os.urandom)
    except TurnlogError:
        return None
    after, record = done.header, done.append[0]
    moves: dict[str, Value] = {}
    if statements.append is not None:
        own = (ttl if header.ttl is None else header.ttl) or None
        after = msgspec.structs.replace(after, expiry_ttl=own)  # `plan` has not used the server's clock
        moves = {"ttl": own, "latest_due": 0.0 if own is None else latest_due(own, header.expiry_ttl or own)}
    values = header_values(after)
    head = values["head"]
    values |= {"row": seen.row, "seen": seen.head, "was": header.expires, "now": now, **moves}
    stored, known = record_values(header.key, seen.row, record), change_values(seen.row, change, after, done.number)
    if statements.append is not None:
        stored["record_head"] = stored.pop("head")
        rows = yield statements.append, statements.append.bind({**values, **known, **stored})
        if not rows:
            return None
        now, expires = rows[0][0], rows[0][1]  # by the server's clock
        after = msgspec.structs.replace(after, updated=now, expires=expires)
    else:
        rows = yield statements.move, statements.move.bind(values)
        if not rows:
            return None
        yield statements.insert_record, statements.insert_record.bind(stored)
        yield statements.insert_change, statements.insert_change.bind(known)
    assert isinstance(head, bytes)
    return after.receipt(now, after.version, done.number, done.previous), Seen(seen.row, after, head)


def _is_plain(change: Change) -> bool:
    described = change.metadata is not None or change.ttl is not None or change.times is not None
    return not described and change.keep is None and change.expect is not ABSENT


def commit(
    statements: Statements,
    key: Key,
    change: Change,
    now: float,
    ttl: float | None,
    nonce: Callable[[int], bytes] = os.urandom,
) -> Steps[tuple[Receipt, Seen]]:
    """Execute `Backend.commit`; also return the seen state of the session.

    Args:
        statements: The statements of the database.
        key: The session.
        change: The change.
        now: As in `read`.
        ttl: As in `read`.
        nonce: Returns random bytes.
    """
    values: dict[str, Value] = {**key_values(key), "id": change.id.encode(), "now": now}
    rows = yield from lock_and_read(statements, statements.find, values)
    seen: Seen | None = None
    expired: Seen | None = None
    if rows:
        now, found = seen_from(key, rows[0])
        if found.header.alive(now):
            seen = found
        else:
            expired = found
    if seen is not None:
        seen.header.check_owner(change.for_owner)
        known = rows[0][WIDTH]
        if known is not None:
            seen = yield from slide(statements, seen, now, ttl)
            return Remembered.unpack(key, known).receipt(seen.header, change, now), seen
    stored = None if seen is None else seen.header
    near = needs(key, stored, change)  # refuses an impossible change before any further round trip
    if seen is not None:
        if near is not NOTHING:
            near = yield from _near(statements, key, seen.row, near)
        if change.metadata is not None:
            kept = yield statements.metadata, statements.metadata.bind({"row": seen.row})
            stored = seen.header.with_metadata(kept[0][0] if kept else None)
    elif expired is None and statements.served:
        now = (yield statements.clock, ())[0][0]
    number = None if seen is not None or expired is not None else (yield from row_of_new(statements, key))
    done = plan(key, stored, change, near, now, ttl=ttl, nonce=nonce)
    after, row = done.header, None if seen is None else seen.row

    if expired is not None:
        yield from remove(statements, expired.row)
    if row is not None and done.keep is not None:
        yield statements.cut_above, statements.cut_above.bind({"row": row, "number": done.keep})
    if row is not None and done.drop is not None:
        yield statements.cut_below, statements.cut_below.bind({"row": row, "number": done.drop})
    seen = yield from _store(statements, row, after, change, number)
    row = seen.row
    if done.append:
        each = [statements.insert_record.bind(record_values(key, row, record)) for record in done.append]
        yield statements.insert_record, each
    place = after.changes - 1
    if place and place % REMEMBERED_CHANGES == 0:
        yield statements.forget, statements.forget.bind({"row": row, "place": place - REMEMBERED_CHANGES + 1})
    yield statements.insert_change, statements.insert_change.bind(change_values(row, change, after, done.number))
    return after.receipt(now, after.version, done.number, done.previous), seen


def _near(statements: Statements, key: Key, row: int, near: Near) -> Steps[Near]:
    """Read the stored records that `needs` has named."""
    keep, drop, below, cut, first, dropped = near.keep, near.drop, None, 0, None, 0
    if keep is not None:
        at = {"row": row, "number": keep}
        rows = yield statements.head_below, statements.head_below.bind(at)
        below = Record.unpack(key, rows[0][0]) if rows else None
        sizes = yield statements.size_above, statements.size_above.bind(at)
        cut = size_from(key, sizes[0][0])
    if drop is not None:
        if keep is None or drop < keep:
            rows = yield statements.head_at, statements.head_at.bind({"row": row, "number": drop})
            first = Record.unpack(key, rows[0][0]) if rows else None
            if first is not None and first.next_turn <= drop:
                first = None  # no later record is kept
        end = first.number if first is not None else MAX_NUMBER if keep is None else keep
        sizes = yield statements.size_below, statements.size_below.bind({"row": row, "number": end})
        dropped = size_from(key, sizes[0][0])
    return Near(keep, drop, below, cut, first, dropped)


def _store(
    statements: Statements, row: int | None, header: Header, change: Change, number: int | None = None
) -> Steps[Seen]:
    """Write the header, and the metadata if the change sets some.

    Args:
        statements: The statements of the database.
        row: The row of the session; None: create the session.
        header: The header, with its metadata if the change sets some.
        change: The change.
        number: The number of the new row; None: the next free number.
    """
    created, values = row is None, header_values(header)
    if row is None:
        values |= key_values(header.key)
        values["row"] = number
        insert = statements.insert_session if number is None else statements.insert_session_at
        yield insert, insert.bind(values)
        rows = yield statements.find_row, statements.find_row.bind(values)
        if not rows:
            text = "an index of the database does not contain the row that was just inserted"
            raise CorruptRecord(f"{text}: check and repair the database", key=header.key)
        row = int(rows[0][0])
    else:
        values["row"] = row
        statement = statements.move_session if change.owner is None else statements.update_session
        yield statement, statement.bind(values)
    if change.metadata is not None:
        if not created:
            yield statements.delete_metadata, statements.delete_metadata.bind({"row": row})
        if header.metadata:
            packed: dict[str, Value] = {"row": row, "metadata": header.metadata.pack(header.key)}
            yield statements.insert_metadata, statements.insert_metadata.bind(packed)
        header = msgspec.structs.replace(header, metadata=_NO_METADATA)
    head = values["head"]
    assert isinstance(head, bytes)
    return Seen(row, header, head)

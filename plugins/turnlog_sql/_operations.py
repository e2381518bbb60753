"""The operations of a backend as steps: generators that yield statements and receive their rows.

Steps do no I/O, so the same steps serve every database and every driver, blocking or not.  The caller that drives them
controls the transaction.  `commit`, `seal`, `delete` and `sweep` need a transaction, because they lock a session before
they read it.  `read`, `page` and `append` need none.  On databases without round trips, `read` opens and ends a
snapshot itself.

The rules are those of `turnlog.rules`: `needs` names the stored records that a change touches, these steps read them,
`plan` computes the result, and these steps write it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from turnlog import (
    ABSENT,
    Change,
    CorruptRecord,
    Expect,
    Key,
    Metadata,
    Page,
    Query,
    Receipt,
    Record,
    Session,
    SessionInfo,
    Totals,
    Version,
)
from turnlog.errors import TurnlogError
from turnlog.limits import MAX_NUMBER, REMEMBERED_CHANGES
from turnlog.rules import (
    NOTHING,
    Header,
    Near,
    Remembered,
    check_delete,
    check_whole,
    fits,
    latest_due,
    missing,
    needs,
    newest,
    page_of,
    plan,
    regressed,
)

from ._statements import WIDTH, Pages, Prefix, Statement, Statements, Value

T = TypeVar("T")

Row: TypeAlias = "Sequence[Any]"
Steps: TypeAlias = "Generator[tuple[Statement, tuple[Value, ...] | list[tuple[Value, ...]]], Any, T]"
"""A generator of steps: it yields statements, receives their rows, and returns the answer.

A statement comes with its parameters, or with a list of parameters to execute it several times.  The rows are a
sequence, for a lazy statement an iterator.
"""

_NO_METADATA = Metadata({})
_AFTER_ALL: Final = b"\xff"  # sorts after every session id, because it is not valid UTF-8
_FEW: Final = 2_000
"""Largest number of sessions with a prefix that SQLite sorts for a page: 2 to 5 ms.  Among a million sessions, it finds
100 of 2,000 others within about 50,000 entries of an index, which takes about 7 ms."""
_UNUSED_BITS: Final = 17
"""Number of unused bits of a 64-bit hash: SQLite stores a number of 47 bits in 6 bytes.  In one of 280 databases with a
million sessions, two sessions get the same number.  The second one then gets another number, and can only be found by
the index of keys."""
_rounds_until = attrgetter("rounds_until")


class Seen(NamedTuple):
    """The last seen state of a session, with which an append needs no read before."""

    row: int
    header: Header
    """The header without the metadata."""
    head: bytes
    """The stored header."""


# ------------------------------------------------------------------------------------------------------------- reading


def read(
    statements: Statements,
    key: Key,
    now: float,
    ttl: float | None,
    *,
    last: int | None,
    before: int | None,
    since: Version | None,
    touch: bool,
    seen: Seen | None = None,
) -> Steps[tuple[Session, Seen]]:
    """Execute `Backend.read`; also return the seen state of the session.

    Args:
        statements: The statements of the database.
        key: The session.
        now: Seconds since 1970, by the backend's clock; unused if the server has a clock.
        ttl: The backend's time to live in seconds, for sessions without their own.
        last: As in `Backend.read`.
        before: As in `Backend.read`.
        since: As in `Backend.read`.
        touch: As in `Backend.read`.
        seen: The last seen state of the session, if known.
    """
    values = _key(key)
    values["now"] = now
    walks = bool(last) and since is None and bool(statements.newest)
    if walks:
        yield statements.begin, ()  # the two reads below must see the same state
    alone = walks or (last == 0 and since is None)
    if alone:
        rows = yield statements.info, statements.info.bind(values)
    else:
        if last is not None:
            values["last"] = last
        if before is not None:
            values["before"] = before
        if since is not None:
            values |= {"epoch": since.epoch, "generation": since.generation, "rounds": since.rounds}
        statement = statements.reads[last is not None, before is not None, since is not None]
        rows = yield statement, statement.bind(values)
    if not rows:
        yield from _row_of_new(statements, key)
        raise missing(key)
    first = next((row for row in rows if row[0] is not None), None)  # usually the first row
    if first is None or (alone and len(rows) > 1):
        raise CorruptRecord("the session has records without a header, or two headers", key=key)
    now, seen = _seen(key, first, seen)
    header = seen.header
    if not header.alive(now):
        raise missing(key)
    if walks:
        backwards = statements.newest[before is not None]
        rows = yield backwards, backwards.bind({"row": seen.row, "before": before})
        records = yield from _records(statements, seen, rows, last)
        yield statements.end, ()
    else:
        records = yield from _records(statements, seen, [row[WIDTH:] for row in rows if row is not first], None)
    continues = since is not None and _continues(header, since, first[WIDTH + 1])
    if continues and since is not None:
        records = [record for record in records if record.rounds_until > since.rounds]
    elif last == 0:
        records = []
    check_whole(header, records, last, before, since if continues else None)
    if touch and header.expiry_may_move(ttl):
        seen = yield from _slide(statements, seen, now, ttl)
        header = seen.header
    header = header.with_metadata(first[WIDTH])
    return Session(header.info(now), tuple(records), continues), seen


def _records(statements: Statements, seen: Seen, rows: Iterable[Row], last: int | None) -> Steps[list[Record]]:
    """Return the records of rows with a head and a payload, in order.

    Args:
        statements: The statements of the database.
        seen: The session.
        rows: The rows, in any order; with `last` from the last one backwards.
        last: Stop at the beginning of a turn after at least this number of messages; None: take all rows.
    """
    head = b""

    def noted() -> Iterator[Row]:
        nonlocal head
        for row in rows:
            head = row[0]
            yield row

    records = Record.unpack_each(seen.header.key, noted())
    try:
        return sorted(records, key=_rounds_until) if last is None else newest(records, last)
    except CorruptRecord as error:
        found = yield statements.number, statements.number.bind({"row": seen.row, "head": head})
        error.turn = found[0][0] if found else None
        raise


def _continues(header: Header, since: Version, at: bytes | None) -> bool:
    """Return whether the records after `since` continue the history that the reader has.

    Args:
        header: The header of the session.
        since: The version that the reader has.
        at: The head of the last record that ends at `since` or before it; None if there is no such record.
    """
    if not header.may_continue(since):
        return False
    if since.rounds == header.version.rounds:
        return True
    if since.rounds == 0:
        return header.start == 0
    record = None if at is None else Record.unpack(header.key, at)
    if record is None or record.rounds_until != since.rounds:
        return False  # the record that ended at `since` was sealed or dropped
    if record.tip != since.tip:
        raise regressed(header.key, header.version, since)
    return True


def _slide(statements: Statements, seen: Seen, now: float, ttl: float | None) -> Steps[Seen]:
    """Move the expiry if this is due, unless another writer has changed the session since the read."""
    header = seen.header.slide(now, ttl)
    if header is seen.header:
        return seen
    times = header.updated + (header.expires or 0.0)
    head = header.pack()  # differs only if the time to live has changed
    values: dict[str, Value] = {"row": seen.row, "was": seen.header.expires, "seen": seen.head, "now": now}
    yield statements.slide, statements.slide.bind(values | {"expires": header.expires, "times": times, "head": head})
    return Seen(seen.row, header, head)


def page(statements: Statements, query: Query, now: float) -> Steps[Page]:
    """Execute `Backend.page`.

    Raises:
        CorruptRecord: The database cannot read a row; the caller then reads the page with `listed_keys` and `listed`.
    """
    way = yield from _way(statements, query)
    statement, values = _page(statements.pages, query, way)
    values["now"] = now
    limit, after = query.limit + 1, query.after
    while True:
        rows = yield statement, statement.bind(values | {"limit": limit})
        found = [_info(query, after, row) for row in rows]
        is_last = len(rows) < limit
        if is_last and not query.owner and way is not Prefix.SEARCHED:
            found += yield from _uncounted(statements, query)
        page = page_of(query, found, is_last=is_last)
        if page is not None:
            return page
        limit += sum(isinstance(one, CorruptRecord) for one in found)  # damaged sessions do not count


def _uncounted(statements: Statements, query: Query) -> Steps[list[CorruptRecord]]:
    """Return an error if the index of pages has more or fewer sessions than the index of keys."""
    if statements.counts is None:
        return []
    ((by_key, by_time),) = yield statements.counts, statements.counts.bind({"namespace": query.one_namespace.encode()})
    if by_key == by_time:
        return []
    return [
        CorruptRecord(
            f"one index of the database has {by_key} sessions of namespace {query.namespace!r}, another one has "
            f"{by_time}: check and repair the database"
        )
    ]


def totals(
    statements: Statements, namespace: str, now: float, after: bytes, many: int
) -> Steps[tuple[Totals, bytes | None]]:
    """Return the totals of a part of a namespace, and the last session id of the part; None: it is the last part.

    Args:
        statements: The statements of the database.
        namespace: The tenant.
        now: As in `read`.
        after: The last session id of the part before; empty: this is the first part.
        many: The number of sessions in a part.

    Raises:
        CorruptRecord: The database cannot read a row, or a sum is not a number.
    """
    values: dict[str, Value] = {"namespace": namespace.encode(), "now": now, "after": after, "part": many - 1}
    marks = yield statements.mark, statements.mark.bind(values)
    end = marks[0][0] if marks else None
    values["until"] = _AFTER_ALL if end is None else end
    rows = yield statements.totals, statements.totals.bind(values)
    sessions, messages, size = _whole(namespace, rows[0])
    return Totals(sessions=sessions, messages=messages, bytes=size), end


def stored(statements: Statements, namespace: str) -> Steps[int]:
    """Return the size of the tables in bytes."""
    rows = yield statements.stored, ()
    return _whole(namespace, rows[0])[0]


def _whole(namespace: str, sums: Row) -> list[int]:
    try:  # servers return a sum as a `Decimal`
        return [int(number) for number in sums]
    except (TypeError, ValueError, OverflowError):
        raise CorruptRecord(f"the sizes of the sessions of namespace {namespace!r} are damaged") from None


def listed_keys(statements: Statements, query: Query, limit: int) -> Steps[Sequence[Row]]:
    """Return session ids and rows in the order of a page, including expired sessions; only an index is read."""
    # the index of owners omits no owner
    way = yield from _way(statements, query)
    statement, values = _page(statements.keys, query, way, owned=bool(query.owner))
    rows: Sequence[Row] = yield statement, statement.bind(values | {"limit": limit})
    return rows


def every_key(statements: Statements, query: Query) -> Steps[Sequence[Row]]:
    """Return the session ids and the rows of a namespace from the index of keys, not from an index of pages."""
    rows: Sequence[Row] = yield (
        statements.every_key,
        statements.every_key.bind({"namespace": query.one_namespace.encode()}),
    )
    return rows


def namespaces(statements: Statements, after: str | None, limit: int) -> Steps[list[str]]:
    """Execute `Backend.namespaces`.

    Raises:
        CorruptRecord: The index has an entry that is not a namespace.
    """
    statement = statements.namespaces[after is not None]
    rows = yield statement, statement.bind({"after": None if after is None else after.encode(), "limit": limit})
    try:
        return [Key(row[0].decode(), "-").namespace for row in rows]  # `Key` checks the namespace; the id is arbitrary
    except (TurnlogError, ValueError, AttributeError):
        text = "an index of the database has an entry that is not a namespace: check and repair the database"
        raise CorruptRecord(text) from None


def listed(
    statements: Statements, query: Query, session: bytes, row: int, now: float
) -> Steps[SessionInfo | CorruptRecord | None]:
    """Return the info of a session, or an error; None if it does not exist any more or does not match the query."""
    rows = yield statements.listed, statements.listed.bind({"row": row, "now": now})
    if not rows:  # the session was deleted, or the row's number in the index is damaged
        values: dict[str, Value] = {"namespace": query.one_namespace.encode(), "session": session, "now": now}
        rows = yield statements.info, statements.info.bind(values)
    found = _info(query, query.after, (session, *rows[0]), owned=False) if rows else None
    if not isinstance(found, SessionInfo):
        return found
    expired = found.expires_in is not None and found.expires_in <= 0
    return found if not expired and query.matches(found) else None


def unreadable(query: Query, session: bytes, error: CorruptRecord) -> CorruptRecord:
    """Add the session to an error of the database, if its id can be read; return the error."""
    with suppress(CorruptRecord):
        error.key = _key_of(query.one_namespace, session)
    return error


def _way(statements: Statements, query: Query) -> Steps[Prefix]:
    """Choose the way to find the sessions with the query's prefix."""
    if not query.prefix:
        return Prefix.NONE
    if statements.further is None or query.owner:  # the sessions of an owner are few
        return Prefix.SCANNED
    further = yield statements.further, statements.further.bind(_values_of(query) | {"many": _FEW})
    return Prefix.SCANNED if further else Prefix.SEARCHED


def _values_of(query: Query) -> dict[str, Value]:
    values: dict[str, Value] = {"namespace": query.one_namespace.encode()}
    if query.prefix:
        start = query.prefix.encode()
        values["prefix"], values["prefix_end"] = start, start[:-1] + bytes([start[-1] + 1])  # UTF-8 has no byte 255
    return values


def _page(pages: Pages, query: Query, way: Prefix, *, owned: bool = True) -> tuple[Statement, dict[str, Value]]:
    """Return the statement for a page, and its values.

    Args:
        pages: The statements to choose from.
        query: The query.
        way: The way to find the sessions with the query's prefix.
        owned: Whether to select by the query's owner.
    """
    values = _values_of(query)
    owned = owned and query.owner is not None
    if owned and query.owner is not None:
        values["owner"] = query.owner.encode()
    after = query.after
    if after is not None:
        values["updated"], values["session"] = after[0], after[1].encode()
    chosen = pages.statement(owned=bool(query.owner) if owned else None, later=after is not None, prefix=way)
    return chosen, values


def _info(
    query: Query, after: tuple[float, str] | None, row: Row, *, owned: bool = True
) -> SessionInfo | CorruptRecord:
    """Return the info of a row of a page, or an error.

    Args:
        query: The query.
        after: `query.after`, which would be decoded at each access.
        row: The session id, and the columns of a header with the metadata.
        owned: Whether the session must belong to the query's owner.
    """
    try:
        key = _key_of(query.one_namespace, row[0])
        now, seen = _seen(key, row[1:])
        info = seen.header.with_metadata(row[WIDTH + 1]).info(now)
    except CorruptRecord as error:
        return error
    if owned and query.owner not in (None, info.owner):  # a damaged index: do not name another owner's session
        return CorruptRecord(f"the index entry of a session of owner {query.owner!r} leads to another session")
    if after is not None and (-info.updated, row[0]) <= (-after[0], after[1].encode()):  # its cursor would lead back
        return CorruptRecord("its index entry does not have the time of the session", key=key)
    return info


# ------------------------------------------------------------------------------------------------------------- writing


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
    values = _header_values(after)
    head = values["head"]
    values |= {"row": seen.row, "seen": seen.head, "was": header.expires, "now": now, **moves}
    stored, known = _record_values(header.key, seen.row, record), _change_values(seen.row, change, after, done.number)
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
    values: dict[str, Value] = {**_key(key), "id": change.id.encode(), "now": now}
    rows = yield from _locked(statements, statements.find, values)
    seen: Seen | None = None
    expired: Seen | None = None
    if rows:
        now, found = _seen(key, rows[0])
        if found.header.alive(now):
            seen = found
        else:
            expired = found
    if seen is not None:
        seen.header.check_owner(change.for_owner)
        known = rows[0][WIDTH]
        if known is not None:
            seen = yield from _slide(statements, seen, now, ttl)
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
    number = None if seen is not None or expired is not None else (yield from _row_of_new(statements, key))
    done = plan(key, stored, change, near, now, ttl=ttl, nonce=nonce)
    after, row = done.header, None if seen is None else seen.row

    if expired is not None:
        yield from _remove(statements, expired.row)
    if row is not None and done.keep is not None:
        yield statements.cut_above, statements.cut_above.bind({"row": row, "number": done.keep})
    if row is not None and done.drop is not None:
        yield statements.cut_below, statements.cut_below.bind({"row": row, "number": done.drop})
    seen = yield from _store(statements, row, after, change, number)
    row = seen.row
    if done.append:
        each = [statements.insert_record.bind(_record_values(key, row, record)) for record in done.append]
        yield statements.insert_record, each
    place = after.changes - 1
    if place and place % REMEMBERED_CHANGES == 0:
        yield statements.forget, statements.forget.bind({"row": row, "place": place - REMEMBERED_CHANGES + 1})
    yield statements.insert_change, statements.insert_change.bind(_change_values(row, change, after, done.number))
    return after.receipt(now, after.version, done.number, done.previous), seen


def lock(statements: Statements, key: Key) -> Steps[None]:
    """Lock a session until the transaction ends, if it exists."""
    statement = statements.lock if statements.locks else statements.header
    yield statement, statement.bind({**_key(key), "now": 0.0})


def _locked(statements: Statements, statement: Statement, values: dict[str, Value]) -> Steps[Sequence[Row]]:
    """Lock a session, and return the rows of a statement that reads it."""
    locked: Sequence[Row] = ((),)
    while True:
        if statements.locks:
            locked = yield statements.lock, statements.lock.bind(values)
        rows: Sequence[Row] = yield statement, statement.bind(values)
        if locked or not rows:
            return rows
        # another transaction has created the session between the two statements: it is not locked yet


def _near(statements: Statements, key: Key, row: int, near: Near) -> Steps[Near]:
    """Read the stored records that `needs` has named."""
    keep, drop, below, cut, first, dropped = near.keep, near.drop, None, 0, None, 0
    if keep is not None:
        at = {"row": row, "number": keep}
        rows = yield statements.head_below, statements.head_below.bind(at)
        below = Record.unpack(key, rows[0][0]) if rows else None
        sizes = yield statements.size_above, statements.size_above.bind(at)
        cut = _bytes(key, sizes[0][0])
    if drop is not None:
        if keep is None or drop < keep:
            rows = yield statements.head_at, statements.head_at.bind({"row": row, "number": drop})
            first = Record.unpack(key, rows[0][0]) if rows else None
            if first is not None and first.next_turn <= drop:
                first = None  # no later record is kept
        end = first.number if first is not None else MAX_NUMBER if keep is None else keep
        sizes = yield statements.size_below, statements.size_below.bind({"row": row, "number": end})
        dropped = _bytes(key, sizes[0][0])
    return Near(keep, drop, below, cut, first, dropped)


def _row_of_new(statements: Statements, key: Key) -> Steps[int | None]:
    """Return the row number for a new session; None: the next free number.

    On SQLite the row number is a hash of the key.  If a damaged index of keys lacks a session, the session is found by
    its number.  It is then neither reported as missing nor created a second time.

    One statement queries both the table and the index.  Outside a transaction, another process may have created the
    session after the first query of the index.

    Raises:
        CorruptRecord: The session exists, but the index does not contain it.
    """
    if statements.served:
        return None
    namespace, session = key.namespace.encode(), key.session.encode()
    digest = blake2b(b"%d:%b%b" % (len(namespace), namespace, session), digest_size=8).digest()
    number = 1 + (int.from_bytes(digest) >> _UNUSED_BITS)
    found = yield statements.led_to, statements.led_to.bind({**_key(key), "row": number})
    if not found:
        return number
    if tuple(found[0]) == (namespace, session, 0):
        raise CorruptRecord("an index of the database does not contain it: check and repair the database", key=key)
    return None


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
    created, values = row is None, _header_values(header)
    if row is None:
        values |= _key(header.key)
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


def seal(statements: Statements, key: Key, record: Record, now: float) -> Steps[tuple[bool, Seen]]:
    """Execute `Backend.seal`; return whether the records were replaced, and the seen state of the session."""
    values: dict[str, Value] = {**_key(key), "now": now}
    rows = yield from _locked(statements, statements.header, values)
    if not rows:
        yield from _row_of_new(statements, key)
        raise missing(key)
    now, seen = _seen(key, rows[0])
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
        header, bytes=header.bytes - sum(_bytes(key, size) for _, size in found) + sealed.size
    )
    yield statements.cut_between, statements.cut_between.bind(at)
    yield statements.insert_record, statements.insert_record.bind(_record_values(key, seen.row, sealed))
    values = _header_values(header)
    yield statements.move_session, statements.move_session.bind({**values, "row": seen.row})
    head = values["head"]
    assert isinstance(head, bytes)
    return True, Seen(seen.row, header, head)


def delete(statements: Statements, key: Key, now: float, expect: Expect, for_owner: str | None) -> Steps[bool]:
    """Execute `Backend.delete`."""
    values: dict[str, Value] = {**_key(key), "now": now}
    rows = yield from _locked(statements, statements.header, values)
    if not rows:
        yield from _row_of_new(statements, key)
        return check_delete(key, None, expect, for_owner, now)
    try:
        now, seen = _seen(key, rows[0])
    except CorruptRecord:
        row, found = rows[0][1], True
        if expect is not None:
            raise
        owners = yield from _owners_of_damaged(statements, key, rows[0])
        if for_owner is not None:
            if len(owners) > 1:
                raise
            if owners != {for_owner.encode()}:
                return False
    else:
        row, found = seen.row, check_delete(key, seen.header, expect, for_owner, now)
    if found or for_owner is None:
        yield from _remove(statements, row)
    return found


def _owners_of_damaged(statements: Statements, key: Key, row: Row) -> Steps[set[object]]:
    """Return the owners that a damaged session names, in its column and in its header if that can be read.

    Args:
        statements: The statements of the database.
        key: The session.
        row: The row that an index returned for the key.

    Raises:
        CorruptRecord: The row belongs to another session: the index is damaged.
    """
    found = yield statements.whose, statements.whose.bind({"row": row[1]})
    if len(found) != 1 or tuple(found[0][:2]) != (key.namespace.encode(), key.session.encode()):
        text = "an index of the database leads to the row of another session: check and repair the database"
        raise CorruptRecord(text, key=key)
    owners = {found[0][2]}
    with suppress(CorruptRecord):
        owners.add(Header.unpack(key, row[WIDTH - 1], updated=0.0, expires=None).owner.encode())
    return owners


def _remove(statements: Statements, row: int) -> Steps[None]:
    for statement in statements.delete:
        yield statement, statement.bind({"row": row})


def any_expired(statements: Statements, now: float) -> Steps[bool]:
    """Return whether a sweep would remove a session."""
    rows = yield statements.expired, statements.expired.bind({"now": now, "limit": 1})
    return bool(rows)


def count_expired(statements: Statements, now: float) -> Steps[tuple[int, float]]:
    """Return the number of expired sessions that are still stored, and the time of the last expiry among them.

    Args:
        statements: The statements of the database.
        now: As in `read`.
    """
    ((count, last),) = yield statements.count_expired, statements.count_expired.bind({"now": now})
    return count, last or 0.0


def sweep(statements: Statements, now: float, limit: int) -> Steps[int]:
    """Remove expired sessions; return their number.

    Args:
        statements: The statements of the database.
        now: As in `read`.
        limit: The largest number of sessions to remove.
    """
    rows = yield statements.expired, statements.expired.bind({"now": now, "limit": limit})
    if rows:
        for statement in statements.delete:
            yield statement, [statement.bind({"row": row[0]}) for row in rows]
    return len(rows)


# ----------------------------------------------------------------------------------------------------- rows and values


def _key(key: Key) -> dict[str, Value]:
    try:
        return {"namespace": key.namespace.encode(), "session": key.session.encode()}
    except AttributeError:
        raise missing(key) from None  # raises InvalidInput if `key` is not a key


@lru_cache(4_096)
def _key_of(namespace: str, session: bytes) -> Key:
    try:
        return Key(namespace, session.decode())
    except (TurnlogError, ValueError, AttributeError):
        raise CorruptRecord(f"a session of namespace {namespace!r} has the damaged id {session!r}") from None


def _seen(key: Key, row: Row, before: Seen | None = None) -> tuple[float, Seen]:
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


def _bytes(key: Key, size: object) -> int:
    """Return a sum of sizes."""
    try:
        return int(size)  # type: ignore[call-overload, no-any-return]  # raises if `size` is not a number
    except (TypeError, ValueError, OverflowError):
        raise CorruptRecord("the size of a record is damaged", key=key) from None


def _header_values(header: Header) -> dict[str, Value]:
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


def _record_values(key: Key, row: int, record: Record) -> dict[str, Value]:
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


def _change_values(row: int, change: Change, after: Header, number: int | None) -> dict[str, Value]:
    return {
        "row": row,
        "id": change.id.encode(),
        "place": after.changes - 1,
        "answer": Remembered(change.digest, after.version, number).pack(after.key),
    }

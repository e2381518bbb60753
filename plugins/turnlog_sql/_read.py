"""The read of a session as steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter

from turnlog import CorruptRecord, Key, Record, Session, Version
from turnlog.rules import Header, check_whole, missing, newest, regressed

from ._operations import Steps, row_of_new, slide
from ._rows import Row, Seen, key_values, seen_from
from ._statements import WIDTH, Statements

_rounds_until = attrgetter("rounds_until")


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
    values = key_values(key)
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
        yield from row_of_new(statements, key)
        raise missing(key)
    first = next((row for row in rows if row[0] is not None), None)  # usually the first row
    if first is None or (alone and len(rows) > 1):
        raise CorruptRecord("the session has records without a header, or two headers", key=key)
    now, seen = seen_from(key, first, seen)
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
        seen = yield from slide(statements, seen, now, ttl)
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

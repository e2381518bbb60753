"""What the store does, as steps: statements to execute, one after the other, and what follows from their rows.

A step is a generator that yields a statement with its parameters and is sent the rows.  It does no I/O, so one set of
steps serves every database and every driver, blocking or not.  Transactions belong to whoever drives the steps:
`commit`, `delete`, `copy` and `sweep` need one, and lock what they change before they look at it; of `read`, `page` and
`append` each statement stands for itself.  Where a statement is no round trip, `read` opens and ends a snapshot.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias, TypeVar
from zlib import crc32

import msgspec

from turnlog import (
    ABSENT,
    Change,
    CorruptRecord,
    Key,
    Metadata,
    Page,
    Query,
    Receipt,
    Record,
    Session,
    SessionInfo,
    Version,
)
from turnlog.errors import TurnlogError
from turnlog.limits import MAX_NUMBER, REMEMBERED_CHANGES
from turnlog.rules import Header, check_delete, check_whole, created_by, fits, missing, reused

from ._statements import WIDTH, Statement, Statements, Value

T = TypeVar("T")

Row: TypeAlias = "Sequence[Any]"
Steps: TypeAlias = "Generator[tuple[Statement, tuple[Value, ...] | list[tuple[Value, ...]]], Any, T]"
"""Yields a statement and its parameters, or a list of such, one for each time; is sent the rows; returns the answer.

The rows are a sequence, those of a lazy statement an iterator.
"""

_NONE = Metadata({})
_encode = msgspec.msgpack.Encoder().encode
_decode_metadata = msgspec.msgpack.Decoder(dict[str, bytes]).decode
_decode_head = msgspec.msgpack.Decoder(Record).decode
_set = msgspec.structs.force_setattr
_head_of = attrgetter(
    "id", "part", "open", "time", "count", "rounds", "turns", "number", "rounds_until", "messages_until", "tip"
)
_end = attrgetter("rounds_until")
_Version = tuple[bytes, int, int, bytes, bytes]
_Tail = tuple[str, int, bool]
_decode_answer = msgspec.msgpack.Decoder(tuple[bytes, _Version, int | None]).decode
_decode_header = msgspec.msgpack.Decoder(
    tuple[_Version, int, int, int, int, _Tail | None, int, float, float | None, int]
).decode
_DAMAGED = (msgspec.DecodeError, ValueError, TypeError, AttributeError)  # what a column of a wrong kind leads to


class Seen(NamedTuple):
    """A session as it was last seen: with it, an append need not look first."""

    row: int
    header: Header
    """Without the metadata."""
    head: bytes
    changes: int
    """How many were stored."""


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
    """What `Store.read` does.

    Args:
        statements: Of the database.
        key: Which session.
        now: Seconds since 1970, by the store's clock; not used where the server has one.
        ttl: The store's time to live in seconds, for sessions that have none of their own.
        last: As in `Store.read`.
        before: As in `Store.read`.
        since: As in `Store.read`.
        touch: As in `Store.read`.
        seen: The session as it was last seen, if it was.
    """
    values = _key(key)
    values["now"] = now
    walks = bool(last) and since is None and bool(statements.newest)
    if walks:
        yield statements.begin, ()  # what follows is of one moment
    if walks or (last == 0 and since is None):
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
        raise missing(key)
    first = next(row for row in rows if row[0] is not None)  # the first, as a rule
    now, seen = _seen(key, first, seen)
    header = seen.header
    if not header.alive(now):
        raise missing(key)
    if walks:
        newest = statements.newest[before is not None]
        rows = yield newest, newest.bind({"row": seen.row, "before": before})
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
    if touch:
        slid = yield from _slide(statements, seen, now, ttl)
        if slid is not header:
            header, seen = slid, seen._replace(header=slid)
    data = first[WIDTH]
    if data is not None:
        header = msgspec.structs.replace(header, metadata=_metadata(key, data))
    return Session(header.info(now), tuple(records), continues), seen


def _records(statements: Statements, seen: Seen, rows: Iterable[Row], enough: int | None) -> Steps[list[Record]]:
    """The records in rows of a head and a payload, in order.

    Args:
        statements: Of the database.
        seen: Whose they are.
        rows: In any order; with `enough` the last first.
        enough: So many messages, back to where a turn begins; None: all.
    """
    records, head, key = [], b"", seen.header.key
    missing = MAX_NUMBER if enough is None else enough
    try:
        for head, payload in rows:  # a call for each of them would take longer than what it does
            if crc32(payload[:_ENVELOPE] + head) != _SOUND:
                raise ValueError("it is damaged, or stands beside another payload")
            record = _decode_head(head[:-8])
            _set(record, "_payload", payload)
            records.append(record)
            missing -= record.count
            if missing <= 0 and record.turns:
                break
    except _DAMAGED as error:
        found = yield statements.number, statements.number.bind({"row": seen.row, "head": head})
        turn = found[0][0] if found else None
        raise CorruptRecord(f"the head of a record cannot be read: {error}", key=key, turn=turn) from None
    records.sort(key=_end)
    return records


def _continues(header: Header, since: Version, at: bytes | None) -> bool:
    if not header.may_continue(since):
        return False
    if since.rounds == header.version.rounds:
        return True
    if since.rounds == 0:
        return header.start == 0
    record = None if at is None else _record(header.key, at)
    if record is None or record.rounds_until != since.rounds:
        return False  # sealed over, or dropped
    if record.tip != since.tip:
        raise header.regressed(since)
    return True


def _slide(statements: Statements, seen: Seen, now: float, ttl: float | None) -> Steps[Header]:
    """Move the expiry, where it is due and the session is still as it was seen: whoever changed it has moved it."""
    header = seen.header.slide(now, ttl)
    if header is not seen.header:
        values: dict[str, Value] = {"row": seen.row, "was": seen.header.expires, "seen": seen.head, "now": now}
        yield statements.slide, statements.slide.bind(values | {"expires": header.expires})
    return header


def append(
    statements: Statements, seen: Seen, change: Change, now: float, ttl: float | None
) -> Steps[tuple[Receipt, Seen] | None]:
    """Append one record to a session that is still where it was seen, without looking first.

    Where it is not, or where more is asked for, nothing is stored, the answer is None, and `commit` does it.  A change
    that is sent again breaks the key of the table of changes.
    """
    header, owned = seen.header, change.owner is not None
    if len(change.append) != 1 or (owned and statements.append is None) or not _is_plain(change):
        return None
    if seen.changes % REMEMBERED_CHANGES == 0:
        return None  # it is time to forget
    try:
        header.check(change.expect, turns=True)
        after, (record,) = header.extend(change, now)  # a server puts its own clock in its place
        if owned:
            after = after.describe(change, now)
        after.check_bytes(change.max_bytes, header.bytes)
    except TurnlogError:
        return None  # what was seen may be out of date
    if change.retain is not None and after.turns - change.retain > after.first:
        return None
    if statements.append is None:  # no server has the clock
        if not header.alive(now):
            return None
        after = after.slide(now, ttl)
    own = ttl if header.ttl is None else header.ttl
    values, place = _header_values(after, seen.changes + 1), seen.changes
    values |= {"row": seen.row, "seen": seen.head, "was": header.expires, "ttl": own or None, "now": now}
    head = values["head"]
    stored, known = _record_values(seen.row, record), _change_values(seen.row, change, place, after, record.number)
    if statements.append is not None:
        stored["record_head"] = stored.pop("head")
        rows = yield statements.append, statements.append.bind({**values, **known, **stored})
    else:
        rows = yield statements.move, statements.move.bind(values)
        if rows:
            yield statements.insert_record, statements.insert_record.bind(stored)
            yield statements.insert_change, statements.insert_change.bind(known)
    if not rows:
        return None
    if statements.append is not None:
        now, expires = rows[0][0], rows[0][1]
        after = msgspec.structs.replace(after, updated=now, expires=expires)
    assert isinstance(head, bytes)
    receipt = after.receipt(now, after.version, record.number, header.version)
    return receipt, Seen(seen.row, after, head, place + 1)


def _is_plain(change: Change) -> bool:
    return change.metadata is None and change.keep is None and change.ttl is None and change.expect is not ABSENT


def commit(
    statements: Statements,
    key: Key,
    change: Change,
    now: float,
    ttl: float | None,
    nonce: Callable[[int], bytes] = os.urandom,
) -> Steps[tuple[Receipt, Seen]]:
    """What `Store.commit` does, in the order of `SessionState.apply`.

    Args:
        statements: Of the database.
        key: Which session.
        change: What to do.
        now: As in `read`.
        ttl: As in `read`.
        nonce: Makes so many random bytes.
    """
    values: dict[str, Value] = {**_key(key), "id": change.id.encode(), "now": now}
    rows = yield from _locked(statements, statements.find, values)
    seen: Seen | None = None
    previous, taken = None, 0
    if rows:
        now, seen = _seen(key, rows[0])
        known = rows[0][WIDTH]
        if not seen.header.alive(now):
            yield from _remove(statements, seen.row)
            seen = None
        elif known is not None:
            digest, version, number = _answer(key, known)
            if digest != change.digest:
                raise reused(key, change.id)
            header = yield from _slide(statements, seen, now, ttl)
            return header.receipt(now, version, number, version), seen._replace(header=header)
    elif statements.served:
        rows = yield statements.clock, ()
        now = rows[0][0]
    if seen is None:
        header, row, place = created_by(key, change, nonce(16), now), None, 0
    else:
        header, row, place = seen.header, seen.row, seen.changes
        previous, taken = header.version, header.bytes
        if change.seal is not None:
            seen = yield from _seal(statements, seen, change.seal)
            return seen.header.receipt(now, header.version, None, previous), seen
        header.check(change.expect, turns=bool(change.append) or change.keep is not None)
        if change.metadata is not None:
            rows = yield statements.metadata, statements.metadata.bind({"row": row})
            header = msgspec.structs.replace(header, metadata=_metadata(key, rows[0][0] if rows else None))
    if change.keep is not None and change.keep < header.turns:
        header = yield from _cut(statements, row, header, change.keep, now)

    placed: list[Record] = []
    number = None
    if change.append:
        header, placed = header.extend(change, now)
        number = change.number_in(placed)
    if change.metadata is not None or change.owner is not None or change.ttl is not None:
        header = header.describe(change, now)
    if change.retain is not None and header.turns - change.retain > header.first:
        header, placed = yield from _retain(statements, row, header, placed, header.turns - change.retain)
    header.check_bytes(change.max_bytes, taken)
    header = header.slide(now, ttl)

    seen = yield from _store(statements, row, header, change, place + 1)
    row = seen.row
    if placed:
        yield statements.insert_record, [statements.insert_record.bind(_record_values(row, one)) for one in placed]
    if place and place % REMEMBERED_CHANGES == 0:
        yield statements.forget, statements.forget.bind({"row": row, "place": place - REMEMBERED_CHANGES + 1})
    yield statements.insert_change, statements.insert_change.bind(_change_values(row, change, place, header, number))
    return header.receipt(now, header.version, number, previous), seen


def _locked(statements: Statements, statement: Statement, values: dict[str, Value]) -> Steps[Sequence[Row]]:
    """What a statement finds of a session, once no other transaction can change it."""
    locked: Sequence[Row] = ((),)
    while True:
        if statements.locks:
            locked = yield statements.lock, statements.lock.bind(values)
        rows: Sequence[Row] = yield statement, statement.bind(values)
        if locked or not rows:
            return rows
        # it was made between the two statements: it is there, but not locked


def _store(statements: Statements, row: int | None, header: Header, change: Change, changes: int) -> Steps[Seen]:
    """Write the header, and the metadata where the change has some."""
    created = row is None
    values = _header_values(header, changes)
    if row is None:
        row = yield from _insert(statements, values, header.key)
    else:
        values["row"] = row
        statement = statements.move_session if change.owner is None else statements.update_session
        yield statement, statement.bind(values)
    if change.metadata is not None:
        if not created:
            yield statements.delete_metadata, statements.delete_metadata.bind({"row": row})
        if header.metadata:
            kept = _encode(header.metadata.encoded)
            kept += _sum(kept)
            yield statements.insert_metadata, statements.insert_metadata.bind({"row": row, "metadata": kept})
        header = msgspec.structs.replace(header, metadata=_NONE)
    head = values["head"]
    assert isinstance(head, bytes)
    return Seen(row, header, head, changes)


def _insert(statements: Statements, values: dict[str, Value], key: Key) -> Steps[int]:
    """Make a session; answers its row."""
    values |= _key(key)
    yield statements.insert_session, statements.insert_session.bind(values)
    rows = yield statements.find_row, statements.find_row.bind(values)
    return int(rows[0][0])


def _cut(statements: Statements, row: int | None, header: Header, keep: int, now: float) -> Steps[Header]:
    if row is None:
        return header.cut(keep, None, 0, now)
    at = {"row": row, "number": keep}
    rows = yield statements.head_below, statements.head_below.bind(at)
    size = yield statements.size_above, statements.size_above.bind(at)
    header = header.cut(keep, _record(header.key, rows[0][0]) if rows else None, int(size[0][0]), now)
    yield statements.cut_above, statements.cut_above.bind(at)
    return header


def _retain(
    statements: Statements, row: int | None, header: Header, placed: list[Record], number: int
) -> Steps[tuple[Header, list[Record]]]:
    """Drop what lies wholly before turn `number`, of what is stored and of what is about to be."""
    first, freed = None, 0
    if row is not None:
        rows = yield statements.head_at, statements.head_at.bind({"row": row, "number": number})
        first = _record(header.key, rows[0][0]) if rows else None
    if first is None or first.next_turn <= number:
        first = next(record for record in placed if record.next_turn > number)
    if row is not None:
        at = {"row": row, "number": first.number}
        size = yield statements.size_below, statements.size_below.bind(at)
        freed = int(size[0][0])
        yield statements.cut_below, statements.cut_below.bind(at)
    dropped = sum(record.number < first.number for record in placed)
    header = header.drop(first, freed + sum(record.size for record in placed[:dropped]))
    return header, placed[dropped:]


def _seal(statements: Statements, seen: Seen, seal: Record) -> Steps[Seen]:
    row, header, changes = seen.row, seen.header, seen.changes
    at = {"row": row, "number": seal.number, "until": seal.next_turn}
    rows = yield statements.heads, statements.heads.bind(at)
    if not fits(seal, [_record(header.key, head) for head, _ in rows], last=seal.next_turn >= header.turns):
        return seen
    sealed = msgspec.structs.replace(seal, messages_until=_record(header.key, rows[-1][0]).messages_until)
    header = msgspec.structs.replace(header, bytes=header.bytes - sum(int(size) for _, size in rows) + seal.size)
    yield statements.cut_between, statements.cut_between.bind(at)
    yield statements.insert_record, statements.insert_record.bind(_record_values(row, sealed))
    values = _header_values(header, changes)
    yield statements.move_session, statements.move_session.bind({**values, "row": row})
    head = values["head"]
    assert isinstance(head, bytes)
    return Seen(row, header, head, changes)


def copy(
    statements: Statements,
    source: Key,
    target: Key,
    now: float,
    ttl: float | None,
    epoch: bytes,
    *,
    at: int | None,
    change: tuple[str, bytes],
) -> Steps[Receipt]:
    """What `Store.copy` does: the records are copied as they are, and none of them leaves the database.

    Args:
        statements: Of the database.
        source: Which session.
        target: Where to.
        now: As in `read`.
        ttl: As in `read`.
        epoch: 16 random bytes, for the copy.
        at: Only the turns numbered below this; None: all.
        change: Its id and digest.
    """
    values: dict[str, Value] = {**_key(target), "id": change[0].encode(), "now": now}
    rows = yield from _locked(statements, statements.header, {**values, **_key(source)})  # so that it stands still
    there = yield statements.find, statements.find.bind(values)
    if there:
        now, seen = _seen(target, there[0])
        known = there[0][WIDTH]
        if not seen.header.alive(now):
            yield from _remove(statements, seen.row)
        elif known is not None:
            digest, version, number = _answer(target, known)
            if digest != change[1]:
                raise reused(target, change[0])
            header = yield from _slide(statements, seen, now, ttl)
            return header.receipt(now, version, number, version)
        elif rows:
            seen.header.check(ABSENT, turns=True)
    if not rows:
        raise missing(source)
    now, seen = _seen(source, rows[0])
    header = seen.header
    if not header.alive(now):
        raise missing(source)
    yield from _slide(statements, seen, now, ttl)
    if at is not None and at < header.turns:
        here = {"row": seen.row, "number": at}
        rows = yield statements.head_below, statements.head_below.bind(here)
        size = yield statements.size_above, statements.size_above.bind(here)
        header = header.cut(at, _record(source, rows[0][0]) if rows else None, int(size[0][0]), now)
    rounds, tip = header.version.rounds, header.version.tip
    version = Version(epoch, 0, rounds, tip if rounds else epoch, epoch)
    header = msgspec.structs.replace(header, key=target, version=version, created=now, updated=now, expires=None)
    header = header.slide(now, ttl)
    row = yield from _insert(statements, _header_values(header, 1), target)
    along: dict[str, Value] = {"row": seen.row, "to": row, "number": header.turns}
    yield statements.copy_metadata, statements.copy_metadata.bind(along)
    yield statements.copy_records, statements.copy_records.bind(along)
    number = header.first if header.messages_until > header.start else None
    answer = _encode((change[1], msgspec.structs.astuple(version), number))
    made: dict[str, Value] = {"row": row, "id": values["id"], "place": 0, "answer": answer}
    yield statements.insert_change, statements.insert_change.bind(made)
    return header.receipt(now, version, number, None)


def delete(statements: Statements, key: Key, now: float, expect: Version | None) -> Steps[bool]:
    """What `Store.delete` does.  What is damaged can be deleted, too."""
    values: dict[str, Value] = {**_key(key), "now": now}
    rows = yield from _locked(statements, statements.header, values)
    if not rows:
        return check_delete(key, None, expect, now)
    row, found = int(rows[0][1]), True
    try:
        now, seen = _seen(key, rows[0])
    except CorruptRecord:
        if expect is not None:
            raise
    else:
        found = check_delete(key, seen.header, expect, now)
    yield from _remove(statements, row)
    return found


def _remove(statements: Statements, row: int) -> Steps[None]:
    for statement in statements.delete:
        yield statement, statement.bind({"row": row})


def any_expired(statements: Statements, now: float) -> Steps[bool]:
    """Whether there is something to sweep."""
    rows = yield statements.expired, statements.expired.bind({"now": now, "limit": 1})
    return bool(rows)


def sweep(statements: Statements, now: float, limit: int) -> Steps[int]:
    """Remove sessions that have expired; answers how many.

    Args:
        statements: Of the database.
        now: As in `read`.
        limit: At most so many.
    """
    rows = yield statements.expired, statements.expired.bind({"now": now, "limit": limit})
    if rows:
        for statement in statements.delete:
            yield statement, [statement.bind({"row": row[0]}) for row in rows]
    return len(rows)


def page(statements: Statements, query: Query, now: float) -> Steps[Page]:
    """What `Store.page` does.  A session that cannot be read ends the page before it, and is the error of the next."""
    values: dict[str, Value] = {"namespace": query.namespace.encode(), "now": now, "limit": query.limit + 1}
    if query.owner is not None:
        values["owner"] = query.owner.encode()
    after = query.after
    if after is not None:
        values["updated"], values["session"] = after[0], after[1].encode()
    statement = statements.pages[query.owner is not None, after is not None]
    rows = yield statement, statement.bind(values)
    infos: list[SessionInfo] = []
    for row in rows[: query.limit]:
        try:
            key = _key_of(query.namespace, row[0])
            now, seen = _seen(key, row[1:])
            metadata = _metadata(key, row[WIDTH + 1])
        except CorruptRecord:
            if not infos:
                raise
            break
        infos.append(msgspec.structs.replace(seen.header, metadata=metadata).info(now))
    return Page(tuple(infos), query.cursor_behind(infos[-1]) if len(rows) > len(infos) else None)


# -------------------------------------------------------------------------------------------------- rows and values


def _key(key: Key) -> dict[str, Value]:
    return {"namespace": key.namespace.encode(), "session": key.session.encode()}


def _key_of(namespace: str, session: bytes) -> Key:
    try:
        return Key(namespace, session.decode())
    except (TurnlogError, *_DAMAGED):
        raise CorruptRecord(f"a session of namespace {namespace!r} has the damaged id {session!r}") from None


def _sum(data: bytes) -> bytes:
    """What is put behind data to tell damage from it: their CRC-32, the low byte first."""
    return crc32(data).to_bytes(4, "little")


_SOUND = 0x2144DF1C  # the CRC-32 of whatever has its own behind it


def _seen(key: Key, row: Row, before: Seen | None = None) -> tuple[float, Seen]:
    """The time, and the header in a row, without metadata: that of `before`, where nothing has changed since."""
    now, number, updated, owner, expires, head = row[:WIDTH]
    try:
        if crc32(owner + head) != _SOUND:
            raise CorruptRecord("its header is damaged", key=key)
        if before is not None and before.head == head and before.row == number:
            header = before.header
            if (header.updated, header.expires) == (updated, expires):
                return now, before
        where, first, turns, start, upto, tail, size, created, ttl, changes = _decode_header(head[:-4])
        owned = owner.decode() if owner else ""
        if expires is not None:
            expires = float(expires)
        version = Version(*where)
        header = Header(
            key, version, first, turns, start, upto, tail, size, created, float(updated), owned, _NONE, ttl, expires
        )
    except _DAMAGED as error:
        raise CorruptRecord(f"its header cannot be read: {error}", key=key) from None
    return now, Seen(number, header, head, changes)


def _metadata(key: Key, data: bytes | None) -> Metadata:
    if data is None:
        return _NONE
    try:
        if crc32(data) != _SOUND:
            raise CorruptRecord("its metadata is damaged", key=key)
        return Metadata(_decode_metadata(data[:-4]))
    except _DAMAGED as error:
        raise CorruptRecord(f"its metadata cannot be read: {error}", key=key) from None


def _header_values(header: Header, changes: int) -> dict[str, Value]:
    h, version, owner = header, msgspec.structs.astuple(header.version), header.owner.encode()
    head = _encode((version, h.first, h.turns, h.start, h.messages_until, h.tail, h.bytes, h.created, h.ttl, changes))
    return {
        "epoch": version[0],
        "generation": version[1],
        "rounds": version[2],
        "start": h.start,
        "messages_until": h.messages_until,
        "bytes": h.bytes,
        "updated": h.updated,
        "owner": owner,
        "expires": h.expires,
        "head": head + _sum(owner + head),
    }


def _record(key: Key, head: bytes) -> Record:
    """The record behind its head, without a payload."""
    try:
        if crc32(head[:-4]) != _SOUND:
            raise ValueError("it is damaged")
        return _decode_head(head[:-8])
    except _DAMAGED as error:
        raise CorruptRecord(f"the head of a record cannot be read: {error}", key=key) from None


_ENVELOPE = 12  # bytes, with a digest of the rest (docs/reference/format.md)


def _record_values(row: int, record: Record) -> dict[str, Value]:
    head, size, payload = _encode(_head_of(record)), record.size, record.payload  # the size as the header counted it
    head += _sum(head)
    return {
        "row": row,
        "number": record.number,
        "part": record.part,
        "rounds": record.rounds_until,
        "begin": record.messages_until - record.count if record.turns else None,
        "messages_until": record.messages_until,
        "size": size,
        "head": head + _sum(payload[:_ENVELOPE] + head),
        "payload": payload,
    }


def _change_values(row: int, change: Change, place: int, header: Header, number: int | None) -> dict[str, Value]:
    return {
        "row": row,
        "id": change.id.encode(),
        "place": place,
        "answer": _encode((change.digest, msgspec.structs.astuple(header.version), number)),
    }


def _answer(key: Key, known: bytes) -> tuple[bytes, Version, int | None]:
    """What a change that is remembered asked for, in 16 bytes, and what it is answered."""
    try:
        digest, version, number = _decode_answer(known)
        return digest, Version(*version), number
    except _DAMAGED as error:
        raise CorruptRecord(f"a change that it remembers cannot be read: {error}", key=key) from None

"""What the store does, as steps: statements to execute, one after the other, and what follows from their rows.

A step is a generator that yields a statement with its parameters and is sent the rows.  It does no I/O, so one set of
steps serves every database and every driver, blocking or not.  Transactions belong to whoever drives the steps:
`commit` and `delete` need one that locks out other writers; of `read` and `page` each statement stands for itself.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar

import msgspec

from turnlog import Change, CorruptRecord, Key, Metadata, Page, Query, Receipt, Record, Session, Version
from turnlog.limits import REMEMBERED_CHANGES
from turnlog.state import Header, check_delete, created_by, fits, missing, reused

from ._statements import HEADER, Statement, Statements, Value

T = TypeVar("T")

Row: TypeAlias = "tuple[Any, ...]"
Steps: TypeAlias = "Generator[tuple[Statement, tuple[Value, ...] | list[tuple[Value, ...]]], Sequence[Row], T]"
"""Yields a statement and its parameters, or a list of such, one for each time; is sent the rows; returns the answer."""

_WIDTH = len(HEADER)
_NONE = Metadata({})
_encode = msgspec.msgpack.Encoder().encode
_decode_metadata = msgspec.msgpack.Decoder(dict[str, bytes]).decode
_decode_head = msgspec.msgpack.Decoder(tuple[str, int, bool, float, int, int, int, int, int, int, bytes]).decode
_head_of = attrgetter("id", "part", "open", "time", "count", "rounds", "turns", "number", "end", "upto", "tip")
_end = attrgetter("end")
_Version = tuple[bytes, int, int, bytes, bytes]
_Tail = tuple[str, int, bool]
_decode_version = msgspec.msgpack.Decoder(_Version).decode
_decode_header = msgspec.msgpack.Decoder(
    tuple[_Version, int, int, int, int, _Tail | None, int, float, float | None, int]
).decode


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
) -> Steps[Session]:
    """What `Store.read` does."""
    values = _key(key)
    if last == 0 and since is None:
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
    place = next(place for place, row in enumerate(rows) if row[0] is not None)  # the first, as a rule
    first = rows[place]
    row, header, _ = _header(key, first, first[_WIDTH])
    if not header.alive(now):
        raise missing(key)
    records = [_record(key, one[_WIDTH], one[_WIDTH + 1]) for one in rows if one is not first]
    records.sort(key=_end)  # they come so, as a rule
    continues = since is not None and _continues(header, since, first[_WIDTH + 1])
    if continues and since is not None:
        records = [record for record in records if record.end > since.rounds]
    elif last == 0:
        records = []
    if touch:
        header = yield from _slide(statements, row, header, now, ttl)
    return Session(header.info(now), tuple(records), continues)


def _continues(header: Header, since: Version, at: bytes | None) -> bool:
    if not header.may_continue(since):
        return False
    if since.rounds == header.version.rounds:
        return True
    if since.rounds == 0:
        return header.start == 0
    record = None if at is None else _record(header.key, at)
    if record is None or record.end != since.rounds:
        return False  # sealed over, or dropped
    if record.tip != since.tip:
        raise header.regressed(since)
    return True


def _slide(statements: Statements, row: int, header: Header, now: float, ttl: float | None) -> Steps[Header]:
    """Move the expiry, where it is due and nobody else has moved it."""
    slid = header.slide(now, ttl)
    if slid is not header:
        yield statements.slide, statements.slide.bind({"row": row, "was": header.expires, "expires": slid.expires})
    return slid


def commit(
    statements: Statements, key: Key, change: Change, now: float, ttl: float | None, epoch: bytes
) -> Steps[Receipt]:
    """What `Store.commit` does, in the order of `SessionState.apply`.

    Args:
        statements: Of the database.
        key: Which session.
        change: What to do.
        now: Seconds since 1970, by the store's clock.
        ttl: The store's time to live in seconds, for sessions that have none of their own.
        epoch: 16 random bytes, for a session that is made.
    """
    rows = yield statements.find, statements.find.bind({**_key(key), "id": change.id.encode()})
    row: int | None = None
    place, previous, header = 0, None, None
    if rows:
        row, header, place = _header(key, rows[0])
        digest, version, number = rows[0][_WIDTH:]
        if not header.alive(now):
            yield from _remove(statements, row)
            row, place, header = None, 0, None
        elif digest is not None:
            if digest != change.digest:
                raise reused(key, change)
            header = yield from _slide(statements, row, header, now, ttl)
            then = Version(*_decode_version(version))
            return header.receipt(now, then, number, then)
    if row is None or header is None:
        header, taken = created_by(key, change, epoch, now), 0
    else:
        previous, taken = header.version, header.bytes
        if change.seal is not None:
            header = yield from _seal(statements, row, header, place, change.seal)
            return header.receipt(now, header.version, None, previous)
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
        number = placed[0].number
    if change.metadata is not None or change.owner is not None or change.ttl is not None:
        header = header.describe(change, now)
    if change.retain is not None and header.turns - change.retain > header.first:
        header, placed = yield from _retain(statements, row, header, placed, header.turns - change.retain)
    header.check_bytes(change.max_bytes, taken)
    header = header.slide(now, ttl)

    row = yield from _store(statements, row, header, change, place + 1)
    if placed:
        yield statements.insert_record, [statements.insert_record.bind(_record_values(row, one)) for one in placed]
    if place and place % REMEMBERED_CHANGES == 0:
        yield statements.forget, statements.forget.bind({"row": row, "place": place - REMEMBERED_CHANGES + 1})
    version = _encode(msgspec.structs.astuple(header.version))
    known: dict[str, Value] = {"row": row, "id": change.id.encode(), "place": place, "digest": change.digest}
    known |= {"version": version, "number": number}
    yield statements.insert_change, statements.insert_change.bind(known)
    return header.receipt(now, header.version, number, previous)


def _store(statements: Statements, row: int | None, header: Header, change: Change, changes: int) -> Steps[int]:
    """Write the header, and the metadata where the change has some; answers the session's row."""
    values = _header_values(header, changes)
    values["row"] = row
    created = row is None
    if row is None:
        values |= _key(header.key)
        yield statements.insert_session, statements.insert_session.bind(values)
        rows = yield statements.header, statements.header.bind(values)
        row = int(rows[0][0])
    elif change.owner is not None:
        yield statements.update_session, statements.update_session.bind(values)
    else:
        yield statements.move_session, statements.move_session.bind(values)
    if change.metadata is not None:
        if not created:
            yield statements.delete_metadata, statements.delete_metadata.bind({"row": row})
        if header.metadata:
            kept: dict[str, Value] = {"row": row, "metadata": _encode(header.metadata.encoded)}
            yield statements.insert_metadata, statements.insert_metadata.bind(kept)
    return row


def _cut(statements: Statements, row: int, header: Header, keep: int, now: float) -> Steps[Header]:
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
    if first is None or first.after <= number:
        first = next(record for record in placed if record.after > number)
    if row is not None:
        at = {"row": row, "number": first.number}
        size = yield statements.size_below, statements.size_below.bind(at)
        freed = int(size[0][0])
        yield statements.cut_below, statements.cut_below.bind(at)
    dropped = sum(record.number < first.number for record in placed)
    header = header.drop(first, freed + sum(record.size for record in placed[:dropped]))
    return header, placed[dropped:]


def _seal(statements: Statements, row: int, header: Header, changes: int, seal: Record) -> Steps[Header]:
    at = {"row": row, "number": seal.number, "until": seal.after}
    rows = yield statements.heads, statements.heads.bind(at)
    if not fits(seal, [_record(header.key, head) for head, _ in rows], last=seal.after >= header.turns):
        return header
    sealed = msgspec.structs.replace(seal, upto=_record(header.key, rows[-1][0]).upto)
    header = msgspec.structs.replace(header, bytes=header.bytes - sum(size for _, size in rows) + seal.size)
    yield statements.cut_between, statements.cut_between.bind(at)
    yield statements.insert_record, statements.insert_record.bind(_record_values(row, sealed))
    yield statements.move_session, statements.move_session.bind({**_header_values(header, changes), "row": row})
    return header


def delete(statements: Statements, key: Key, now: float, expect: Version | None) -> Steps[bool]:
    """What `Store.delete` does."""
    rows = yield statements.header, statements.header.bind(_key(key))
    row, header, _ = _header(key, rows[0]) if rows else (0, None, 0)
    found = check_delete(key, header, expect, now)
    if header is not None:
        yield from _remove(statements, row)
    return found


def _remove(statements: Statements, row: int) -> Steps[None]:
    for statement in statements.delete:
        yield statement, statement.bind({"row": row})


def page(statements: Statements, query: Query, now: float) -> Steps[Page]:
    """What `Store.page` does."""
    values: dict[str, Value] = {"namespace": query.namespace.encode(), "now": now, "limit": query.limit + 1}
    if query.owner is not None:
        values["owner"] = query.owner.encode()
    after = query.after
    if after is not None:
        values["updated"], values["session"] = after[0], after[1].encode()
    statement = statements.pages[query.owner is not None, after is not None]
    rows = yield statement, statement.bind(values)
    headers = [
        _header(Key(query.namespace, row[0].decode()), row[1:], row[_WIDTH + 1])[1] for row in rows[: query.limit]
    ]
    infos = tuple(header.info(now) for header in headers)
    return Page(infos, query.cursor_behind(infos[-1]) if len(rows) > query.limit else None)


# -------------------------------------------------------------------------------------------------- rows and values


def _key(key: Key) -> dict[str, Value]:
    return {"namespace": key.namespace.encode(), "session": key.session.encode()}


def _header(key: Key, row: Row, metadata: bytes | None = None) -> tuple[int, Header, int]:
    """The session's row, the header in it, and how many changes were stored; without metadata where none is given."""
    number, updated, owner, expires, head = row[:_WIDTH]
    try:
        version, first, turns, start, upto, tail, size, created, ttl, changes = _decode_header(head)
    except msgspec.DecodeError as error:
        raise CorruptRecord(f"its header cannot be read: {error}", key=key) from None
    header = Header(
        key,
        Version(*version),
        first,
        turns,
        start,
        upto,
        tail,
        size,
        created,
        updated,
        owner.decode(),
        _metadata(key, metadata),
        ttl,
        expires,
    )
    return number, header, changes


def _metadata(key: Key, data: bytes | None) -> Metadata:
    if data is None:
        return _NONE
    try:
        return Metadata(_decode_metadata(data))
    except msgspec.DecodeError as error:
        raise CorruptRecord(f"its metadata cannot be read: {error}", key=key) from None


def _header_values(header: Header, changes: int) -> dict[str, Value]:
    h, version = header, msgspec.structs.astuple(header.version)
    head = (version, h.first, h.turns, h.start, h.upto, h.tail, h.bytes, h.created, h.ttl, changes)
    return {
        "epoch": version[0],
        "generation": version[1],
        "rounds": version[2],
        "start": h.start,
        "upto": h.upto,
        "bytes": h.bytes,
        "updated": h.updated,
        "owner": h.owner.encode(),
        "expires": h.expires,
        "head": _encode(head),
    }


def _record(key: Key, head: bytes, payload: bytes | None = None) -> Record:
    try:
        return Record(*_decode_head(head), payload)
    except msgspec.DecodeError as error:
        raise CorruptRecord(f"the head of a record cannot be read: {error}", key=key) from None


def _record_values(row: int, record: Record) -> dict[str, Value]:
    return {
        "row": row,
        "number": record.number,
        "part": record.part,
        "rounds": record.end,
        "begin": record.upto - record.count if record.turns else None,
        "upto": record.upto,
        "size": record.size,
        "head": _encode(_head_of(record)),
        "payload": record.payload,
    }

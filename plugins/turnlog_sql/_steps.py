"""What the store does, as steps: statements to execute, one after the other, and what follows from their rows.

A step is a generator that yields a statement with its parameters and is sent the rows.  It does no I/O, so one set of
steps serves every database and every driver, blocking or not.  Transactions belong to whoever drives the steps:
`commit` and `delete` need one that locks out other writers; `read` and `page` are one statement, and `slide` another
that needs no transaction with it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec
from turnlog import Change, CorruptRecord, Key, Metadata, Page, Query, Receipt, Record, Session, Version
from turnlog.limits import REMEMBERED_CHANGES
from turnlog.state import Header, check_delete, created_by, fits, missing, reused

from ._statements import HEADER, RECORD, Statement, Statements, Value

T = TypeVar("T")

Row: TypeAlias = "tuple[Any, ...]"
Steps: TypeAlias = "Generator[tuple[Statement, tuple[Value, ...] | list[tuple[Value, ...]]], Sequence[Row], T]"
"""Yields a statement and its parameters, or a list of such, one for each time; is sent the rows; returns the answer."""

_END = HEADER[0].name and len(HEADER)
_encode = msgspec.msgpack.Encoder().encode
_decode_metadata = msgspec.msgpack.Decoder(dict[str, bytes]).decode
_decode_version = msgspec.msgpack.Decoder(tuple[bytes, int, int, bytes, bytes]).decode
_FORGET_EVERY = REMEMBERED_CHANGES


def read(
    statements: Statements, key: Key, now: float, *, last: int | None, before: int | None, since: Version | None
) -> Steps[tuple[int, Header, Session]]:
    """The row of a session, its header, and what `Store.read` answers."""
    values = _key(key)
    if last == 0 and since is None:
        rows = yield statements.info, statements.info.bind(values)
        if not rows:
            raise missing(key)
        row, header = _header(key, rows[0])
        if not header.alive(now):
            raise missing(key)
        return row, header, Session(header.info(now), ())
    if last is not None:
        values["last"] = last
    if before is not None:
        values["before"] = before
    if since is not None:
        values |= {"epoch": since.epoch, "generation": since.generation, "rounds": since.rounds, "tip": since.tip}
    statement = statements.reads[last is not None, before is not None, since is not None]
    rows = yield statement, statement.bind(values)
    if not rows:
        raise missing(key)
    first = rows[0][1:]
    row, header = _header(key, first)
    if not header.alive(now):
        raise missing(key)
    records = [_record(found, 1) for found in rows[1:]]
    continues = since is not None and _continues(header, since, first[len(HEADER)], first[len(HEADER) + 1])
    if continues and since is not None:
        records = [record for record in records if record.end > since.rounds]
    elif last == 0:
        records = []
    return row, header, Session(header.info(now), tuple(records), continues)


def _continues(header: Header, since: Version, end: int | None, tip: bytes | None) -> bool:
    if not header.may_continue(since):
        return False
    if since.rounds == header.version.rounds:
        return True
    if since.rounds == 0:
        return header.start == 0
    if end != since.rounds:
        return False  # sealed over, or dropped
    if tip != since.tip:
        raise header.regressed(since)
    return True


def slide(statements: Statements, row: int, header: Header, now: float, ttl: float | None) -> Steps[None]:
    """Move the expiry, where it is due and nobody else has moved it."""
    slid = header.slide(now, ttl)
    if slid is not header:
        yield statements.slide, statements.slide.bind({"row": row, "was": header.expires, "expires": slid.expires})


def commit(
    statements: Statements, key: Key, change: Change, now: float, epoch: bytes, ttl: float | None
) -> Steps[Receipt]:
    """What `Store.commit` does, in the order of `SessionState.apply`."""
    rows = yield statements.find, statements.find.bind({**_key(key), "id": change.id.encode()})
    row: int | None = None
    place = 0
    previous: Version | None = None
    header: Header | None = None
    if rows:
        row, header = _header(key, rows[0])
        place, (digest, version, number) = rows[0][len(HEADER) - 1], rows[0][len(HEADER) :]
        if not header.alive(now):
            yield from _remove(statements, row)
            row, place, header = None, 0, None
        elif digest is not None:
            if digest != change.digest:
                raise reused(key, change)
            yield from slide(statements, row, header, now, ttl)
            known = Version(*_decode_version(version))
            return header.slide(now, ttl).receipt(now, known, number, known)
    if header is None:
        header = created_by(key, change, epoch, now)
    else:
        previous = header.version
        if change.seal is not None:
            header = yield from _seal(statements, row or 0, header, change.seal)
            return header.receipt(now, header.version, None, previous)
        header.check(change.expect, turns=bool(change.append) or change.keep is not None)

    if change.keep is not None and change.keep < header.turns:
        header = yield from _cut(statements, row or 0, header, change.keep, now)
    placed: list[Record] = []
    if change.append:
        header, placed = header.extend(change, now)
    header = header.describe(change, now)
    number = placed[0].number if placed else None
    if change.retain is not None and header.turns - change.retain > header.first:
        header, placed = yield from _retain(statements, row, header, placed, header.turns - change.retain)
    header.check_bytes(change.max_bytes)
    header = header.slide(now, ttl)

    values = {**_values(header), "changes": place + 1}
    if row is None:
        yield statements.insert_session, statements.insert_session.bind({**values, **_key(key)})
        rows = yield statements.info, statements.info.bind(_key(key))
        row = int(rows[0][0])
    else:
        yield statements.update_session, statements.update_session.bind({**values, "row": row})
    if placed:
        yield (
            statements.insert_record,
            [statements.insert_record.bind(_record_values(row, record)) for record in placed],
        )
    stored = _encode(msgspec.structs.astuple(header.version))
    asked = {
        "row": row,
        "id": change.id.encode(),
        "place": place,
        "digest": change.digest,
        "version": stored,
        "number": number,
    }
    if place % _FORGET_EVERY == 0 and place:
        yield statements.forget, statements.forget.bind({"row": row, "place": place - REMEMBERED_CHANGES + 1})
    yield statements.insert_change, statements.insert_change.bind(asked)
    return header.receipt(now, header.version, number, previous)


def _cut(statements: Statements, row: int, header: Header, keep: int, now: float) -> Steps[Header]:
    at = {"row": row, "number": keep}
    rows = yield statements.head_below, statements.head_below.bind(at)
    size = yield statements.size_above, statements.size_above.bind(at)
    header = header.cut(keep, _record(rows[0]) if rows else None, size[0][0], now)
    yield statements.cut_above, statements.cut_above.bind(at)
    return header


def _retain(
    statements: Statements, row: int | None, header: Header, placed: list[Record], number: int
) -> Steps[tuple[Header, list[Record]]]:
    """Drop what lies wholly before turn `number`, of what is stored and of what is about to be."""
    if row is not None:
        rows = yield statements.head_beyond, statements.head_beyond.bind({"row": row, "number": number})
        stored = _record(rows[0]) if rows else None
        first = stored or next(record for record in placed if record.after > number)
        at = {"row": row, "number": first.number}
        size = yield statements.size_below, statements.size_below.bind(at)
        freed = size[0][0]
        yield statements.cut_below, statements.cut_below.bind(at)
    else:
        first, freed = next(record for record in placed if record.after > number), 0
    dropped = [record for record in placed if record.end < first.end and record.number < first.number]
    header = header.drop(first, freed + sum(record.size for record in dropped))
    return header, placed[len(dropped) :]


def _seal(statements: Statements, row: int, header: Header, seal: Record) -> Steps[Header]:
    at = {"row": row, "number": seal.number, "until": seal.after}
    rows = yield statements.heads, statements.heads.bind(at)
    if not fits(seal, [_record(found) for found in rows], last=seal.after == header.turns):
        return header
    sealed = msgspec.structs.replace(seal, upto=rows[-1][_UPTO])
    header = msgspec.structs.replace(header, bytes=header.bytes - sum(found[-1] for found in rows) + seal.size)
    yield statements.cut_between, statements.cut_between.bind(at)
    yield statements.insert_record, statements.insert_record.bind(_record_values(row, sealed))
    yield statements.resize, statements.resize.bind({"row": row, "bytes": header.bytes})
    return header


def delete(statements: Statements, key: Key, now: float, expect: Version | None) -> Steps[bool]:
    """What `Store.delete` does."""
    rows = yield statements.info, statements.info.bind(_key(key))
    row, header = _header(key, rows[0]) if rows else (0, None)
    found = check_delete(key, header, expect, now)
    if header is not None:
        yield from _remove(statements, row)
    return found


def _remove(statements: Statements, row: int) -> Steps[None]:
    for statement in statements.delete:
        yield statement, statement.bind({"row": row})


def page(statements: Statements, query: Query, now: float) -> Steps[Page]:
    """What `Store.page` answers."""
    values: dict[str, Value] = {"namespace": query.namespace.encode(), "now": now, "limit": query.limit + 1}
    if query.owner is not None:
        values["owner"] = query.owner.encode()
    after = query.after
    if after is not None:
        values["updated"], values["session"] = after[0], after[1].encode()
    statement = statements.pages[query.owner is not None, after is not None]
    rows = yield statement, statement.bind(values)
    infos = tuple(_header(Key(query.namespace, row[0].decode()), row[1:])[1].info(now) for row in rows[: query.limit])
    return Page(infos, query.cursor_behind(infos[-1]) if len(rows) > query.limit else None)


# ------------------------------------------------------------------------------------------------------ rows and values

_UPTO = [column.name for column in RECORD].index("upto")


def _key(key: Key) -> dict[str, Value]:
    return {"namespace": key.namespace.encode(), "session": key.session.encode()}


def _header(key: Key, row: Row) -> tuple[int, Header]:
    number, epoch, generation, rounds, tip, stamp, first, turns, start, upto, tail_id, tail_part, tail_open, size = row[
        :14
    ]
    created, updated, owner, metadata, ttl, expires = row[14:20]
    try:
        kept = Metadata(_decode_metadata(metadata))
    except msgspec.DecodeError as error:
        raise CorruptRecord(f"the metadata of session {key} cannot be read: {error}", key=key) from None
    tail = None if tail_id is None else (tail_id, tail_part, bool(tail_open))
    version = Version(epoch, generation, rounds, tip, stamp)
    return number, Header(
        key, version, first, turns, start, upto, tail, size, created, updated, owner.decode(), kept, ttl, expires
    )


def _values(header: Header) -> dict[str, Value]:
    version, tail = header.version, header.tail or (None, None, None)
    return {
        "epoch": version.epoch,
        "generation": version.generation,
        "rounds": version.rounds,
        "tip": version.tip,
        "stamp": version.stamp,
        "first": header.first,
        "turns": header.turns,
        "start": header.start,
        "upto": header.upto,
        "tail_id": tail[0],
        "tail_part": tail[1],
        "tail_open": None if tail[2] is None else int(tail[2]),
        "bytes": header.bytes,
        "created": header.created,
        "updated": header.updated,
        "owner": header.owner.encode(),
        "metadata": _encode(header.metadata.encoded),
        "ttl": header.ttl,
        "expires": header.expires,
    }


def _record(row: Row, skip: int = 0) -> Record:
    number, part, end, id, open, time, count, rounds, turns, upto, tip, *rest = row[skip : skip + len(RECORD)]
    return Record(id, part, bool(open), time, count, rounds, turns, number, end, upto, tip, rest[0] if rest else None)


def _record_values(row: int, record: Record) -> dict[str, Value]:
    payload = record.payload
    return {
        "row": row,
        "number": record.number,
        "part": record.part,
        "rounds_end": record.end,
        "id": record.id,
        "open": int(record.open),
        "time": record.time,
        "count": record.count,
        "rounds": record.rounds,
        "turns": record.turns,
        "upto": record.upto,
        "tip": record.tip,
        "size": len(payload),
        "payload": payload,
    }

"""A backend for turnlog that stores each record as a row of SQLite.  A commit reads only the rows that it needs.

`needs` and `plan` hold the rules of the contract.  The backend reads the rows that `needs` names, and writes the rows
that `plan` returns, in one transaction.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Final, TypeVar

from msgspec.structs import replace

from turnlog import Change, Expect, Key, Page, Query, Receipt, Record, Session, Version, rules
from turnlog.errors import CorruptRecord, OutcomeUnknown, Unavailable
from turnlog.limits import MAX_NUMBER, REMEMBERED_CHANGES
from turnlog.threaded import ThreadedBackend
from turnlog.values import SessionInfo, check_read

T = TypeVar("T")

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS sessions (
    namespace TEXT, session TEXT, updated REAL, expires REAL, owner TEXT, head BLOB, metadata BLOB,
    PRIMARY KEY (namespace, session));
CREATE INDEX IF NOT EXISTS pages ON sessions (namespace, updated DESC, session);
CREATE INDEX IF NOT EXISTS pages_of_owners ON sessions (namespace, owner, updated DESC, session);
CREATE TABLE IF NOT EXISTS records (
    namespace TEXT, session TEXT, number INTEGER, part INTEGER, size INTEGER, head BLOB, payload BLOB,
    PRIMARY KEY (namespace, session, number, part));
CREATE TABLE IF NOT EXISTS changes (
    namespace TEXT, session TEXT, id TEXT, place INTEGER, answer BLOB,
    PRIMARY KEY (namespace, session, id)) WITHOUT ROWID;
"""
_NEW: Final = "VALUES (?, ?, ?, ?, ?, ?, ?)"
_OF: Final = "WHERE namespace = ?1 AND session = ?2"
_BETWEEN: Final = "AND number >= ?3 AND number < ?4"


class RowsBackend(ThreadedBackend):
    """Sessions in an SQLite file, with a row for each record.

    Args:
        path: The file; the first call creates it.
        ttl: As in `Backend`.
        clock: As in `Backend`.
    """

    plugin_api = 1
    capabilities = frozenset({"shared", "threads", "processes", "durable"})

    def __init__(self, path: str, *, ttl: float | None = None, clock: Callable[[], float] = time.time) -> None:
        super().__init__(ttl=ttl, clock=clock)
        self.path = path

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        check_read(last, before, since)

        def read(rows: Rows) -> Session | None:
            header = rows.alive(now := self.clock())
            slid = header.slide(now, self.ttl) if touch else header
            if slid is not header:  # the read extends the session's life
                if not rows.writes:
                    return None  # repeat it in a transaction that can write
                rows.store(slid)
            records = None if since is None else rows.after(header, since)
            continues = records is not None
            if records is None:
                stored = rows.backwards(MAX_NUMBER if before is None else before)
                records = [] if last == 0 else list(stored)[::-1] if last is None else rules.newest(stored, last)
            rules.check_whole(header, records, last, before, since if continues else None)
            return Session(rows.with_metadata(slid).info(now), tuple(records), continues)

        session = await self.in_thread(self._run, key, read)
        while session is None:
            session = await self.in_thread(self._run, key, read, writes=True)
        return session

    async def commit(self, key: Key, change: Change) -> Receipt:
        for record in change.append:
            _ = record.payload  # raises TooLarge before any I/O

        def commit(rows: Rows) -> Receipt:
            header = rows.header(now := self.clock())
            known = None if header is None else rows.change(change.id)
            if header is not None and known is not None:
                rows.store(slid := header.slide(now, self.ttl))
                return known.receipt(slid, change, now)
            near = rules.needs(key, header, change)
            if near is not rules.NOTHING:
                near = rows.near(near)
            if header is None:
                rows.delete()  # the session may have expired
            elif change.metadata is not None:
                header = rows.with_metadata(header)
            done = rules.plan(key, header, change, near, now, ttl=self.ttl, nonce=os.urandom)
            after = done.header
            rows.cut(MAX_NUMBER if done.keep is None else done.keep, MAX_NUMBER)
            rows.cut(0, done.drop or 0)
            rows.add(done.append)
            rows.store(after, metadata=change.metadata is not None)
            rows.remember(change.id, after.changes - 1, rules.Remembered(change.digest, after.version, done.number))
            return after.receipt(now, after.version, done.number, done.previous)

        return await self.in_thread(self._run, key, commit, change, writes=True)

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        def delete(rows: Rows) -> bool:
            now = self.clock()
            try:
                found = rules.check_delete(key, rows.header(now), expect, for_owner, now)
            except CorruptRecord:
                if expect is not None:
                    raise
                found = for_owner is None or rows.is_of(for_owner)
            if found or for_owner is None:
                rows.delete()
            return found

        return await self.in_thread(self._run, key, delete, writes=True)

    async def seal(self, key: Key, record: Record) -> bool:
        rules.check_seal(key, record)

        def seal(rows: Rows) -> bool:
            header = rows.alive(self.clock())
            run = list(rows.heads(record.number, record.next_turn))
            if not rules.fits(record, [head for head, _ in run], last=record.next_turn >= header.turns):
                return False
            sealed = record.sealed_at(run[-1][0], record.size)
            rows.cut(record.number, record.next_turn)
            rows.add([sealed])
            rows.store(replace(header, bytes=header.bytes - sum(size for _, size in run) + sealed.size))
            return True

        return await self.in_thread(self._run, key, seal, writes=True)

    async def page(self, query: Query) -> Page:
        def page(rows: Rows) -> Page:
            page = rules.page_of(query, rows.listed(query, self.clock()), is_last=True)
            assert page is not None
            return page

        return await self.in_thread(self._run, Key(query.one_namespace, "-"), page)

    def _run(self, key: Key, step: Callable[[Rows], T], change: Change | None = None, *, writes: bool = False) -> T:
        """Run a step in one transaction, in a thread."""
        committing = False
        try:
            with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as database:
                database.executescript(_TABLES)
                # other writers wait; without COMMIT, closing rolls back
                database.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
                answer = step(Rows(database, key, writes=writes))
                committing = writes
                database.execute("COMMIT")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise CorruptRecord(f"{self.path} is damaged: {error}: restore it", key=key) from error
            if committing:
                raise OutcomeUnknown(f"{self.path}: {error}", key=key, change=change) from error
            raise Unavailable(f"{self.path}: {error}: nothing was stored") from error
        return answer


class Rows:
    """The rows of one session, in a transaction.

    Args:
        database: The connection.
        key: The session.
        writes: Whether the transaction can write.
    """

    def __init__(self, database: sqlite3.Connection, key: Key, *, writes: bool = True) -> None:
        self._database = database
        self._key = key
        self.writes = writes

    def _execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Execute a statement whose first two parameters name the session."""
        return self._database.execute(sql, (self._key.namespace, self._key.session, *values))

    # ------------------------------------------------------------------------------------------------------- headers

    def header(self, now: float) -> rules.Header | None:
        """Return the header, without its metadata; None: there is no session, or it has expired."""
        row = self._execute(f"SELECT head, updated, expires, owner FROM sessions {_OF}").fetchone()
        if row is None:
            return None
        header = rules.Header.unpack(self._key, row[0], updated=row[1], expires=row[2])
        if header.owner != row[3]:
            raise CorruptRecord("its owner in the column differs from its owner in the header", key=self._key)
        return header if header.alive(now) else None

    def alive(self, now: float) -> rules.Header:
        """Return the header; raise `SessionNotFound` without one."""
        if (header := self.header(now)) is None:
            raise rules.missing(self._key)
        return header

    def with_metadata(self, header: rules.Header) -> rules.Header:
        """Return the header with its metadata."""
        return header.with_metadata(self._execute(f"SELECT metadata FROM sessions {_OF}").fetchone()[0])

    def store(self, header: rules.Header, *, metadata: bool = False) -> None:
        """Write the header, and its metadata if they have changed: an append does not write them again."""
        values = (header.updated, header.expires, header.owner, header.pack())
        self._execute(f"INSERT OR IGNORE INTO sessions {_NEW}", *values, None)
        self._execute(f"UPDATE sessions SET updated = ?3, expires = ?4, owner = ?5, head = ?6 {_OF}", *values)
        if metadata:
            packed = header.metadata.pack(self._key) if header.metadata else None
            self._execute(f"UPDATE sessions SET metadata = ?3 {_OF}", packed)

    def is_of(self, owner: str) -> bool:
        """Return whether a session, which may be damaged, has this owner by its column."""
        return self._execute(f"SELECT 1 FROM sessions {_OF} AND owner = ?3", owner).fetchone() is not None

    def delete(self) -> None:
        """Remove the session."""
        for table in ("sessions", "records", "changes"):
            self._execute(f"DELETE FROM {table} {_OF}")

    # ------------------------------------------------------------------------------------------------------- records

    def backwards(self, before: int) -> Iterator[Record]:
        """Yield the records below a turn, the last one first; read each row only when it is needed."""
        sql = f"SELECT number, head, payload FROM records {_OF} AND number < ?3 ORDER BY number DESC, part DESC"
        for number, *row in self._execute(sql, before):
            try:
                yield Record.unpack(self._key, *row)
            except CorruptRecord as error:
                error.turn = number
                raise

    def heads(self, first: int, until: int) -> Iterator[tuple[Record, int]]:
        """Yield the records of some turns without their payloads, each with its size."""
        sql = f"SELECT head, size FROM records {_OF} {_BETWEEN} ORDER BY number, part"
        for head, size in self._execute(sql, first, until):
            yield Record.unpack(self._key, head), size

    def after(self, header: rules.Header, since: Version) -> list[Record] | None:
        """Return the records after a version; None if no stored record ends there."""
        if not header.may_continue(since):
            return None
        if since.rounds == header.version.rounds:
            return []
        found: list[Record] = []
        for record in self.backwards(MAX_NUMBER):
            if record.rounds_until == since.rounds and record.tip != since.tip:
                raise rules.regressed(self._key, header.version, since)
            if record.rounds_until <= since.rounds:
                return found[::-1] if record.rounds_until == since.rounds else None
            found.append(record)
        return found[::-1] if since.rounds == header.start == 0 else None

    def near(self, near: rules.Near) -> rules.Near:
        """Return the records that `needs` has named."""
        end = MAX_NUMBER if near.keep is None else near.keep
        first, dropped = None, 0
        if near.drop is not None:
            for record, size in self.heads(0, end):
                if record.next_turn > near.drop:
                    first = record
                    break
                dropped += size
        below = None if near.keep is None else next(self.backwards(end), None)
        cut = sum(size for _, size in self.heads(end, MAX_NUMBER))
        return rules.Near(near.keep, near.drop, below, cut, first, dropped)

    def cut(self, first: int, until: int) -> None:
        """Remove the records of some turns."""
        self._execute(f"DELETE FROM records {_OF} {_BETWEEN}", first, until)

    def add(self, records: Iterable[Record]) -> None:
        """Store records."""
        for one in records:
            values = (one.number, one.part, one.size, one.pack(self._key), one.payload)
            self._execute(f"INSERT INTO records {_NEW}", *values)

    # ------------------------------------------------------------------------------------------------------- changes

    def change(self, id: str) -> rules.Remembered | None:
        """Return a change that the session remembers."""
        row = self._execute(f"SELECT answer FROM changes {_OF} AND id = ?3", id).fetchone()
        return None if row is None else rules.Remembered.unpack(self._key, row[0])

    def remember(self, id: str, place: int, change: rules.Remembered) -> None:
        """Store a change, and from time to time forget the old ones."""
        if place % REMEMBERED_CHANGES == 0:
            self._execute(f"DELETE FROM changes {_OF} AND place <= ?3", place - REMEMBERED_CHANGES)
        self._execute("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", id, place, change.pack(self._key))

    # --------------------------------------------------------------------------------------------------------- lists

    def listed(self, query: Query, now: float) -> Iterator[SessionInfo | CorruptRecord | None]:
        """Yield the sessions of a query in the order of a page, as an index has them."""
        updated, session = query.after or (None, None)
        values: dict[str, str | float | None] = {"namespace": query.one_namespace, "owner": query.owner}
        values |= {"prefix": query.prefix, "updated": updated, "session": session}
        sql = "SELECT session FROM sessions WHERE namespace = :namespace"
        if query.prefix:
            sql += " AND substr(session, 1, length(:prefix)) = :prefix"
        if query.owner is not None:
            sql += " AND owner = :owner"
        if query.after is not None:
            sql += " AND updated <= :updated AND (updated < :updated OR session > :session)"
        for (session,) in self._database.execute(f"{sql} ORDER BY updated DESC, session", values):
            rows = Rows(self._database, Key(query.one_namespace, session))
            try:
                header = rows.header(now)
                yield None if header is None else rows.with_metadata(header).info(now)
            except CorruptRecord as error:
                yield error

"""`SQLBackend`: the common base of the backends of all databases."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from math import isfinite
from typing import Final

from turnlog import (
    AccessError,
    Backend,
    Change,
    CorruptRecord,
    Expect,
    Key,
    OutcomeUnknown,
    Page,
    Query,
    Receipt,
    Record,
    Session,
    SessionInfo,
    Totals,
    Version,
)
from turnlog.errors import Closed, InvalidInput
from turnlog.rules import check_seal, page, page_of, page_of_all
from turnlog.runtime import BoundedMap
from turnlog.values import check_listing, check_read

from . import _commit, _delete, _migrations, _pages, _read, _seal, _sweep, _totals
from ._database import Database, Migrate
from ._operations import Steps
from ._rows import Row, Seen

_SEEN: Final = 4_096  # the number of sessions whose last seen state is kept; each takes about a kilobyte
_COUNTED: Final = 5_000  # the number of sessions that one statement counts, in about ten milliseconds
_SWEPT: Final = 100  # the number of expired sessions that are removed in one transaction

_log = logging.getLogger("turnlog.sql")
_sleep = asyncio.sleep


class SQLBackend(Backend):
    """A backend that stores sessions in a database.

    A commit is one transaction or one statement; a read is one statement or one snapshot.  An acknowledged commit is on
    the disk (`docs/explanation/promises.md`).

    Args:
        database: Executes the statements.
        ttl: As in `Backend`.
        timeout: Seconds to wait for the database before `Unavailable` is raised.
        migrate: `auto`: `open` creates the tables, or upgrades older ones to this version.  `check`: `open` only checks
            the tables, and refuses missing or older ones, so the user needs no right to change tables.
        sweep: Seconds between two removals of expired sessions in the event loop that opened the backend.  The first
            one begins at `open`.  0: never.
        clock: As in `Backend`.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    def __init__(
        self,
        database: Database,
        *,
        ttl: float | None,
        timeout: float,
        migrate: Migrate,
        sweep: float,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(ttl=ttl, clock=clock)
        if type(timeout) not in (int, float) or not 0 <= timeout <= 3600:
            raise InvalidInput(f"timeout must be a number of seconds from 0 to 3600, not {timeout!r}")
        if migrate not in ("auto", "check"):
            raise InvalidInput(f"migrate must be 'auto' or 'check', not {migrate!r}")
        if type(sweep) not in (int, float) or not isfinite(sweep) or sweep < 0:
            raise InvalidInput(f"sweep must be a number of seconds, at least 0, not {sweep!r}")
        self.migrate = migrate
        self._database = database
        self._statements = database.statements
        self._sweep = sweep
        self._sweeper: asyncio.Task[None] | None = None
        self._seen: BoundedMap[Key, Seen] = BoundedMap(_SEEN)
        self._closed = True

    @property
    def location(self) -> str:
        return self._database.name

    async def open(self) -> None:
        await self._open(self.migrate)
        if self._closed and self._sweep:
            self._sweeper = asyncio.get_running_loop().create_task(self._keep_sweeping())
        await super().open()

    async def close(self) -> None:
        await super().close()
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            loop = sweeper.get_loop()
            if loop is asyncio.get_running_loop():
                while not sweeper.done():  # a driver may swallow a cancellation
                    sweeper.cancel()
                    await asyncio.wait([sweeper], timeout=1)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(sweeper.cancel)
        self._seen.clear()
        await self._database.close()

    async def bring_up(self) -> str:
        """Create or upgrade the tables, as `open` with `migrate="auto"`; a closed backend stays closed.

        Returns:
            A report in one line.

        Raises:
            SchemaError: The tables are newer than this turnlog, or damaged.
            Unavailable: The database cannot be reached.
        """
        found, version = await self._open("auto"), _migrations.newest()
        if self._closed:
            await self._database.close()
        if found is None:
            return f"{self._database.name}: created the tables, version {version}"
        if found == version:
            return f"{self._database.name}: the tables have version {version}, nothing to do"
        return f"{self._database.name}: upgraded the tables from version {found} to version {version}"

    async def _open(self, migrate: Migrate) -> int | None:
        try:
            return await self._database.open(migrate)
        except BaseException:
            if self._closed:
                await self._database.close()
            raise

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
        if self._closed:
            self.check_open()
        now, ttl, statements = self.clock(), self.ttl, self._statements
        seen = self._seen.get(key)

        def steps(*, slides: bool) -> Steps[tuple[Session, Seen]]:
            return _read.read(statements, key, now, ttl, last=last, before=before, since=since, touch=slides, seen=seen)

        try:
            try:
                session, after = await self._database.read(partial(steps, slides=touch))
            except AccessError:
                if not touch:
                    raise
                # a read without the permission to write moves no expiry
                session, after = await self._database.read(partial(steps, slides=False))
        except CorruptRecord as error:
            error.key = error.key or key
            raise
        self._seen[key] = after
        return session

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self._closed:
            self.check_open()
        for record in change.append:
            _ = record.payload  # encodes it before a lock is acquired, and raises TooLarge before any I/O
        _ = change.digest
        now, ttl, statements, seen = self.clock(), self.ttl, self._statements, self._seen
        try:
            receipt, after = await self._database.write(
                lambda: _commit.commit(statements, key, change, now, ttl),
                # a function, because another task may change `seen` while this one waits for its turn
                first=(lambda: _commit.append(statements, seen.get(key), change, now, ttl))
                if change.append and key in seen
                else None,
                key=key,
                again=True,
            )
        except OutcomeUnknown as error:
            error.key, error.change = key, change
            raise
        except CorruptRecord as error:
            error.key = error.key or key
            raise
        self._seen[key] = after
        return receipt

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        self.check_open()
        now, statements = self.clock(), self._statements
        try:
            return await self._database.write(lambda: _delete.delete(statements, key, now, expect, for_owner), key=key)
        except CorruptRecord as error:
            error.key = error.key or key
            raise

    async def seal(self, key: Key, record: Record) -> bool:
        check_seal(key, record)
        self.check_open()
        now, statements = self.clock(), self._statements
        try:
            done, after = await self._database.write(lambda: _seal.seal(statements, key, record, now), key=key)
        except CorruptRecord as error:
            error.key = error.key or key
            raise
        self._seen[key] = after
        return done

    def alone(self, key: Key) -> AbstractAsyncContextManager[None]:
        self.check_open()
        return self._database.alone(key)

    async def page(self, query: Query) -> Page:
        self.check_open()
        if query.namespace is None:
            return await page_of_all(self.namespaces, self.page, query)
        now, statements, seen = self.clock(), self._statements, self._seen
        try:
            return await self._database.read(lambda: _pages.page(statements, query, now, seen))
        except CorruptRecord:  # the database cannot read a row, and refuses the whole statement
            return await self._page_in_parts(query, now)

    async def totals(self, namespace: str) -> Totals:
        self.check_open()
        namespace, now, statements = Query(namespace=namespace).one_namespace, self.clock(), self._statements
        sessions = messages = size = 0
        after: bytes | None = b""
        try:
            while after is not None:
                steps = partial(_totals.totals, statements, namespace, now, after, _COUNTED)
                part, after = await self._database.read(steps)
                sessions, messages, size = sessions + part.sessions, messages + part.messages, size + part.bytes
            stored = await self._database.read(partial(_totals.stored, statements, namespace))
        except CorruptRecord:  # as for a page: other rows can be read
            return await super().totals(namespace)
        stored += self._database.log_bytes()
        return Totals(sessions=sessions, messages=messages, bytes=size, stored=stored)

    async def _page_in_parts(self, query: Query, now: float) -> Page:
        """Return a page whose sessions are read one by one, so that damaged rows do not affect the others."""
        limit = query.limit + 1
        while True:
            try:
                keys = await self._database.read(partial(_pages.listed_keys, self._statements, query, limit))
            except CorruptRecord:  # the index is damaged: the index of keys has all sessions, in another order
                every = await self._database.read(partial(_pages.every_key, self._statements, query))
                keys = [one for one in every if one[0].startswith((query.prefix or "").encode())]
                found = await self._listed(query, keys, now)
                damaged = [one for one in found if isinstance(one, CorruptRecord)]
                return page((one for one in found if isinstance(one, SessionInfo)), query, damaged)
            found = await self._listed(query, keys, now)
            one_page = page_of(query, found, is_last=len(keys) < limit)
            if one_page is not None:
                return one_page
            limit *= 2

    async def _listed(self, query: Query, keys: Sequence[Row], now: float) -> list[SessionInfo | CorruptRecord | None]:
        found: list[SessionInfo | CorruptRecord | None] = []
        for session, row in keys:
            try:
                steps = partial(_pages.listed, self._statements, query, session, row, now)
                found.append(await self._database.read(steps))
            except CorruptRecord as error:
                found.append(_pages.unreadable(query, session, error))
        return found

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        check_listing(after, limit)
        self.check_open()
        statements = self._statements
        return await self._database.read(lambda: _pages.namespaces(statements, after, limit))

    async def sweep(self, *, now: bool = False) -> int:
        """Remove the expired sessions, at most 100 in a transaction; return their number.

        On SQLite, only sessions that expired more than an hour ago are removed, by the clock of this process.  A
        process whose clock is ahead by less than an hour therefore removes no session that is still in use.

        An open backend sweeps periodically.  Any number of processes may sweep at the same time.

        Args:
            now: On SQLite, also remove sessions that expired within the last hour.  If the clock of this process is
                ahead, they may still be in use.

        Raises:
            Unavailable: The database could not be reached.
        """
        self.check_open()
        swept, statements, grace = 0, self._statements, 0.0 if now else self._database.grace
        while await self._database.read(lambda: _sweep.any_expired(statements, self.clock() - grace)):
            swept += await self._database.write(lambda: _sweep.sweep(statements, self.clock() - grace, _SWEPT))
        return swept

    async def _keep_sweeping(self) -> None:
        while not self._closed:
            try:
                await self.sweep()
            except Closed:
                return
            except Exception as error:  # noqa: BLE001 - the next sweep may succeed
                _log.warning(
                    "expired sessions in %s were not removed, and the next sweep tries again: %s", self.location, error
                )
            await _sleep(self._sweep)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._database.name}>"

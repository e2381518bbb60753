"""The SQL store, whichever its database."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from math import isfinite
from typing import Final

from turnlog import Change, Key, OutcomeUnknown, Page, Query, Receipt, Session, Store, Version
from turnlog.errors import Closed, InvalidInput
from turnlog.runtime import BoundedMap
from turnlog.values import check_read, copy_digest

from . import _migrations, _operations
from ._database import Database, Migrate
from ._operations import Seen

_SEEN: Final = 4_096  # sessions that an append need not look for first; about a kilobyte each
_SWEPT: Final = 100  # expired sessions that are removed in one transaction

_log = logging.getLogger("turnlog.sql")
_sleep = asyncio.sleep


class SQLStore(Store):
    """Sessions in a database: what all of them share.

    A commit is one transaction, or one statement, and a read one statement, or one snapshot.  What was acknowledged is
    on the disk (`docs/explanation/promises.md`).

    Args:
        database: What drives the statements.
        namespace: As in `Store`.
        ttl: As in `Store`.
        retain: As in `Store`.
        max_session_bytes: As in `Store`.
        timeout: Seconds to wait for the database; then it is `Unavailable`.
        migrate: `auto`: opening makes the tables where there are none, and brings older ones to this version.  `check`:
            it looks, and refuses what `turnlog migrate` has not made; then rights to the tables' rows are enough.
        sweep: Seconds between two removals of what has expired, the first when the store is opened, for as long as the
            event loop runs in which it was opened; 0: never.
        clock: As in `Store`.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    can_seal = True

    def __init__(
        self,
        database: Database,
        *,
        namespace: str,
        ttl: float | None,
        retain: int | None,
        max_session_bytes: int | None,
        timeout: float,
        migrate: Migrate,
        sweep: float,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(namespace=namespace, ttl=ttl, retain=retain, max_session_bytes=max_session_bytes, clock=clock)
        if type(timeout) not in (int, float) or not 0 <= timeout <= 3600:
            raise InvalidInput(f"timeout must be from 0 to 3600 seconds, not {timeout!r}")
        if migrate not in ("auto", "check"):
            raise InvalidInput(f"migrate must be auto or check, not {migrate!r}")
        if type(sweep) not in (int, float) or not isfinite(sweep) or sweep < 0:
            raise InvalidInput(f"sweep must be a number of seconds from 0, not {sweep!r}")
        self.migrate = migrate
        self._database = database
        self._statements = database.statements
        self._sweep = sweep
        self._sweeper: asyncio.Task[None] | None = None
        self._seen: BoundedMap[Key, Seen] = BoundedMap(_SEEN)
        self._closed = True

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
                while not sweeper.done():  # a driver may keep a cancellation to itself
                    sweeper.cancel()
                    await asyncio.wait([sweeper], timeout=1)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(sweeper.cancel)
        self._seen.clear()
        await self._database.close()

    async def bring_up(self) -> str:
        """Make the tables, or bring them to this version, as opening with `migrate="auto"` does; nothing stays open.

        Returns:
            What was done, for people.

        Raises:
            SchemaError: The tables are newer than this turnlog, or damaged.
            Unavailable: The database cannot be reached.
        """
        found, version = await self._open("auto"), _migrations.newest()
        if self._closed:
            await self._database.close()
        if found is None:
            return f"{self._database.name}: made the tables, version {version}"
        if found == version:
            return f"{self._database.name}: the tables are of version {version}, nothing to do"
        return f"{self._database.name}: brought the tables from version {found} to {version}"

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
        self.check_open()
        now, ttl, statements = self.clock(), self.ttl, self._statements
        seen = self._seen.get(key)
        session, after = await self._database.read(
            lambda: _operations.read(
                statements, key, now, ttl, last=last, before=before, since=since, touch=touch, seen=seen
            )
        )
        self._see(key, after)
        return session

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.check_open()
        for record in change.append if change.seal is None else (change.seal,):
            _ = record.payload  # encoded before a lock is taken; and what is too large is refused before any I/O
        _ = change.digest
        now, ttl, statements = self.clock(), self.ttl, self._statements
        seen = self._seen.get(key) if change.append else None
        try:
            receipt, after = await self._database.write(
                lambda: _operations.commit(statements, key, change, now, ttl),
                first=None if seen is None else lambda: _operations.append(statements, seen, change, now, ttl),
            )
        except OutcomeUnknown as error:
            error.key, error.change = key, change
            raise
        self._see(key, after)
        return receipt

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        self.check_open()
        now, statements = self.clock(), self._statements
        return await self._database.write(lambda: _operations.delete(statements, key, now, expect))

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        self.check_open()
        now, epoch, statements = self.clock(), os.urandom(16), self._statements
        change = (change_id, copy_digest(source, at))
        return await self._database.write(
            lambda: _operations.copy(statements, source, target, now, self.ttl, epoch, at=at, change=change)
        )

    async def page(self, query: Query) -> Page:
        self.check_open()
        now, statements = self.clock(), self._statements
        return await self._database.read(lambda: _operations.page(statements, query, now))

    async def sweep(self) -> int:
        """Remove what has expired, in as many transactions as it takes, and say how many sessions it was.

        An open store does it by itself; any number of processes may.

        Raises:
            Unavailable: The database could not be reached.
        """
        self.check_open()
        swept, statements = 0, self._statements
        while await self._database.read(lambda: _operations.any_expired(statements, self.clock())):
            swept += await self._database.write(lambda: _operations.sweep(statements, self.clock(), _SWEPT))
        return swept

    async def _keep_sweeping(self) -> None:
        while not self._closed:
            try:
                await self.sweep()
            except Closed:
                return
            except Exception as error:  # noqa: BLE001 - nobody would notice that it has ended
                _log.warning("%r could not be swept: %s", self, error)
            await _sleep(self._sweep)

    def _see(self, key: Key, seen: Seen) -> None:
        self._seen[key] = seen

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._database.name} namespace={self.namespace!r}>"

"""A backend for turnlog that stores each session as one value of LMDB, a database in a file.

`_environment` opens and closes the file, `_pages` is the index for lists of sessions, and `SessionState` holds the
rules of the contract: `LmdbBackend` runs each method as one transaction in a thread.
"""

from __future__ import annotations

import os
import time
from asyncio import to_thread
from collections.abc import Callable, Sequence
from typing import TypeVar

import lmdb

from turnlog import Change, Expect, Key, Page, Query, Receipt, Record, Session, Version
from turnlog.errors import CorruptRecord, OutcomeUnknown, Unavailable
from turnlog.rules import SessionState, page_of, page_of_all
from turnlog.threaded import ThreadedBackend
from turnlog.values import check_listing

from ._environment import Environment, Tables, acquire, release
from ._pages import forget, listed, name_of, place_of, rest_of, scope_of, under

__all__ = ["LmdbBackend"]

T = TypeVar("T")


class LmdbBackend(ThreadedBackend):
    """Sessions in a file of LMDB, on a local disk.

    An acknowledged turn survives the end of any process.  It also survives a crash of the machine, if the disk keeps
    the data that it reports as written.  Any number of threads, event loops and processes may share the folder; one of
    them writes at a time.  A commit reads and writes the whole session, so use this backend for sessions of up to some
    megabytes.

    Args:
        path: The folder of the file.  `open` creates it; only the owner can read it.
        ttl: As in `Backend`.
        clock: As in `Backend`.
    """

    plugin_api = 1
    capabilities = frozenset({"shared", "threads", "processes", "durable"})

    def __init__(self, path: str, *, ttl: float | None = None, clock: Callable[[], float] = time.time) -> None:
        super().__init__(ttl=ttl, clock=clock)
        self.folder = os.path.realpath(path)
        self._opened: Environment | None = None

    @property
    def location(self) -> str:
        return f"lmdb:{self.folder}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.folder}>"

    async def open(self) -> None:
        if self._opened is None:
            self._opened = await to_thread(acquire, self.folder)
        await super().open()

    async def close(self) -> None:
        await super().close()
        opened, self._opened = self._opened, None
        if opened is not None:
            release(opened)

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        def step(old: SessionState) -> tuple[SessionState, Session]:
            return old.read(self.clock(), last=last, before=before, since=since, touch=touch)

        def load(transaction: lmdb.Transaction[bytes], tables: Tables) -> tuple[bool, Session]:
            new, session = step(old := self._load(transaction, tables, key))
            return new is old, session

        is_done, session = await self.in_thread(self._run, load)
        return session if is_done else await self._change(key, step)  # the read extends the session's life

    async def commit(self, key: Key, change: Change) -> Receipt:
        for record in change.append:
            _ = record.payload  # raises TooLarge before any I/O
        return await self._change(key, lambda old: old.apply(change, self.clock()), change)

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        def step(old: SessionState) -> tuple[SessionState, bool]:
            found = old.check_delete(expect, for_owner, self.clock())
            return (SessionState.absent(key) if found or for_owner is None else old), found

        return await self._change(key, step)

    async def seal(self, key: Key, record: Record) -> bool:
        return await self._change(key, lambda old: old.seal(record, self.clock()))

    async def page(self, query: Query) -> Page:
        if query.namespace is None:
            return await page_of_all(self.namespaces, self.page, query)
        scope, begins = scope_of(query.namespace), f"{query.namespace}\0{query.prefix or ''}".encode()

        def step(transaction: lmdb.Transaction[bytes], tables: Tables) -> Page:
            start = b"" if query.after is None else rest_of(*query.after) + b"\0"
            names = (name for _, name in under(transaction, tables.pages, scope, start) if name.startswith(begins))
            values = ((name, transaction.get(name, b"", db=tables.sessions)) for name in names)
            page = page_of(query, (listed(name, value, query, self.clock()) for name, value in values), is_last=True)
            assert page is not None
            return page

        return await self.in_thread(self._run, step)

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        check_listing(after, limit)

        def step(transaction: lmdb.Transaction[bytes], tables: Tables) -> list[str]:
            found: list[str] = []
            cursor = transaction.cursor(tables.sessions)
            start = b"" if after is None else after.encode() + b"\1"
            while len(found) < limit and cursor.set_range(start):
                name, _, _ = cursor.key().partition(b"\0")
                found.append(name.decode())
                start = name + b"\1"  # after all sessions of this namespace, because names have no control characters
            return found

        return await self.in_thread(self._run, step)

    # -------------------------------------------------------------------------------------------------- transactions

    async def _change(
        self, key: Key, step: Callable[[SessionState], tuple[SessionState, T]], change: Change | None = None
    ) -> T:
        """Run a step on a session in one transaction, store the new state, and return the answer."""

        def store(transaction: lmdb.Transaction[bytes], tables: Tables) -> T:
            new, answer = step(old := self._load(transaction, tables, key))
            if new is not old:
                lines, name = new.lines(), name_of(key)
                transaction.delete(place_of(old), db=tables.pages)
                if lines:
                    transaction.put(name, b"\n".join(lines), db=tables.sessions)
                    transaction.put(place_of(new), name, db=tables.pages)
                elif transaction.delete(name, db=tables.sessions) and old.header is None:
                    forget(transaction, tables, key)
            return answer

        return await self.in_thread(self._run, store, key, change, writes=True)

    def _load(self, transaction: lmdb.Transaction[bytes], tables: Tables, key: Key) -> SessionState:
        value = transaction.get(name_of(key), db=tables.sessions)
        return SessionState.from_lines([] if value is None else value.split(b"\n"), key, ttl=self.ttl)

    def _run(
        self,
        step: Callable[[lmdb.Transaction[bytes], Tables], T],
        key: Key | None = None,
        change: Change | None = None,
        *,
        writes: bool = False,
    ) -> T:
        """Run a step in a transaction."""
        environment, committing = acquire(self.folder), False
        try:
            with environment.files.begin(write=writes) as transaction:  # commits, or aborts after an error
                answer = step(transaction, environment.tables)
                committing = writes
        except (lmdb.CorruptedError, lmdb.PageNotFoundError) as error:
            raise CorruptRecord(f"the file in {self.folder} is damaged: {error}: restore it", key=key) from error
        except lmdb.Error as error:
            if committing:
                raise OutcomeUnknown(f"{self.folder}: {error}", key=key, change=change) from error
            raise Unavailable(f"{self.folder}: {error}: nothing was stored") from error
        finally:
            release(environment)
        return answer

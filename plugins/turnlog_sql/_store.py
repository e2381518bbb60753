"""The SQL store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Literal
from urllib.parse import unquote

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from turnlog import Change, Key, OutcomeUnknown, Page, Query, Receipt, Session, Store, Version
from turnlog.errors import InvalidInput
from turnlog.state import check_read

from . import _steps
from ._sqlite import SQLite


class SQLStore(Store):
    """Sessions in a database.

    A commit is one transaction, a read one statement; each is one hop to the thread that has the connection.  What was
    acknowledged is on the disk (`docs/explanation/promises.md`).

    Args:
        url: `sqlite:///relative/path.db` or `sqlite:////absolute/path.db`; a file that is not there is made.
        namespace: As in `Store`.
        ttl: As in `Store`.
        retain: As in `Store`.
        max_session_bytes: As in `Store`.
        synchronous: `FULL`: an acknowledged turn survives the loss of power.  `NORMAL`: it survives the end of the
            process, and the last ones may be lost with the power (sqlite.org/pragma.html#pragma_synchronous); it is
            about twice as fast.
        lock_timeout: Seconds to wait for another process that writes; then it is `Unavailable`.
        clock: As in `Store`.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    can_seal = True

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "default",
        ttl: float | None = None,
        retain: int | None = None,
        max_session_bytes: int | None = None,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        lock_timeout: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(namespace=namespace, ttl=ttl, retain=retain, max_session_bytes=max_session_bytes, clock=clock)
        if synchronous not in ("FULL", "NORMAL"):
            raise InvalidInput(f"synchronous must be FULL or NORMAL, not {synchronous!r}")
        if type(lock_timeout) not in (int, float) or not 0 <= lock_timeout <= 3600:
            raise InvalidInput(f"lock_timeout must be from 0 to 3600 seconds, not {lock_timeout!r}")
        self._database = SQLite(_path(url), synchronous=synchronous, timeout=lock_timeout)
        self._statements = self._database.statements
        self._closed = True

    async def open(self) -> None:
        await self._database.open()
        await super().open()

    async def close(self) -> None:
        await super().close()
        await self._database.close()

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
        now, ttl = self.clock(), self.ttl
        steps = _steps.read(self._statements, key, now, ttl, last=last, before=before, since=since, touch=touch)
        return await self._database.read(steps)

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.check_open()
        for record in change.append if change.seal is None else (change.seal,):
            _ = (
                record.payload
            )  # encoded before the lock is taken; and what is too large is refused before anything is sent
        _ = change.digest
        now, epoch = self.clock(), os.urandom(16)
        try:
            return await self._database.write(_steps.commit(self._statements, key, change, now, self.ttl, epoch))
        except OutcomeUnknown as error:
            error.key, error.change = key, change
            raise

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        self.check_open()
        return await self._database.write(_steps.delete(self._statements, key, self.clock(), expect))

    async def page(self, query: Query) -> Page:
        self.check_open()
        return await self._database.read(_steps.page(self._statements, query, self.clock()))

    def __repr__(self) -> str:
        return f"<SQLStore sqlite {self._database.path!r} namespace={self.namespace!r}>"


def _path(url: str) -> str:
    """The path of the file in a URL for SQLite."""
    if not isinstance(url, str):
        raise InvalidInput(f"url must be a str, not {type(url).__name__}")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidInput(
            "url cannot be read: write sqlite:///relative/path.db or sqlite:////absolute/path.db"
        ) from None
    if parsed.drivername != "sqlite":
        raise InvalidInput(f"url is for {parsed.drivername}, this store takes sqlite:///path")
    path = unquote(parsed.database or "")
    if parsed.host or not path or path == ":memory:" or "\0" in path:
        raise InvalidInput("url names no file: write sqlite:///relative/path.db or sqlite:////absolute/path.db")
    return path

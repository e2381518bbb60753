"""`SQLiteBackend`: SQLite in one thread with one connection."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from turnlog import AccessError, Unavailable
from turnlog.errors import InvalidInput
from turnlog.values import Capability, Finding, Remainder

from . import _sweep, _upkeep
from ._database import Migrate
from ._location import parse_database_url
from ._operations import Steps
from ._sqlite_file import SQLiteFile, Synchronous
from ._sqlite_paths import path_of
from ._store import SQLBackend

__all__ = ["SQLiteBackend"]


class SQLiteBackend(SQLBackend):
    """Sessions in a file, for any number of processes on one machine.

    A commit is one transaction, and a read is one snapshot.  A thread with the connection executes them.  It serves all
    requests in its queue together, and the writes among them in one transaction.

    Args:
        url: `sqlite:///relative/path.db` or `sqlite:////absolute/path.db`; on Windows, `sqlite:///C:/path.db` or
            `sqlite:////server/share/path.db`.  A missing file is created with mode 0600, for its owner only; an
            existing file keeps its mode.
        ttl: As in `Backend`.
        synchronous: `FULL`: an acknowledged turn survives a power failure.  `NORMAL`: it survives the end of the
            process, but a power failure may lose the last turns (sqlite.org/pragma.html#pragma_synchronous); commits
            are about twice as fast.
        timeout: Seconds to wait for another process that writes, before `Unavailable` is raised.
        migrate: As in `SQLBackend`.
        sweep: As in `SQLBackend`.
        clock: As in `Backend`.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    capabilities: frozenset[Capability] = frozenset({"shared", "threads", "processes", "durable"})

    def __init__(
        self,
        url: str,
        *,
        ttl: float | None = None,
        synchronous: Synchronous = "FULL",
        timeout: float = 30.0,
        migrate: Migrate = "auto",
        sweep: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise InvalidInput(f"synchronous must be 'FULL' or 'NORMAL', not {synchronous!r}")
        self._file = SQLiteFile(_path(url), synchronous=synchronous, timeout=timeout)
        super().__init__(
            self._file,
            ttl=ttl,
            timeout=timeout,
            migrate=migrate,
            sweep=sweep,
            clock=clock,
        )

    @property
    def location(self) -> str:
        return f"sqlite {os.path.realpath(self._file.path)!r}"

    async def check(self, *, quick: bool = False) -> list[str]:
        """Check the file with SQLite, and return one line for each problem.  The check changes nothing.

        SQLite does not check the contents of rows; a read of a session does.

        Args:
            quick: Skip the comparison of indexes with tables (sqlite.org/pragma.html#pragma_quick_check), which takes
                longest.

        Raises:
            CorruptRecord: SQLite cannot finish the check because of the damage.
        """
        self.check_open()
        statement = self._statements.quick_check if quick else self._statements.check

        def steps() -> Steps[list[str]]:
            rows = yield statement, ()
            return [line for (text,) in rows for line in str(text).splitlines() if line != "ok"]

        return await self._database.read(steps)

    async def scrub(self) -> Sequence[Remainder]:
        """Rewrite the file without the remains of deleted sessions, and empty the log; return the remains.

        This takes about as long as copying the file, needs free space of the size of the file, and blocks other
        writers.
        """
        self.check_open()
        path, remains = self._file.path, [*await self.unswept()]
        try:
            emptied = await self._database.read(lambda: _upkeep.rewritten(self._statements))
        except (AccessError, Unavailable) as error:
            return remains + _upkeep.remainders_of_sqlite(path, why=str(error))
        return remains if emptied else remains + _upkeep.remainders_of_sqlite(path, why="another process reads its log")

    async def unswept(self) -> Sequence[Remainder]:
        """Return the expired sessions that `sweep` does not remove yet, because they expired within the last hour."""
        self.check_open()
        now = self.clock()
        count, last = await self._database.read(lambda: _sweep.count_expired(self._statements, now))
        return _upkeep.expired_in_sqlite(self._file.path, count, last + self._file.grace)

    async def diagnose(self) -> Sequence[Finding]:
        """Return the problems of the file, its permissions, its disk and its settings."""
        self.check_open()
        query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        (size,) = await self._database.read(lambda: _upkeep.asked(self._statements, query))
        return _upkeep.risks_of_sqlite(self._file.path, self._file.synchronous, size)


def _path(url: str) -> str:
    """Return the path of the file in a URL for SQLite."""
    example = "sqlite:///chat.db with three slashes, or an absolute path with four, as in sqlite:////data/chat.db"
    found = parse_database_url(url, ("sqlite",), example)
    if found.database == ":memory:":
        raise InvalidInput("url names no file: write sqlite:///path.db, or memory:// to keep sessions in memory")
    if found.has_authority:
        raise InvalidInput(f"url names no file: write {example}")
    return path_of(found.database)

"""`SQLiteFile`: a database file, with its connection in a thread."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import cache
from typing import Final, Literal, TypeAlias, TypeVar

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from turnlog import AccessError, CorruptRecord, Key, SchemaError, TurnlogError, Unavailable
from turnlog.runtime import Gate

from . import _migrations
from ._database import RESTORE, Database, Migrate
from ._operations import Steps
from ._sqlite_connection import Connection, has_log, refuse_kept
from ._sqlite_errors import may_write, translated, unwritable
from ._sqlite_log import hidden_from
from ._sqlite_paths import uri_of
from ._sqlite_transactions import Transactions, roll_back
from ._statements import Statements
from ._thread import Locked, Worker

_T = TypeVar("_T")

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

_LOWEST: Final = (3, 35, 0)  # the first version with all features that the statements use (sqlite.org/changes.html)
_GRACE: Final = 3600.0
"""Seconds from the expiry of a session to its removal.  A process whose clock is ahead by less does not see the session
any more, but its sweep does not remove it from other processes."""
_CACHED: Final = 128  # the number of compiled statements that a connection keeps; turnlog has about 50


class SQLiteFile(Database):
    """A database file.

    Args:
        path: The path of the file, which is created if it is missing.
        synchronous: `FULL`: every commit waits for the disk.  `NORMAL`: only checkpoints wait for the disk.
        timeout: Seconds to wait for a lock that another process holds.
    """

    grace = _GRACE

    def __init__(self, path: str, *, synchronous: Synchronous, timeout: float) -> None:
        self.name = f"sqlite {path!r}"
        self.statements = sqlite_statements()
        self.path = path
        self.synchronous = synchronous
        self._timeout = timeout
        self._migrate: Migrate = "check"
        self._found: int | None = None
        self._gate: Gate[Key] | None = None
        self._creates = False
        self._log_is_checked = False
        transactions = Transactions(self.name, self._translated)
        self._worker = Worker(self.name, timeout, self._connect, transactions.serve)

    async def open(self, migrate: Migrate) -> int | None:
        self._migrate = migrate
        self.path = os.path.abspath(self.path)  # noqa: ASYNC240 - does no I/O; the working directory may change later
        if not self._worker.start():
            return _migrations.newest()
        self._creates = migrate == "auto"
        try:
            await self.read(self._look)  # the first request opens the connection
        except BaseException:
            await self._worker.stop()
            raise
        return self._found

    async def close(self) -> None:
        await self._worker.stop()

    async def read(self, make: Callable[[], Steps[_T]]) -> _T:
        answer: _T = await self._worker.do(make, writes=False)
        return answer

    async def write(
        self,
        make: Callable[[], Steps[_T]],
        *,
        first: Callable[[], Steps[_T | None]] | None = None,
        key: Key | None = None,
        again: bool = False,  # noqa: ARG002 - a connection to a file is never lost
    ) -> _T:
        if self._gate is not None and key is not None:
            await self._gate.wait(key, time.monotonic() + self._timeout)
        answer: _T = await self._worker.do(make, writes=True, first=first)
        return answer

    def alone(self, key: Key) -> AbstractAsyncContextManager[None]:
        self._gate = self._gate or Gate(self.name)
        return self._gate.alone(key, time.monotonic() + self._timeout)

    def log_bytes(self) -> int:
        try:
            return os.path.getsize(f"{os.path.realpath(self.path)}-wal")
        except FileNotFoundError:
            return 0

    def _look(self) -> Steps[None]:
        yield self.statements.version, ()

    # ------------------------------------------------------------------------------------------------- in the thread

    def _connect(self) -> Connection:
        if sqlite3.sqlite_version_info < _LOWEST:
            lowest = ".".join(map(str, _LOWEST))
            raise SchemaError(
                f"this Python has SQLite {sqlite3.sqlite_version}, but turnlog needs {lowest} or newer: use a newer "
                "Python"
            )
        refuse_kept(self.path)
        self._check_log()
        if os.path.exists(self.path) and not may_write(self.path):
            return self._connect_to(self._read_only)
        try:
            return self._connect_to(self._writable)
        except AccessError:
            if not (os.path.isfile(self.path) and unwritable(self.path)):  # only the folder may be read-only
                raise
            return self._connect_to(self._read_only)

    def _connect_to(self, opened: Callable[[list[Connection]], None]) -> Connection:
        made: list[Connection] = []
        try:
            opened(made)
        except BaseException as error:
            for connection in made:
                connection.close()
            if isinstance(error, UnicodeDecodeError):  # raised by an error message that quotes a damaged schema
                raise CorruptRecord(
                    f"the database {self.name} is damaged: {error}; restore it from a backup"
                ) from error
            if isinstance(error, sqlite3.DatabaseError):
                raise self._translated(error) from error
            raise
        self._creates = False  # a file that is removed later must not be replaced by an empty one without an error
        return made[0]

    def _writable(self, made: list[Connection]) -> None:
        """Open the file, or create it, and put the connection into `made`."""
        if self._creates:
            _create(self.path)
        connection = self._opened("mode=rw")
        made.append(connection)
        connection.execute(f"PRAGMA synchronous={self.synchronous}")
        found = self._version(connection)
        behind = self.check_version(found, self._migrate)
        self._use_wal(connection)
        self._found = self._bring_up(connection) if behind else found
        connection.execute(_probe())
        connection.watch(self.path)

    def _read_only(self, made: list[Connection]) -> None:
        """Open a file that this process may not write to, without creating any file next to it.

        Without a log no process writes to the file, and SQLite need not lock it.  `Connection.check` notices the log of
        a process that begins to write.  Otherwise SQLite would create a log that the writers have no permission to
        write to.
        """
        logged = has_log(self.path)
        connection = self._opened("mode=ro&readonly_shm=1" if logged else "mode=ro&immutable=1")
        made.append(connection)
        self._found = self._version(connection)
        self.check_version(self._found, "check")
        connection.execute(_probe())
        if logged:
            connection.watch(self.path)
        else:
            connection.freeze(self.path)

    def _opened(self, query: str) -> Connection:
        """Return a connection to the existing file; `query` is the query of its URI."""
        try:
            return sqlite3.connect(
                uri_of(self.path, query),
                uri=True,
                timeout=0,  # `Worker` waits for locks; a wait inside SQLite would block forks
                isolation_level=None,
                check_same_thread=False,  # another thread closes it before a fork
                cached_statements=_CACHED,
                factory=Connection,
            )
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_ERROR:
                raise
            text = f"{self.name} cannot be opened: {error}: nothing was stored; check the path in the URL"
            raise AccessError(text) from error

    def _check_log(self) -> None:
        """Refuse a log in which damage hides acknowledged transactions; check it once, before SQLite reads the log."""
        if self._log_is_checked:
            return
        found = hidden_from(f"{os.path.realpath(self.path)}-wal")
        if found is not None:
            raise CorruptRecord(
                f"the log of {self.name} is damaged at frame {found}, and SQLite would drop all transactions from this "
                "frame on: restore both files from a backup; to accept the loss, open the database with sqlite3 and "
                "read a table"
            )
        self._log_is_checked = True

    def _version(self, connection: sqlite3.Connection) -> int | None:
        """Return the version of the tables; None if they do not exist."""
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "turnlog_schema" not in names:
            if foreign := sorted(names & _migrations.names()):  # one transaction creates all tables
                raise SchemaError(f"{self.name} has a table {foreign[0]}, which turnlog did not create: {RESTORE}")
            return None
        (found,) = connection.execute(self.statements.version.sql).fetchone()
        if type(found) is not int:
            raise SchemaError(f"{self.name} has a table turnlog_schema without a version: {RESTORE}")
        return found

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Switch the file to a write-ahead log, with which readers and a writer do not block each other."""
        if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise Unavailable(f"{self.name} cannot have a write-ahead log: move it to a local, writable disk")

    def _bring_up(self, connection: sqlite3.Connection) -> int | None:
        """Create or upgrade the tables; return their previous version."""
        connection.execute("BEGIN IMMEDIATE")
        try:  # another process may have changed the tables since the first check
            found = self._version(connection)
            self.check_version(found, self._migrate)
            for version, step in _migrations.missing(found, self.statements.dialect):
                for statement in step:
                    connection.execute(statement)
                connection.execute(self.statements.set_version.sql, (version,))
        except BaseException:
            roll_back(connection)
            raise
        connection.execute("COMMIT")
        return found

    def _translated(self, error: sqlite3.DatabaseError) -> TurnlogError | Locked:
        return translated(error, self.name, self.path, migrate=self._migrate, creates=self._creates)


def _create(path: str) -> None:
    """Create an empty file with mode 0600 if it is missing; SQLite gives the log and its index the same mode.

    Errors are ignored here: SQLite then cannot open the file and reports the reason.
    """
    with suppress(OSError):
        # Closing a descriptor of a file releases the locks that this process holds on the file.  Therefore an existing
        # file is not opened here, and no other thread connects at the same time.
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


@cache
def _probe() -> str:
    return _migrations.probe(sqlite_statements().dialect)


@cache
def sqlite_statements() -> Statements:
    """Return the statements, compiled for SQLite."""
    return Statements(SQLiteDialect_pysqlite())

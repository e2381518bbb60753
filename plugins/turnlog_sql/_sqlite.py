"""SQLite: one thread with one connection, and one hop to it and back an operation."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Sequence
from functools import cache
from typing import Final, Literal, TypeAlias, TypeVar

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from turnlog import CorruptRecord, OutcomeUnknown, SchemaError, TooLarge, TurnlogError, Unavailable

from ._schema import VERSION
from ._statements import Statements
from ._steps import Row, Steps
from ._thread import Worker

T = TypeVar("T")

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

_LOWEST: Final = (3, 35, 0)  # sqlite.org/changes.html: the first with all that the statements use
_AGAIN: Final = 0.005  # seconds until the next try of what SQLite itself does not wait for
_CACHED: Final = 64  # compiled statements that a connection keeps; there are about 40


class SQLite:
    """A database file.

    Args:
        path: Where it is; it is made if it is not there.
        synchronous: Whether every commit waits until the disk has it (`FULL`), or only a checkpoint does (`NORMAL`).
        timeout: Seconds to wait for a lock that another process holds.
    """

    def __init__(self, path: str, *, synchronous: Synchronous, timeout: float) -> None:
        self.path = path
        self.statements = _statements()
        self._synchronous = synchronous
        self._timeout = timeout
        self._worker = Worker(self._connect)

    async def open(self) -> None:
        """Connect, and make the tables where there are none.

        Raises:
            SchemaError: The file is no database of this version of turnlog.
            Unavailable: It cannot be opened, or was locked for too long.
        """
        await self._worker.start()
        try:
            await self._worker.do(self._prepare)
        except BaseException:
            await self._worker.stop()
            raise

    async def close(self) -> None:
        """Do what was asked for until now, then disconnect."""
        await self._worker.stop()

    def read(self, steps: Steps[T]) -> Awaitable[T]:
        """Do steps of which each statement stands for itself."""

        def work(connection: sqlite3.Connection) -> T:
            try:
                return _drive(connection, steps)
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error

        return self._worker.do(work)

    def write(self, steps: Steps[T]) -> Awaitable[T]:
        """Do steps in one transaction, which locks out other writers from the beginning.

        Raises:
            Unavailable: Nothing was stored.
            OutcomeUnknown: The commit failed in a way that leaves open whether it was done.
        """

        def work(connection: sqlite3.Connection) -> T:
            try:
                return _transact(connection, steps)
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error

        return self._worker.do(work)

    # ------------------------------------------------------------------------------------------------- in the thread

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self.path,
                timeout=self._timeout,
                isolation_level=None,
                check_same_thread=False,  # a fork leaves one behind, which another thread then frees
                cached_statements=_CACHED,
            )
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if sqlite3.sqlite_version_info < _LOWEST:
            lowest = ".".join(map(str, _LOWEST))
            raise SchemaError(
                f"this Python comes with SQLite {sqlite3.sqlite_version}, turnlog needs {lowest} or newer"
            )
        try:
            self._use_wal(connection)
            if _version(connection, self.statements) is None:
                _transact(connection, self._create(connection))
            found = _version(connection, self.statements)
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error
        if found != VERSION:
            age = "a newer" if found is not None and found > VERSION else "an older"
            raise SchemaError(
                f"the tables in {self.path} are of version {found}, of {age} turnlog; this one's version is {VERSION}"
            )

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Switch the file to a write-ahead log, which lets readers and a writer go on beside each other.

        While others open the file at the same moment, SQLite refuses this at once instead of waiting.
        """
        end = time.monotonic() + self._timeout
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            time.sleep(_AGAIN)
        if mode != "wal":
            raise Unavailable(
                f"{self.path} cannot have a write-ahead log: put it on a local disk that can be written to"
            )

    def _create(self, connection: sqlite3.Connection) -> Steps[None]:
        if _version(connection, self.statements) is None:  # another process may have been quicker
            for statement in self.statements.create:
                yield statement, ()
            yield self.statements.set_version, self.statements.set_version.bind({"version": VERSION})

    def _translated(self, error: sqlite3.DatabaseError) -> TurnlogError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Unavailable(f"{self.path} was locked by another process for {self._timeout:g} s: nothing was stored")
        if code == sqlite3.SQLITE_TOOBIG:
            return TooLarge(f"{self.path}: SQLite refuses the size: {error}")
        if code == sqlite3.SQLITE_NOTADB:
            return SchemaError(f"{self.path} is not an SQLite database: name another file")
        if code == sqlite3.SQLITE_CORRUPT:
            return CorruptRecord(f"the database {self.path} is damaged: {error}")
        if code == sqlite3.SQLITE_ERROR:
            return SchemaError(f"the tables in {self.path} are not as turnlog made them: {error}")
        if isinstance(error, _CommitFailed):
            return OutcomeUnknown(f"{self.path}: the commit failed: {error}")
        return Unavailable(f"{self.path}: {error}: nothing was stored")


@cache
def _statements() -> Statements:
    return Statements(SQLiteDialect_pysqlite())


class _CommitFailed(sqlite3.OperationalError):
    """The transaction was ended by an error of the commit itself."""


def _version(connection: sqlite3.Connection, statements: Statements) -> int | None:
    """The version of the tables; None where there are none."""
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'turnlog_schema'"
    if not connection.execute(query).fetchone()[0]:
        return None
    found = connection.execute(statements.version.sql).fetchone()
    return 0 if found is None else int(found[0])


def _drive(connection: sqlite3.Connection, steps: Steps[T]) -> T:
    rows: Sequence[Row] = ()
    try:
        statement, values = next(steps)
        while True:
            if type(values) is list:
                connection.executemany(statement.sql, values)
                rows = ()
            else:
                rows = connection.execute(statement.sql, values).fetchall()
            statement, values = steps.send(rows)
    except StopIteration as stop:
        answer: T = stop.value
        return answer


def _transact(connection: sqlite3.Connection, steps: Steps[T]) -> T:
    """Drive the steps in a transaction that holds the lock for writing from the beginning.

    One that begins as a reader cannot become a writer once another process has written: it fails at once, however long
    it is ready to wait (sqlite.org/lang_transaction.html, "Read transactions versus write transactions").
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        answer = _drive(connection, steps)
    except BaseException:
        if connection.in_transaction:  # some errors have rolled it back already
            connection.execute("ROLLBACK")
        raise
    try:
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if code & 0xFF == sqlite3.SQLITE_IOERR or not connection.in_transaction:
            failed = _CommitFailed(str(error))
            failed.sqlite_errorcode = code
            raise failed from error
        raise
    return answer

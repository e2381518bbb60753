"""SQLite: one thread with one connection, and one hop to it and back an operation."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import cache
from shlex import quote as quote_word
from typing import Final, Literal, TypeAlias, TypeVar
from urllib.parse import quote

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from turnlog import AccessError, CorruptRecord, Key, OutcomeUnknown, SchemaError, TooLarge, TurnlogError, Unavailable
from turnlog.errors import InvalidInput
from turnlog.runtime import Gate
from turnlog.values import Finding, Remainder

from . import _migrations, _operations, _upkeep
from ._database import RESTORE, Database, Migrate
from ._location import parse_database_url
from ._operations import Row, Steps
from ._sqlite_connection import Connection, FilesReplaced, refuse_kept
from ._sqlite_log import hidden_from
from ._statements import Statements
from ._store import SQLBackend
from ._thread import Locked, Outcome, Work, Worker

__all__ = ["SQLiteBackend"]

_T = TypeVar("_T")

_Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

_LOWEST: Final = (3, 35, 0)  # sqlite.org/changes.html: the first with all that the statements use
_GRACE: Final = 3600.0
"""Seconds: a process whose clock is ahead by less removes no session that others still use.  The others see it again,
though that process does not."""
_CACHED: Final = 128  # compiled statements that a connection keeps; there are about 50


class SQLiteBackend(SQLBackend):
    """Sessions in a file, for any number of processes on one machine.

    A commit is one transaction, a read one snapshot; each is one hop to the thread that has the connection.  What
    waits for that thread at the same moment is done in one hop, and the writes among it in one transaction.

    Args:
        url: `sqlite:///relative/path.db` or `sqlite:////absolute/path.db`.  A file that is not there is created for its
            owner only (mode 0600); one that is there keeps its mode.
        ttl: As in `Backend`.
        synchronous: `FULL`: an acknowledged turn survives the loss of power.  `NORMAL`: it survives the end of the
            process, and the last ones may be lost with the power (sqlite.org/pragma.html#pragma_synchronous); it is
            about twice as fast.
        timeout: Seconds to wait for another process that writes; then it is `Unavailable`.
        migrate: As in `SQLBackend`.
        sweep: As in `SQLBackend`.
        clock: As in `Backend`.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl: float | None = None,
        synchronous: _Synchronous = "FULL",
        timeout: float = 30.0,
        migrate: Migrate = "auto",
        sweep: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise InvalidInput(f"synchronous must be FULL or NORMAL, not {synchronous!r}")
        self._file = _SQLite(_path(url), synchronous=synchronous, timeout=timeout)
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
        """Have SQLite check the file, and return what is damaged, a line each; nothing is changed.

        SQLite does not check the contents of rows: reading a session does.

        Args:
            quick: Do not compare indexes with tables (sqlite.org/pragma.html#pragma_quick_check); that takes longest.

        Raises:
            CorruptRecord: The damage is such that SQLite cannot go on.
        """
        self.check_open()
        statement = self._statements.quick_check if quick else self._statements.check

        def steps() -> Steps[list[str]]:
            rows = yield statement, ()
            return [line for (text,) in rows for line in str(text).splitlines() if line != "ok"]

        return await self._database.read(steps)

    async def scrub(self) -> Sequence[Remainder]:
        """Write the file anew without what deletions have left in it, and empty the log; return what remains.

        It takes about as long as copying the file, needs as much room again, and keeps other writers waiting.
        """
        self.check_open()
        path, remains = self._file.path, [*await self.unswept()]
        try:
            emptied = await self._database.read(lambda: _upkeep.rewritten(self._statements))
        except (AccessError, Unavailable) as error:
            return remains + _upkeep.remainders_of_sqlite(path, why=str(error))
        return remains if emptied else remains + _upkeep.remainders_of_sqlite(path, why="another process reads its log")

    async def unswept(self) -> Sequence[Remainder]:
        """Return how many expired sessions `sweep` leaves, because they expired within the last hour, and how long."""
        self.check_open()
        now = self.clock()
        count, last = await self._database.read(lambda: _operations.count_expired(self._statements, now))
        return _upkeep.expired_in_sqlite(self._file.path, count, last + self._file.grace)

    async def diagnose(self) -> Sequence[Finding]:
        """Return what is wrong with the file, its rights, its disk and its settings."""
        self.check_open()
        query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        (size,) = await self._database.read(lambda: _upkeep.asked(self._statements, query))
        return _upkeep.risks_of_sqlite(self._file.path, self._file.synchronous, size)


def _path(url: str) -> str:
    """Return the path of the file that a URL for SQLite names."""
    example = "sqlite:///relative/path.db or sqlite:////absolute/path.db"
    found = parse_database_url(url, "sqlite", example)
    if found.database == ":memory:":
        raise InvalidInput("url names no file: write sqlite:///path.db, or memory:// to keep sessions in memory")
    if found.has_authority:
        raise InvalidInput(f"url names no file: write {example}")
    return found.database


class _SQLite(Database):
    """A database file.

    Args:
        path: Where it is; it is made if it is not there.
        synchronous: Whether every commit waits until the disk has it (`FULL`), or only a checkpoint does (`NORMAL`).
        timeout: Seconds to wait for a lock that another process holds.
    """

    grace = _GRACE

    def __init__(self, path: str, *, synchronous: _Synchronous, timeout: float) -> None:
        self.name = f"sqlite {path!r}"
        self.statements = _statements()
        self.path = path
        self.synchronous = synchronous
        self._timeout = timeout
        self._migrate: Migrate = "check"
        self._found: int | None = None
        self._gate: Gate[Key] | None = None
        self._creates = False
        self._log_is_checked = False
        self._worker = Worker(self.name, timeout, self._connect, self._serve)

    async def open(self, migrate: Migrate) -> int | None:
        self._migrate = migrate
        self.path = os.path.abspath(self.path)  # noqa: ASYNC240 - it asks for the working directory, which may change
        if not self._worker.start():
            return _migrations.newest()
        self._creates = migrate == "auto"
        try:
            await self.read(self._look)  # which connects
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
        again: bool = False,  # noqa: ARG002 - no connection is lost here
    ) -> _T:
        if self._gate is not None and key is not None:
            await self._gate.pass_by(key, time.monotonic() + self._timeout)
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
                f"this Python comes with SQLite {sqlite3.sqlite_version}, turnlog needs {lowest} or newer"
            )
        refuse_kept(self.path)
        self._check_log()
        connection: Connection | None = None
        try:
            if self._creates:
                _create(self.path)
            connection = sqlite3.connect(
                f"file://{quote(self.path)}?mode=rw",
                uri=True,
                timeout=0,  # the thread waits, so that it holds up no fork
                isolation_level=None,
                check_same_thread=False,  # another thread closes it before a fork
                cached_statements=_CACHED,
                factory=Connection,
            )
            connection.text_factory = _text
            connection.execute(f"PRAGMA synchronous={self.synchronous}")
            found = self._version(connection)
            behind = self.check_version(found, self._migrate)
            self._use_wal(connection)
            self._found = self._bring_up(connection) if behind else found
            connection.execute(_probe())
            connection.watch(self.path)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, UnicodeDecodeError):  # the text of an error that the tables' own text is part of
                raise CorruptRecord(
                    f"the database {self.name} is damaged ({error}): restore it from a backup"
                ) from error
            if isinstance(error, sqlite3.DatabaseError):
                raise self._translated(error) from error
            raise
        self._creates = False  # a file that is removed later is not made anew, as if there had been nothing in it
        return connection

    def _check_log(self) -> None:
        """Refuse a log in which damage hides acknowledged transactions, once, before SQLite removes it."""
        if self._log_is_checked:
            return
        found = hidden_from(f"{os.path.realpath(self.path)}-wal")
        if found is not None:
            raise CorruptRecord(
                f"the log of {self.name} is damaged at frame {found}, and SQLite would drop all that was stored from "
                "there on: restore both files from a backup; to accept the loss, open the database with sqlite3 and "
                "read a table"
            )
        self._log_is_checked = True

    def _version(self, connection: sqlite3.Connection) -> int | None:
        """The version of the tables; None where there are none."""
        query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'turnlog_schema'"
        if not connection.execute(query).fetchone()[0]:
            return None
        (found,) = connection.execute(self.statements.version.sql).fetchone()
        if type(found) is not int:
            raise SchemaError(f"{self.name} has a table turnlog_schema without a version: {RESTORE}")
        return found

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Switch the file to a write-ahead log, which lets readers and a writer go on beside each other."""
        if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise Unavailable(
                f"{self.name} cannot have a write-ahead log: put it on a local disk that can be written to"
            )

    def _bring_up(self, connection: sqlite3.Connection) -> int | None:
        """Make the tables, or bring them to this version; answers which they had before."""
        connection.execute("BEGIN IMMEDIATE")
        try:  # another process may have been quicker, or newer
            found = self._version(connection)
            self.check_version(found, self._migrate)
            for version, step in _migrations.missing(found, self.statements.dialect):
                for statement in step:
                    connection.execute(statement)
                connection.execute(self.statements.set_version.sql, (version,))
        except BaseException:
            _roll_back(connection)
            raise
        connection.execute("COMMIT")
        return found

    def _serve(self, connection: Connection, works: Sequence[Work]) -> Iterable[list[Outcome]]:
        """Do works that were waiting at the same moment."""
        if len(works) > 1:
            return self._in_turn(connection, works)
        (work,) = works  # as a rule
        if work[0].cancelled():
            return ()
        return ([self._alone(connection, work, _transact)] if work[1] else self._read(connection, works),)

    def _in_turn(self, connection: Connection, works: Sequence[Work]) -> Iterator[list[Outcome]]:
        """First those that read, then those that write.

        A read sees nothing of a write beside it, which is not acknowledged yet.
        """
        works = [work for work in works if not work[0].cancelled()]
        reads = [work for work in works if not work[1]]
        if reads:
            yield self._read(connection, reads)
        writes = [work for work in works if work[1]]
        if len(writes) == 1:
            yield [self._alone(connection, writes[0], _transact)]
        elif writes:
            yield self._together(connection, writes)

    def _alone(self, connection: Connection, work: Work, way: Callable[[Connection, Work], object]) -> Outcome:
        try:
            return work, way(connection, work), None
        except UnicodeDecodeError as error:
            return work, None, CorruptRecord(f"the database {self.name} is damaged ({error}): restore it from a backup")
        except sqlite3.DatabaseError as error:
            return work, None, self._translated(error)
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is told
            return work, None, error

    def _read(self, connection: Connection, works: Sequence[Work]) -> list[Outcome]:
        outcomes = [self._alone(connection, work, _drive) for work in works]
        try:
            connection.check()
        except FilesReplaced as error:  # the answers might be old
            return self._all_of(works, error)
        return outcomes

    def _together(self, connection: Connection, works: Sequence[Work]) -> list[Outcome]:
        """Do writes in one transaction, each behind a savepoint, so that one that is refused leaves the others alone.

        Where the database itself refuses something, each is done again on its own, to find out what is its own.
        """
        outcomes: list[Outcome] = []
        try:
            _begin(connection)
        except sqlite3.DatabaseError as error:
            return self._all_of(works, error)
        try:
            for work in works:
                connection.execute("SAVEPOINT work")
                try:
                    outcomes.append((work, _do(connection, work), None))
                except sqlite3.DatabaseError:
                    raise
                except BaseException as error:  # noqa: BLE001 - whoever waits for it is told
                    connection.execute("ROLLBACK TO work")
                    outcomes.append((work, None, error))
                connection.execute("RELEASE work")
        except sqlite3.DatabaseError:
            _roll_back(connection)
            return [self._alone(connection, work, _transact) for work in works]
        try:
            _commit(connection)
        except sqlite3.DatabaseError as error:  # what was refused may have been so because of what is not stored now
            return self._all_of(works, error)
        return outcomes

    def _all_of(self, works: Sequence[Work], error: sqlite3.DatabaseError) -> list[Outcome]:
        return [(work, None, self._translated(error)) for work in works]  # each sets the key and the change in its own

    def _translated(self, error: sqlite3.DatabaseError) -> TurnlogError | Locked:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        locked = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        translated = Locked() if locked else self._translation(error, code)
        translated.__cause__ = error
        return translated

    def _translation(self, error: sqlite3.DatabaseError, code: int) -> TurnlogError:
        if isinstance(error, FilesReplaced):
            text = f"{self.name}: {error}"
            if error.committed:
                return OutcomeUnknown(text)
            return Unavailable(f"{text}; nothing was stored: put the file back, or repeat the call to use the new file")
        if code == sqlite3.SQLITE_TOOBIG:
            return TooLarge(f"{self.name}: SQLite refuses the size: {error}")
        if code == sqlite3.SQLITE_NOTADB:
            return SchemaError(f"{self.name} is not an SQLite database: name another file")
        if code == sqlite3.SQLITE_CORRUPT:
            return CorruptRecord(f"the database {self.name} is damaged ({error}): restore it from a backup")
        if code == sqlite3.SQLITE_ERROR:
            return SchemaError(f"the tables in {self.name} are not as turnlog made them: {error}: {RESTORE}")
        if code == sqlite3.SQLITE_CANTOPEN and not os.path.isdir(folder := os.path.dirname(self.path)):
            return AccessError(f"{self.name}: the folder {folder!r} does not exist: create it, or name another one")
        if code == sqlite3.SQLITE_CANTOPEN and os.path.isdir(self.path):
            return AccessError(f"{self.name} is a folder: name a file in it")
        if code == sqlite3.SQLITE_CANTOPEN and self._migrate == "check" and not os.path.exists(self.path):
            make = f"turnlog migrate --store 'sqlite:///{quote(self.path)}'"
            return SchemaError(f"{self.name} does not exist: correct the path, or create it with: {make}", missing=True)
        if code == sqlite3.SQLITE_CANTOPEN and not self._creates and not os.path.exists(self.path):
            return Unavailable(
                f"{self.name} is not there any more: restore it; or close the store, and open it to begin anew"
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) and (locked := _read_only(self.path)):
            mend = f"chmod u+w {' '.join(map(quote_word, locked))}"
            text = f"{self.name}: this process may not write to it ({error}): nothing was stored"
            return AccessError(f"{text}; to let its owner write to it: {mend}")
        if code == sqlite3.SQLITE_CANTOPEN:
            text = f"{self.name}: the system does not let this process open or create it ({error}): nothing was stored"
            return AccessError(f"{text}; check the path, and the permissions of the file and its folder")
        if isinstance(error, _CommitFailed):
            return OutcomeUnknown(f"{self.name}: the commit failed: {error}")
        return Unavailable(f"{self.name}: {error}: nothing was stored")


def _read_only(path: str) -> list[str]:
    """Return which of the file and its folder this process may not write to."""
    path = os.path.realpath(path)
    places = [place for place in (path, os.path.dirname(path)) if os.path.exists(place)]
    return [place for place in places if not os.access(place, os.W_OK)]


def _create(path: str) -> None:
    """Make an empty file for its owner only, if there is none; SQLite gives the log and its index the same rights.

    An error is left to SQLite, which then cannot open the file either.
    """
    with suppress(OSError):
        # Closing a descriptor of a file releases the locks that this process has on it.  So this one opens no file
        # that was there before, and no other thread connects meanwhile.
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _text(data: bytes) -> str:
    """Return text that a column holds: there should be none, so it is not a value that is looked for, but no crash."""
    return data.decode(errors="replace")


@cache
def _probe() -> str:
    return _migrations.probe(_statements().dialect)


@cache
def _statements() -> Statements:
    return Statements(SQLiteDialect_pysqlite())


class _CommitFailed(sqlite3.OperationalError):
    """The transaction was ended by an error of the commit itself."""


def _drive(connection: Connection, work: Work) -> object:
    """Drive steps of which each statement stands for itself."""
    _, _, make, _, _ = work
    assert make is not None
    try:
        return _steps(connection, make())
    finally:
        _roll_back(connection)  # what failed in the middle of a snapshot has left it open


def _transact(connection: Connection, work: Work) -> object:
    """Drive the steps in a transaction that holds the lock for writing from the beginning.

    One that begins as a reader cannot become a writer once another process has written: it fails at once, however long
    it is ready to wait (sqlite.org/lang_transaction.html, "Read transactions versus write transactions").
    """
    future, writes, make, first, until = work
    _begin(connection)
    try:
        answer = _do(connection, work)
    except sqlite3.IntegrityError:
        _roll_back(connection)
        if first is None:
            raise
        return _transact(connection, (future, writes, make, None, until))  # what came first was done before
    except BaseException:
        _roll_back(connection)
        raise
    _commit(connection)
    return answer


def _do(connection: Connection, work: Work) -> object:
    _, _, make, first, _ = work
    if first is not None:
        answer = _steps(connection, first())
        if answer is not None:
            return answer
    assert make is not None
    return _steps(connection, make())


def _steps(connection: sqlite3.Connection, steps: Steps[_T]) -> _T:
    rows: Iterable[Row]
    cursor = connection.cursor()
    try:
        statement, values = next(steps)
        while True:
            if type(values) is list:
                cursor.executemany(statement.sql, values)
                rows = ()
            else:
                cursor.execute(statement.sql, values)
                if statement.lazy:
                    rows = cursor  # until the next statement
                elif statement.counts:
                    rows = ((cursor.rowcount,),) if cursor.rowcount else ()
                else:
                    rows = cursor.fetchall()
            statement, values = steps.send(rows)
    except StopIteration as stop:
        answer: _T = stop.value
        return answer
    finally:
        cursor.close()  # or an error that is kept would keep its statement, and the statement would keep the files open


def _begin(connection: Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.check()
    except FilesReplaced:
        _roll_back(connection)
        raise


def _commit(connection: Connection) -> None:
    """Commit, and check that the files were not replaced since `_begin`: another process sees nothing of it then."""
    try:
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        ended = not connection.in_transaction
        _roll_back(connection)
        if code & 0xFF == sqlite3.SQLITE_IOERR or ended:
            failed = _CommitFailed(str(error))
            failed.sqlite_errorcode = code
            raise failed from error
        raise
    connection.check(committed=True)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # some errors have rolled it back already
        connection.execute("ROLLBACK")

"""`SQLiteBackend`: SQLite in one thread with one connection."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import cache
from shlex import quote
from typing import Final, Literal, TypeAlias, TypeVar

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from turnlog import AccessError, CorruptRecord, Key, OutcomeUnknown, SchemaError, TooLarge, TurnlogError, Unavailable
from turnlog.errors import InvalidInput
from turnlog.runtime import Gate
from turnlog.values import Capability, Finding, Remainder

from . import _migrations, _operations, _upkeep
from ._database import RESTORE, Database, Migrate
from ._location import parse_database_url
from ._operations import Row, Steps
from ._sqlite_connection import Connection, FilesReplaced, has_log, refuse_kept
from ._sqlite_log import hidden_from
from ._sqlite_paths import path_of, uri_of, url_of
from ._statements import Statements
from ._store import SQLBackend
from ._thread import Locked, Outcome, Work, Worker

__all__ = ["SQLiteBackend"]

_T = TypeVar("_T")

_Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

_LOWEST: Final = (3, 35, 0)  # the first version with all features that the statements use (sqlite.org/changes.html)
_GRACE: Final = 3600.0
"""Seconds from the expiry of a session to its removal.  A process whose clock is ahead by less does not see the session
any more, but its sweep does not remove it from other processes."""
_LONGEST: Final = 247  # bytes of a file's name: common file systems allow 255, and SQLite appends `-journal`
_SHOWN: Final = 100  # characters of a path in the message about a wrong one
_CACHED: Final = 128  # the number of compiled statements that a connection keeps; turnlog has about 50


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
        synchronous: _Synchronous = "FULL",
        timeout: float = 30.0,
        migrate: Migrate = "auto",
        sweep: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise InvalidInput(f"synchronous must be 'FULL' or 'NORMAL', not {synchronous!r}")
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
        count, last = await self._database.read(lambda: _operations.count_expired(self._statements, now))
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


class _SQLite(Database):
    """A database file.

    Args:
        path: The path of the file, which is created if it is missing.
        synchronous: `FULL`: every commit waits for the disk.  `NORMAL`: only checkpoints wait for the disk.
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
                f"this Python has SQLite {sqlite3.sqlite_version}, but turnlog needs {lowest} or newer: use a newer "
                "Python"
            )
        refuse_kept(self.path)
        self._check_log()
        if os.path.exists(self.path) and not _may_write(self.path):
            return self._connect_to(self._read_only)
        try:
            return self._connect_to(self._writable)
        except AccessError:
            if not (os.path.isfile(self.path) and _unwritable(self.path)):  # only the folder may be read-only
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
            _roll_back(connection)
            raise
        connection.execute("COMMIT")
        return found

    def _serve(self, connection: Connection, works: Sequence[Work]) -> Iterable[list[Outcome]]:
        """Execute the requests that were in the queue at the same time."""
        if len(works) > 1:
            return self._in_turn(connection, works)
        (work,) = works  # the usual case
        if work[0].cancelled():
            return ()
        return ([self._alone(connection, work, _transact)] if work[1] else self._read(connection, works),)

    def _in_turn(self, connection: Connection, works: Sequence[Work]) -> Iterator[list[Outcome]]:
        """Execute the reads, then the writes.

        The reads therefore do not see these writes, which are not acknowledged yet.
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
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            return work, None, error

    def _read(self, connection: Connection, works: Sequence[Work]) -> list[Outcome]:
        outcomes = [self._alone(connection, work, _drive) for work in works]
        try:
            connection.check()
        except sqlite3.OperationalError as error:  # the answers may be outdated
            return self._all_of(works, error)
        return outcomes

    def _together(self, connection: Connection, works: Sequence[Work]) -> list[Outcome]:
        """Execute writes in one transaction with a savepoint for each, so that a refused write does not affect others.

        After an error of the database, each write is repeated in its own transaction.
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
                except BaseException as error:  # noqa: BLE001 - the caller raises it
                    connection.execute("ROLLBACK TO work")
                    outcomes.append((work, None, error))
                connection.execute("RELEASE work")
        except sqlite3.DatabaseError:
            _roll_back(connection)
            return [self._alone(connection, work, _transact) for work in works]
        try:
            _commit(connection)
        except sqlite3.DatabaseError as error:  # a refusal may depend on another write that is not stored now
            return self._all_of(works, error)
        return outcomes

    def _all_of(self, works: Sequence[Work], error: sqlite3.DatabaseError) -> list[Outcome]:
        return [
            (work, None, self._translated(error)) for work in works
        ]  # one error each: the callers set `key` and `change`

    def _translated(self, error: sqlite3.DatabaseError) -> TurnlogError | Locked:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        locked = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        translated = Locked() if locked else self._translation(error, code)
        translated.__cause__ = error
        return translated

    def _translation(self, error: sqlite3.DatabaseError, code: int) -> TurnlogError:
        if isinstance(error, FilesReplaced):
            if error.committed:
                return OutcomeUnknown(f"{self.name}: {error}")
            return Unavailable(
                f"{error}; nothing was stored: put the file back, or repeat the call, which opens the path again"
            )
        if isinstance(error, _CommitFailed):
            return OutcomeUnknown(f"{self.name}: the commit failed: {error}")
        if code == sqlite3.SQLITE_TOOBIG:
            return TooLarge(f"{self.name}: SQLite refuses a value of this size: {error}")
        if code == sqlite3.SQLITE_NOTADB:
            return SchemaError(f"{self.name} is not an SQLite database: name another file")
        if code == sqlite3.SQLITE_CORRUPT:
            return CorruptRecord(f"the database {self.name} is damaged ({error}): restore it from a backup")
        if code == sqlite3.SQLITE_ERROR:
            return SchemaError(f"the tables in {self.name} are not as turnlog created them ({error}): {RESTORE}")
        if code == sqlite3.SQLITE_CANTOPEN and _lacks_descriptors():
            return Unavailable(f"{self.name}: this process has too many open files ({error}): nothing was stored")
        if code == sqlite3.SQLITE_CANTOPEN and (fault := _fault_of(self.path)):
            name = self.name if len(self.name) <= _SHOWN else f"{self.name[:_SHOWN]}...'"
            return AccessError(f"{name}{fault}")
        if code == sqlite3.SQLITE_CANTOPEN and self._migrate == "check" and _is_missing(self.path):
            make = f"turnlog migrate --store '{url_of(self.path)}'"
            return SchemaError(f"{self.name} does not exist: correct the path, or create it with: {make}", missing=True)
        if code == sqlite3.SQLITE_CANTOPEN and not self._creates and _is_missing(self.path):
            return Unavailable(
                f"{self.name} does not exist any more: restore it; to create an empty one, close and reopen the store"
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) and (locked := _unwritable(self.path)):
            text = f"{self.name}: this process has no permission to write to it ({error}): nothing was stored"
            return AccessError(f"{text}; {_unlocking(locked)}")
        if code == sqlite3.SQLITE_CANTOPEN:
            text = f"{self.name}: this process has no permission to open or create it ({error}): nothing was stored"
            return AccessError(f"{text}; check the path, and the permissions of the file and its folder")
        return Unavailable(f"{self.name}: {error}: nothing was stored")


def _fault_of(path: str) -> str:
    """Return the fault of a path that cannot name a file; an empty text if there is none."""
    folder, name = os.path.split(path)
    if len(os.fsencode(name)) > _LONGEST:
        return f": the name of the file has {len(os.fsencode(name))} bytes: shorten it to {_LONGEST}"
    if "~" in folder.split(os.sep) and not os.path.isdir(folder):
        return ": ~ is not replaced in a URL: write the whole path, as in sqlite:////home/you/chat.db"
    if os.path.isfile(folder):
        return f": {folder!r} is a file, not a folder: correct the path"
    if not os.path.isdir(folder):
        return f": the folder {folder!r} does not exist: create it, or correct the path"
    return " is a folder: name a file in it" if os.path.isdir(path) else ""


def _is_missing(path: str) -> bool:
    """Return whether a file does not exist; False if this process may not look for it."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _lacks_descriptors() -> bool:
    """Return whether the system refuses to open four more files: SQLite opens the three files and their folder."""
    opened: list[int] = []
    try:
        opened += (os.open(os.devnull, os.O_RDONLY) for _ in range(4))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return False


def _unwritable(path: str) -> list[str]:
    """Return those of the three files and their folder to which this process may not write."""
    path = os.path.realpath(path)
    files = (path, os.path.dirname(path), f"{path}-wal", f"{path}-shm")
    return [place for place in files if os.path.exists(place) and not _may_write(place)]


def _may_write(path: str) -> bool:
    """Return whether this process may write to a file or a folder, by the user that the system checks."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _unlocking(places: Sequence[str]) -> str:
    """Return how to allow this process to write to files and folders."""
    names = " ".join(map(quote, places))
    if os.name == "posix" and any(os.stat(place).st_uid != os.geteuid() for place in places):
        return f"run it as the owner, or allow its user to write to: {names}"
    return f"to allow its owner to write to it, run: chmod u+w {names}"


def _create(path: str) -> None:
    """Create an empty file with mode 0600 if it is missing; SQLite gives the log and its index the same mode.

    Errors are ignored here: SQLite then cannot open the file and reports the reason.
    """
    with suppress(OSError):
        # Closing a descriptor of a file releases the locks that this process holds on the file.  Therefore an existing
        # file is not opened here, and no other thread connects at the same time.
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _text(data: bytes) -> str:
    """Decode a text column.  turnlog stores no text, so only damaged data gets here, and must not raise."""
    return data.decode(errors="replace")


@cache
def _probe() -> str:
    return _migrations.probe(_statements().dialect)


@cache
def _statements() -> Statements:
    return Statements(SQLiteDialect_pysqlite())


class _CommitFailed(sqlite3.OperationalError):
    """An error of the commit itself has ended the transaction."""


def _drive(connection: Connection, work: Work) -> object:
    """Execute steps without a transaction."""
    _, _, make, _, _ = work
    assert make is not None
    try:
        return _steps(connection, make())
    finally:
        _roll_back(connection)  # ends a snapshot that an error has left open


def _transact(connection: Connection, work: Work) -> object:
    """Execute steps in a transaction that holds the write lock from its beginning.

    A transaction that begins as a read cannot become a write after another process has written.  It fails at once,
    regardless of the timeout (sqlite.org/lang_transaction.html, "Read transactions versus write transactions").
    """
    future, writes, make, first, until = work
    _begin(connection)
    try:
        answer = _do(connection, work)
    except sqlite3.IntegrityError:
        _roll_back(connection)
        if first is None:
            raise
        return _transact(connection, (future, writes, make, None, until))  # the change of `first` is a repeat
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
        cursor.close()  # otherwise the traceback of an error would keep the statement, and with it the files, open


def _begin(connection: Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.check()
    except FilesReplaced:
        _roll_back(connection)
        raise


def _commit(connection: Connection) -> None:
    """Commit, and check that the files were not replaced since `_begin`: other processes would not see the commit."""
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
    if connection.in_transaction:  # some errors have already rolled it back
        connection.execute("ROLLBACK")

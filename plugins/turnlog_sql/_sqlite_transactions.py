"""`Transactions`: executes the requests of the queue, the writes among them in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from turnlog import CorruptRecord, TurnlogError

from ._operations import Steps
from ._rows import Row
from ._sqlite_connection import Connection, FilesReplaced
from ._sqlite_errors import CommitFailed
from ._thread import Locked, Outcome, Work

_T = TypeVar("_T")


class Transactions:
    """Executes the requests of the queue, in the thread with the connection.

    Args:
        name: The name of the database in messages.
        translated: Returns the error for an error of SQLite.
    """

    def __init__(self, name: str, translated: Callable[[sqlite3.DatabaseError], TurnlogError | Locked]) -> None:
        self._name = name
        self._translated = translated

    def serve(self, connection: Connection, works: Sequence[Work]) -> Iterable[list[Outcome]]:
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
            text = f"the database {self._name} is damaged ({error}): restore it from a backup"
            return work, None, CorruptRecord(text)
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
            roll_back(connection)
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


def _drive(connection: Connection, work: Work) -> object:
    """Execute steps without a transaction."""
    _, _, make, _, _ = work
    assert make is not None
    try:
        return _run_steps(connection, make())
    finally:
        roll_back(connection)  # ends a snapshot that an error has left open


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
        roll_back(connection)
        if first is None:
            raise
        return _transact(connection, (future, writes, make, None, until))  # the change of `first` is a repeat
    except BaseException:
        roll_back(connection)
        raise
    _commit(connection)
    return answer


def _do(connection: Connection, work: Work) -> object:
    _, _, make, first, _ = work
    if first is not None:
        answer = _run_steps(connection, first())
        if answer is not None:
            return answer
    assert make is not None
    return _run_steps(connection, make())


def _run_steps(connection: sqlite3.Connection, steps: Steps[_T]) -> _T:
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
        roll_back(connection)
        raise


def _commit(connection: Connection) -> None:
    """Commit, and check that the files were not replaced since `_begin`: other processes would not see the commit."""
    try:
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        ended = not connection.in_transaction
        roll_back(connection)
        if code & 0xFF == sqlite3.SQLITE_IOERR or ended:
            failed = CommitFailed(str(error))
            failed.sqlite_errorcode = code
            raise failed from error
        raise
    connection.check(committed=True)


def roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction of a connection without its writes, if it has one."""
    if connection.in_transaction:  # some errors have already rolled it back
        connection.execute("ROLLBACK")

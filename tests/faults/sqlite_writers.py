"""Programs for the tests of SQLite, which run in other processes.

python sqlite_writers.py append FILE NAME COUNT [deferred]   append turns at the same time as others
python sqlite_writers.py kill FILE KILLS [autocommit|NORMAL] forked writers are killed during an append
python sqlite_writers.py fill FILE                           append with a limited file size, as on a full disk
python sqlite_writers.py visit                               open, read, append if requested, and close, for each input
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sqlite3
import sys
import time
from typing import Any

from turnlog import OutcomeUnknown, SessionNotFound, Store, Unavailable, assistant, user
from turnlog_sql import _sqlite_transactions as transactions
from turnlog_sql._sqlite_connection import Connection
from turnlog_sql._sqlite_file import SQLiteFile
from turnlog_sql._thread import Work
from turnlog_sql.sqlite import SQLiteBackend

options: dict[str, Any] = {}


def at(path: str) -> Store:
    """Return the store that all processes open."""
    return Store(SQLiteBackend(f"sqlite:///{path}", **options))


def deferred() -> None:
    """Make the backend naive: its transaction begins with a read, as by default in SQLite and SQLAlchemy."""

    def transact(connection: Connection, work: Work) -> Any:
        connection.execute("PRAGMA busy_timeout=30000")
        connection.execute("BEGIN")
        try:
            answer = transactions._do(connection, (*work[:3], None, work[4]))
        except sqlite3.OperationalError as error:
            connection.execute("ROLLBACK")
            raise Unavailable(f"refused: {error}") from error
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return answer

    transactions._transact = transact


def autocommit() -> None:
    """Make the backend naive: each statement is a transaction."""
    transactions._transact = transactions._do


async def append(path: str, name: str, count: int) -> None:
    """Append turns of two messages, each with the name of the writer and the number of the turn."""
    meet("ready")
    async with at(path) as store:
        for place in range(count):
            said = f"{name} {place}"
            await store.append("shared", [user(said), assistant(said)])
            if not place:
                meet("begun")


def meet(word: str) -> None:
    """Print a word, and wait for a line from the parent."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()
    sys.stdin.readline()


# ----------------------------------------------------------------------------------------------------------- killing


async def write_until_killed(path: str, number: int, statement: int | None, acknowledge: int) -> None:
    """Append turns and write the acknowledged ones to a pipe; die before a given statement of the third append."""
    async with at(path) as store:
        for turn in range(10_000):
            if turn == 2 and statement is not None:
                die_before(connection_of(store), statement)
            said = f"{number}-{turn}"
            await store.append("shared", [user(said), assistant(said)], turn_id=said)
            os.write(acknowledge, f"{said}\n".encode())


STATEMENTS = 5  # in an append: begin, update, insert twice, commit


def connection_of(store: Store) -> Connection:
    """Return the connection of the worker thread, which other threads may use only while the worker waits."""
    assert isinstance(store.backend, SQLiteBackend)
    database = store.backend._database
    assert isinstance(database, SQLiteFile)
    thread = database._worker._thread
    assert thread is not None
    assert thread.connection is not None
    return thread.connection


def die_before(connection: Connection, statement: int) -> None:
    """Kill this process before the connection's nth statement from now on; after the transaction for `STATEMENTS`."""
    left = [statement]

    def watch(sql: str) -> None:
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    if statement < STATEMENTS:
        connection.set_trace_callback(watch)
    else:
        transact = transactions._transact

        def die_after(connection: Connection, work: Work) -> Any:
            transact(connection, work)
            os.kill(os.getpid(), signal.SIGKILL)

        transactions._transact = die_after


def killed(path: str, number: int, statement: int | None) -> list[str]:
    """Return the turns that a forked writer had acknowledged before it was killed."""
    here, there = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(here)
        asyncio.run(write_until_killed(path, number, statement, there))
        os._exit(0)
    os.close(there)
    with os.fdopen(here, "rb", buffering=0) as pipe:
        told = b""
        if statement is None:
            while told.count(b"\n") < 3 + number % 5:
                told += pipe.read(1000)
            end = time.perf_counter() + number % 25 * 40e-6  # an append takes 300 µs: somewhere in the next one
            while time.perf_counter() < end:
                pass
            os.kill(pid, signal.SIGKILL)
        while more := pipe.read(10_000):
            told += more
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the writer ended by itself"
    assert os.WTERMSIG(status) == signal.SIGKILL, f"the writer ended by itself: {status}"
    return told.decode().split()


async def stored(path: str) -> list[str]:
    """Return the ids of the stored turns, after a check that no turn is torn and that the header matches them."""
    async with at(path) as store:
        try:
            session = await store.session("shared")
        except SessionNotFound:
            return []
    info = session.info
    assert [turn.number for turn in session.turns] == list(range(info.turns)), "torn: the header does not fit"
    assert info.messages == len(session.messages), "torn: the header does not fit"
    for turn in session.turns:
        assert [message.text for message in turn.messages] == [turn.id, turn.id], f"torn: {turn}"
    return [turn.id for turn in session.turns]


async def send_again(path: str, turn: str) -> None:
    """Append a turn again, as a client does after the death of its writer."""
    async with at(path) as store:
        await store.append("shared", [user(turn), assistant(turn)], turn_id=turn)


def kill(path: str, kills: int) -> None:
    """Kill writers, check the stored turns after each kill, and send the unacknowledged turn again."""
    expected: list[str] = []
    unknown = 0
    for number in range(kills):
        acknowledged = killed(path, number, number // 2 % (STATEMENTS + 1) if number % 2 else None)
        expected += acknowledged
        begun = f"{number}-{len(acknowledged)}"
        found = asyncio.run(stored(path))
        assert found in (expected, [*expected, begun]), f"kill {number}: {found[-3:]} instead of {expected[-3:]}"
        unknown += len(found) - len(expected)
        asyncio.run(send_again(path, begun))
        expected.append(begun)
        assert asyncio.run(stored(path)) == expected
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    sys.stdout.write(f"{kills} kills, {len(expected) - kills} acknowledged, {unknown} there unacknowledged\n")


async def fill(path: str) -> None:
    """Append while the disk is repeatedly full, then send the turns with an unknown outcome again.

    Refused turns must not be stored, and the other turns must be stored once.
    """
    async with at(path) as store:
        await store.append("shared", [user("0")], turn_id="0")
        told, unknown = ["0"], list[OutcomeUnknown]()
        room = os.path.getsize(f"{path}-wal")  # noqa: ASYNC240 - no other task runs
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        for turn in range(1, 30):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room + 2_000 * turn, most))
            try:
                await store.append("shared", [user("x" * 3_000)], turn_id=str(turn))
            except Unavailable:
                continue
            except OutcomeUnknown as error:
                unknown.append(error)
            else:
                told.append(str(turn))
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        for left_open in unknown:
            assert left_open.key is not None
            assert left_open.change is not None
            for _ in range(2):
                await store.backend.commit(left_open.key, left_open.change)
        found = [turn.id for turn in (await store.session("shared")).turns]
    sent_again = [left_open.change.append[0].id for left_open in unknown if left_open.change is not None]
    assert sorted(found) == sorted(told + sent_again)
    sys.stdout.write(f"{len(told)} stored, {len(unknown)} unknown\n")


async def visit(path: str, said: str | None) -> dict[str, list[str]]:
    """Append a text to session `visitor` if one is given, check the integrity, and return the texts of all sessions."""
    async with at(path) as store:
        if said is not None:
            await store.append("visitor", [user(said)])
        names = [info.key.session async for info in store.sessions()]
        found = {name: [message.text for message in await store.load(name)] for name in names}
        assert connection_of(store).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return found


def visit_as_asked() -> None:
    """Answer each line of JSON, with a path and a text or null, with a line of JSON."""
    for line in sys.stdin:
        found = asyncio.run(visit(*json.loads(line)))
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    what, path, *more = [*sys.argv[1:], ""]
    more = [one for one in more if one]
    if more and more[-1] == "deferred":
        deferred()
    if more and more[-1] == "autocommit":
        autocommit()
    if more and more[-1] == "NORMAL":
        options["synchronous"] = "NORMAL"
    if what == "append":
        asyncio.run(append(path, more[0], int(more[1])))
    elif what == "visit":
        visit_as_asked()
    elif what == "kill":
        kill(path, int(more[0]))
    else:
        asyncio.run(fill(path))

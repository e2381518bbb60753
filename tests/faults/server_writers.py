"""Programs for the tests of servers, which run in other processes.

python server_writers.py append URL REPEATS [unlocked]  eight writers append to one session concurrently, repeatedly
python server_writers.py race URL ROUNDS [unlocked]     two writers change a session at one version
python server_writers.py kill URL KILLS [autocommit]    forked writers are killed during a commit
python server_writers.py fork URL                       children use the inherited store and stores of their own
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from copy import copy
from multiprocessing.synchronize import Barrier
from typing import Any, Final

from turnlog import Conflict, SessionNotFound, Store, assistant, user
from turnlog_redis import RedisBackend
from turnlog_sql._server import Server
from turnlog_sql._store import SQLBackend
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend

WRITERS: Final = 8
TURNS: Final = 25

processes = multiprocessing.get_context("fork")


naive: list[Callable[[SQLBackend], None]] = []
"""Functions that turn each new backend into a naive one."""


def at(url: str, **options: Any) -> Any:
    """Return the backend at a URL, of any kind."""
    if url.startswith("redis"):
        return RedisBackend(url, **{name: value for name, value in options.items() if name != "pool_size"})
    made = PostgreSQLBackend if url.startswith("postgresql") else MySQLBackend
    backend = made(url, **{"sweep": 0, **options})
    for change in naive:
        change(backend)
    return backend


def store_at(url: str, **options: Any) -> Store:
    """Return a store over the backend at a URL."""
    return Store(at(url, **options))


def server_of(store: Store | SQLBackend) -> Server[Any]:
    """Return the database object of a store or backend."""
    backend = store.backend if isinstance(store, Store) else store
    assert isinstance(backend, SQLBackend)
    assert isinstance(backend._database, Server)
    return backend._database


def unlocked(backend: SQLBackend) -> None:
    """Make a backend naive: it reads and then writes without row locks, and overwrites existing records."""
    server = server_of(backend)
    statements = server.statements = backend._statements = copy(server.statements)
    statements.locks = False
    find = statements.find = copy(statements.find)
    find.sql = find.sql.replace(" FOR UPDATE", "")
    insert = statements.insert_record = copy(statements.insert_record)
    if statements.dialect.name == "postgresql":
        insert.sql += " ON CONFLICT (row, number, part) DO UPDATE SET head = excluded.head, payload = excluded.payload"
    else:
        insert.sql = insert.sql.replace("INSERT", "REPLACE", 1)
    server.write = lambda make, **_: Server.write(server, make)  # type: ignore[method-assign]


def autocommit(backend: SQLBackend) -> None:
    """Make a backend naive: each statement is a transaction."""

    async def nothing(connection: Any) -> None:
        pass

    server = server_of(backend)
    server.begin = server.commit = server.roll_back = nothing  # type: ignore[method-assign]


# -------------------------------------------------------------------------------------------------- several at once


def at_once(count: int, work: Callable[[int, Barrier], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run the work in several forked processes that meet at a barrier, and return their answers.

    If one process fails, all of them end.
    """
    barrier, answers = processes.Barrier(count, timeout=60), processes.SimpleQueue()

    def do(number: int) -> None:
        try:
            answers.put((number, asyncio.run(work(number, barrier))))
        except BaseException:
            barrier.abort()
            traceback.print_exc()
            raise

    started = [processes.Process(target=do, args=(number,)) for number in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        sys.exit("a writer failed")
    return [answer for _, answer in sorted(answers.get() for _ in started)]


def append(url: str, repeats: int) -> None:
    """Let eight writers append to one session concurrently, and check the stored turns."""

    async def write(number: int, barrier: Barrier) -> None:
        async with store_at(url, pool_size=1) as store:
            for repeat in range(repeats):
                barrier.wait()
                for place in range(TURNS):
                    said = f"{number} {place}"
                    await store.append(f"s{repeat}", [user(said), assistant(said)])

    async def check() -> int:
        mixed = 0
        async with store_at(url) as store:
            for repeat in range(repeats):
                session = await store.session(f"s{repeat}")
                assert [turn.number for turn in session.turns] == list(range(WRITERS * TURNS)), "lost or twice"
                texts = [[message.text for message in turn.messages] for turn in session.turns]
                assert all(len(said) == 2 and said[0] == said[1] for said in texts), "torn"
                for number in range(WRITERS):
                    own = [said[0] for said in texts if said[0].startswith(f"{number} ")]
                    assert own == [f"{number} {place}" for place in range(TURNS)], "lost, twice, or in another order"
                writers = [said[0].split()[0] for said in texts]
                mixed += writers != sorted(writers, key=writers.index)
        return mixed

    at_once(WRITERS, write)
    sys.stdout.write(f"{repeats} times, {asyncio.run(check())} of them mixed\n")


def race(url: str, rounds: int) -> None:
    """Let two writers change a session at one version, alternately with a statement and in a transaction."""

    async def write(number: int, barrier: Barrier) -> list[str]:
        won = []
        async with store_at(url, pool_size=1) as store:
            for turn in range(rounds):
                info = await store.info("s")
                assert info.turns == turn + 1, "the loser changed something"
                said = f"{number} {turn}"
                barrier.wait()
                try:
                    by = {"by": said} if turn % 2 else None
                    await store.append("s", [user(said)], expect=info.version, metadata=by)
                    won.append(said)
                except Conflict as error:
                    assert error.expected == info.version
                barrier.wait()
        return won

    async def begin() -> None:
        async with store_at(url) as store:
            await store.append("s", [user("begin")])

    async def check() -> None:
        async with store_at(url) as store:
            session = await store.session("s")
        texts = [message.text for message in session.messages[1:]]
        assert [int(text.split()[1]) for text in texts] == list(range(rounds))
        assert sorted(texts) == sorted(text for won in both for text in won), "an unacknowledged turn is stored"
        assert session.info.metadata["by"] == texts[rounds - 1 - rounds % 2], "the loser changed the metadata"

    asyncio.run(begin())
    both = at_once(2, write)
    asyncio.run(check())
    sys.stdout.write(f"{rounds} rounds, {len(both[0])} to {len(both[1])}\n")


# ----------------------------------------------------------------------------------------------------------- killing

CALLS: Final = {  # number of driver calls in an append
    False: 1,
    True: 10,  # begin, lock, find, metadata, move, no metadata, metadata, record, change, commit
}


async def write_until_killed(url: str, number: int, moment: int | None, acknowledge: int) -> None:
    """Append turns and write the acknowledged ones to a pipe; die at a given moment of the third append."""
    async with store_at(url, pool_size=1) as store:
        for turn in range(10_000):
            if turn == 2 and moment is not None:
                die_at(server_of(store), moment)
            said = f"{number}-{turn}"
            by = {"by": said} if number % 2 else None  # a transaction, else a statement
            await store.append("s", [user(said), assistant(said)], turn_id=said, metadata=by)
            os.write(acknowledge, f"{said}\n".encode())


def die_at(server: Server[Any], moment: int) -> None:
    """Kill this process at a moment: 2n is before the nth driver call from now on, 2n + 1 is during that call."""
    left = [moment]

    def dying(call: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def called(*arguments: Any) -> Any:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            elif left[0] == 1:
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGKILL)  # after it was sent
            left[0] -= 2
            return await call(*arguments)

        return called

    for name in ("fetch", "execute_many", "begin", "commit"):
        setattr(server, name, dying(getattr(server, name)))


def killed(url: str, number: int, moment: int | None) -> list[str]:
    """Return the turns that a forked writer had acknowledged before it was killed."""
    here, there = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(here)
        asyncio.run(write_until_killed(url, number, moment, there))
        os._exit(0)
    os.close(there)
    with os.fdopen(here, "rb", buffering=0) as pipe:
        told = b""
        if moment is None:
            while told.count(b"\n") < 3 + number % 5:
                more = pipe.read(1000)
                assert more, "the writer ended by itself"
                told += more
            end = time.perf_counter() + number % 25 * 100e-6  # somewhere in one of the next appends
            while time.perf_counter() < end:
                pass
            os.kill(pid, signal.SIGKILL)
        while more := pipe.read(10_000):
            told += more
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the writer ended by itself"
    assert os.WTERMSIG(status) == signal.SIGKILL, f"the writer ended by itself: {status}"
    return told.decode().split()


async def look(store: Store) -> list[str]:
    """Return the ids of the stored turns, after a check that turns, header and metadata fit together."""
    try:
        session = await store.session("s")
    except SessionNotFound:
        return []
    info = session.info
    assert [turn.number for turn in session.turns] == list(range(info.turns)), "torn: the header does not fit"
    assert info.messages == len(session.messages), "torn: the header does not fit"
    for turn in session.turns:
        assert [message.text for message in turn.messages] == [turn.id, turn.id], f"torn: {turn}"
    ids = [turn.id for turn in session.turns]
    told = [one for one in ids if int(one.split("-")[0]) % 2]
    assert info.metadata.get("by") == (told[-1] if told else None), "torn: the metadata do not fit"
    return ids


def kill(url: str, kills: int) -> None:
    """Kill writers, check the stored turns after each kill, and send the unacknowledged turn again."""

    async def check(expected: list[str], number: int, acknowledged: list[str]) -> int:
        begun = f"{number}-{len(acknowledged)}"
        expected += acknowledged
        async with store_at(url, pool_size=1) as store:
            found = await look(store)
            assert found in (expected, [*expected, begun]), f"kill {number}: {found[-3:]} instead of {expected[-3:]}"
            by = {"by": begun} if number % 2 else None
            await store.append("s", [user(begun), assistant(begun)], turn_id=begun, metadata=by)
            expected.append(begun)
            assert await look(store) == expected, "torn: an earlier turn is missing"
        return len(found) + 1 - len(expected)

    expected: list[str] = []
    unknown = 0
    for number in range(kills):
        moment = number // 4 % (2 * CALLS[number % 2 == 1]) if number // 2 % 2 else None
        acknowledged = killed(url, number, moment)
        unknown += asyncio.run(check(expected, number, acknowledged))
    sys.stdout.write(f"{kills} kills, {len(expected) - kills} acknowledged, {unknown} there unacknowledged\n")


# ----------------------------------------------------------------------------------------------------------- forking


async def use(store: Store, name: str, count: int) -> None:
    """Append to a private and to a shared session, and check that each answer belongs to its request."""
    for place in range(count):
        said = f"{name} {place}"
        await asyncio.gather(
            store.append(name, [user(said)]),
            store.append("shared", [user(said)]),
        )
        messages, _ = await asyncio.gather(store.load(name), store.load("shared", last=1))
        assert [message.text for message in messages] == [f"{name} {number}" for number in range(place + 1)]


def child(work: Callable[[], None]) -> int:
    """Fork, and run a function in the child."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    return pid


async def _with_own(url: str, name: str) -> None:
    async with store_at(url, pool_size=2) as own:
        await use(own, name, 10)


async def forks(url: str) -> None:
    """Fork in a running loop with open connections: children use the store, close it, and open others."""
    async with store_at(url, pool_size=3) as store:
        server, made = server_of(store), [0]
        connect = server.connect

        async def connected() -> Any:
            made[0] += 1
            return await connect()

        server.connect = connected  # type: ignore[method-assign]
        await asyncio.gather(*(store.append(f"p{number}", [user("hello")]) for number in range(3)))
        assert made[0] == 2  # opening the store made the first one

        def inherits(name: str) -> None:
            asyncio.run(use(store, name, 10))
            asyncio.run(_with_own(url, f"own {name}"))
            if name in "ab":
                asyncio.run(store.close())
            gc.collect()

        def closes() -> None:
            asyncio.run(store.close())
            gc.collect()

        def drops() -> None:
            server._pools = None  # type: ignore[assignment]
            gc.collect()

        children = [child(lambda name=name: inherits(name)) for name in "abcd"]  # type: ignore[misc]
        children += [child(closes), child(drops)]
        await use(store, "parent", 20)
        for pid in children:
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            assert not status, "a child failed"
        await asyncio.wait_for(use(store, "parent again", 20), 20)
        assert made[0] == 2, "a child broke a connection of its parent's"
        texts = [message.text for message in await store.load("shared")]
        for name in ("a", "b", "c", "d", "own a", "own b", "own c", "own d", "parent", "parent again"):
            said = [text for text in texts if text.rpartition(" ")[0] == name]
            assert said == [f"{name} {place}" for place in range(len(said))]
            assert len(said) == (20 if name.startswith("parent") else 10)
    sys.stdout.write("parted\n")


if __name__ == "__main__":
    what, where, *more = sys.argv[1:]
    naive += [{"unlocked": unlocked, "autocommit": autocommit}[word] for word in more[1:]]
    if what == "append":
        append(where, int(more[0]))
    elif what == "race":
        race(where, int(more[0]))
    elif what == "kill":
        kill(where, int(more[0]))
    else:
        asyncio.run(forks(where))

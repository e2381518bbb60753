"""Connections to a server, with a scripted driver: they are lent, lost, passed on and never mixed up."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

import pytest

from turnlog import AccessError, Closed, Key, OutcomeUnknown, SchemaError, TurnlogError, Unavailable
from turnlog.errors import InvalidInput
from turnlog_sql import _pool
from turnlog_sql._database import Migrate
from turnlog_sql._operations import Steps
from turnlog_sql._pool import Pool
from turnlog_sql._rows import Row
from turnlog_sql._server import Failure, Server
from turnlog_sql._statements import Value

KEY = Key("default", "a")


class Connection:
    """A connection that answers requests in order, like a socket: the next request gets the next answer."""

    def __init__(self) -> None:
        self.open = True
        self.told = True
        """Whether this side would detect that the connection is closed."""
        self.until = 0.0
        self.answers: deque[str] = deque()
        self.log: list[str] = []


def nothing(_: Connection) -> None:
    """Do nothing."""


class Refused(Exception):
    """The error of the driver."""


class Driver(Server[Connection]):
    """A server in memory."""

    def __init__(self, *, pool_size: int = 2, timeout: float = 5.0) -> None:
        super().__init__("a server", pool_size=pool_size, timeout=timeout)
        self.made: list[Connection] = []
        self.before: dict[str, Callable[[Connection], None]] = {}
        """Actions before a request, by its text."""
        self.after: dict[str, Callable[[Connection], None]] = {}
        """Actions after a request, by its text."""
        self.kind: type[TurnlogError] = Unavailable
        """The error for a refusal."""

        self.statements: Any = SimpleNamespace(
            locks=True, lock=SimpleNamespace(sql="lock", bind=lambda values: (values["session"].decode(),))
        )

    async def open(self, migrate: Migrate) -> None:
        pass

    async def connect(self) -> Connection:
        await asyncio.sleep(0)
        self.before.get("connect", nothing)(Connection())
        self.made.append(Connection())
        return self.made[-1]

    def alive(self, connection: Connection) -> bool:
        return connection.open or not connection.told

    def discard(self, connection: Connection) -> None:
        connection.open, connection.told = False, True

    async def close_connection(self, connection: Connection) -> None:
        self.discard(connection)

    async def fetch(self, connection: Connection, sql: str, values: tuple[Value, ...]) -> Sequence[Row]:
        if not connection.open:
            connection.told = True
            raise ConnectionResetError
        self.before.get(sql, nothing)(connection)
        connection.log.append(sql)
        connection.answers.append(sql)
        self.after.get(sql, nothing)(connection)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return [(connection.answers.popleft(),)]

    async def execute_many(self, connection: Connection, sql: str, values: list[tuple[Value, ...]]) -> None:
        raise AssertionError

    async def begin(self, connection: Connection) -> None:
        await self.fetch(connection, "begin", ())

    async def commit(self, connection: Connection) -> None:
        await self.fetch(connection, "commit", ())

    async def roll_back(self, connection: Connection) -> None:
        await self.fetch(connection, "roll back", ())

    def meaning(self, error: BaseException) -> Failure | None:
        if isinstance(error, OSError):
            return Failure.LOST
        return error.args[0] if isinstance(error, Refused) else None

    def translated(self, error: BaseException) -> TurnlogError:
        return self.kind("refused: nothing was done")

    async def asked(self, word: str) -> str:
        """Read a word."""
        return await self.read(lambda: says(word))

    async def written(self, word: str, *, first: str | None = None, again: bool = False, key: Key | None = None) -> str:
        """Write a word."""
        begin = None if first is None else lambda: says(first)
        return await self.write(lambda: says(word), first=begin, again=again, key=key)

    @property
    def log(self) -> list[str]:
        """The requests of all connections, one connection after the other."""
        return [word for connection in self.made for word in connection.log]


def says(word: str) -> Steps[Any]:
    """A statement that answers its own text."""
    statement: Any = SimpleNamespace(sql=word)
    rows = yield statement, ()
    return rows[0][0]


def lose(connection: Connection) -> None:
    """Break the connection."""
    connection.open = False
    raise ConnectionResetError


def refuse(failure: Failure, times: int = 1) -> Callable[[Connection], None]:
    """Return an action in which the server refuses `times` requests."""
    left = [times]

    def refused(_: Connection) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise Refused(failure)

    return refused


# ------------------------------------------------------------------------------------------ cancellations


async def test_the_answer_to_a_cancelled_caller_reaches_no_other_caller() -> None:
    """A call is cancelled at each moment of a read and a transaction. A connection that owes an answer is dropped."""
    for moment in range(12):
        for call in (Driver.asked, Driver.written):
            driver = Driver(pool_size=1)
            task = asyncio.ensure_future(call(driver, "mine"))
            for _ in range(moment):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await driver.asked("yours") == "yours"
            assert await driver.written("yours") == "yours"
            assert sum(connection.open for connection in driver.made) == 1


async def test_a_connection_that_is_kept_after_a_cancellation_answers_the_wrong_question() -> None:
    """The naive pool keeps the connection, so the test above can fail."""
    connection = Connection()
    driver = Driver()
    task = asyncio.ensure_future(driver.fetch(connection, "mine", ()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await driver.fetch(connection, "yours", ()) == [("mine",)]


# ------------------------------------------------------------------------------------------ the pool


class Lender:
    """A pool and the connections that it made."""

    def __init__(self, *, size: int = 1) -> None:
        self.made: list[Connection] = []
        self.probed: list[Connection] = []
        self.discarded: list[Connection] = []
        self.fails = False
        self.pool: Pool[Connection] = Pool(
            self.connect, self.discard, lambda one: one.open, self.answers, size=size, name="a server"
        )

    async def acquire(self, seconds: float = 5.0) -> Connection:
        """Acquire a connection."""
        return await self.pool.acquire(time.monotonic() + seconds)

    async def answers(self, connection: Connection) -> bool:
        """Probe a connection."""
        await asyncio.sleep(0)
        self.probed.append(connection)
        return connection.told

    async def connect(self, until: float) -> Connection:
        """Open a connection."""
        await asyncio.sleep(0)
        if self.fails:
            raise Unavailable("it is not there")
        self.made.append(Connection())
        return self.made[-1]

    def discard(self, connection: Connection) -> None:
        """Drop a connection."""
        connection.open = False
        self.discarded.append(connection)


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_last_one_used_is_lent_first() -> None:
    lender = Lender(size=3)
    a, b = await lender.acquire(), await lender.acquire()
    lender.pool.release(a, sound=True)
    lender.pool.release(b, sound=True)
    assert await lender.acquire() is b
    assert await lender.acquire() is a
    assert len(lender.made) == 2


async def test_a_pool_never_exceeds_its_size() -> None:
    lender = Lender(size=3)
    most = 0

    async def use(place: int) -> None:
        nonlocal most
        connection = await lender.acquire()
        await asyncio.sleep(0)
        most = max(most, sum(one.open for one in lender.made))
        lender.pool.release(connection, sound=place % 7 != 0)

    await asyncio.gather(*(use(place) for place in range(200)))
    assert most == 3


async def test_waiting_tasks_are_served_in_order() -> None:
    lender = Lender()
    held = await lender.acquire()
    served: list[int] = []

    async def wait(place: int) -> None:
        connection = await lender.acquire()
        served.append(place)
        lender.pool.release(connection, sound=True)

    tasks = [asyncio.ensure_future(wait(place)) for place in range(5)]
    await settle()
    lender.pool.release(held, sound=True)
    await asyncio.gather(*tasks)
    assert served == [0, 1, 2, 3, 4]
    assert len(lender.made) == 1


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("handed", [True, False])
async def test_a_cancelled_waiter_leaves_the_connection_to_the_next(sound: bool, handed: bool) -> None:
    """The connection, or the right to open one, may be passed to the cancelled task at the same moment."""
    lender = Lender()
    held = await lender.acquire()
    first, second = (asyncio.ensure_future(lender.acquire()) for _ in "ab")
    await settle()
    if handed:
        lender.pool.release(held, sound=sound)
        first.cancel()
    else:
        first.cancel()
        await settle()
        lender.pool.release(held, sound=sound)
    assert (await second is held) == sound
    assert first.cancelled()
    assert sum(one.open for one in lender.made) == 1


async def test_a_connection_that_is_lost_as_it_is_handed_over_is_dropped_and_replaced() -> None:
    """The server may close a connection while the driver keeps its socket open."""
    lender = Lender()
    held = await lender.acquire()
    waiting = asyncio.ensure_future(lender.acquire())
    await settle()
    lender.pool.release(held, sound=True)
    held.open = False
    assert await waiting is lender.made[1]
    assert lender.discarded == [held]


async def test_waiting_too_long_for_a_connection_is_unavailable() -> None:
    lender = Lender()
    held = await lender.acquire()
    with pytest.raises(
        Unavailable, match="a server: all 1 connections were in use until the timeout: nothing was done; increase pool_"
    ):
        await lender.acquire(0.01)
    lender.pool.release(held, sound=True)
    assert await lender.acquire() is held


async def test_a_failed_connection_frees_its_place() -> None:
    """Waiting tasks and later callers may then open one."""
    lender = Lender()
    lender.fails = True
    outcomes = await asyncio.gather(*(lender.acquire() for _ in range(5)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["it is not there"] * 5
    lender.fails = False
    assert await lender.acquire() is lender.made[0]


async def test_a_cancellation_that_the_driver_swallows_is_raised() -> None:
    """In Python 3.11 `asyncio.wait_for` swallows a cancellation if its task ends at the same moment."""

    class Deaf(Driver):
        async def connect(self) -> Connection:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.made.append(Connection())
            return self.made[-1]

    driver = Deaf()
    asked = asyncio.ensure_future(driver.asked("a"))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (driver.log, [one.open for one in driver.made]) == ([], [False])


async def test_a_connection_that_was_idle_for_long_must_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that answers is kept. One that does not is replaced, like those that were idle for longer."""
    lender = Lender(size=3)
    borrowed = [await lender.acquire() for _ in range(3)]
    for connection in borrowed:
        lender.pool.release(connection, sound=True)
    assert await lender.acquire() is borrowed[2]
    assert lender.probed == []
    lender.pool.release(borrowed[2], sound=True)
    monkeypatch.setattr(_pool, "IDLE", -1.0)
    assert lender.pool.idle() is None
    assert await lender.acquire() is borrowed[2]
    lender.pool.release(borrowed[2], sound=True)
    borrowed[2].told = False
    assert await lender.acquire() not in borrowed
    assert [connection.open for connection in borrowed] == [False, False, False]
    assert lender.probed == [borrowed[2], borrowed[2]]


async def test_a_cancelled_probe_frees_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    lender = Lender()
    lender.pool.release(await lender.acquire(), sound=True)
    monkeypatch.setattr(_pool, "IDLE", -1.0)
    first, second = (asyncio.ensure_future(lender.acquire()) for _ in "ab")
    await asyncio.sleep(0)
    first.cancel()
    assert await second is lender.made[1]
    assert first.cancelled()
    assert [connection.open for connection in lender.made] == [False, True]


async def test_a_connection_that_returns_to_a_closed_pool_is_dropped() -> None:
    lender = Lender(size=2)
    a, b = await lender.acquire(), await lender.acquire()
    lender.pool.release(a, sound=True)
    assert await lender.pool.close() == [a]
    lender.pool.release(b, sound=True)
    assert not b.open


async def test_closing_waits_for_operations_and_ends_waits_for_a_connection() -> None:
    lender = Lender(size=1)
    with lender.pool:
        connection = await lender.acquire()
        waiting = asyncio.ensure_future(lender.acquire())
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(lender.pool.close())
        with pytest.raises(Closed):
            await waiting
        assert not closing.done()
        lender.pool.release(connection, sound=True)
    assert await closing == []
    with pytest.raises(Closed):
        await lender.acquire()
    with pytest.raises(Closed), lender.pool:
        pass
    assert [connection.open for connection in lender.made] == [False]


async def test_an_operation_that_waits_for_its_turn_is_refused_by_a_closed_pool() -> None:
    """Otherwise it would open another pool, and write after `close` has returned."""
    driver, key, outside = Driver(), Key("shop", "alice"), copy_context()
    async with driver.alone(key):
        # in the context of the block, the write would belong to the block
        waiting = asyncio.get_running_loop().create_task(driver.written("late", key=key), context=outside)
        await asyncio.sleep(0)
        await driver.close()
    with pytest.raises(Closed):
        await waiting
    assert len(driver.made) == 1


def test_a_size_is_from_1_to_1000() -> None:
    for size in (0, 1001, True, 2.0, "2"):
        with pytest.raises(InvalidInput, match="pool_size must be a whole number from 1 to 1000"):
            Driver(pool_size=size)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------- lost connections


async def test_connections_that_were_all_cut_silently_are_no_error() -> None:
    """A firewall may drop idle connections. Each loss is detected only when the connection is used."""
    driver = Driver(pool_size=3)
    for call in (driver.asked("a"), driver.written("b"), driver.written("b", first="c")):
        await asyncio.gather(*(driver.asked("?") for _ in range(3)))
        for connection in driver.made:
            connection.open = connection.told = False
        assert await call in {"a", "b"}


async def test_a_read_whose_connection_is_lost_is_done_again_once() -> None:
    driver = Driver()
    driver.after["a"] = lose
    with pytest.raises(Unavailable, match="a server: the connection was lost"):
        await driver.asked("a")
    assert driver.log == ["a", "a"]


async def test_a_read_that_conflicts_with_another_is_repeated() -> None:
    driver = Driver()
    driver.before["a"] = refuse(Failure.BEGIN_ANEW, 19)
    assert await driver.asked("a") == "a"
    driver.before["a"] = refuse(Failure.BEGIN_ANEW, 20)
    with pytest.raises(Unavailable):
        await driver.asked("a")


async def test_a_transaction_that_is_lost_before_its_commit_is_done_again() -> None:
    driver = Driver()
    lost = [nothing, lose]
    driver.after["a"] = lambda connection: lost.pop()(connection)  # noqa: PLW0108 - one for each time
    assert await driver.written("a") == "a"
    assert driver.log == ["begin", "a", "begin", "a", "commit"]


async def test_a_transaction_that_is_lost_in_its_commit_is_unknown() -> None:
    """The operation is repeated once if it recognizes its earlier execution."""
    driver = Driver()
    driver.after["commit"] = lose
    with pytest.raises(OutcomeUnknown, match="a server: the connection was lost"):
        await driver.written("a")
    assert driver.log == ["begin", "a", "commit"]
    lost = [nothing, lose]
    driver.after["commit"] = lambda connection: lost.pop()(connection)  # noqa: PLW0108 - one for each time
    assert await driver.written("a", again=True) == "a"
    driver.after["commit"] = lose
    with pytest.raises(OutcomeUnknown, match="a server: the connection was lost"):
        await driver.written("a", again=True)
    assert driver.log.count("commit") == 5


@pytest.mark.parametrize("kind", [AccessError, SchemaError, Unavailable])
async def test_a_lost_statement_is_repeated_in_a_transaction(kind: type[TurnlogError]) -> None:
    """If no transaction can begin, the outcome stays unknown."""
    driver = Driver()
    driver.kind = kind
    driver.after["now"] = lose
    assert await driver.written("a", first="now") == "a"
    driver.before["connect"] = refuse(Failure.REFUSED)
    with pytest.raises(OutcomeUnknown, match="refused"):
        await driver.written("a", first="now")


async def test_a_transaction_that_conflicts_is_repeated_up_to_a_limit() -> None:
    for failure in (Failure.DUPLICATE, Failure.BEGIN_ANEW):
        driver = Driver()
        driver.before["a"] = refuse(failure, 19)
        assert await driver.written("a") == "a"
        assert len(driver.made) == 1  # the connection is sound
        driver.before["a"] = refuse(failure, 20)
        with pytest.raises(Unavailable, match=r"other transactions conflicted 20 times, .*: nothing was stored"):
            await driver.written("a")


async def test_an_unknown_outcome_stays_unknown_after_later_conflicts() -> None:
    driver = Driver()
    driver.after["now"] = lose
    driver.before["a"] = refuse(Failure.BEGIN_ANEW, 20)
    with pytest.raises(OutcomeUnknown, match="other transactions conflicted 20 times"):
        await driver.written("a", first="now")


async def test_the_wait_for_others_ends_with_the_timeout() -> None:
    driver = Driver(timeout=0.01)
    now = asyncio.get_running_loop().time

    def refused_slowly(_: Connection) -> None:
        end = now() + 0.02
        while now() < end:
            pass
        raise Refused(Failure.BEGIN_ANEW)

    driver.before["a"] = refused_slowly
    with pytest.raises(Unavailable, match="other transactions conflicted 1 times"):
        await driver.written("a")
    with pytest.raises(Unavailable):
        await driver.asked("a")


async def test_no_answer_in_time_is_a_loss() -> None:
    driver = Driver(timeout=0.01)

    def late(_: Connection) -> None:
        raise TimeoutError

    driver.after["a"] = late
    with pytest.raises(Unavailable, match=r"a server: no answer in time, the timeout is 0\.01 s"):
        await driver.asked("a")
    assert [connection.open for connection in driver.made] == [False, False]


async def test_an_unexpected_error_is_raised_and_ends_the_connection() -> None:
    driver = Driver()

    def wrong(_: Connection) -> None:
        raise ZeroDivisionError

    driver.before["a"] = wrong
    with pytest.raises(ZeroDivisionError):
        await driver.asked("a")
    assert not driver.made[0].open


# ----------------------------------------------------------------------------- writers of one session


async def test_a_session_that_many_write_to_occupies_one_connection() -> None:
    """The writers of one session share one connection. Other sessions have the rest of the pool."""
    driver = Driver(pool_size=2)
    most = 0

    def count(_: Connection) -> None:
        nonlocal most
        most = max(most, sum(bool(connection.answers) for connection in driver.made))

    driver.after["a"] = count
    await asyncio.gather(*(driver.written("a", key=KEY) for _ in range(20)))
    assert (most, len(driver.made)) == (1, 1)
    assert driver.log == ["begin", "a", "commit"] * 20
    await asyncio.gather(*(driver.written("a", key=Key("default", f"{n}")) for n in range(20)))
    assert (most, len(driver.made)) == (2, 2)


async def test_reads_and_writes_inside_alone_are_one_transaction() -> None:
    """The transaction has locked the session. Other writes to it wait; reads and other sessions continue."""
    driver, begun = Driver(pool_size=2), asyncio.Event()

    async def other(word: str, key: Key) -> None:
        await begun.wait()
        await driver.written(word, key=key)

    tasks = [asyncio.ensure_future(other("same", KEY)), asyncio.ensure_future(other("another", Key("default", "b")))]
    async with driver.alone(KEY):
        begun.set()
        assert await driver.asked("a") == "a"
        await asyncio.gather(tasks[1])
        assert await driver.written("b", key=KEY) == "b"
        assert await driver.asked("after") == "after"
        assert not tasks[0].done()
    await tasks[0]
    assert driver.made[0].log[:5] == ["begin", "lock", "a", "b", "commit"]
    assert driver.made[1].log[:3] == ["begin", "another", "commit"]
    assert len(driver.made) == 2


async def test_an_unneeded_lock_is_released() -> None:
    driver = Driver(pool_size=1)
    async with driver.alone(KEY):
        assert await driver.asked("a") == "a"
    with pytest.raises(ZeroDivisionError):
        async with driver.alone(KEY):
            raise ZeroDivisionError
    assert driver.log == ["begin", "lock", "a", "roll back", "begin", "lock", "roll back"]
    assert await driver.written("b", key=KEY) == "b"


async def test_alone_continues_without_its_lock() -> None:
    """The lock may time out, or its connection may be lost. The write is then a transaction of its own."""
    driver = Driver(pool_size=1)
    driver.before["lock"] = refuse(Failure.BEGIN_ANEW)
    async with driver.alone(KEY):
        assert await driver.asked("a") == "a"
        assert await driver.written("b", key=KEY) == "b"
    assert driver.log == ["begin", "roll back", "a", "begin", "b", "commit"]
    driver.after["lock"] = lose
    async with driver.alone(KEY):
        assert await driver.written("c", key=KEY) == "c"
    assert driver.made[1].log == ["begin", "c", "commit"]


async def test_a_loss_inside_alone_is_repeated_on_another_connection() -> None:
    """A lost read or write is repeated. A lost commit is repeated only if it recognizes its earlier execution."""
    for moment, again in (("a", False), ("b", False), ("commit", True)):
        driver = Driver(pool_size=2)
        lost = [nothing, lose]
        driver.after[moment] = lambda connection, lost=lost: lost.pop()(connection) if lost else None  # type: ignore[misc]
        async with driver.alone(KEY):
            assert await driver.asked("a") == "a"
            assert await driver.written("b", key=KEY, again=again) == "b"
        assert driver.log[-3:] == ["begin", "b", "commit"], moment
    driver = Driver()
    driver.after["commit"] = lose
    with pytest.raises(OutcomeUnknown):
        async with driver.alone(KEY):
            await driver.written("b", key=KEY)


# ------------------------------------------------------------------------------------------ loops and forks


def test_each_loop_has_connections_of_its_own_which_end_with_it() -> None:
    driver = Driver()

    async def asked() -> list[bool]:
        assert await driver.asked("a") == "a"
        return [connection.open for connection in driver.made]

    assert asyncio.run(asked()) == [True]
    assert asyncio.run(asked()) == [False, True]
    assert [connection.open for connection in driver.made] == [False, False]


def test_closing_that_the_end_of_the_loop_cancels_drops_every_connection() -> None:
    driver = Driver()
    closing = asyncio.Event()

    async def hangs(connection: Connection) -> None:
        closing.set()
        await asyncio.Event().wait()

    async def main() -> None:
        driver.close_connection = hangs  # type: ignore[method-assign]
        await asyncio.gather(driver.asked("a"), driver.asked("b"))
        task = asyncio.ensure_future(driver.close())
        await closing.wait()
        task.cancel()

    asyncio.run(main())
    assert [connection.open for connection in driver.made] == [False, False]


def test_a_child_neither_uses_nor_closes_inherited_connections() -> None:
    """This also holds if both processes continue to use the same loop."""
    with asyncio.Runner() as runner:
        driver = Driver()
        runner.run(driver.asked("a"))
        (inherited,) = driver.made
        pid = os.fork()
        if not pid:
            code = 1
            try:
                runner.run(driver.asked("b"))
                runner.run(driver.close())
                assert inherited.open
                assert inherited.log == ["a"]
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        runner.run(driver.asked("c"))
        assert inherited.log == ["a", "c"]

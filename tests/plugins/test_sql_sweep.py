"""The sweep removes expired sessions in bounded transactions, from any number of processes, and no other sessions."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
from sql_places import advance, emptied_mariadb, emptied_postgresql
from turnlog import SessionNotFound, Store, assistant, open_store, user
from turnlog.config import open_existing
from turnlog_sql import _store
from turnlog_sql._database import Database
from turnlog_sql._store import SQLBackend
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend

LONG = 4_000.0
"""Seconds, longer than SQLite keeps an expired session."""
TABLES = ("sessions", "metadata", "records", "changes")


class Place(ABC):
    """A database without sessions."""

    @abstractmethod
    def backend(self, **options: Any) -> SQLBackend:
        """Return a backend on the database that does not sweep by itself."""

    def store(self, **options: Any) -> Store:
        """Return a store over such a backend."""
        return Store(self.backend(**options))

    @abstractmethod
    def now(self) -> float:
        """Return the right time, in seconds since 1970."""

    @abstractmethod
    async def pass_time(self, seconds: float) -> None:
        """Advance the time."""

    @abstractmethod
    def sessions(self, table: str) -> list[int]:
        """Return the numbers of the sessions that have rows in a table."""

    def left(self) -> set[int]:
        """Return the numbers of the sessions that have rows in any table."""
        return {number for table in TABLES for number in self.sessions(table)}


class SQLite(Place):
    """A SQLite file with a clock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "turnlog.db"
        self.time = 1000.0

    def backend(self, **options: Any) -> SQLBackend:
        return SQLiteBackend(f"sqlite:///{self.path}", **{"sweep": 0, "clock": self.now, **options})

    def now(self) -> float:
        return self.time

    async def pass_time(self, seconds: float) -> None:
        self.time += seconds

    def sessions(self, table: str) -> list[int]:
        connection = sqlite3.connect(self.path)
        try:
            return [row[0] for row in connection.execute(f"SELECT DISTINCT row FROM turnlog_{table}")]
        finally:
            connection.close()


class OnServer(Place):
    """A server, which has its own clock."""

    def __init__(self, url: str, make: type[PostgreSQLBackend | MySQLBackend]) -> None:
        self.url = url
        self.make = make

    def backend(self, **options: Any) -> SQLBackend:
        return self.make(self.url, **{"sweep": 0, **options})

    def now(self) -> float:
        return time.time()

    async def pass_time(self, seconds: float) -> None:
        async with self.backend() as backend:
            await advance(backend, seconds)

    def sessions(self, table: str) -> list[int]:
        row = "`row`" if self.make is MySQLBackend else "row"
        return [int(found[0]) for found in servers.ask(self.url, f"SELECT DISTINCT {row} FROM turnlog_{table}")]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Return each kind of database."""
    if request.param == "sqlite":
        yield SQLite(tmp_path)
    elif request.param == "postgresql":
        yield OnServer(emptied_postgresql(), PostgreSQLBackend)
    else:
        yield OnServer(emptied_mariadb(), MySQLBackend)


async def fill(store: Store, *names: str, ttl: float = 0) -> None:
    """Write for each name a session with a row in each table."""
    for name in names:
        await store.append(name, [user("hello"), assistant("hi")], owner="u1")
        await store.merge_metadata(name, {"title": name}, ttl=ttl)


async def sweep(store: Store) -> int:
    """Remove expired sessions; return their number."""
    assert isinstance(store.backend, SQLBackend)
    return await store.backend.sweep()


def database_of(store: Store) -> Database:
    """Return the database of a store's backend."""
    assert isinstance(store.backend, SQLBackend)
    return store.backend._database


async def fill_many(store: Store, count: int) -> None:
    """Write `count` sessions with a time to live of 10 seconds."""
    await asyncio.gather(*(fill(store, f"s{number}", ttl=10) for number in range(count)))


async def test_a_sweep_removes_expired_sessions_from_every_table_and_no_others(place: Place) -> None:
    async with place.store() as store:
        await fill(store, "for ever", "older")
        await fill(store, "long", ttl=10_000)
        living = place.left()
        await fill(store, "a", "b", "c", ttl=10)
        expired = place.left() - living
        assert len(living) == len(expired) == 3
        assert all(set(place.sessions(table)) == living | expired for table in TABLES)
        assert await sweep(store) == 0
        await place.pass_time(LONG)
        assert place.left() == living | expired
        assert await sweep(store) == 3
        assert all(set(place.sessions(table)) == living for table in TABLES)
        for name in ("for ever", "older", "long"):
            assert [message.text for message in await store.load(name)] == ["hello", "hi"]
            assert (await store.info(name)).metadata == {"title": name}
        assert await sweep(store) == 0


async def test_a_shorter_ttl_of_the_backend_takes_effect_at_the_next_use(place: Place) -> None:
    for use in ("load", "append", "merge_metadata"):
        async with place.store(ttl=800) as store:
            await store.append(use, [user("hello")])
        async with place.store(ttl=80) as store:
            assert (await store.info(use)).expires_in == pytest.approx(800, abs=2)
            if use == "load":
                await store.load(use)
            elif use == "append":
                await store.session(use, touch=False)
                await store.append(use, [user("again")])
            else:
                await store.merge_metadata(use, {"title": "x"})
            assert (await store.info(use)).expires_in == pytest.approx(80, abs=2)
            await place.pass_time(70)
            assert await store.load(use)
        async with place.store(ttl=800) as store:
            await store.append(use, [user("again")])
            assert (await store.info(use)).expires_in == pytest.approx(800, abs=2)


async def test_a_clock_that_is_ahead_removes_no_session_that_others_still_use(place: Place) -> None:
    """The clock is up to an hour ahead. Another process finds the session unchanged."""
    async with place.store() as store:
        await fill(store, "a", ttl=1800)
        ahead = place.backend(clock=lambda: place.now() + 3_500)
        async with Store(ahead) as other:
            assert await sweep(other) == 0
        assert [message.text for message in await store.load("a")] == ["hello", "hi"]
        await place.pass_time(1_800 + LONG)
        assert await sweep(store) == 1


async def test_a_transaction_removes_a_hundred_at_most(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.store() as store:
        await fill_many(store, 250)
        await place.pass_time(LONG)
        removed: list[Any] = []
        database = database_of(store)
        write = database.write

        async def counted(*arguments: Any, **options: Any) -> Any:
            before = len(place.left())
            answer = await write(*arguments, **options)
            removed.append((answer, before - len(place.left())))
            return answer

        monkeypatch.setattr(database, "write", counted)
        assert await sweep(store) == 250
        assert removed == [(100, 100), (100, 100), (50, 50)]


async def test_a_session_that_is_used_again_between_look_and_removal_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place.store() as store, place.store() as other:
        await fill(store, "alice", "bob", ttl=10)
        await place.pass_time(LONG)
        database = database_of(store)
        write = database.write

        async def late(*arguments: Any, **options: Any) -> Any:
            await other.append("alice", [user("again")])
            return await write(*arguments, **options)

        monkeypatch.setattr(database, "write", late)
        assert await sweep(store) == 1
        assert [message.text for message in await other.load("alice")] == ["again"]
        assert all(len(place.sessions(table)) == 1 for table in ("sessions", "records", "changes"))


async def test_a_session_that_is_used_while_it_is_removed_exists_afterwards(place: Place) -> None:
    async with place.store() as store, place.store() as other:
        for number in range(30):
            await other.append("alice", [user("before")])
            await other.merge_metadata("alice", {}, ttl=10)
            await place.pass_time(LONG)
            await asyncio.gather(sweep(store), other.append("alice", [user(str(number))]))
            assert [message.text for message in await other.load("alice")] == [str(number)]
            await other.erase("alice")


async def test_erase_owner_leaves_what_has_expired_to_the_sweep(place: Place) -> None:
    async with place.store() as store:
        await fill(store, "expired", ttl=10)
        await place.pass_time(LONG)
        await fill(store, "alive")
        assert (await store.erase_owner("u1")).sessions == 1
        with pytest.raises(SessionNotFound):
            await store.load("expired")
        assert len(place.left()) == 1
        assert await sweep(store) == 1
        assert place.left() == set()


# --------------------------------------------------------------------------------------------------------- the sweeper


class Pauses:
    """Replaces the sleep of the sweeper. It reports the duration and waits until the test wakes it."""

    def __init__(self) -> None:
        self._asleep: asyncio.Queue[float] = asyncio.Queue()
        self._wake: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, seconds: float) -> None:
        self._asleep.put_nowait(seconds)
        await self._wake.get()

    async def first(self) -> float:
        """Wait until the sweeper would sleep; return the duration."""
        async with asyncio.timeout(20):
            return await self._asleep.get()

    async def next(self) -> float:
        """Wake the sweeper and wait for the next sweep; return the duration of its sleep."""
        self._wake.put_nowait(None)
        return await self.first()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    """Replace the sleep of the sweeper."""
    made = Pauses()
    monkeypatch.setattr(_store, "_sleep", made)
    return made


def others() -> set[Any]:
    """Return the tasks of this loop, except the current one."""
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_an_open_store_sweeps_at_once_and_from_time_to_time(place: Place, pauses: Pauses) -> None:
    async with place.store() as store:
        await fill(store, "a", ttl=10)
        await fill(store, "b", ttl=4_100)
    await place.pass_time(LONG)
    async with place.store(sweep=5.0):
        assert await pauses.first() == 5.0
        assert len(place.left()) == 1
        await place.pass_time(LONG)
        assert len(place.left()) == 1
        assert await pauses.next() == 5.0
        assert place.left() == set()


async def test_closing_ends_the_sweeper_and_opening_starts_one(tmp_path: Path, pauses: Pauses) -> None:
    store = SQLite(tmp_path).store(sweep=5.0)
    for _ in range(2):
        await store.open()
        await pauses.first()
        await store.open()  # the store is already open
        assert len(others()) == 1
        await store.close()
        assert others() == set()
    await store.open()
    await store.close()  # before the sweeper has begun
    assert others() == set()


async def test_without_an_interval_there_is_no_sweeper(tmp_path: Path) -> None:
    async with SQLite(tmp_path).store(sweep=0):
        assert others() == set()


def test_closing_from_another_loop_ends_the_sweeper_too(tmp_path: Path, pauses: Pauses) -> None:
    store = SQLite(tmp_path).store(sweep=5.0)

    async def work() -> None:
        await store.open()
        await pauses.first()
        (sweeper,) = others()
        await asyncio.to_thread(asyncio.run, store.close())
        await asyncio.wait([sweeper], timeout=20)
        assert sweeper.cancelled()

    asyncio.run(work())
    asyncio.run(store.open())
    asyncio.run(store.close())  # the loop of the sweeper has ended, and the sweeper with it


async def test_a_sweep_that_finds_the_file_locked_is_a_warning_and_the_next_one_works(
    tmp_path: Path, pauses: Pauses, caplog: pytest.LogCaptureFixture
) -> None:
    place = SQLite(tmp_path)
    async with place.store() as store:
        await fill(store, "a", ttl=10)
    await place.pass_time(LONG)
    lock = sqlite3.connect(place.path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    async with place.store(sweep=5.0, timeout=0.01):
        await pauses.first()
        assert "were not removed, and the next sweep tries again: sqlite" in caplog.text
        assert "locked" in caplog.text
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert len(place.left()) == 1
        lock.execute("ROLLBACK")
        await pauses.next()
        assert place.left() == set()
    assert len(caplog.records) == 1
    lock.close()


async def test_a_sweep_that_finds_no_server_is_a_warning_and_the_next_one_works(
    pauses: Pauses, caplog: pytest.LogCaptureFixture
) -> None:
    server = servers.Postgres()
    place = OnServer(server.url, PostgreSQLBackend)
    async with place.store(sweep=5.0) as store:
        await pauses.first()
        await fill(store, "a", ttl=10)
        await place.pass_time(LONG)
        server.kill()
        await pauses.next()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "were not removed, and the next sweep tries again: postgresql" in caplog.text
        server.start()
        await pauses.next()
        assert place.left() == set()
    assert len(caplog.records) == 1
    server.stop()


async def test_an_unexpected_error_does_not_end_the_sweeper(
    tmp_path: Path, pauses: Pauses, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = SQLite(tmp_path)
    async with place.store() as store:
        await fill(store, "a", ttl=10)
    await place.pass_time(LONG)
    sweeping = place.backend(sweep=5.0)
    with monkeypatch.context() as now:
        now.setattr(sweeping, "sweep", lambda: 1 / 0)
        await sweeping.open()
        await pauses.first()
    assert "division by zero" in caplog.text
    await pauses.next()
    assert place.left() == set()
    await sweeping.close()


def test_a_store_that_a_command_opens_is_not_swept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db?sweep=5m"
    assert open_existing(url).backend._sweep == 0  # type: ignore[attr-defined]
    assert open_store(url).backend._sweep == 300  # type: ignore[attr-defined]

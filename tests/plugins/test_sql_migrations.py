"""Migrations: checks without changes, and missing rights."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Dialect

import servers
from turnlog import ANY, AccessError, SchemaError, SessionNotFound, Store, Unavailable, assistant, user
from turnlog_sql import _migrations, postgresql
from turnlog_sql._store import SQLBackend
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend

NOW = _migrations.newest()


class Place(ABC):
    """A database without turnlog tables."""

    def __init__(self) -> None:
        self.empty()

    @abstractmethod
    def backend(self, **options: Any) -> SQLBackend:
        """Return a backend on the database."""

    def store(self, **options: Any) -> Store:
        """Return a store on the database."""
        return Store(self.backend(**options))

    @abstractmethod
    def ask(self, sql: str) -> Sequence[Sequence[Any]]:
        """Return the rows of a statement."""

    @abstractmethod
    def empty(self) -> None:
        """Drop every table."""

    @abstractmethod
    def state(self) -> object:
        """Return everything that opening a store might change."""

    def numbers(self, sql: str) -> list[int]:
        """Return the first column of the rows."""
        return [int(row[0]) for row in self.ask(sql)]

    def versions(self) -> list[int]:
        """Return the versions in the table of versions."""
        return self.numbers("SELECT version FROM turnlog_schema ORDER BY version")


class SQLite(Place):
    """A SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__()

    def backend(self, **options: Any) -> SQLBackend:
        return SQLiteBackend(f"sqlite:///{self.folder}/turnlog.db", sweep=0, **options)

    def ask(self, sql: str) -> Sequence[Sequence[Any]]:
        connection = sqlite3.connect(self.folder / "turnlog.db", isolation_level=None)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def empty(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def state(self) -> object:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


class OnServer(Place):
    """A database on a server."""

    def __init__(self, url: str, make: type[PostgreSQLBackend | MySQLBackend]) -> None:
        self.url = url
        self.make = make
        here = "database()" if make is MySQLBackend else "current_schema()"
        self.ours = f"WHERE table_schema = {here} AND (table_name LIKE 'turnlog%' OR table_name = 'planted')"
        super().__init__()

    def backend(self, **options: Any) -> SQLBackend:
        return self.make(self.url, sweep=0, **options)

    def ask(self, sql: str) -> Sequence[Sequence[Any]]:
        return servers.ask(self.url, sql)

    def empty(self) -> None:
        for table in self.tables():
            self.ask(f"DROP TABLE {table}")

    def state(self) -> object:
        columns = self.ask(f"SELECT table_name, column_name FROM information_schema.columns {self.ours}")
        return sorted(map(tuple, columns)), [list(map(tuple, self.ask(f"SELECT * FROM {t}"))) for t in self.tables()]

    def tables(self) -> list[str]:
        """Return the names of the tables."""
        return sorted(row[0] for row in self.ask(f"SELECT table_name FROM information_schema.tables {self.ours}"))


def place_named(name: str, folder: Path) -> Place:
    """Return a place by its name. A missing server skips the test."""
    if name == "sqlite":
        return SQLite(folder)
    if name == "postgresql":
        return OnServer(servers.postgresql(), PostgreSQLBackend)
    return OnServer(servers.mariadb(), MySQLBackend)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Return each kind of database."""
    found = place_named(request.param, tmp_path)
    yield found
    found.empty()


# ---------------------------------------------------------------------------------------------- steps of later versions


def _table(dialect: Dialect) -> list[str]:
    """Fail if the step runs twice. MySQL cannot roll it back, so there it skips the existing objects."""
    again = "IF NOT EXISTS " if dialect.name == "mysql" else ""
    return [
        f"CREATE TABLE {again}planted (step INTEGER)",
        f"ALTER TABLE turnlog_sessions ADD COLUMN {again}extra INTEGER",
        "INSERT INTO planted VALUES (2)",
    ]


def _data(_: Dialect) -> list[str]:
    return ["UPDATE turnlog_sessions SET extra = 7", "INSERT INTO planted VALUES (3)"]


STEPS = [*_migrations.MIGRATIONS, _table, _data]
LATER = len(STEPS)


@contextmanager
def turnlog_of(version: int) -> Iterator[None]:
    """Run as a turnlog that knows the tables up to a version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_migrations, "MIGRATIONS", STEPS[:version])
        yield


def fork(work: Callable[[], None]) -> int:
    """Run work in a forked process; return its id."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - the exit code tells
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


async def fill(store: Store) -> None:
    """Write two turns with metadata and an owner."""
    async with store:
        await store.append("alice", [user("hello"), assistant("hi")], metadata={"title": "T"}, owner="u1")
        await store.append("alice", [user("bye"), assistant("bye")])


async def go_on(store: Store, *, filled: bool) -> None:
    """Check that the contents of `fill` are complete and that a turn can be appended."""
    async with store:
        if filled:
            session = await store.session("alice")
            assert [message.text for message in session.messages] == ["hello", "hi", "bye", "bye"]
            assert (dict(session.info.metadata), session.info.owner) == ({"title": "T"}, "u1")
        await store.append("alice", [user("more")])
        assert (await store.info("alice")).turns == (3 if filled else 1)


# -------------------------------------------------------------------------------------------------------------- checks


def nothing(place: Place) -> None:
    """No tables, and on SQLite no file."""


def older(place: Place) -> None:
    """The current tables, for a later turnlog."""
    asyncio.run(fill(place.store()))


def newer(place: Place) -> None:
    """The tables of a later turnlog."""
    with turnlog_of(LATER):
        asyncio.run(fill(place.store()))


def damaged(*sql: str) -> Callable[[Place], None]:
    """Return a function that makes the current tables and damages them."""

    def make(place: Place) -> None:
        asyncio.run(fill(place.store()))
        for statement in sql:
            place.ask(statement)

    return make


REFUSED: dict[str, tuple[Callable[[Place], None], int, str]] = {
    "nothing": (nothing, NOW, "turnlog migrate --store "),
    "older": (
        older,
        LATER,
        f"have version {NOW}, but this turnlog needs version {LATER}: run: turnlog migrate --store URL$",
    ),
    "newer": (newer, NOW, f"have version {LATER}, but this turnlog supports only version {NOW}: upgrade turnlog"),
    "version 0": (
        damaged("UPDATE turnlog_schema SET version = 0"),
        NOW,
        "have version 0, .* name another database; .* restore it from a backup",
    ),
    "no version": (damaged("DELETE FROM turnlog_schema"), NOW, "without a version: name another database"),
    "no table": (
        damaged("DROP TABLE turnlog_changes"),
        NOW,
        r"not as turnlog created them \(.*\): name another database",
    ),
    "no column": (
        damaged("ALTER TABLE turnlog_records DROP COLUMN payload"),
        NOW,
        r"not as turnlog created them \(.*\): name another database",
    ),
}
ALWAYS = [name for name in REFUSED if name not in ("nothing", "older")]
DATABASES = {"no version": 2}  # on MariaDB a killed process leaves this state, and the next one continues
CASES = [
    (database, name, migrate)
    for name in REFUSED
    for migrate in (("check", "auto") if name in ALWAYS else ("check",))
    for database in ("sqlite", "postgresql", "mariadb")[: DATABASES.get(name, 3)]
]


@pytest.mark.parametrize(("place", "how", "migrate"), CASES, indirect=["place"])
def test_unsuitable_tables_are_refused_and_not_changed(place: Place, how: str, migrate: str) -> None:
    """The error names the next step."""
    make, version, said = REFUSED[how]
    make(place)
    before = place.state()
    store = place.store(migrate=migrate)
    with turnlog_of(version), pytest.raises(SchemaError, match=said):
        asyncio.run(store.open())
    asyncio.run(store.close())
    assert place.state() == before


def test_current_tables_are_checked_and_used(place: Place) -> None:
    asyncio.run(place.backend().bring_up())
    asyncio.run(go_on(place.store(migrate="check"), filled=False))


def test_bring_up_reports_its_work_with_any_option(place: Place) -> None:
    said = [asyncio.run(place.backend(migrate="check").bring_up()).partition(": ")[2] for _ in range(2)]
    assert said == [f"created the tables, version {NOW}", f"the tables have version {NOW}, nothing to do"]
    with turnlog_of(LATER):
        said = [asyncio.run(place.backend().bring_up()).partition(": ")[2]]
    assert said == [f"upgraded the tables from version {NOW} to version {LATER}"]


def test_the_wait_for_another_process_that_migrates_has_an_end() -> None:
    """On PostgreSQL the wait ends with an error, and the next opening finds no partial migration."""
    place = OnServer(servers.postgresql(), PostgreSQLBackend)

    async def work() -> None:
        async with PostgreSQLBackend(place.url, sweep=0) as backend:
            other = backend._database  # its connection holds the lock
            assert isinstance(other, postgresql._Postgres)

            async def hold(connection: Any) -> None:
                async with connection.transaction():
                    await connection.execute(f"SELECT pg_advisory_xact_lock({postgresql._LOCK})")
                    with (
                        turnlog_of(LATER),
                        pytest.raises(Unavailable, match=r"no answer in time, the timeout is 0\.3 s"),
                    ):
                        await PostgreSQLBackend(place.url, timeout=0.3).open()

            await other.with_connection(hold)
        with turnlog_of(LATER):
            await go_on(place.store(), filled=False)

    asyncio.run(work())
    place.empty()


async def test_bring_up_leaves_an_open_store_open(tmp_path: Path) -> None:
    backend = SQLite(tmp_path).backend()
    async with Store(backend) as store:
        assert "nothing to do" in await backend.bring_up()
        await store.append("alice", [user("hello")])


# -------------------------------------------------------------------------------------------------------------- rights


@pytest.fixture
def app() -> Iterator[tuple[str, str]]:
    """Return the URLs of the owner and of a role without rights, on PostgreSQL without tables."""
    place = OnServer(servers.postgresql(), PostgreSQLBackend)
    url = place.url.partition("://")[2].rpartition("@")[2]
    place.ask("CREATE ROLE turnlog_app LOGIN PASSWORD 'secret'")
    yield place.url, f"postgresql://turnlog_app:secret@{url}"
    place.empty()
    place.ask("DROP OWNED BY turnlog_app")
    place.ask("DROP ROLE turnlog_app")


async def test_rights_to_the_rows_are_enough_once_the_tables_exist(app: tuple[str, str]) -> None:
    """A role with rights to the rows can use every operation, with `migrate="check"` and with the default."""
    owner, url = app
    with pytest.raises(
        AccessError, match=r"the server denies permission \(permission denied .*; grant the user in the "
    ):
        await PostgreSQLBackend(url).open()
    await PostgreSQLBackend(owner).bring_up()
    with pytest.raises(AccessError, match=r"the server denies permission \(permission denied"):
        await PostgreSQLBackend(url).open()
    tables = "turnlog_schema, turnlog_sessions, turnlog_metadata, turnlog_records, turnlog_changes"
    servers.ask(owner, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO turnlog_app")
    for migrate in ("check", "auto"):
        backend = PostgreSQLBackend(url, migrate=migrate, sweep=0)
        async with Store(backend) as store:
            for text in ("a", "b", "c"):
                await store.append("alice", [user(text)], metadata={"title": text}, owner="u1", turn_id=text)
            again = await store.append("alice", [user("a")], metadata={"title": "a"}, owner="u1", turn_id="a")
            assert again.number == 0
            await store.save("alice", [user("a"), user("b"), user("x")], expect=ANY)
            await store.fork("alice", "bob")
            await store.rewind("bob", turns=1)
            await store.merge_metadata("bob", {"title": None})
            await store.append("carol", [user("hello")], owner="u1")
            assert len([info async for info in store.sessions(owner="u1")]) == 3
            await store.merge_metadata("carol", {}, ttl=60)
            servers.ask(owner, "UPDATE turnlog_sessions SET expires = 1, times = updated + 1 WHERE expires IS NOT NULL")
            assert await backend.sweep() == 1
            assert (await store.erase_owner("u1")).sessions == 2
            with pytest.raises(SessionNotFound):
                await store.load("alice")

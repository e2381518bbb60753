"""A database for each test of the SQL backends, on each server."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Unpack
from urllib.parse import urlsplit, urlunsplit

import servers
from turnlog import Backend, Change, Key, Record, Store, user
from turnlog.limits import MAX_PAYLOAD_BYTES
from turnlog.testing import BackendContract, BackendOptions, DamageContract
from turnlog_sql._store import SQLBackend
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend


class OverSQLite(BackendContract, DamageContract):
    """The contract on SQLite, with a file for each test."""

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return SQLiteBackend(f"sqlite:///{self.folder}/turnlog.db", synchronous="NORMAL", sweep=0, **options)

    def unopenable(self) -> Backend:
        return SQLiteBackend(f"sqlite:///{self.folder}")  # a folder

    async def damage(self, store: Store, session_id: str) -> None:
        connection = sqlite3.connect(self.folder / "turnlog.db", isolation_level=None)
        connection.execute("UPDATE turnlog_sessions SET head = x'c1' WHERE session = ?", (session_id.encode(),))
        connection.close()


class ServerContract(BackendContract, DamageContract):
    """The contract for a backend on a server, which provides the clock."""

    damaged: ClassVar[str]
    """A header that cannot be read, in SQL."""

    @abstractmethod
    def empty(self) -> str:
        """Return the URL of a server without sessions."""

    @abstractmethod
    def backend(self, url: str, **options: Unpack[BackendOptions]) -> SQLBackend:
        """Return a backend for this URL that does not sweep."""

    @cached_property
    def url(self) -> str:
        """The URL of this test's sessions."""
        return self.empty()

    def make(self, **options: Unpack[BackendOptions]) -> SQLBackend:
        return self.backend(self.url, **options)

    def unopenable(self) -> SQLBackend:
        parts = urlsplit(self.url)
        return self.backend(urlunsplit(parts._replace(path="/no_such_database")))

    async def damage(self, store: Store, session_id: str) -> None:
        servers.ask(self.url, f"UPDATE turnlog_sessions SET head = {self.damaged} WHERE session = '{session_id}'")

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        async with self.backend(self.url) as backend:
            await advance(backend, seconds)


class OverPostgreSQL(ServerContract):
    """The contract on PostgreSQL."""

    damaged = "decode('c1', 'hex')"

    def empty(self) -> str:
        return emptied_postgresql()

    def backend(self, url: str, **options: Unpack[BackendOptions]) -> PostgreSQLBackend:
        return PostgreSQLBackend(url, pool_size=5, sweep=0, **options)


class OverPgBouncer(OverPostgreSQL):
    """The contract on PostgreSQL through pgbouncer."""

    def empty(self) -> str:
        return emptied_pgbouncer()

    def backend(self, url: str, **options: Unpack[BackendOptions]) -> PostgreSQLBackend:
        return PostgreSQLBackend(url, pool_size=5, sweep=0, prepare=False, **options)


class OverMariaDB(ServerContract):
    """The contract on MariaDB."""

    damaged = "x'c1'"

    def empty(self) -> str:
        return emptied_mariadb()

    def backend(self, url: str, **options: Unpack[BackendOptions]) -> MySQLBackend:
        return MySQLBackend(url, pool_size=5, sweep=0, **options)


async def keeps_every_byte(store: Store) -> None:
    """Check payloads of 16 MiB: one with every byte value, one with the bytes that a driver may have to escape."""
    key, empty = Key(store.namespace, "s"), Record.of((user("x"),), id="t", time=0.0)
    half = MAX_PAYLOAD_BYTES // 2
    for number, payload in enumerate((bytes(range(256)) * (half // 128), b"\0'" * half)):
        await store.backend.commit(key, Change(append=(empty.with_payload(payload),)))
        assert (await store.backend.read(key, last=1)).records[-1].payload == payload, number


def emptied_postgresql() -> str:
    """Return the URL of a PostgreSQL server without sessions."""
    return _emptied(servers.postgresql())


def emptied_pgbouncer() -> str:
    """Return the URL of a pgbouncer in front of a PostgreSQL server without sessions."""
    url = servers.pgbouncer()
    emptied_postgresql()
    return url


def emptied_mariadb() -> str:
    """Return the URL of a MariaDB server without sessions."""
    return _emptied(servers.mariadb())


_deletions: dict[str, list[str]] = {}  # statements that empty the tables of a server, by URL


def _emptied(url: str) -> str:
    if url in _deletions:
        try:
            servers.ask_again(url, *_deletions[url])
        except Exception:  # noqa: BLE001 - the error depends on the driver: a test has dropped the tables
            del _deletions[url]
        else:
            return url
    found = servers.ask(url, "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'turnlog%'")
    full = [f"DELETE FROM {table}" for (table,) in found if table != "turnlog_schema"]
    if full:
        servers.ask(url, *full)
        _deletions[url] = full
    return url


async def advance(backend: Any, seconds: float) -> None:
    """Move all expiries back by some seconds, for a backend that uses the clock of its server."""
    database = backend._database
    for statement in (
        f"UPDATE turnlog_sessions SET expires = expires - {seconds!r} WHERE expires IS NOT NULL",
        "UPDATE turnlog_sessions SET times = updated + expires WHERE expires IS NOT NULL",
    ):
        await database.with_connection(lambda connection, sql=statement: database.fetch(connection, sql, ()))

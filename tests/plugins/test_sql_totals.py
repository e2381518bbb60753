"""Totals on SQL: the size of files and tables, and damaged columns."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

import servers
from sql_places import emptied_mariadb, emptied_postgresql
from turnlog import Backend, Store, user
from turnlog_sql import _store
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend


def at(folder: Path) -> SQLiteBackend:
    return SQLiteBackend(f"sqlite:///{folder}/chat.db", sweep=0)


def made(kind: str, folder: Path) -> Backend:
    """Return a backend without sessions."""
    if kind == "postgresql":
        return PostgreSQLBackend(emptied_postgresql(), sweep=0)
    return MySQLBackend(emptied_mariadb(), sweep=0) if kind == "mariadb" else at(folder)


async def fill(backend: Backend, sessions: int) -> None:
    store = Store(backend)
    for number in range(sessions):
        await store.append(f"s{number}", [user("x" * 1_000)])


async def test_sqlite_occupies_its_file_and_the_log(tmp_path: Path) -> None:
    async with at(tmp_path) as backend:
        await fill(backend, 20)
        found = await backend.totals("default")
        log = (tmp_path / "chat.db-wal").stat().st_size
        assert found.stored is not None
        assert found.stored > log > 20_000
        pages = found.stored - log
    assert (tmp_path / "chat.db").stat().st_size == pages, "the log was written to the file when it was closed"


@pytest.mark.parametrize("part", [1, 2, 3, 7, 8, 9])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
async def test_a_namespace_is_counted_in_parts(kind: str, part: int, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(_store, "_COUNTED", part)
    async with made(kind, tmp_path) as backend:
        store = Store(backend)
        for name in ("\x21", "a", "A", "ä", "z", "\uffee", "\U0001f600", "\U0010ffff"):
            await store.append(name, [user("x"), user("y")])
        found = await backend.totals("default")
        infos = [info async for info in store.sessions()]
    assert (found.sessions, found.messages, found.bytes) == (8, 16, sum(info.bytes for info in infos))


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_a_server_reports_the_size_of_the_tables(kind: str, tmp_path: Path) -> None:
    async with made(kind, tmp_path) as backend:
        await fill(backend, 50)
        if kind == "mariadb":  # the server updates its statistics only occasionally
            servers.ask(servers.mariadb(), "ANALYZE TABLE turnlog_records")
        found = await backend.totals("default")
    assert found.stored is not None
    assert found.stored > found.bytes > 50_000


@pytest.mark.parametrize("value", ["'text'", "x'ff'", str(2**62), str(-(2**62)), "1e300"])
@pytest.mark.parametrize("column", ["messages_until", "start", "bytes", "expires"])
async def test_a_damaged_column_hides_no_other_session(value: str, column: str, tmp_path: Path) -> None:
    async with at(tmp_path) as backend:
        await fill(backend, 5)
        connection = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
        where = "WHERE session IN (x'7330', x'7331', x'7332')"
        connection.execute(f"UPDATE turnlog_sessions SET {column} = {value} {where}")
        connection.close()
        found = await backend.totals("default")
    assert 2 <= found.sessions <= 5
    assert 2 <= found.messages <= 5
    assert found.bytes > 2_000

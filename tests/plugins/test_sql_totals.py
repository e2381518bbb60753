"""Totals on SQL: what the files and tables occupy, and columns that are damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import servers
from sql_places import emptied_mariadb, emptied_postgresql
from turnlog import Backend, Store, user
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend


def at(folder: Path) -> SQLiteBackend:
    return SQLiteBackend(f"sqlite:///{folder}/chat.db", sweep=0)


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


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_a_server_tells_what_the_tables_occupy(kind: str) -> None:
    url = emptied_postgresql() if kind == "postgresql" else emptied_mariadb()
    backend = PostgreSQLBackend(url, sweep=0) if kind == "postgresql" else MySQLBackend(url, sweep=0)
    async with backend:
        await fill(backend, 50)
        if kind == "mariadb":  # the server counts now and then
            servers.ask(url, "ANALYZE TABLE turnlog_records")
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

"""The backend meets the whole contract of turnlog."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Unpack

import pytest

from turnlog import Backend, CorruptRecord, Store, user
from turnlog.testing import BackendContract, BackendOptions, DamageContract
from turnlog.testing.crowd import crowd
from turnlog.testing.simulation import Simulation, simulate
from turnlog_rows import RowsBackend


class TestRows(BackendContract, DamageContract):
    """Sessions are in a file, so a second backend over the same file sees them."""

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return RowsBackend(str(self.folder / "chats.db"), **options)

    async def damage(self, store: Store, session_id: str) -> None:
        with closing(sqlite3.connect(self.folder / "chats.db", isolation_level=None)) as database:
            sql = "UPDATE sessions SET head = x'01' WHERE namespace = ? AND session = ?"
            database.execute(sql, (store.namespace, session_id))


def test_another_file_is_damage(tmp_path: Path) -> None:
    (tmp_path / "chats.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(CorruptRecord, match=r"chats\.db is damaged"):
        asyncio.run(Store(RowsBackend(str(tmp_path / "chats.db"))).load("alice"))


def test_an_owner_in_the_column_that_differs_is_damage(tmp_path: Path) -> None:
    path = str(tmp_path / "chats.db")

    async def main() -> None:
        async with Store(RowsBackend(path)) as store:
            await store.append("alice", [user("Hello")], owner="u1")
            with closing(sqlite3.connect(path, isolation_level=None)) as database:
                database.execute("UPDATE sessions SET owner = 'u2'")
            with pytest.raises(CorruptRecord, match="its owner in the column differs"):
                await store.load("alice")

    asyncio.run(main())


class OverRows(Simulation):
    def backend(self) -> Backend:
        return RowsBackend(str(self.folder / "chats.db"), ttl=self.ttl, clock=self.clock)


def test_simulated_faults_and_writers() -> None:
    simulate(OverRows, 1)
    crowd(OverRows, 1)

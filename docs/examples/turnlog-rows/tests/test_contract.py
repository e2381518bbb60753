"""The backend meets the whole contract of turnlog."""

import sqlite3
from contextlib import closing
from typing import Unpack

from turnlog import Backend, Store
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


class OverRows(Simulation):
    def backend(self) -> Backend:
        return RowsBackend(str(self.folder / "chats.db"), ttl=self.ttl, clock=self.clock)


def test_simulated_faults_and_writers() -> None:
    simulate(OverRows, 1)
    crowd(OverRows, 1)

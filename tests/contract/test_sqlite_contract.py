"""The SQL store keeps the contract on SQLite."""

from __future__ import annotations

from typing import Unpack

from turnlog import Store
from turnlog.testing import BackendContract, BackendOptions
from turnlog_sql.sqlite import SQLiteBackend


class TestSQLiteStore(BackendContract):
    """The SQL store on SQLite."""

    shared = True

    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return SQLiteBackend(f"sqlite:///{self.folder}/turnlog.db", synchronous="NORMAL", **options)

"""The SQL store keeps the contract on SQLite."""

from __future__ import annotations

from typing import Unpack

from turnlog import Store
from turnlog.testing import StoreContract, StoreOptions
from turnlog_sql.sqlite import SQLiteStore


class TestSQLiteStore(StoreContract):
    """The SQL store on SQLite."""

    shared = True

    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return SQLiteStore(f"sqlite:///{self.folder}/turnlog.db", synchronous="NORMAL", **options)

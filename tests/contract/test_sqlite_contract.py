"""The SQL backend meets the contract on SQLite."""

from __future__ import annotations

from typing import Unpack

from turnlog import Backend
from turnlog.testing import BackendContract, BackendOptions
from turnlog_sql.sqlite import SQLiteBackend


class TestSQLite(BackendContract):
    shared = True

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return SQLiteBackend(f"sqlite:///{self.folder}/turnlog.db", synchronous="NORMAL", **options)

"""The SQL backend meets the contract on SQLite."""

from __future__ import annotations

from typing import Unpack

from sql_places import OverSQLite
from turnlog import Backend
from turnlog.testing import BackendOptions
from turnlog_sql.sqlite import SQLiteBackend


class TestSQLite(OverSQLite):
    """The contract on SQLite, with the sweeps of an application."""

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return SQLiteBackend(f"sqlite:///{self.folder}/turnlog.db", synchronous="NORMAL", **options)

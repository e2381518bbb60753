"""A layer that does nothing hides nothing: it keeps the contract over each store."""

from __future__ import annotations

from typing import Unpack

from turnlog import Layer, Store
from turnlog.testing import BackendContract, BackendOptions
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend


class TestLayerOverMemory(BackendContract):
    """Over the memory store, twice."""

    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return Layer(Layer(MemoryBackend(**options)))


class TestLayerOverSQLite(BackendContract):
    """Over the SQL store."""

    shared = True

    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return Layer(SQLiteBackend(f"sqlite:///{self.folder}/turnlog.db", synchronous="NORMAL", **options))

"""A layer that does nothing hides nothing: it keeps the contract over each store."""

from __future__ import annotations

from typing import Unpack

from turnlog import Layer, Store
from turnlog.testing import StoreContract, StoreOptions
from turnlog_memory import MemoryStore
from turnlog_sql.sqlite import SQLiteStore


class TestLayerOverMemory(StoreContract):
    """Over the memory store, twice."""

    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return Layer(Layer(MemoryStore(**options)))


class TestLayerOverSQLite(StoreContract):
    """Over the SQL store."""

    shared = True

    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return Layer(SQLiteStore(f"sqlite:///{self.folder}/turnlog.db", synchronous="NORMAL", **options))

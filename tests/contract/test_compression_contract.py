"""The compression layers keep the contract, over memory, SQLite and every server."""

from __future__ import annotations

from typing import Unpack

from redis_places import RedisContract
from sql_places import OverMariaDB, OverPostgreSQL
from turnlog import Store
from turnlog.testing import StoreContract, StoreOptions
from turnlog_compression import GzipLayer, OffLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryStore
from turnlog_sql.sqlite import SQLiteStore


class TestZstdOverMemory(StoreContract):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return ZstdLayer(MemoryStore(**options))


class TestGzipOverMemory(StoreContract):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return GzipLayer(MemoryStore(**options))


class TestOffOverMemory(StoreContract):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return OffLayer(MemoryStore(**options))


class OverSQLite(StoreContract):
    shared = True

    def sqlite(self, **options: Unpack[StoreOptions]) -> SQLiteStore:
        return SQLiteStore(f"sqlite:///{self.folder}/turnlog.db", synchronous="NORMAL", **options)


class TestZstdOverSQLite(OverSQLite):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return ZstdLayer(self.sqlite(**options))


class TestGzipOverSQLite(OverSQLite):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return GzipLayer(self.sqlite(**options))


class TestOffOverSQLite(OverSQLite):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return OffLayer(self.sqlite(**options))


class TestZstdOverPostgreSQL(OverPostgreSQL):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return ZstdLayer(super().make(**options))


class TestZstdOverMariaDB(OverMariaDB):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return ZstdLayer(super().make(**options))


class TestZstdOverRedis(RedisContract):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return ZstdLayer(super().make(**options))

"""The compression layers meet the contract, over memory, SQLite and every server."""

from __future__ import annotations

from typing import Unpack

from redis_places import RedisContract
from sql_places import OverMariaDB, OverPostgreSQL, OverSQLite
from turnlog import Backend
from turnlog.testing import BackendContract, BackendOptions, LayerContract
from turnlog_compression import GzipLayer, OffLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend


class TestZstdOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return ZstdLayer(MemoryBackend(**options))


class TestGzipOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return GzipLayer(MemoryBackend(**options))


class TestOffOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return OffLayer(MemoryBackend(**options))


class TestZstdOverSQLite(OverSQLite):
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return ZstdLayer(super().make(**options))


class TestGzipOverSQLite(LayerContract):
    below = OverSQLite

    def layer(self, inner: Backend) -> Backend:
        return GzipLayer(inner)


class TestOffOverSQLite(LayerContract):
    below = OverSQLite

    def layer(self, inner: Backend) -> Backend:
        return OffLayer(inner)


class TestZstdOverPostgreSQL(LayerContract):
    below = OverPostgreSQL

    def layer(self, inner: Backend) -> Backend:
        return ZstdLayer(inner)


class TestZstdOverMariaDB(LayerContract):
    below = OverMariaDB

    def layer(self, inner: Backend) -> Backend:
        return ZstdLayer(inner)


class TestZstdOverRedis(LayerContract):
    below = RedisContract

    def layer(self, inner: Backend) -> Backend:
        return ZstdLayer(inner)

"""The compression layers meet the contract, over memory, SQLite and servers.

A backend stores the payloads of all codecs as bytes, so only zstd runs over files and servers.  The stack over MariaDB
is in `test_cache_contract.py`.
"""

from __future__ import annotations

from typing import Unpack

from further_ways import DamagedBelow, OverMemory
from redis_places import RedisContract
from sql_places import OverPostgreSQL, OverSQLite
from turnlog import Backend
from turnlog.testing import BackendContract, BackendOptions, LayerContract
from turnlog.testing._limits import Limits
from turnlog.testing._values import Values
from turnlog_compression import GzipLayer, OffLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend


class TestZstdOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return ZstdLayer(MemoryBackend(**options))


class TestGzipOverMemory(LayerContract, Limits, Values):
    below = OverMemory

    def layer(self, inner: Backend) -> Backend:
        return GzipLayer(inner)


class TestOffOverMemory(LayerContract, Limits, Values):
    below = OverMemory

    def layer(self, inner: Backend) -> Backend:
        return OffLayer(inner)


class TestZstdOverSQLite(DamagedBelow):
    below = OverSQLite

    def layer(self, inner: Backend) -> Backend:
        return ZstdLayer(inner)


class TestZstdOverPostgreSQL(LayerContract):
    below = OverPostgreSQL

    def layer(self, inner: Backend) -> Backend:
        return ZstdLayer(inner)


class TestZstdOverRedis(LayerContract):
    below = RedisContract

    def layer(self, inner: Backend) -> Backend:
        return ZstdLayer(inner)

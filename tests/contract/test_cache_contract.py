"""The cache meets the contract over every backend, alone and over compression, and so do two alternating caches.

The stack over Redis is in `test_telemetry_contract.py`.
"""

from __future__ import annotations

from itertools import cycle
from typing import Unpack

from further_ways import DamagedBelow, OverMemory
from redis_places import RedisContract
from sql_places import OverMariaDB, OverPostgreSQL, OverSQLite
from turnlog import Backend, Change, Expect, Key, Layer, Page, Query, Receipt, Record, Session, Version
from turnlog.testing import BackendContract, BackendOptions, LayerContract
from turnlog_cache import CacheLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend


class Alternating(Layer):
    """Two caches over one backend that serve calls alternately, as if a load balancer without affinity distributed
    them.

    It does not support seals: a seal through one cache would leave the earlier records in the other one.  Seals belong
    below a cache.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.caches = cycle([CacheLayer(inner), CacheLayer(inner)])

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        return await next(self.caches).read(key, last=last, before=before, since=since, touch=touch)

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await next(self.caches).commit(key, change)

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        return await next(self.caches).delete(key, expect=expect, for_owner=for_owner)

    async def page(self, query: Query) -> Page:
        return await next(self.caches).page(query)

    async def seal(self, key: Key, record: Record) -> None:
        return None

    async def copy(
        self,
        source: Key,
        target: Key,
        *,
        at: int | None,
        change_id: str,
        expect: Expect = None,
        for_owner: str | None = None,
    ) -> Receipt:
        cache = next(self.caches)
        return await cache.copy(source, target, at=at, change_id=change_id, expect=expect, for_owner=for_owner)


class TestCacheOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return CacheLayer(MemoryBackend(**options))


class TestTrustOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return CacheLayer(MemoryBackend(**options), mode="trust", timer=self.clock)


class TestCacheOverZstd(LayerContract):
    below = OverMemory

    def layer(self, inner: Backend) -> Backend:
        return CacheLayer(ZstdLayer(inner))


class TestTwoOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return Alternating(MemoryBackend(**options))


class TestCacheOverSQLite(DamagedBelow):
    below = OverSQLite

    def layer(self, inner: Backend) -> Backend:
        return CacheLayer(inner)


class TestTwoOverSQLite(LayerContract):
    below = OverSQLite

    def layer(self, inner: Backend) -> Backend:
        return Alternating(inner)


class TestTwoOverZstdOverPostgreSQL(LayerContract):
    below = OverPostgreSQL

    def layer(self, inner: Backend) -> Backend:
        return Alternating(ZstdLayer(inner))


class TestCacheOverZstdOverMariaDB(LayerContract):
    below = OverMariaDB

    def layer(self, inner: Backend) -> Backend:
        return CacheLayer(ZstdLayer(inner))


class TestTwoOverRedis(LayerContract):
    below = RedisContract

    def layer(self, inner: Backend) -> Backend:
        return Alternating(inner)

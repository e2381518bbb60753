"""The cache keeps the contract over every store, bare and over compression, and so do two of them that take turns."""

from __future__ import annotations

from itertools import cycle
from typing import Unpack

from redis_places import RedisContract
from sql_places import OverMariaDB, OverPostgreSQL
from turnlog import Change, Key, Layer, Page, Query, Receipt, Session, Store, Version
from turnlog.testing import BackendContract, BackendOptions
from turnlog_cache import CacheLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend


class Alternating(Layer):
    """Two caches over one store, which are asked in turn, as by a router without affinity.

    What seals is below a cache: here nothing is sealed from above, or the other one would have it as it was before.
    """

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.caches = cycle([CacheLayer(inner), CacheLayer(inner)])
        self.can_seal = False

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
        if change.seal is not None:
            info = (await self.inner.read(key, last=0, touch=False)).info
            return Receipt(info.version, None, info.first, info.turns, info.messages, info.version, info.expires_in)
        return await next(self.caches).commit(key, change)

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        return await next(self.caches).delete(key, expect=expect)

    async def page(self, query: Query) -> Page:
        return await next(self.caches).page(query)

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        return await next(self.caches).copy(source, target, at=at, change_id=change_id)


class TestCacheOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return CacheLayer(MemoryBackend(**options))


class TestTrustOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return CacheLayer(MemoryBackend(**options), mode="trust", timer=self.clock)


class TestCacheOverZstd(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return CacheLayer(ZstdLayer(MemoryBackend(**options)))


class TestTwoOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return Alternating(MemoryBackend(**options))


class OverSQLite(BackendContract):
    shared = True

    def sqlite(self, **options: Unpack[BackendOptions]) -> SQLiteBackend:
        return SQLiteBackend(f"sqlite:///{self.folder}/turnlog.db", synchronous="NORMAL", sweep=0, **options)


class TestCacheOverSQLite(OverSQLite):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return CacheLayer(self.sqlite(**options))


class TestCacheOverZstdOverSQLite(OverSQLite):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return CacheLayer(ZstdLayer(self.sqlite(**options)))


class TestTwoOverSQLite(OverSQLite):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return Alternating(self.sqlite(**options))


class TestCacheOverPostgreSQL(OverPostgreSQL):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return CacheLayer(super().make(**options))


class TestTwoOverZstdOverPostgreSQL(OverPostgreSQL):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return Alternating(ZstdLayer(super().make(**options)))


class TestCacheOverMariaDB(OverMariaDB):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return CacheLayer(super().make(**options))


class TestTwoOverZstdOverMariaDB(OverMariaDB):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return Alternating(ZstdLayer(super().make(**options)))


class TestCacheOverRedis(RedisContract):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return CacheLayer(super().make(**options))


class TestCacheOverZstdOverRedis(RedisContract):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return CacheLayer(ZstdLayer(super().make(**options)))


class TestTwoOverRedis(RedisContract):
    def make(self, **options: Unpack[BackendOptions]) -> Store:
        return Alternating(super().make(**options))

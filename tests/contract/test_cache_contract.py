"""The cache keeps the contract over every store, bare and over compression, and so do two of them that take turns."""

from __future__ import annotations

from itertools import cycle
from typing import Unpack

from redis_places import RedisContract
from sql_places import OverMariaDB, OverPostgreSQL
from turnlog import Change, Key, Layer, Page, Query, Receipt, Session, Store, Version
from turnlog.testing import StoreContract, StoreOptions
from turnlog_cache import CacheLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryStore
from turnlog_sql.sqlite import SQLiteStore


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


class TestCacheOverMemory(StoreContract):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return CacheLayer(MemoryStore(**options))


class TestTrustOverMemory(StoreContract):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return CacheLayer(MemoryStore(**options), mode="trust", timer=self.clock)


class TestCacheOverZstd(StoreContract):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return CacheLayer(ZstdLayer(MemoryStore(**options)))


class TestTwoOverMemory(StoreContract):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return Alternating(MemoryStore(**options))


class OverSQLite(StoreContract):
    shared = True

    def sqlite(self, **options: Unpack[StoreOptions]) -> SQLiteStore:
        return SQLiteStore(f"sqlite:///{self.folder}/turnlog.db", synchronous="NORMAL", sweep=0, **options)


class TestCacheOverSQLite(OverSQLite):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return CacheLayer(self.sqlite(**options))


class TestCacheOverZstdOverSQLite(OverSQLite):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return CacheLayer(ZstdLayer(self.sqlite(**options)))


class TestTwoOverSQLite(OverSQLite):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return Alternating(self.sqlite(**options))


class TestCacheOverPostgreSQL(OverPostgreSQL):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return CacheLayer(super().make(**options))


class TestTwoOverZstdOverPostgreSQL(OverPostgreSQL):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return Alternating(ZstdLayer(super().make(**options)))


class TestCacheOverMariaDB(OverMariaDB):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return CacheLayer(super().make(**options))


class TestTwoOverZstdOverMariaDB(OverMariaDB):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return Alternating(ZstdLayer(super().make(**options)))


class TestCacheOverRedis(RedisContract):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return CacheLayer(super().make(**options))


class TestCacheOverZstdOverRedis(RedisContract):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return CacheLayer(ZstdLayer(super().make(**options)))


class TestTwoOverRedis(RedisContract):
    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return Alternating(super().make(**options))

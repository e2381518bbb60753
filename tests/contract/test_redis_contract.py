"""The Redis store keeps the contract."""

from __future__ import annotations

from functools import cached_property
from typing import Unpack

from redis.asyncio import Redis

import servers
from turnlog import Store
from turnlog.testing import StoreContract, StoreOptions
from turnlog_redis import RedisStore


class TestRedisStore(StoreContract):
    """The Redis store."""

    shared = True

    @cached_property
    def url(self) -> str:
        """Where this test's sessions are, which begins empty."""
        url = servers.redis()
        servers.run(_empty(url))
        return url

    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return RedisStore(self.url, **options)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        async with Redis.from_url(self.url) as client:
            for key in await client.keys("turnlog:*:s:*"):
                left = await client.pttl(key)
                if left >= 0:
                    await client.pexpire(key, max(0, left - int(seconds * 1000)))


async def _empty(url: str) -> None:
    async with Redis.from_url(url) as client:
        await client.flushdb()

"""The contract on Redis, wherever its servers are."""

from __future__ import annotations

from functools import cached_property
from typing import Unpack

from redis.asyncio import Redis

import servers
from turnlog import Store
from turnlog.testing import StoreContract, StoreOptions
from turnlog_redis import RedisStore


class RedisContract(StoreContract):
    """The contract, for a store on Redis, which has the clock."""

    shared = True

    def nodes(self) -> list[str]:
        """The URLs of the servers that hold sessions."""
        return [servers.redis()]

    def place(self) -> str:
        """The URL of the store."""
        return self.nodes()[0]

    @cached_property
    def url(self) -> str:
        """Where this test's sessions are, which begins empty."""
        for node in self.nodes():
            servers.ask_redis(node, "FLUSHALL")
        return self.place()

    def make(self, **options: Unpack[StoreOptions]) -> Store:
        return RedisStore(self.url, **options)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for node in self.nodes():
            async with Redis.from_url(node) as client:
                for key in await client.keys("turnlog:*:s:*"):
                    left = await client.pttl(key)
                    if left >= 0:
                        await client.pexpire(key, max(0, left - int(seconds * 1000)))

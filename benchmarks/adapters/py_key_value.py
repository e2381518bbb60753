"""py-key-value-aio: a general key-value store; one key holds a session as {"messages": [...]}."""

from __future__ import annotations

import os

import redis.asyncio as aioredis
from interface import Adapter
from key_value.aio.stores.disk import DiskStore
from key_value.aio.stores.memory import MemoryBackend
from key_value.aio.stores.redis import RedisBackend

C = "chat"


class _Kv(Adapter):
    peer = "py-key-value-aio"
    notes = {
        "append": "get, extend, put of the whole value (not atomic)",
        "tail": "get, then slice",
        "fork": "get + put",
    }

    async def save(self, sid, msgs):
        await self.s.put(sid, {"messages": msgs}, collection=C)

    async def load(self, sid):
        return (await self.s.get(sid, collection=C))["messages"]

    async def append(self, sid, msgs):
        await self.save(sid, (await self.load(sid)) + msgs)

    async def turn(self, sid, msgs):
        old = await self.load(sid)  # based on the value that was read for the turn
        await self.save(sid, old + msgs)


class Memory(_Kv):
    name, backend = "py-key-value MemoryBackend", "memory"

    async def open(self, env):
        self.s = MemoryBackend()


class Redis(_Kv):
    name, backend = "py-key-value RedisBackend", "redis"

    async def open(self, env):
        self.r = aioredis.Redis(port=env["redis_port"], db=5, decode_responses=True)
        self.s = RedisBackend(client=self.r)

    async def close(self):
        await self.r.aclose()

    async def stored_bytes(self):
        return sum([await self.r.memory_usage(k, samples=0) or 0 for k in await self.r.keys("*")])


class Disk(_Kv):
    name, backend, blocking = "py-key-value DiskStore", "sqlite", True

    async def open(self, env):
        self.dir = os.path.join(env["dir"], "kv")
        self.s = DiskStore(directory=self.dir)

    async def stored_bytes(self):
        return sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(self.dir) for f in fs)


ADAPTERS = [Memory, Redis, Disk]

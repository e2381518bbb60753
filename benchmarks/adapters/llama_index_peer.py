"""llama-index chat stores."""

from __future__ import annotations

import os

import redis.asyncio as aioredis
from interface import Adapter
from llama_index.core.llms import ChatMessage
from llama_index.core.storage.chat_store import SimpleChatStore
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from llama_index.storage.chat_store.redis import RedisChatStore
from sqlalchemy import text


class _Llama(Adapter):
    peer = "llama-index"
    notes = {
        "tail": "no partial load: get_messages, then slice",
        "fork": "get_messages + set_messages",
        "append": "one add_message per message",
    }

    def convert(self, msgs):
        out = []
        for m in msgs:
            extra = {k: m[k] for k in ("tool_calls", "tool_call_id") if k in m}
            out.append(ChatMessage(role=m["role"], content=m["content"], additional_kwargs=extra))
        return out


class Simple(_Llama):
    name, backend = "llama-index SimpleChatStore", "memory"

    async def open(self, env):
        self.s = SimpleChatStore()

    async def save(self, sid, msgs):
        await self.s.aset_messages(sid, msgs)

    async def load(self, sid):
        return await self.s.aget_messages(sid)

    async def append(self, sid, msgs):
        for m in msgs:
            await self.s.async_add_message(sid, m)

    async def fork(self, src, dst):
        await self.s.aset_messages(dst, list(await self.s.aget_messages(src)))


class Redis(_Llama):
    name, backend = "llama-index RedisChatStore", "redis"
    notes = {**_Llama.notes, "save": "set_messages: DEL, then one RPUSH round trip per message"}

    async def open(self, env):
        url = f"redis://127.0.0.1:{env['redis_port']}/3"
        self.r = aioredis.Redis.from_url(url)
        self.s = RedisChatStore(redis_url=url, aredis_client=self.r)

    async def close(self):
        await self.r.aclose()

    async def save(self, sid, msgs):
        await self.s.aset_messages(sid, msgs)

    async def seed(self, sid, msgs):
        await self.r.rpush(sid, *(m.model_dump_json() for m in msgs))

    async def load(self, sid):
        return await self.s.aget_messages(sid)

    async def append(self, sid, msgs):
        for m in msgs:
            await self.s.async_add_message(sid, m)

    async def stored_bytes(self):
        return sum([await self.r.memory_usage(k, samples=0) or 0 for k in await self.r.keys("*")])


class Sql(_Llama):
    name, backend, url = "llama-index SQLAlchemyChatStore", "sqlite", "sqlite+aiosqlite:///{dir}/li.db"
    notes = {
        "tail": "limit/offset count from the oldest: count_messages, then offset",
        "fork": "get_messages + add_messages",
        "save": "set_messages: one INSERT execution per message in one transaction",
    }

    async def open(self, env):
        self.path = os.path.join(env["dir"], "li.db")
        self.s = SQLAlchemyChatStore(table_name="chat", async_database_uri=self.url.format(**env))
        await self.s._initialize()

    async def close(self):
        await self.s._async_engine.dispose()

    async def save(self, sid, msgs):
        await self.s.set_messages(sid, msgs)

    async def seed(self, sid, msgs):
        for i in range(0, len(msgs), 500):
            await self.s.add_messages(sid, msgs[i : i + 500])

    async def load(self, sid):
        return await self.s.get_messages(sid)

    async def tail(self, sid, k):
        n = await self.s.count_messages(sid)
        return await self.s.get_messages(sid, limit=k, offset=max(0, n - k))

    async def append(self, sid, msgs):
        await self.s.add_messages(sid, msgs)

    async def fork(self, src, dst):
        await self.seed(dst, await self.s.get_messages(src))

    async def stored_bytes(self):
        return os.path.getsize(self.path)


class SqlPg(Sql):
    name, backend, url = (
        "llama-index SQLAlchemyChatStore pg",
        "postgres",
        "postgresql+asyncpg://bench@127.0.0.1:{pg_port}/bench",
    )

    async def stored_bytes(self):
        async with self.s._async_engine.connect() as con:
            return (await con.execute(text("SELECT pg_total_relation_size('chat')"))).scalar()


ADAPTERS = [Simple, Redis, Sql, SqlPg]

"""langchain chat message histories."""

from __future__ import annotations

import os
import warnings

import redis as redis_sync
from interface import Adapter
from langchain_core.chat_history import InMemoryChatMessageHistory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from adapters.langgraph_peer import to_messages

warnings.filterwarnings("ignore")
from langchain_community.chat_message_histories import RedisChatMessageHistory, SQLChatMessageHistory


class _Lc(Adapter):
    peer = "langchain"
    notes = {
        "tail": "no partial load: aget_messages, then slice",
        "fork": "aget_messages + aadd_messages",
        "save": "aclear + aadd_messages",
    }

    def convert(self, msgs):
        return to_messages(msgs)

    async def open(self, env):
        self.env, self.h = env, {}

    def get(self, sid):
        h = self.h.get(sid)
        if h is None:
            h = self.h[sid] = self.make(sid)
        return h

    async def save(self, sid, msgs):
        h = self.get(sid)
        await h.aclear()
        await h.aadd_messages(msgs)

    async def load(self, sid):
        return await self.get(sid).aget_messages()

    async def append(self, sid, msgs):
        await self.get(sid).aadd_messages(msgs)


class Memory(_Lc):
    name, backend = "langchain InMemoryChatMessageHistory", "memory"

    def make(self, sid):
        return InMemoryChatMessageHistory()


class Redis(_Lc):
    name, backend = "langchain RedisChatMessageHistory", "redis"
    notes = {**_Lc.notes, "append": "sync client in the executor, one LPUSH round trip per message"}

    def make(self, sid):
        h = RedisChatMessageHistory(sid, url=f"redis://127.0.0.1:{self.env['redis_port']}/4")
        h.redis_client.close()
        h.redis_client = self.r  # one pool for all histories, faster than the default
        return h

    async def open(self, env):
        await super().open(env)
        self.r = redis_sync.Redis(port=env["redis_port"], db=4)

    async def close(self):
        self.r.close()

    async def seed(self, sid, msgs):
        import json

        from langchain_core.messages import message_to_dict

        self.r.lpush(self.get(sid).key, *(json.dumps(message_to_dict(m)) for m in msgs))

    async def stored_bytes(self):
        return sum(self.r.memory_usage(k, samples=0) or 0 for k in self.r.keys("*"))


class Sql(_Lc):
    name, backend, url = "langchain SQLChatMessageHistory", "sqlite", "sqlite+aiosqlite:///{dir}/lc.db"

    async def open(self, env):
        await super().open(env)
        self.path = os.path.join(env["dir"], "lc.db")
        self.engine = create_async_engine(self.url.format(**env))

    async def close(self):
        await self.engine.dispose()

    def make(self, sid):
        if not hasattr(self, "conv"):
            from langchain_community.chat_message_histories.sql import DefaultMessageConverter

            self.conv = DefaultMessageConverter("message_store")
        return SQLChatMessageHistory(sid, connection=self.engine, custom_message_converter=self.conv)

    async def stored_bytes(self):
        return os.path.getsize(self.path)


class SqlPg(Sql):
    name, backend, url = (
        "langchain SQLChatMessageHistory pg",
        "postgres",
        "postgresql+asyncpg://bench@127.0.0.1:{pg_port}/bench",
    )

    async def stored_bytes(self):
        async with self.engine.connect() as con:
            return (await con.execute(text("SELECT pg_total_relation_size('message_store')"))).scalar()


ADAPTERS = [Memory, Redis, Sql, SqlPg]

"""openai-agents sessions.  One session object per conversation is kept between calls, as its users may do."""

from __future__ import annotations

import os
import sqlite3

from agents.extensions.memory import AsyncSQLiteSession, SQLAlchemySession
from agents.memory import SQLiteSession
from interface import Adapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine


class _Sessions(Adapter):
    peer = "openai-agents"
    notes = {
        "save": "no replace: clear_session, then add_items of everything",
        "fork": "no fork of a plain session: get_items, then add_items under a new id",
    }

    def convert(self, msgs):
        out = []
        for m in msgs:
            if m.get("tool_calls"):
                c = m["tool_calls"][0]
                out.append(
                    {
                        "type": "function_call",
                        "id": m["id"],
                        "call_id": c["id"],
                        "name": c["name"],
                        "arguments": c["arguments"],
                        "status": "completed",
                    }
                )
            elif m["role"] == "tool":
                out.append({"type": "function_call_output", "call_id": m["tool_call_id"], "output": m["content"]})
            elif m["role"] == "assistant":
                out.append(
                    {
                        "id": m["id"],
                        "role": "assistant",
                        "type": "message",
                        "status": "completed",
                        "content": [{"type": "output_text", "text": m["content"], "annotations": []}],
                    }
                )
            else:
                out.append({"role": m["role"], "content": m["content"]})
        return out

    def content(self, m):
        if m.get("type") == "function_call":
            return ""
        if m.get("type") == "function_call_output":
            return m["output"]
        c = m["content"]
        return c if isinstance(c, str) else c[0]["text"]

    async def open(self, env):
        self.env, self.s = env, {}

    def make(self, sid):
        raise NotImplementedError

    def get(self, sid):
        s = self.s.get(sid)
        if s is None:
            s = self.s[sid] = self.make(sid)
        return s

    async def save(self, sid, msgs):
        s = self.get(sid)
        await s.clear_session()
        await s.add_items(msgs)

    async def load(self, sid):
        return await self.get(sid).get_items()

    async def tail(self, sid, k):
        return await self.get(sid).get_items(limit=k)

    async def append(self, sid, msgs):
        await self.get(sid).add_items(msgs)

    async def fork(self, src, dst):
        await self.get(dst).add_items(await self.get(src).get_items())

    async def close(self):
        for s in self.s.values():
            r = s.close()
            if r is not None:
                await r


class SqliteMemory(_Sessions):
    name, backend, traced = "openai-agents SQLiteSession :memory:", "memory", False

    def make(self, sid):
        return SQLiteSession(sid)


class SqliteFile(_Sessions):
    name, backend, file = "openai-agents SQLiteSession", "sqlite", "oa1.db"

    def path(self):
        return os.path.join(self.env["dir"], self.file)

    def make(self, sid):
        return SQLiteSession(sid, self.path())

    async def stored_bytes(self):
        con = sqlite3.connect(self.path())
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        con.close()
        return os.path.getsize(self.path())


class SqliteAsync(SqliteFile):
    name, backend, file = "openai-agents AsyncSQLiteSession", "sqlite", "oa2.db"

    def make(self, sid):
        return AsyncSQLiteSession(sid, self.path())


class _Sqla(_Sessions):
    url = ""

    async def open(self, env):
        await super().open(env)
        self.engine = create_async_engine(self.url.format(**env))

    def make(self, sid):
        return SQLAlchemySession(sid, engine=self.engine, create_tables=True)

    async def close(self):
        await self.engine.dispose()


class SqlaSqlite(_Sqla):
    name, backend, url, file = (
        "openai-agents SQLAlchemySession",
        "sqlite",
        "sqlite+aiosqlite:///{dir}/oa3.db",
        "oa3.db",
    )
    path, stored_bytes = SqliteFile.path, SqliteFile.stored_bytes


class SqlaPg(_Sqla):
    name, backend = "openai-agents SQLAlchemySession pg", "postgres"
    url = "postgresql+asyncpg://bench@127.0.0.1:{pg_port}/bench"

    async def stored_bytes(self):
        async with self.engine.connect() as con:
            return (
                await con.execute(
                    text("SELECT pg_total_relation_size('agent_messages') + pg_total_relation_size('agent_sessions')")
                )
            ).scalar()


class Redis(_Sessions):
    name, backend = "openai-agents RedisSession", "redis"

    async def open(self, env):
        import redis.asyncio as aioredis  # here, because the SQLite sessions do not need it
        from agents.extensions.memory import RedisSession

        await super().open(env)
        self.kind = RedisSession
        self.r = aioredis.Redis(port=env["redis_port"], db=1)

    def make(self, sid):
        return self.kind(sid, redis_client=self.r)

    async def close(self):
        await super().close()
        await self.r.aclose()

    async def stored_bytes(self):
        return sum([await self.r.memory_usage(k, samples=0) or 0 for k in await self.r.keys("*")])


ADAPTERS = [SqliteMemory, SqliteFile, SqliteAsync, SqlaSqlite, SqlaPg, Redis]

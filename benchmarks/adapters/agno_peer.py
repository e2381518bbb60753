"""agno: a session row plus one row per run; a turn is a run with its two messages."""

from __future__ import annotations

import logging
import os
import uuid

import redis as redis_sync
from agno.db.base import SessionType
from agno.db.in_memory import InMemoryDb
from agno.db.postgres import AsyncPostgresDb
from agno.db.redis import RedisDb
from agno.db.sqlite import AsyncSqliteDb
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.base import RunStatus
from agno.session.agent import AgentSession
from interface import Adapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

logging.getLogger("agno").setLevel(logging.ERROR)


class _Agno(Adapter):
    peer, save_max = "agno", 1000
    notes = {
        "append": "upsert_run: one row per turn",
        "save": "upsert_session + upsert_run per turn",
        "fork": "get_session, then upsert_run per turn under a new session",
        "tail": "get_session(runs_limit=10)",
    }

    def convert(self, msgs):
        out = []
        for m in msgs:
            calls = [
                {"id": c["id"], "type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}}
                for c in m.get("tool_calls", ())
            ] or None
            out.append(
                Message(
                    id=m["id"],
                    role=m["role"],
                    content=m["content"],
                    tool_calls=calls,
                    tool_call_id=m.get("tool_call_id"),
                    created_at=int(m["ts"]),
                )
            )
        return out

    async def call(self, fn, *a, **k):
        r = fn(*a, **k)
        return (await r) if hasattr(r, "__await__") else r

    def run(self, sid, msgs):
        return RunOutput(
            run_id=uuid.uuid4().hex, session_id=sid, agent_id="a", messages=msgs, status=RunStatus.completed
        )

    async def save(self, sid, msgs):
        await self.call(self.db.upsert_session, AgentSession(session_id=sid, agent_id="a", runs=[], created_at=1))
        for i in range(0, len(msgs), 2):
            await self.call(self.db.upsert_run, self.run(sid, msgs[i : i + 2]), sid, run_index=i // 2)
        self.n[sid] = (len(msgs) + 1) // 2

    async def _get(self, sid, **k):
        s = await self.call(self.db.get_session, sid, SessionType.AGENT, **k)
        return [m for r in s.runs for m in r.messages]

    async def load(self, sid):
        return await self._get(sid)

    async def tail(self, sid, k):
        return await self._get(sid, runs_limit=k // 2)

    async def append(self, sid, msgs):
        i = self.n.get(sid, 0)
        self.n[sid] = i + 1
        await self.call(self.db.upsert_run, self.run(sid, msgs), sid, run_index=i)

    async def open(self, env):
        self.n = {}
        self.db = await self.make(env)

    async def close(self): ...


class Memory(_Agno):
    name, backend = "agno InMemoryDb", "memory"

    async def make(self, env):
        return InMemoryDb()


class Redis(_Agno):
    name, backend, blocking, save_max = "agno RedisDb (sync)", "redis", True, 100

    async def make(self, env):
        self.r = redis_sync.Redis(port=env["redis_port"], db=6, decode_responses=True)
        return RedisDb(redis_client=self.r)

    async def close(self):
        self.r.close()

    async def stored_bytes(self):
        return sum(self.r.memory_usage(k, samples=0) or 0 for k in self.r.keys("*"))


class Sqlite(_Agno):
    name, backend = "agno AsyncSqliteDb", "sqlite"

    async def make(self, env):
        self.path = os.path.join(env["dir"], "agno.db")
        return AsyncSqliteDb(db_file=self.path)

    async def stored_bytes(self):
        return os.path.getsize(self.path) + (
            os.path.getsize(self.path + "-wal") if os.path.exists(self.path + "-wal") else 0
        )


class Pg(_Agno):
    name, backend = "agno AsyncPostgresDb", "postgres"

    async def make(self, env):
        self.engine = create_async_engine(f"postgresql+asyncpg://bench@127.0.0.1:{env['pg_port']}/bench")
        return AsyncPostgresDb(db_engine=self.engine)

    async def stored_bytes(self):
        async with self.engine.connect() as con:
            return (
                await con.execute(
                    text(
                        "SELECT coalesce(sum(pg_total_relation_size(c.oid)),0) FROM pg_class c JOIN pg_namespace n ON n.oid="
                        "c.relnamespace WHERE n.nspname='ai' AND relkind='r'"
                    )
                )
            ).scalar()

    async def close(self):
        await self.engine.dispose()


ADAPTERS = [Memory, Redis, Sqlite, Pg]

"""google-adk session services.

append: get_session without events (num_recent_events=0), then append_event per message.  This is the minimum for a request;
the ADK Runner loads the session first.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3

import redis.asyncio as aioredis
from google.adk.events.event import Event
from google.adk.integrations.redis import RedisSessionService, RedisSessionServiceConfig
from google.adk.sessions import DatabaseSessionService, InMemorySessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types
from interface import Adapter
from sqlalchemy import text

logging.getLogger("google_adk").setLevel(logging.ERROR)
APP, USER = "bench", "u"
NONE = GetSessionConfig(num_recent_events=0)


class _Adk(Adapter):
    peer, save_max = "google-adk", 100
    notes = {
        "append": "get_session(num_recent_events=0) + append_event per message: no batch append",
        "save": "no bulk save: create_session + append_event per message",
        "fork": "no fork: get_session, create_session, append_event per event (timed up to N=100)",
    }

    def convert(self, msgs):
        out = []
        for m in msgs:
            if m.get("tool_calls"):
                c = m["tool_calls"][0]
                part = types.Part(
                    function_call=types.FunctionCall(id=c["id"], name=c["name"], args=json.loads(c["arguments"]))
                )
            elif m["role"] == "tool":
                part = types.Part(
                    function_response=types.FunctionResponse(
                        id=m["tool_call_id"], name="tool", response=json.loads(m["content"])
                    )
                )
            else:
                part = types.Part(text=m["content"])
            role = "model" if m["role"] == "assistant" else "user"
            out.append(
                Event(
                    id=m["id"],
                    author="agent" if role == "model" else "user",
                    invocation_id="inv",
                    timestamp=m["ts"],
                    content=types.Content(role=role, parts=[part]),
                )
            )
        return out

    def content(self, e):
        p = e.content.parts[0]
        if p.function_response:
            return json.dumps(p.function_response.response)
        return p.text or ""

    async def load(self, sid):
        s = await self.svc.get_session(app_name=APP, user_id=USER, session_id=sid)
        return s.events

    async def tail(self, sid, k):
        s = await self.svc.get_session(
            app_name=APP, user_id=USER, session_id=sid, config=GetSessionConfig(num_recent_events=k)
        )
        return s.events

    async def append(self, sid, msgs):
        s = await self.svc.get_session(app_name=APP, user_id=USER, session_id=sid, config=NONE)
        for e in msgs:
            await self.svc.append_event(s, e)

    async def turn(self, sid, msgs):
        s = await self.svc.get_session(
            app_name=APP, user_id=USER, session_id=sid, config=GetSessionConfig(num_recent_events=20)
        )
        for e in msgs:
            await self.svc.append_event(s, e)

    async def save(self, sid, msgs):
        s = await self.svc.create_session(app_name=APP, user_id=USER, session_id=sid)
        s.last_update_time = 0.0
        for e in msgs:
            await self.svc.append_event(s, e)

    async def fork(self, src, dst):
        events = await self.load(src)
        s = await self.svc.create_session(app_name=APP, user_id=USER, session_id=dst)
        for e in events:
            e = e.model_copy(update={"id": Event.new_id(), "timestamp": s.last_update_time + 1e-3})
            await self.svc.append_event(s, e)

    async def close(self):
        c = getattr(self.svc, "close", None)
        if c:
            await c()


class Memory(_Adk):
    name, backend = "google-adk InMemory", "memory"

    async def open(self, env):
        self.svc = InMemorySessionService()

    async def seed(self, sid, msgs):
        await self.svc.create_session(app_name=APP, user_id=USER, session_id=sid)
        self.svc.sessions[APP][USER][sid].events = list(msgs)


class _Database(_Adk):
    async def seed(self, sid, msgs):
        s = await self.svc.create_session(app_name=APP, user_id=USER, session_id=sid)
        schema = self.svc._get_schema_classes()
        async with self.svc._rollback_on_exception_session() as sql:
            sql.add_all(schema.StorageEvent.from_event(s, e) for e in msgs)
            await sql.commit()


class DatabaseSqlite(_Database):
    name, backend, file = "google-adk DatabaseSessionService", "sqlite", "adk1.db"

    async def open(self, env):
        self.file_path = os.path.join(env["dir"], self.file)
        self.svc = DatabaseSessionService(f"sqlite+aiosqlite:///{self.file_path}")

    async def stored_bytes(self):
        return os.path.getsize(self.file_path)


class Sqlite(_Adk):
    name, backend, file = "google-adk SqliteSessionService", "sqlite", "adk2.db"
    stored_bytes = DatabaseSqlite.stored_bytes

    async def open(self, env):
        self.file_path = os.path.join(env["dir"], self.file)
        self.svc = SqliteSessionService(self.file_path)

    async def seed(self, sid, msgs):
        await self.svc.create_session(app_name=APP, user_id=USER, session_id=sid)
        con = sqlite3.connect(self.file_path)
        con.execute("UPDATE sessions SET update_time=0 WHERE id=?", (sid,))
        con.executemany(
            "INSERT INTO events (id, app_name, user_id, session_id, invocation_id, timestamp, event_data) VALUES (?,?,?,?,?,?,?)",
            [(e.id, APP, USER, sid, e.invocation_id, e.timestamp, e.model_dump_json(exclude_none=True)) for e in msgs],
        )
        con.commit()
        con.close()

    async def save(self, sid, msgs):
        s = await self.svc.create_session(app_name=APP, user_id=USER, session_id=sid)
        for e in msgs:
            e = e.model_copy(update={"id": Event.new_id(), "timestamp": s.last_update_time + 1e-3})
            await self.svc.append_event(s, e)


class DatabasePg(_Database):
    name, backend = "google-adk DatabaseSessionService pg", "postgres"

    async def open(self, env):
        self.svc = DatabaseSessionService(f"postgresql+asyncpg://bench@127.0.0.1:{env['pg_port']}/bench")

    async def stored_bytes(self):
        async with self.svc.db_engine.connect() as con:
            return (
                await con.execute(text("SELECT pg_total_relation_size('events') + pg_total_relation_size('sessions')"))
            ).scalar()


class Redis(_Adk):
    name, backend = "google-adk RedisSessionService", "redis"

    async def open(self, env):
        # redis-py's default pool (100 connections) is too small for 50 sessions: get_session gathers three GETs
        self.r = aioredis.Redis(port=env["redis_port"], db=2, decode_responses=True, max_connections=400)
        self.svc = RedisSessionService(RedisSessionServiceConfig(), redis_client=self.r)

    async def close(self):
        await self.r.aclose()

    async def seed(self, sid, msgs):
        await self.svc.create_session(app_name=APP, user_id=USER, session_id=sid)
        s = Session(id=sid, app_name=APP, user_id=USER, state={}, events=msgs, last_update_time=0.0)
        await self.r.set(self.svc._session_key(APP, USER, sid), s.model_dump_json())

    async def stored_bytes(self):
        return sum([await self.r.memory_usage(k, samples=0) or 0 for k in await self.r.keys("*")])


ADAPTERS = [Memory, DatabaseSqlite, Sqlite, DatabasePg, Redis]

"""Compare `TurnlogSession` with the OpenAI Agents SDK's own sessions: python benchmarks/frameworks/openai_agents_sessions.py

Needs `turnlog[openai-agents,redis,zstd]` and `openai-agents[redis]`.

Each session has 1,000 items, in runs of four: a question, a call of a tool, its result, and an answer.  In each round
every kind of session does each operation five times, in a different order, and the fastest counts.  `write` is one run,
as the Runner writes it: three calls of `add_items`.  `read` is `get_items()`, and `read 20` is `get_items(20)`.  `list`
finds 100 sessions, most recently updated first.  The SDK's sessions have no method for that: the script reads their
table, or scans their keys and sorts them by their time.  The script prints the times and the ratios to the SDK's
session on the same database (`ratios.report`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sqlite3
import sys
import time
from contextlib import AsyncExitStack, ExitStack
from functools import partial

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import redis.asyncio
from agents import SQLiteSession
from agents.extensions.memory import RedisSession
from ratios import report

import servers
from turnlog import open_store
from turnlog_openai_agents import TurnlogSession

ITEMS, LISTED, REPEATS = 1_000, 100, 5
NAMES = ["write", "read", "read 20", "list"]
TEXT = "It was shipped on Monday, and should arrive by Thursday at the latest. " * 3


def batches(number):
    """Return what the Runner stores in a run, call by call."""
    call = {"call_id": f"call_{number:024}", "name": "track", "id": f"fc_{number:048}", "status": "completed"}
    content = [{"annotations": [], "text": TEXT, "type": "output_text", "logprobs": []}]
    answer = {"id": f"msg_{number:048}", "content": content, "role": "assistant", "status": "completed"}
    return [
        [{"content": f"Where is my order {number}?", "role": "user"}],
        [
            {**call, "arguments": '{"order": 7}', "type": "function_call"},
            {"call_id": call["call_id"], "output": TEXT, "type": "function_call_output"},
        ],
        [{**answer, "type": "message"}],
    ]


class Turnlog:
    """Sessions of turnlog; the `Runner` passes its context to them."""

    def __init__(self, store):
        self.store = store

    def session(self, name):
        return TurnlogSession(self.store, name)

    async def list(self):
        return [info.key.session async for info in self.store.sessions()]


class TheirSQLite:
    """The SDK's sessions in a file; one object per session, because each opens connections."""

    def __init__(self, path):
        self.path, self.kept = path, {}

    def session(self, name):
        if name not in self.kept:
            self.kept[name] = SQLiteSession(name, self.path)
        return self.kept[name]

    async def list(self):
        return await asyncio.to_thread(self._list)

    def _list(self):
        with sqlite3.connect(self.path) as database:
            rows = database.execute("SELECT session_id FROM agent_sessions ORDER BY updated_at DESC").fetchall()
        database.close()
        return [name for (name,) in rows]


class TheirRedis:
    """The SDK's sessions on Redis."""

    def __init__(self, client):
        self.client = client

    def session(self, name):
        return RedisSession(name, redis_client=self.client)

    async def list(self):
        keys = [key async for key in self.client.scan_iter("agents:session:*", count=1_000, _type="hash")]
        async with self.client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, "updated_at", "session_id")
            found = await pipe.execute()
        return [name for _, name in sorted(found, reverse=True)]


async def fill(kind):
    for name in ["long", *(f"listed {number}" for number in range(LISTED - 1))]:
        session = kind.session(name)
        for number in range(ITEMS // 4 if name == "long" else 3):
            for batch in batches(number):
                await session.add_items(batch)


async def operations(kind):
    """Return the seconds of each operation: the fastest of several, because other work interrupts the slower ones."""
    session = kind.session("long")

    async def write():
        for batch in batches(7):
            await session.add_items(batch)

    calls = {
        "write": write,
        "read": session.get_items,
        "read 20": partial(session.get_items, 20),
        "list": kind.list,
    }
    took = {}
    for name, call in calls.items():
        times = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            found = await call()
            times.append(time.perf_counter() - begun)
        assert name == "write" or len(found) >= {"read": ITEMS, "read 20": 20, "list": LISTED}[name]
        took[name] = min(times)
    return took


async def main(rounds):
    with ExitStack() as running:
        async with AsyncExitStack() as stack:
            sqlite = servers.started("sqlite", running)
            url = servers.started("redis", running)
            kinds = {}
            for name, place in {
                "turnlog sqlite": sqlite,
                "turnlog sqlite NORMAL": sqlite.replace("turnlog.db", "normal.db?synchronous=NORMAL"),
                "turnlog redis": url,
                "turnlog redis cache,zstd": url.replace("/0", "/1") + "?layers=cache,zstd",
            }.items():
                kinds[name] = Turnlog(await stack.enter_async_context(open_store(place)))
            kinds["their sqlite"] = TheirSQLite(sqlite.removeprefix("sqlite:///").replace("turnlog.db", "sdk.db"))
            client = redis.asyncio.Redis.from_url(url.replace("/0", "/2"))
            kinds["their redis"] = TheirRedis(await stack.enter_async_context(client))
            for kind in kinds.values():
                await fill(kind)
            times = {name: [] for name in kinds}
            for _ in range(rounds):
                for name in random.sample(list(kinds), len(kinds)):
                    times[name].append(await operations(kinds[name]))
    report(times, NAMES, [(ours, f"their {ours.split()[1]}") for ours in times if ours.startswith("turnlog")])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    asyncio.run(main(parser.parse_args().rounds))

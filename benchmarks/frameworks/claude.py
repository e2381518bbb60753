"""Compare `TurnlogSessionStore` with the example stores of the Claude Agent SDK.

    python benchmarks/frameworks/claude.py FOLDER

FOLDER is the unpacked source distribution of claude-agent-sdk: `pip download --no-deps --no-binary claude-agent-sdk
claude-agent-sdk==0.2.189`.  It contains the example stores for Redis and PostgreSQL; the SDK has none for SQLite.

Each session has 1,000 entries, in batches of four: a question, a call of a tool, its result, and an answer.  In each
round every store does every operation, in a different order.  The script prints the times and the ratios to the SDK's
store on the same database (`ratios.report`).  `list` returns the ids and times of 100 sessions, `titles` is the SDK's
`list_sessions_from_store`, which also returns their titles.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from contextlib import AsyncExitStack, ExitStack
from uuid import uuid4

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from claude_agent_sdk import list_sessions_from_store, project_key_for_directory
from ratios import report

import servers
from turnlog import open_store
from turnlog_claude_agent_sdk import TurnlogSessionStore

ENTRIES, LISTED, CWD = 1_000, 100, "/srv/shop"
PROJECT = project_key_for_directory(CWD)
PAIRS = {"turnlog redis": "their redis", "turnlog redis zstd": "their redis", "turnlog postgresql": "their postgresql"}


def batch(session_id):
    text = "It was shipped on Monday, and should arrive by Thursday at the latest. " * 3
    use = {"type": "tool_use", "id": f"toolu_{uuid4().hex[:24]}", "name": "track", "input": {"order": 7}}
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": text}
    said = [("user", "Where is my order?"), ("assistant", [use]), ("user", [result]), ("assistant", text)]
    common = {"isSidechain": False, "userType": "external", "entrypoint": "sdk-py", "cwd": CWD, "version": "2.1.332"}
    return [
        {
            "parentUuid": str(uuid4()),
            **common,
            "sessionId": session_id,
            "type": role,
            "uuid": str(uuid4()),
            "timestamp": "2026-11-30T17:19:25.062Z",
            "message": {"role": role, "content": content},
        }
        for role, content in said
    ]


def key(session_id, project=PROJECT):
    return {"project_key": project, "session_id": session_id}


async def fill(store):
    """Write the session of `write` and `read` in one project, and the sessions to list in another one."""
    session_id = str(uuid4())
    for _ in range(ENTRIES // 4):
        await store.append(key(session_id, "-srv-long"), batch(session_id))
    for _ in range(LISTED):
        listed = str(uuid4())
        for _ in range(3):
            await store.append(key(listed), batch(listed))
    return session_id


async def operations(store, session_id):
    """Return the seconds of each operation; the written turn goes to a copy of the state at ENTRIES entries."""
    took = {}

    async def timed(name, awaitable):
        begun = time.perf_counter()
        answer = await awaitable
        took[name] = time.perf_counter() - begun
        return answer

    await timed("write", store.append(key(session_id, "-srv-long"), batch(session_id)))
    loaded = await timed("read", store.load(key(session_id, "-srv-long")))
    assert len(loaded) >= ENTRIES
    assert len(await timed("list", store.list_sessions(PROJECT))) == LISTED
    assert len(await timed("titles", list_sessions_from_store(store, directory=CWD))) == LISTED
    return took


async def main(folder, rounds):
    sys.path.insert(0, os.path.join(folder, "examples", "session_stores"))
    from postgres_session_store import PostgresSessionStore
    from redis_session_store import RedisSessionStore

    with ExitStack() as running:
        async with AsyncExitStack() as stack:
            import asyncpg
            import redis.asyncio

            redis_url = servers.started("redis", running)
            postgresql = servers.started("postgresql", running)
            stores = {}
            for name, url in {
                "turnlog sqlite": servers.started("sqlite", running),
                "turnlog redis": redis_url,
                "turnlog redis zstd": redis_url.replace("/0", "/1") + "?layers=cache,zstd",
                "turnlog postgresql": postgresql,
            }.items():
                stores[name] = TurnlogSessionStore(await stack.enter_async_context(open_store(url)))
            client = redis.asyncio.Redis.from_url(redis_url.replace("/0", "/2"), decode_responses=True)
            stores["their redis"] = RedisSessionStore(await stack.enter_async_context(client))
            pool = await stack.enter_async_context(asyncpg.create_pool(postgresql))
            stores["their postgresql"] = PostgresSessionStore(pool)
            await stores["their postgresql"].create_schema()
            sessions = {name: await fill(store) for name, store in stores.items()}
            times = {name: [] for name in stores}
            for _ in range(rounds):
                for name in random.sample(list(stores), len(stores)):
                    times[name].append(await operations(stores[name], sessions[name]))
    report(times, ["write", "read", "list", "titles"], PAIRS.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="the unpacked source distribution of claude-agent-sdk")
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    asyncio.run(main(given.folder, given.rounds))

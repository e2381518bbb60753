"""Compare `TurnlogSessionService` with the session services of Google's Agent Development Kit.

    python benchmarks/frameworks/google_adk_sessions.py

A session has 1,000 events: runs of a question, a call of a tool, its result, and an answer with a new state.  In each
round every service does every operation, in a different order.  `write` appends the four events of a run, `read` loads
the session, and `list` lists 100 sessions of a user.  The script prints the median of each operation, and the median
over the rounds of the ratio to the service of ADK on the same database.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
import warnings
from contextlib import AsyncExitStack, ExitStack

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
warnings.simplefilter("ignore")

from google.adk.events import Event, EventActions
from google.adk.integrations.redis import RedisSessionService, RedisSessionServiceConfig
from google.adk.sessions import DatabaseSessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types
from ratios import report

import servers
from turnlog import open_store
from turnlog_google_adk import TurnlogSessionService

EVENTS, LISTED, APP = 1_000, 100, "shop"
PAIRS = [
    ("turnlog sqlite", "adk sqlite"),
    ("turnlog sqlite", "adk database (sqlite)"),
    ("turnlog redis", "adk redis"),
    ("turnlog redis zstd", "adk redis"),
]


def run(number):
    text = "It was shipped on Monday, and should arrive by Thursday at the latest. " * 3
    call = types.FunctionCall(id=f"call-{number}", name="track", args={"order": number})
    result = types.FunctionResponse(id=f"call-{number}", name="track", response={"result": text})
    parts = [
        ("user", types.Part(text="Where is my order?")),
        ("model", types.Part(function_call=call)),
        ("user", types.Part(function_response=result)),
        ("model", types.Part(text=text)),
    ]
    events = [
        Event(invocation_id=f"run-{number}", author="agent", content=types.Content(role=role, parts=[part]))
        for role, part in parts
    ]
    events[-1].actions = EventActions(state_delta={"last_order": number})
    return events


async def fill(service):
    session = await service.create_session(app_name=APP, user_id="bob", session_id="long")
    for number in range(EVENTS // 4):
        for event in run(number):
            await service.append_event(session, event)
    for number in range(LISTED):
        listed = await service.create_session(app_name=APP, user_id="alice", state={"title": f"Order {number}"})
        for event in run(number)[:2]:
            await service.append_event(listed, event)
    return session


async def operations(service, session, number):
    """Return the seconds of each operation."""
    took, events = {}, run(EVENTS + number)

    async def timed(name, awaitable):
        begun = time.perf_counter()
        answer = await awaitable
        took[name] = time.perf_counter() - begun
        return answer

    async def write():
        for event in events:
            await service.append_event(session, event)

    await timed("write", write())
    loaded = await timed("read", service.get_session(app_name=APP, user_id="bob", session_id="long"))
    assert len(loaded.events) >= EVENTS
    listed = await timed("list", service.list_sessions(app_name=APP, user_id="alice"))
    assert len(listed.sessions) == LISTED
    return took


async def main(rounds):
    with ExitStack() as running:
        async with AsyncExitStack() as stack:
            folder = running.enter_context(tempfile.TemporaryDirectory())
            redis_url = servers.started("redis", running)
            services = {}
            for name, url in {
                "turnlog sqlite": servers.started("sqlite", running),
                "turnlog redis": redis_url,
                "turnlog redis zstd": redis_url.replace("/0", "/1") + "?layers=cache,zstd",
            }.items():
                services[name] = TurnlogSessionService(await stack.enter_async_context(open_store(url)))
            services["adk sqlite"] = SqliteSessionService(f"{folder}/sqlite.db")
            services["adk database (sqlite)"] = await stack.enter_async_context(
                DatabaseSessionService(f"sqlite+aiosqlite:///{folder}/database.db")
            )
            services["adk redis"] = RedisSessionService(RedisSessionServiceConfig(uri=redis_url.replace("/0", "/2")))
            sessions = {name: await fill(service) for name, service in services.items()}
            times = {name: [] for name in services}
            for number in range(rounds):
                for name in random.sample(list(services), len(services)):
                    times[name].append(await operations(services[name], sessions[name], number))
    report(times, ("write", "read", "list"), PAIRS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    asyncio.run(main(parser.parse_args().rounds))

"""Compare `TurnlogHistoryProvider` with the history providers of Microsoft's Agent Framework.

    python benchmarks/frameworks/agent_framework_history.py

It needs agent-framework-redis for the framework's provider on Redis; the framework has none on SQLite, so turnlog on
SQLite is compared with its files.  A session has 1,000 messages, in turns of a question, a call of a tool, its result,
and an answer.  In each round every provider does every operation, in a different order: `write` saves a turn, and
`read` loads the session.  The framework's providers list no sessions.  The script prints the median of each operation,
and the median over the rounds of the ratio to the framework's provider.
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

from agent_framework import Content, FileHistoryProvider, Message
from agent_framework_redis import RedisHistoryProvider
from ratios import report

import servers
from turnlog import open_store
from turnlog_agent_framework import TurnlogHistoryProvider

MESSAGES = 1_000
PAIRS = [
    ("turnlog sqlite", "framework file"),
    ("turnlog redis", "framework redis"),
    ("turnlog redis zstd", "framework redis"),
]


def turn(number):
    text = "It was shipped on Monday, and should arrive by Thursday at the latest. " * 3
    call = f"call-{number}"
    return [
        Message("user", [f"Where is my order {number}?"]),
        Message("assistant", [Content.from_function_call(call, "track", arguments=f'{{"order": {number}}}')]),
        Message("tool", [Content.from_function_result(call, result=text)]),
        Message("assistant", [text]),
    ]


async def operations(provider, number):
    """Return the seconds of each operation."""
    took, messages = {}, turn(number)

    async def timed(name, awaitable):
        begun = time.perf_counter()
        answer = await awaitable
        took[name] = time.perf_counter() - begun
        return answer

    await timed("write", provider.save_messages("alice", messages))
    loaded = await timed("read", provider.get_messages("alice"))
    assert len(loaded) == 4 * (number + 1)
    return took


async def main(rounds):
    with ExitStack() as running:
        async with AsyncExitStack() as stack:
            redis_url = servers.started("redis", running)
            providers = {}
            for name, url in {
                "turnlog sqlite": servers.started("sqlite", running),
                "turnlog redis": redis_url,
                "turnlog redis zstd": redis_url.replace("/0", "/1") + "?layers=cache,zstd",
            }.items():
                providers[name] = TurnlogHistoryProvider(await stack.enter_async_context(open_store(url)))
            providers["framework file"] = FileHistoryProvider(running.enter_context(tempfile.TemporaryDirectory()))
            theirs = RedisHistoryProvider(redis_url=redis_url.replace("/0", "/2"), application_id="shop")
            stack.push_async_callback(theirs.aclose)
            providers["framework redis"] = theirs
            for provider in providers.values():
                for number in range(MESSAGES // 4):
                    await provider.save_messages("alice", turn(number))
            times = {name: [] for name in providers}
            for number in range(rounds):
                for name in random.sample(list(providers), len(providers)):
                    times[name].append(await operations(providers[name], MESSAGES // 4 + number))
    report(times, ("write", "read"), PAIRS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    asyncio.run(main(parser.parse_args().rounds))

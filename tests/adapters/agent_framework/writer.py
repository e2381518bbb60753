"""A process that saves turns: python writer.py URL NAME, with the id of a session on each line of its input."""

from __future__ import annotations

import asyncio
import sys

from adapters.agent_framework.providers import tool_turn
from turnlog import open_store
from turnlog_agent_framework import TurnlogHistoryProvider

TURNS = 4


async def write(url: str, name: str) -> None:
    """Save some turns with calls of a tool."""
    async with open_store(url) as store:
        provider = TurnlogHistoryProvider(store)
        print("ready", flush=True)
        while session_id := (await asyncio.to_thread(sys.stdin.readline)).strip():
            for number in range(TURNS):
                await provider.save_messages(session_id, tool_turn(f"{name}-{number}"))
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2]))

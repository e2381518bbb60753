"""A process that runs an agent for each line of its input: python runs.py URL NAME

A line has the class of the session, `TurnlogSession` or `NaiveSession`, and the session id.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from agents import Runner, TResponseInputItem, set_tracing_disabled

from adapters.openai_agents.scripted import agent, call
from turnlog import ANY, open_store
from turnlog_openai_agents import TurnlogSession

RUNS = 3


class NaiveSession(TurnlogSession):
    """A session that writes the history which it has read, as an adapter over a list in a file does."""

    async def add_items(self, items: list[TResponseInputItem], *, wrapper: Any = None) -> None:
        history: list[Any] = [*await self.get_items(), *items]
        await self.store.save(self.session_id, history, expect=ANY)


async def main(url: str, name: str) -> None:
    """Run agents until the input ends."""
    async with open_store(url) as store:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            kind, session_id = line.split()
            session = {"TurnlogSession": TurnlogSession, "NaiveSession": NaiveSession}[kind](store, session_id)
            for number in range(RUNS):
                asked = f"{name}-{number}"
                steps = [call("weather", asked, city="Bern"), call("weather", f"{asked}-b", city="Rome")], f"to {asked}"
                await Runner.run(agent(*steps), asked, session=session)
            print("done", flush=True)


if __name__ == "__main__":
    set_tracing_disabled(True)
    asyncio.run(main(*sys.argv[1:]))

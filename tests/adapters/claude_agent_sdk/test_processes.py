"""Two processes write one session at the same time."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from adapters.claude_agent_sdk.writer import BATCHES, batch
from adapters.two_writers import two_writers
from turnlog import open_store
from turnlog_claude_agent_sdk import TurnlogSessionStore

REPEATS = 20


async def check(url: str) -> int:
    """Fail unless each session has each batch once and whole; return the number of changes of the writer."""
    turns = [batch(name, number) for name in "ab" for number in range(BATCHES)]
    changes = 0
    async with open_store(url) as store:
        claude = TurnlogSessionStore(store)
        for repeat in range(REPEATS):
            stored = await claude.load({"project_key": "shop", "session_id": f"session-{repeat}"}) or []
            found = [stored[place : place + 5] for place in range(0, len(stored), 5)]
            for name in "ab":
                mine = [turn for turn in turns if turn[-1]["lastPrompt"].startswith(name)]
                assert [turn for turn in found if turn in mine] == mine
            assert len(found) == len(turns)
            writers = [turn[-1]["lastPrompt"][0] for turn in found]  # type: ignore[typeddict-item]
            changes += sum(one != other for one, other in pairwise(writers))
    return changes


def test_two_processes_lose_and_double_nothing(shared: str) -> None:
    with two_writers("adapters.claude_agent_sdk.writer", shared) as send:
        for repeat in range(REPEATS):
            assert send(f"session-{repeat}") == ["done", "done"]
    changes = asyncio.run(check(shared))
    assert changes > REPEATS  # a session has more than one change if the processes wrote at the same time

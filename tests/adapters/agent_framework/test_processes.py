"""Two processes save turns in one session at the same time."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from adapters.agent_framework.providers import dicts, tool_turn
from adapters.agent_framework.writer import TURNS
from adapters.two_writers import two_writers
from turnlog import open_store
from turnlog_agent_framework import TurnlogHistoryProvider

REPEATS = 20


async def changes_of_writer(url: str) -> int:
    """Fail unless each session has each turn once and whole; return how often the writer changes within them."""
    changes = 0
    turns = {f"{name}-{number}": dicts(tool_turn(f"{name}-{number}")) for name in "ab" for number in range(TURNS)}
    async with open_store(url) as store:
        provider = TurnlogHistoryProvider(store)
        for repeat in range(REPEATS):
            stored = dicts(await provider.get_messages(f"s{repeat}"))
            found = [stored[place : place + 4] for place in range(0, len(stored), 4)]
            names = [next(name for name, turn in turns.items() if turn == one) for one in found]
            assert all(
                [name for name in names if name[0] == who] == [f"{who}-{n}" for n in range(TURNS)] for who in "ab"
            )
            changes += sum(one[0] != other[0] for one, other in pairwise(names))
    return changes


def test_two_processes_lose_and_double_nothing(shared: str) -> None:
    with two_writers("adapters.agent_framework.writer", shared) as send:
        for repeat in range(REPEATS):
            assert send(f"s{repeat}") == ["done", "done"]
    assert asyncio.run(changes_of_writer(shared)) > REPEATS  # the processes wrote at the same time

"""Two processes write one session at the same time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from adapters.claude_agent_sdk.writer import BATCHES, batch
from turnlog import open_store
from turnlog_claude_agent_sdk import TurnlogSessionStore

REPEATS = 20


def tell(processes: list[subprocess.Popen[str]], text: str) -> None:
    """Send a line to each process, and wait for the answer of each."""
    for process in processes:
        assert process.stdin
        process.stdin.write(text)
        process.stdin.flush()
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "done\n"


def start(url: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("writer.py")), url, name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


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
    processes = [start(shared, name) for name in "ab"]
    try:
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for repeat in range(REPEATS):
            tell(processes, f"session-{repeat}\n")
    finally:
        for process in processes:
            process.communicate(timeout=30)
    changes = asyncio.run(check(shared))
    assert changes > REPEATS  # a session has more than one change if the processes wrote at the same time

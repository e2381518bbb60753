"""Two processes save turns in one session at the same time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from adapters.agent_framework.providers import dicts, tool_turn
from adapters.agent_framework.writer import TURNS
from checkout import ROOT
from turnlog import open_store
from turnlog_agent_framework import TurnlogHistoryProvider

REPEATS = 20


def start(url: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("writer.py")), url, name]
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def answers(processes: list[subprocess.Popen[str]]) -> list[str]:
    lines = []
    for process in processes:
        assert process.stdout
        lines.append(process.stdout.readline().strip())
    return lines


def write(processes: list[subprocess.Popen[str]], session_id: str) -> None:
    """Let all processes write to a session, and wait for them."""
    for process in processes:
        assert process.stdin
        process.stdin.write(f"{session_id}\n")
        process.stdin.flush()
    assert answers(processes) == ["done"] * len(processes)


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
    processes = [start(shared, name) for name in "ab"]
    try:
        assert answers(processes) == ["ready", "ready"]
        for repeat in range(REPEATS):
            write(processes, f"s{repeat}")
    finally:
        for process in processes:
            process.communicate(timeout=30)
    assert asyncio.run(changes_of_writer(shared)) > REPEATS  # the processes wrote at the same time

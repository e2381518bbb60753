"""Two processes append to one session at the same time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from adapters.google_adk.services import APP, USER, invocation, loaded, new
from adapters.google_adk.writer import RUNS
from checkout import ROOT
from turnlog import open_store
from turnlog_google_adk import TurnlogSessionService

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


def write(processes: list[subprocess.Popen[str]], session_id: str) -> int:
    """Let all processes write to a session; return the number of refused events."""
    for process in processes:
        assert process.stdin
        process.stdin.write(f"{session_id}\n")
        process.stdin.flush()
    return sum(map(int, answers(processes)))


async def create(url: str) -> None:
    async with open_store(url) as store:
        for repeat in range(REPEATS):
            await new(TurnlogSessionService(store), f"s{repeat}")


async def check(url: str) -> None:
    """Fail unless each session has each event once, the events of a run in order, and all states."""
    runs = [invocation(f"{name}-{number}") for name in "ab" for number in range(RUNS)]
    async with open_store(url) as store:
        service = TurnlogSessionService(store)
        for repeat in range(REPEATS):
            stored = (await loaded(service, f"s{repeat}")).events
            assert len(stored) == sum(map(len, runs))
            for run in runs:
                found = [event for event in stored if event.invocation_id == run[0].invocation_id]
                assert [event.content for event in found] == [event.content for event in run]
        state = await service.get_user_state(app_name=APP, user_id=USER)
        assert len(state) == REPEATS * sum(map(len, runs))


def test_two_processes_lose_and_double_nothing(shared: str) -> None:
    asyncio.run(create(shared))
    processes = [start(shared, name) for name in "ab"]
    try:
        assert answers(processes) == ["ready", "ready"]
        refused = sum(write(processes, f"s{repeat}") for repeat in range(REPEATS))
    finally:
        for process in processes:
            process.communicate(timeout=30)
    asyncio.run(check(shared))
    assert refused > REPEATS  # the processes wrote at the same time

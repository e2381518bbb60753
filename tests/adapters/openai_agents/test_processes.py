"""Two processes drive one session at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from adapters.openai_agents.runs import RUNS
from adapters.openai_agents.scripted import opened, run, texts
from adapters.stacks import SERVERS, url_of
from turnlog_openai_agents import TurnlogSession

REPEATS, NAIVE = 20, 5
NAMES = ("one", "two")


@pytest.fixture
def drive(shared: str) -> Iterator[Any]:
    """Yield a function that makes two processes run agents on a session at once."""
    program = Path(__file__).with_name("runs.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, program, shared, name],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for name in NAMES
        ]

        def drive(kind: str, session_id: str) -> None:
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{kind} {session_id}\n")
                process.stdin.flush()
            assert answers() == ["done\n", "done\n"]

        def answers() -> list[str]:
            return [process.stdout.readline() for process in processes if process.stdout is not None]

        try:
            assert answers() == ["ready\n", "ready\n"]
            yield drive
        finally:
            for process in processes:
                if process.stdin is not None:
                    process.stdin.close()


@pytest.fixture(params=SERVERS)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a stack that processes share."""
    return url_of(request.param, tmp_path)


def wanted() -> Counter[str]:
    """Return the texts and the calls of all runs."""
    every = [f"{name}-{number}" for name in NAMES for number in range(RUNS)]
    calls = [f"call-{one}{more}" for one in every for more in ("", "-b")]
    return Counter([*every, *(f"to {one}" for one in every), *calls, *calls])


def found(items: list[Any]) -> Counter[str]:
    """Return the texts, and the id of each call and of each result."""
    return Counter(one.get("call_id") or texts([one])[0] for one in items)


def test_two_processes_lose_nothing_double_nothing_and_part_no_call_from_its_result(drive: Any, shared: str) -> None:
    for repeat in range(REPEATS):
        drive("TurnlogSession", f"s{repeat}")
    for repeat in range(NAIVE):
        drive("NaiveSession", f"naive{repeat}")

    async def test() -> None:
        async with opened(shared) as store:
            for repeat in range(REPEATS):
                assert found(await TurnlogSession(store, f"s{repeat}").get_items()) == wanted()
                for turn in (await store.session(f"s{repeat}")).turns:
                    kinds = Counter(
                        (one.get("type"), one.get("call_id")) for one in turn.messages if one.get("call_id")
                    )
                    for (kind, call_id), count in kinds.items():
                        assert count == 1
                        assert kind != "function_call" or kinds["function_call_output", call_id] == 1
            # an adapter that writes the list which it has read fails this test
            naive = [found(await TurnlogSession(store, f"naive{repeat}").get_items()) for repeat in range(NAIVE)]
            assert any(one != wanted() for one in naive)

    run(test)

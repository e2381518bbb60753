"""Two processes that run a graph on one thread at the same time."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import turnlog.sync
from adapters.langgraph.graphs import chat, thread
from adapters.langgraph.writer import TURNS
from adapters.stacks import SERVERS, url_of
from turnlog_langgraph import TurnlogSaver

REPEATS = 20


@pytest.mark.parametrize("stack", SERVERS)
def test_two_processes_lose_and_double_nothing(stack: str, tmp_path: Path) -> None:
    url = url_of(stack, tmp_path)
    refused = 0
    with ExitStack() as stop:
        writers = [stop.enter_context(start(url, name)) for name in ("a", "b")]
        for one in writers:
            assert answer(one) == "ready"
        for number in range(REPEATS):
            for one in writers:
                assert one.stdin is not None
                one.stdin.write(f"t{number}\n")
                one.stdin.flush()
            refused += sum(int(answer(one)) for one in writers)
    assert [one.returncode for one in writers] == [0, 0]
    assert refused > 0  # otherwise they did not write at the same time
    with turnlog.sync.open_store(url) as store:
        graph = chat(TurnlogSaver(store))
        for number in range(REPEATS):
            check(graph.get_state(thread(f"t{number}")).values["messages"])
            assert len([*graph.get_state_history(thread(f"t{number}"))]) == 2 * TURNS


def check(messages: list[Any]) -> None:
    """Fail unless the messages are each question once, its tool call, the result and the answer."""
    asked: list[str] = []
    for place in range(0, len(messages), 4):
        question, call, result, said = messages[place : place + 4]
        assert [one["id"] for one in call.tool_calls] == [result.tool_call_id] == [f"call-{question.content}"]
        assert said.content == "It is sunny."
        asked.append(question.content)
    assert sorted(asked) == [f"{name}-{number}" for name in "ab" for number in range(TURNS)]


def start(url: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from adapters.langgraph.writer import *; main(*sys.argv[1:])", url, name]
    tests = Path(__file__).resolve().parents[2]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tests)


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()

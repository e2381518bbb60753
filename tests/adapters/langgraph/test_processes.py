"""Two processes that run a graph on one thread at the same time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import turnlog.sync
from adapters.langgraph.graphs import chat, thread
from adapters.langgraph.writer import TURNS
from adapters.stacks import SERVERS, url_of
from adapters.two_writers import two_writers
from turnlog_langgraph import TurnlogSaver

REPEATS = 20


@pytest.mark.parametrize("stack", SERVERS)
def test_two_processes_lose_and_double_nothing(stack: str, tmp_path: Path) -> None:
    url = url_of(stack, tmp_path)
    with two_writers("adapters.langgraph.writer", url) as send:
        refused = sum(int(answer) for number in range(REPEATS) for answer in send(f"t{number}"))
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

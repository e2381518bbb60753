"""Two processes that answer in one session at the same time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import turnlog.sync
from adapters.stacks import SERVERS, url_of
from adapters.strands.agents import agent_of
from adapters.strands.writer import TURNS
from adapters.two_writers import two_writers
from turnlog_strands import TurnlogSessionRepository

REPEATS = 20


@pytest.mark.parametrize("stack", SERVERS)
def test_two_processes_lose_and_double_nothing(stack: str, tmp_path: Path) -> None:
    url = url_of(stack, tmp_path)
    attempts = 0
    answered: list[set[str]] = []
    with two_writers("adapters.strands.writer", url) as send:
        for number in range(REPEATS):
            found = [answer.split() for answer in send(f"s{number}")]
            attempts += sum(int(words[0]) for words in found)
            answered.append({name for words in found for name in words[1:]})
    assert attempts > 2 * TURNS * REPEATS  # otherwise they did not write at the same time
    with turnlog.sync.open_store(url) as store:
        for number, names in enumerate(answered):
            assert len(names) == 2 * TURNS
            check(store.session(f"s{number}/default"), names)
            messages = agent_of(TurnlogSessionRepository(store), f"s{number}").messages
            calls = [block["toolUse"]["toolUseId"] for it in messages for block in it["content"] if "toolUse" in block]
            results = [it["toolResult"]["toolUseId"] for m in messages for it in m["content"] if "toolResult" in it]
            assert calls == results


def check(session: turnlog.Session, answered: set[str]) -> None:
    """Fail unless no message is stored twice, and each answered question is in one whole turn."""
    records: list[Any] = [message.to_dict() for message in session.messages]
    assert [record["strands"]["message_id"] for record in records] == list(range(len(records)))
    whole: list[str] = []
    asked: list[str] = []
    for turn in session.turns:
        first: Any = turn.messages[0].to_dict()
        question = first["content"][-1].get("text")
        asked.append(question)
        if len(turn.messages) == 4 and not turn.open:
            whole.append(question)
    assert len(set(asked)) == len(asked)
    assert set(whole) >= answered

"""Two processes that answer in one session at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import turnlog.sync
from adapters.stacks import SERVERS, url_of
from adapters.strands.agents import agent_of
from adapters.strands.writer import TURNS
from turnlog_strands import TurnlogSessionRepository

REPEATS = 20


@pytest.mark.parametrize("stack", SERVERS)
def test_two_processes_lose_and_double_nothing(stack: str, tmp_path: Path) -> None:
    url = url_of(stack, tmp_path)
    attempts = 0
    answered: list[set[str]] = []
    with ExitStack() as stop:
        writers = [stop.enter_context(start(url, name)) for name in ("a", "b")]
        assert [answer(one) for one in writers] == [["ready"]] * 2
        for number in range(REPEATS):
            for one in writers:
                assert one.stdin is not None
                one.stdin.write(f"s{number}\n")
                one.stdin.flush()
            found = [answer(one) for one in writers]
            attempts += sum(int(words[0]) for words in found)
            answered.append({name for words in found for name in words[1:]})
    assert [one.returncode for one in writers] == [0, 0]
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


def start(url: str, name: str) -> subprocess.Popen[str]:
    here = Path(__file__)
    path = os.pathsep.join([str(here.parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    command = [sys.executable, str(here.with_name("writer.py")), url, name]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def answer(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()

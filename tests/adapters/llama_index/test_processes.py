"""Two processes that write to one chat at the same time."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import turnlog.sync
from adapters.stacks import SERVERS, url_of
from turnlog_llama_index import TurnlogChatStore

REPEATS = 20


@pytest.mark.parametrize("stack", SERVERS)
def test_two_processes_lose_and_double_nothing(stack: str, tmp_path: Path) -> None:
    url = url_of(stack, tmp_path)
    removed: list[list[str]] = []
    with ExitStack() as stop:
        writers = [stop.enter_context(start(url, name)) for name in ("a", "b")]
        assert [answer(one) for one in writers] == ["ready"] * 2
        for number in range(REPEATS):
            for one in writers:
                assert one.stdin is not None
                one.stdin.write(f"k{number}\n")
                one.stdin.flush()
            removed.append([answer(one) for one in writers])
    assert [one.returncode for one in writers] == [0, 0]
    every = {f"{name}-{number}" for name in "ab" for number in range(10)}
    with turnlog.sync.open_store(url) as store:
        for number, gone in enumerate(removed):
            left = [str(message.content) for message in TurnlogChatStore(store).get_messages(f"k{number}")]
            assert sorted(left + gone) == sorted(every)
            for name in "ab":
                own = [text for text in left if text.startswith(name)]
                assert own == sorted(own)


def start(url: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("writer.py")), url, name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()

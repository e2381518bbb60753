"""Two processes that write to one chat at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest

import turnlog.sync
from adapters.stacks import SERVERS, url_of
from adapters.two_writers import two_writers
from turnlog_llama_index import TurnlogChatStore

REPEATS = 20


@pytest.mark.parametrize("stack", SERVERS)
def test_two_processes_lose_and_double_nothing(stack: str, tmp_path: Path) -> None:
    url = url_of(stack, tmp_path)
    with two_writers("adapters.llama_index.writer", url) as send:
        removed = [send(f"k{number}") for number in range(REPEATS)]
    every = {f"{name}-{number}" for name in "ab" for number in range(10)}
    with turnlog.sync.open_store(url) as store:
        for number, gone in enumerate(removed):
            left = [str(message.content) for message in TurnlogChatStore(store).get_messages(f"k{number}")]
            assert sorted(left + gone) == sorted(every)
            for name in "ab":
                own = [text for text in left if text.startswith(name)]
                assert own == sorted(own)

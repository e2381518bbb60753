"""Restarts, and two processes that write to one conversation at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic_ai import Conversation
from pydantic_ai.messages import ModelMessage, ToolCallPart, ToolReturnPart, UserPromptPart

from adapters.pydantic_ai.scenarios import add, loaded, texts
from adapters.pydantic_ai.writer import TURNS
from adapters.stacks import SERVERS, url_of
from adapters.two_writers import two_writers
from turnlog import open_store
from turnlog_pydantic_ai import TurnlogConversationStore

REPEATS = 20

pytestmark = pytest.mark.parametrize("stack", SERVERS)


def test_a_restart_forgets_nothing(stack: str, tmp_path: Path) -> None:
    async def write() -> None:
        async with open_store(url) as store:
            await add(TurnlogConversationStore(store), "one", "two", scope="ann")

    async def read() -> list[str]:
        async with open_store(url) as store:
            conversations = TurnlogConversationStore(store)
            assert len(await conversations.list_conversations(scope="ann")) == 1
            await add(conversations, "three")
            return texts((await loaded(conversations)).messages)[::2]

    url = url_of(stack, tmp_path)
    asyncio.run(write())
    assert asyncio.run(read()) == ["one", "two", "three"]


def test_two_processes_lose_and_double_nothing(stack: str, tmp_path: Path) -> None:
    url = url_of(stack, tmp_path)
    with two_writers("adapters.pydantic_ai.writer", url) as send:
        conflicts = sum(int(answer) for number in range(REPEATS) for answer in send(f"s{number}"))
    assert conflicts > 0  # otherwise they did not write at the same time

    async def read() -> list[Conversation]:
        async with open_store(url) as store:
            conversations = TurnlogConversationStore(store)
            assert {(await store.info(f"s{number}")).turns for number in range(REPEATS)} == {2 * TURNS}
            return [await loaded(conversations, f"s{number}") for number in range(REPEATS)]

    for conversation in asyncio.run(read()):
        assert conversation.usage.tool_calls == 2 * TURNS
        check(conversation.messages)


def check(messages: list[ModelMessage]) -> None:
    """Fail unless the messages are each question once, its tool call, the result and the answer."""
    asked: list[str] = []
    for place in range(0, len(messages), 4):
        (question,), (call,), (result,), (said,) = (message.parts for message in messages[place : place + 4])
        assert isinstance(question, UserPromptPart)
        assert isinstance(call, ToolCallPart)
        assert isinstance(result, ToolReturnPart)
        assert call.tool_call_id == result.tool_call_id == f"call-{question.content}"
        assert said.part_kind == "text"
        asked.append(str(question.content))
    assert sorted(asked) == [f"{name}-{number}" for name in "ab" for number in range(TURNS)]
    for name in "ab":
        own = [text for text in asked if text.startswith(name)]
        assert own == sorted(own)

"""Helpers for the tests of conversations: a decorator, and messages of pydantic-ai."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pydantic_ai import Conversation
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from turnlog import Store, open_store
from turnlog_pydantic_ai import TurnlogConversationStore


def scenario(test: Callable[[TurnlogConversationStore, Store], Awaitable[None]]) -> Callable[[str], None]:
    """Run an asynchronous test on each stack, with a new store."""

    def on_a_stack(url: str) -> None:
        async def main() -> None:
            async with open_store(url) as store:
                await test(TurnlogConversationStore(store), store)

        asyncio.run(main())

    on_a_stack.__name__, on_a_stack.__doc__ = test.__name__, test.__doc__
    return on_a_stack


def asked(text: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(text)])


def said(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(text)])


def turn(text: str) -> list[ModelMessage]:
    return [asked(text), said(f"answer to {text}")]


def tool_turn(text: str, call: str = "call-1") -> list[ModelMessage]:
    return [
        asked(text),
        ModelResponse(parts=[ToolCallPart("weather", {"city": "Paris"}, call)]),
        ModelRequest(parts=[ToolReturnPart("weather", "sunny", call)]),
        said("It is sunny."),
    ]


def new(*turns: str, id: str = "c") -> Conversation:
    return Conversation(conversation_id=id, messages=[message for text in turns for message in turn(text)])


async def loaded(conversations: TurnlogConversationStore, id: str = "c") -> Conversation:
    found = await conversations.load(id)
    assert found is not None
    return found


async def add(conversations: TurnlogConversationStore, *turns: str, id: str = "c", scope: str | None = None) -> None:
    """Save a conversation turn by turn."""
    conversation = await conversations.load(id) or Conversation(conversation_id=id)
    for text in turns:
        conversation.messages += turn(text)
        await conversations.save(conversation, scope=scope)


def texts(messages: list[ModelMessage]) -> list[str]:
    return [str(getattr(part, "content", part)) for message in messages for part in message.parts]

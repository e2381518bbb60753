"""Providers, messages and a model for the tests."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    Content,
    FileHistoryProvider,
    FunctionInvocationLayer,
    HistoryProvider,
    Message,
    tool,
)

from turnlog import open_store
from turnlog_agent_framework import TurnlogHistoryProvider


@asynccontextmanager
async def provider_at(place: str) -> AsyncIterator[HistoryProvider]:
    """Open a provider: ours on a URL, or the framework's own with a folder."""
    if ":" in place:
        async with open_store(place) as store:
            yield TurnlogHistoryProvider(store)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is experimental
            provider = FileHistoryProvider(place)
        yield provider


def scenario(test: Callable[[HistoryProvider], Awaitable[None]]) -> Callable[[str], None]:
    """Run an asynchronous test with a new provider at each place."""

    def at_a_place(place: str) -> None:
        async def main() -> None:
            async with provider_at(place) as provider:
                await test(provider)

        asyncio.run(main())

    at_a_place.__name__, at_a_place.__doc__ = test.__name__, test.__doc__
    return at_a_place


def said(role: str, text: str, **fields: Any) -> Message:
    return Message(role, [text], **fields)


def turn(name: str) -> list[Message]:
    return [said("user", f"question {name}"), said("assistant", f"answer {name}")]


def tool_turn(name: str) -> list[Message]:
    return [
        said("user", f"weather {name}"),
        Message("assistant", [Content.from_function_call(name, "weather", arguments='{"city": "Paris"}')]),
        Message("tool", [Content.from_function_result(name, result="sunny")]),
        said("assistant", f"It is sunny. {name}"),
    ]


def texts(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages]


def dicts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [message.to_dict() for message in messages]


@tool(approval_mode="never_require")
def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


class Offline(FunctionInvocationLayer[Any], ChatMiddlewareLayer[Any], BaseChatClient[Any]):
    """A model that calls the tool when asked for the weather, and otherwise counts the messages of the user."""

    async def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> ChatResponse[Any]:
        last = messages[-1]
        if last.role == "user" and "weather" in last.text:
            call = Content.from_function_call(f"call-{len(messages)}", "weather", arguments='{"city": "Paris"}')
            return ChatResponse(messages=[Message("assistant", [call])])
        asked = sum(message.role == "user" for message in messages)
        return ChatResponse(messages=[said("assistant", f"You have asked {asked} times.")])


def agent_of(provider: HistoryProvider, **options: Any) -> Agent[Any]:
    return Agent(Offline(), tools=[weather], context_providers=[provider], **options)

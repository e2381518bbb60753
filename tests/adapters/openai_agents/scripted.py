"""Agents with the SDK's scripted model, which needs no network, and shorthands for their sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from agents import Agent, Runner, Tool, TResponseInputItem, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from turnlog import Backend, Layer, Receipt, Store, open_store
from turnlog_openai_agents import TurnlogSession

ANSWER = "It is sunny."


@function_tool
def weather(city: str) -> str:
    """Return the weather."""
    return f"sunny in {city}"


@function_tool(needs_approval=True)
def order(what: str) -> str:
    """Order something."""
    return f"ordered {what}"


def agent(*steps: Any, tools: list[Tool] | None = None) -> Agent[Any]:
    """Return an agent whose model gives these answers: a text, or a list of calls."""
    script = [[assistant_message(step)] if isinstance(step, str) else step for step in steps]
    return Agent(name="Assistant", model=ScriptedModel(steps=script), tools=tools or [weather, order])


def call(name: str, number: object = 1, **arguments: str) -> Any:
    """Return a call of a tool."""
    return function_call(name, arguments, call_id=f"call-{number}")


async def ask(session: TurnlogSession, text: str = "What is the weather?", *steps: Any) -> str:
    """Run an agent that calls a tool and then answers."""
    script = steps or ([call("weather", city="Bern")], ANSWER)
    return str((await Runner.run(agent(*script), text, session=session)).final_output)


def item(role: str, text: str) -> TResponseInputItem:
    """Return a message."""
    return cast("TResponseInputItem", {"role": role, "content": text})


def texts(items: list[TResponseInputItem]) -> list[str]:
    """Return the text or the kind of each item."""
    found = []
    for one in cast("list[dict[str, Any]]", items):
        content: Any = one.get("content", one.get("type"))
        found.append(content if isinstance(content, str) else content[0]["text"])
    return found


@asynccontextmanager
async def opened(url: str, layer: Callable[[Backend], Layer] | None = None) -> AsyncIterator[Store]:
    """Open a store, with a layer around its backend."""
    store = open_store(url)
    async with store if layer is None else Store(layer(store.backend)) as one:
        yield one


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test in a new event loop."""

    async def main() -> None:
        await test()

    asyncio.run(main())


class Gate(Layer):
    """Holds back a commit: `reached` is set when it arrives, and it goes on when `go` is set."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.reached, self.go, self.is_shut = asyncio.Event(), asyncio.Event(), False

    async def commit(self, *arguments: Any) -> Receipt:
        if self.is_shut:
            self.reached.set()
            await self.go.wait()
        return await super().commit(*arguments)

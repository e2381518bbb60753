"""Services and events for the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from google.adk.events import Event, EventActions
from google.adk.sessions import BaseSessionService, DatabaseSessionService, InMemorySessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from turnlog import open_store
from turnlog_google_adk import TurnlogSessionService

THEIRS = ("InMemorySessionService", "SqliteSessionService", "DatabaseSessionService")
"""The services of ADK that need no server."""

APP, USER = "shop", "alice"


@asynccontextmanager
async def service_at(place: str) -> AsyncIterator[BaseSessionService]:
    """Open a service: ours on a URL, or one of theirs with a folder."""
    name, _, folder = place.partition(" ")
    if name == "InMemorySessionService":
        yield InMemorySessionService()
    elif name == "SqliteSessionService":
        yield SqliteSessionService(f"{folder}/theirs.db")
    elif name == "DatabaseSessionService":
        async with DatabaseSessionService(f"sqlite+aiosqlite:///{folder}/theirs-database.db") as service:
            yield service
    else:
        async with open_store(place) as store:
            yield TurnlogSessionService(store)


def scenario(test: Callable[[BaseSessionService], Awaitable[None]]) -> Callable[[str], None]:
    """Run an asynchronous test with a new service at each place."""

    def at_a_place(place: str) -> None:
        async def main() -> None:
            async with service_at(place) as service:
                await test(service)

        asyncio.run(main())

    at_a_place.__name__, at_a_place.__doc__ = test.__name__, test.__doc__
    return at_a_place


def text(said: str, *, role: str = "user", **fields: Any) -> Event:
    """Return an event with a text, and possibly with a `state`."""
    state = fields.pop("state", {})
    return Event(
        author="user" if role == "user" else "agent",
        content=types.Content(role=role, parts=[types.Part(text=said)]),
        actions=EventActions(state_delta=state),
        **fields,
    )


def invocation(name: str) -> list[Event]:
    """Return the events of a run with a call of a tool."""
    call = types.FunctionCall(id=name, name="weather", args={"city": "Paris"})
    result = types.FunctionResponse(id=name, name="weather", response={"result": "sunny"})
    contents = [
        types.Content(role="user", parts=[types.Part(text=f"weather {name}")]),
        types.Content(role="model", parts=[types.Part(function_call=call)]),
        types.Content(role="user", parts=[types.Part(function_response=result)]),
        types.Content(role="model", parts=[types.Part(text="It is sunny.")]),
    ]
    return [
        Event(id=f"{name}-{number}", invocation_id=name, author="agent" if number else "user", content=content)
        for number, content in enumerate(contents)
    ]


async def new(service: BaseSessionService, session_id: str = "s", **fields: Any) -> Session:
    return await service.create_session(**{"app_name": APP, "user_id": USER, "session_id": session_id, **fields})


async def loaded(
    service: BaseSessionService, session_id: str = "s", config: GetSessionConfig | None = None, user_id: str = USER
) -> Session:
    found = await service.get_session(app_name=APP, user_id=user_id, session_id=session_id, config=config)
    assert found is not None
    return found


async def add(service: BaseSessionService, session: Session, *texts: str, **fields: Any) -> None:
    for said in texts:
        await service.append_event(session, text(said, **fields))


def texts(session: Session) -> list[str | None]:
    return [event.content.parts[0].text for event in session.events if event.content and event.content.parts]

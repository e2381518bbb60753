"""Server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NamedTuple

from starlette.responses import StreamingResponse
from starlette.types import Send

_HEADERS: Final = {"X-Accel-Buffering": "no"}  # nginx must not wait for the end of the stream


class Event(NamedTuple):
    """An event.

    Attributes:
        name: The name; empty: a comment, which keeps the connection alive.
        data: A value of JSON.
        id: The id, which the browser sends when it connects again; empty: none.
    """

    name: str = ""
    data: object = None
    id: str = ""

    def encoded(self) -> bytes:
        """Return the event as the browser expects it."""
        if not self.name:
            return b": \n\n"
        data = json.dumps(self.data)  # ASCII without line breaks
        head = f"id: {self.id}\n" if self.id else ""
        return f"{head}event: {self.name}\ndata: {data}\n\n".encode()


class EventStream(StreamingResponse):
    """A stream of events, which closes its generator as soon as the browser disconnects."""

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self._events = events
        super().__init__(_encoded(events), media_type="text/event-stream", headers=_HEADERS)

    async def stream_response(self, send: Send) -> None:
        """Send the events."""
        async with aclosing(self._events):
            await super().stream_response(send)


async def _encoded(events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    async for event in events:
        yield event.encoded()


async def pause(closing: asyncio.Event, seconds: float) -> bool:
    """Wait for a time; return whether the server closes."""
    try:
        await asyncio.wait_for(closing.wait(), seconds)
    except TimeoutError:
        return False
    return True

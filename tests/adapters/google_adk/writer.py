"""A process that appends events: python writer.py URL NAME, with the id of a session on each line of its input."""

from __future__ import annotations

import asyncio
import sys

from google.adk.errors import StaleSessionError

from adapters.google_adk.services import invocation, loaded
from turnlog import open_store
from turnlog_google_adk import TurnlogSessionService

RUNS = 2


async def write(url: str, name: str) -> None:
    """Append the events of some runs; after a refusal, load the session again and append the same event."""
    async with open_store(url) as store:
        service = TurnlogSessionService(store)
        print("ready", flush=True)
        while session_id := (await asyncio.to_thread(sys.stdin.readline)).strip():
            session, refused = await loaded(service, session_id), 0
            for number in range(RUNS):
                for event in invocation(f"{name}-{number}"):
                    event.actions.state_delta = {f"user:{session_id}-{event.id}": number}
                    while True:
                        try:
                            await service.append_event(session, event)
                            break
                        except StaleSessionError:
                            session, refused = await loaded(service, session_id), refused + 1
            print(refused, flush=True)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2]))

"""Facts about a user: ADK's DatabaseSessionService loses all but one, and turnlog keeps them.

    pip install 'turnlog[google-adk,cli]' aiosqlite greenlet && python google_adk_state.py

Alice talks in eight chats at the same time, and each of them stores a fact about her in a `user:` state.
"""

from __future__ import annotations

import asyncio
import tempfile

from google.adk.events import Event, EventActions
from google.adk.sessions import BaseSessionService, DatabaseSessionService

from turnlog import open_store
from turnlog_google_adk import TurnlogSessionService

CHATS = 8


async def remembered(service: BaseSessionService) -> int:
    """Store a fact in each chat at the same time, and return the number of facts that the service keeps."""
    chats = [await service.create_session(app_name="shop", user_id="alice") for _ in range(CHATS)]
    facts = [
        Event(author="agent", actions=EventActions(state_delta={f"user:fact-{number}": "kept"}))
        for number in range(CHATS)
    ]
    await asyncio.gather(*(service.append_event(chat, fact) for chat, fact in zip(chats, facts, strict=True)))
    return len(await service.get_user_state(app_name="shop", user_id="alice"))


async def main() -> None:
    """Print the number of facts that each service keeps in SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        async with DatabaseSessionService(f"sqlite+aiosqlite:///{folder}/adk.db") as theirs:
            print(f"DatabaseSessionService: {await remembered(theirs)} of {CHATS} facts")
        async with open_store(f"sqlite:///{folder}/turnlog.db") as store:
            print(f"turnlog: {await remembered(TurnlogSessionService(store))} of {CHATS} facts")


if __name__ == "__main__":
    asyncio.run(main())

"""Two requests in one session at the same time: FileSessionManager loses a message, turnlog refuses the second request.

Both requests load the session before either of them stores its message, as two browser tabs do.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from tempfile import TemporaryDirectory
from typing import Any

from strands import Agent
from strands.models import Model
from strands.session import FileSessionManager, RepositorySessionManager
from strands.types.exceptions import SessionException

import turnlog.sync
from turnlog_strands import TurnlogSessionRepository


class Noted(Model):
    """A model that always answers "Noted."."""

    def update_config(self, **config: Any) -> None:
        """Do nothing."""

    def get_config(self) -> dict[str, Any]:
        """Return an empty configuration."""
        return {}

    def structured_output(self, *arguments: Any, **options: Any) -> Any:
        """Refuse structured output."""
        raise NotImplementedError

    async def stream(self, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        """Yield the events of one answer."""
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": "Noted."}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def two_requests(manager: Callable[[], Any]) -> list[str]:
    """Send two messages of a user at once; return the texts of the user in the session afterwards."""

    def load() -> Agent:
        return Agent(model=Noted(), session_manager=manager(), callback_handler=None)

    first, second = load(), load()
    first("I am allergic to nuts.")
    try:
        second("I live in Paris.")
    except SessionException:
        load()("I live in Paris.")  # answer again, with the other request's turn in the history
    return [message["content"][0]["text"] for message in load().messages if message["role"] == "user"]


logging.disable()  # Strands logs the refused message
with TemporaryDirectory() as folder:
    FileSessionManager("c", storage_dir=folder)
    found = two_requests(lambda: FileSessionManager("c", storage_dir=folder))
    print("FileSessionManager:", len(found), "of 2 turns")
    with turnlog.sync.open_store(f"sqlite:///{folder}/chat.db") as store:
        repository = TurnlogSessionRepository(store)
        found = two_requests(lambda: RepositorySessionManager("c", session_repository=repository))
        print("turnlog:", len(found), "of 2 turns")

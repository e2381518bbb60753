"""A plugin of pytest: puts our store in the place of the SDK's InMemorySessionStore, before the tests import it."""

from __future__ import annotations

import os
import time
from itertools import count

import claude_agent_sdk
import claude_agent_sdk._internal.session_store as theirs
from claude_agent_sdk import SessionKey, SessionStoreEntry

import turnlog.sync
from adapters.published import built
from turnlog.sync import call
from turnlog_claude_agent_sdk import TurnlogSessionStore

_store = turnlog.sync.open_store(os.environ["TURNLOG_TEST_URL"])
_store.open()
_number = count()


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


class SwappedStore(TurnlogSessionStore):
    """Our store without sessions, with what the tests need of theirs: three methods, and a time for each write.

    Theirs counts milliseconds up, so that no two writes have the same time.
    """

    _last = 0

    def __init__(self) -> None:
        built()
        super().__init__(_store.wrapped.within(f"store-{next(_number)}"))

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        while _milliseconds() == self._last:
            pass
        await super().append(key, entries)
        self._last = _milliseconds()

    def get_entries(self, key: SessionKey) -> list[SessionStoreEntry]:
        return call(TurnlogSessionStore.load, self, key) or []

    @property
    def size(self) -> int:
        return len(self._sessions())

    def clear(self) -> None:
        for namespace, session_id in self._sessions():
            _store.within(namespace).erase(session_id)

    def _sessions(self) -> list[tuple[str, str]]:
        """Return the namespace and the id of each session, without those of subagents."""
        here = self.store.namespace
        return [
            (f"{here}/{project}", info.key.session)
            for project in _store.within(here).namespaces()
            for info in _store.within(f"{here}/{project}").sessions()
        ]


claude_agent_sdk.InMemorySessionStore = SwappedStore  # type: ignore[misc, assignment]
theirs.InMemorySessionStore = SwappedStore  # type: ignore[misc, assignment]

"""Naive backends: threads with event loops of their own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from naive import fails
from turnlog import Change, Key, Page, Query, Receipt, Session
from turnlog.testing._threads import Threads
from turnlog_memory import MemoryBackend


def let_others_run() -> None:
    """Give other threads the time to call the backend."""
    time.sleep(0.001)


@fails(Threads, "first_appends_of_threads")
class WritesWithoutALock(MemoryBackend):
    """Reads a session and writes it back, without a lock between threads."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        before = self._state(key)
        after, receipt = before.apply(change, self.clock())
        let_others_run()
        if after is not before:
            self._put(key, before, after, self.clock())
        return receipt


@fails(Threads, "reads_of_threads")
class TouchesWithoutALock(MemoryBackend):
    """Writes the new expiry with the state that it has read."""

    async def read(self, key: Key, **options: Any) -> Session:
        before = self._state(key)
        after, session = before.read(self.clock(), **options)
        let_others_run()
        if after is not before:
            self._states[key] = after
        return session


@fails(Threads, "lists_among_threads")
class ListsWithoutACopy(MemoryBackend):
    """Iterates over the sessions while other threads add some."""

    async def page(self, query: Query) -> Page:
        for _ in self._states:
            let_others_run()
        return await super().page(query)


@fails(Threads, "short_lived_loops")
class KeepsTheFirstLoop(MemoryBackend):
    """Works in a thread of the loop that has used it first."""

    loop: asyncio.AbstractEventLoop | None = None

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.loop = self.loop or asyncio.get_running_loop()
        await self.loop.run_in_executor(None, let_others_run)
        return await super().commit(key, change)

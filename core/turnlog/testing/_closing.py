"""Contract: calls that run while `close` is called.

Each test keeps calls running in several tasks: a task begins its next call as soon as its last one has ended, until a
call raises `Closed`.  `close` therefore always finds running calls, however fast the backend and the machine are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import ClassVar, Final

import pytest

from ..errors import Closed
from ..store import Store
from ._base import ContractBase
from ._material import history, key, say
from ._open_files import open_files

_WRITERS: Final = 4  # of one session
_MOMENTS: Final = (0, 1, 5)  # steps of the event loop from the first call to `close`, or to its cancellation
_RETURNING: Final = 20  # steps of the event loop in which callers receive answers that have arrived before


class Closing(ContractBase):
    patience: ClassVar[float] = 30.0
    """Seconds after which a call of `close` counts as one that never returns."""

    async def test_running_calls_end_with_close(self) -> None:
        """Calls that run while `close` is called succeed or raise `Closed`, and have ended when `close` returns."""
        for steps in _MOMENTS:
            async with self._calls() as calls:
                await _pass(steps)
                await self._closed(calls)

    async def test_turns_and_close(self) -> None:
        """`close` loses no acknowledged turn.  A turn whose call raised `Closed` is not stored, not even later."""
        if not self.shared:
            pytest.skip("the sessions of a closed backend cannot be read")
        other = await self.opened()
        for number, steps in enumerate(_MOMENTS):
            async with self._calls(f"{number}") as calls:
                await _pass(steps)
                await self._within(calls.store.close())
                at_once = await calls.stored(other)
                await self._closed(calls)
                assert at_once == calls.acknowledged()
                assert await calls.stored(other) == at_once, "turns were written after `close` had returned"

    async def test_several_tasks_close_at_once(self) -> None:
        """Several tasks may call `close` while calls run; no call of `close` raises an error."""
        for steps in _MOMENTS:
            async with self._calls() as calls:
                first = asyncio.create_task(calls.store.close())
                await _pass(steps)
                await self._closed(calls)
                await first

    async def test_a_cancelled_close(self) -> None:
        """After a cancelled `close`, another `close` ends the running calls, and leaves no task and no file open."""
        tasks, files = asyncio.all_tasks(), 0
        for number, steps in enumerate((1, *_MOMENTS)):
            async with self._calls() as calls:
                closing = asyncio.create_task(calls.store.close())
                await _pass(steps)
                closing.cancel()
                await asyncio.wait([closing], timeout=self.patience)
                await self._closed(calls)
            assert asyncio.all_tasks() == tasks, "tasks go on"
            files = files if number else open_files()  # the first round may load modules
            assert open_files() <= files, "files or connections stay open"

    async def test_writers_that_wait_for_another_one(self) -> None:
        """If `close` is called while a writer is `alone` with a session, the waiting writers end when it ends."""
        for steps in _MOMENTS:
            async with self._calls() as calls:
                async with calls.store.backend.alone(key(calls.store, calls.shared)):
                    await _pass(steps)
                    closing = asyncio.create_task(calls.store.close())
                    await _pass(steps)
                await asyncio.wait([closing, *calls.tasks], timeout=self.patience)
                await self._closed(calls)
                closing.result()

    # ----------------------------------------------------------------------------------------------------- the calls

    @asynccontextmanager
    async def _calls(self, prefix: str = "") -> AsyncGenerator[_Calls, None]:
        """Open a store, and keep calls running until it is closed."""
        store = self.made()
        await store.open()
        calls = _Calls(store, prefix)
        await calls.begin()
        try:
            yield calls
        finally:
            for task in calls.tasks:
                task.cancel()
            await asyncio.wait(calls.tasks, timeout=self.patience)

    async def _within(self, closing: Awaitable[None]) -> None:
        async with asyncio.timeout(self.patience):
            await closing

    async def _closed(self, calls: _Calls) -> None:
        """Close the store, and check that the calls have ended."""
        await self._within(calls.store.close())
        calls.is_closed = True
        await _pass(_RETURNING)
        assert all(task.done() for task in calls.tasks), "calls go on after `close` has returned"
        for task in calls.tasks:
            task.result()


async def _pass(steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)


class _Calls:
    """Tasks that call a store until a call raises `Closed`.

    Args:
        store: The store.
        prefix: The beginning of the ids of the sessions.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self.store = store
        self.is_closed = False
        """Whether `close` has returned, so that each further call must raise `Closed`."""
        self.tasks: list[asyncio.Task[None]] = []
        self.shared = f"{prefix}shared"
        self._own = f"{prefix}own"
        self._gone = f"{prefix}gone"
        self._turns: dict[str, dict[int, str]] = {self.shared: {}, self._own: {}}

    async def begin(self) -> None:
        """Begin the calls."""
        await self._append(self.shared)
        await self._append(self._own)
        calls: list[Callable[[], Awaitable[object]]] = [
            *(lambda: self._append(self.shared) for _ in range(_WRITERS)),
            lambda: self._append(self._own),
            lambda: self.store.load(self.shared, last=4),
            lambda: self.store.list_sessions(limit=2),
            lambda: self.store.merge_metadata(self._gone, {"title": "x"}),
            lambda: self.store.erase(self._gone),
        ]
        self.tasks = [asyncio.create_task(self._repeat(call)) for call in calls]
        await asyncio.sleep(0)  # each task begins its first call

    async def _repeat(self, call: Callable[[], Awaitable[object]]) -> None:
        while True:
            is_late = self.is_closed
            try:
                await call()
            except Closed:
                return
            assert not is_late, "a call that began after `close` had returned did not raise `Closed`"
            await asyncio.sleep(0)  # a backend that never waits would let no other task run

    async def _append(self, session: str) -> None:
        text = self.store.new_session_id()
        receipt = await self.store.append(session, say(text))
        assert receipt.number is not None
        self._turns[session][receipt.number] = text

    def acknowledged(self) -> list[list[str]]:
        """Return the texts of the acknowledged turns of each session, in the order of their numbers."""
        return [[turns[number] for number in sorted(turns)] for turns in self._turns.values()]

    async def stored(self, store: Store) -> list[list[str]]:
        """Return the texts of each session in another store."""
        return [await history(store, session) for session in self._turns]

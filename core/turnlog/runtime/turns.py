"""Tasks that work on the same key take turns."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from ..errors import Unavailable

K = TypeVar("K")

_alone: ContextVar[tuple[Turns[Any], object] | None] = ContextVar("turnlog_alone", default=None)
"""The turn that encloses the current code, and everything that is awaited in it, in other tasks as well."""


class Turns(Generic[K]):
    """Gives the tasks of one event loop their turns at a key, in the order in which they ask.

    A key that no task works on costs two operations on a dictionary, and is kept nowhere.

    Args:
        name: Where the keys are, in error messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._taken: dict[K, deque[asyncio.Future[None]] | None] = {}

    async def take(self, key: K, until: float | None) -> bool:
        """Wait for a turn at a key; return False if the caller is inside of `alone`, and has the turn already.

        Args:
            key: The key; `leave` ends the turn.
            until: When to give up, by the clock of the loop; None: never.

        Raises:
            Unavailable: The turn did not come in time.
        """
        taken = self._taken
        if key not in taken:
            taken[key] = None
            return True
        if _alone.get() == (self, key):
            return False
        queue = taken[key]
        if queue is None:
            queue = taken[key] = deque()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            async with asyncio.timeout_at(until):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # `leave` gave it the turn just before: pass that on
                self.leave(key)
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    f"{self._name}: {len(queue)} other tasks write to {key}, there was no turn in time: nothing was done"
                ) from None
            raise
        return True

    def leave(self, key: K) -> None:
        """End a turn: the next task that waits has its turn."""
        queue = self._taken[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._taken[key]

    @asynccontextmanager
    async def alone(self, key: K, until: float | None) -> AsyncGenerator[None, None]:
        """Keep a turn for several operations, each of which takes it.

        Args:
            key: The key.
            until: As in `take`.

        Raises:
            Unavailable: The turn did not come in time.
        """
        if not await self.take(key, until):
            yield
            return
        before = _alone.set((self, key))
        try:
            yield
        finally:
            _alone.reset(before)
            self.leave(key)


class Gate(Generic[K]):
    """Lets one task of an event loop be alone with a key, where tasks do not take turns otherwise.

    Args:
        name: As in `Turns`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns[K]] = weakref.WeakKeyDictionary()

    async def pass_by(self, key: K, timeout: float | None = None) -> None:
        """Wait while another task is alone with a key.

        Args:
            key: The key.
            timeout: The most seconds to wait; None: for ever.

        Raises:
            Unavailable: It took longer.
        """
        loop = asyncio.get_running_loop()
        turns = self._turns.get(loop)
        if turns is not None and await turns.take(key, None if timeout is None else loop.time() + timeout):
            turns.leave(key)

    @asynccontextmanager
    async def alone(self, key: K, timeout: float | None = None) -> AsyncGenerator[None, None]:
        """Have the other tasks wait in `pass_by`.

        Args:
            key: The key.
            timeout: As in `pass_by`.

        Raises:
            Unavailable: Other tasks were alone with the key for longer.
        """
        loop = asyncio.get_running_loop()
        turns = self._turns.setdefault(loop, Turns(self._name))
        async with turns.alone(key, None if timeout is None else loop.time() + timeout):
            yield

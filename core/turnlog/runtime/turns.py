"""Fair locks by key: the tasks that work on a key run one at a time, in order."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any, Generic, TypeAlias, TypeVar

from ..errors import Unavailable

K = TypeVar("K")
W = TypeVar("W")
R = TypeVar("R")

_Waiting: TypeAlias = tuple[asyncio.Future[R | None], W]

_alone: ContextVar[tuple[Turns[Any, Any, Any], object] | None] = ContextVar("turnlog_alone", default=None)
"""The turn that encloses the current code; tasks that this code creates inherit it."""


class Turns(Generic[K, W, R]):
    """Fair locks by key for the tasks of one event loop: a task waits for its turn, in the order of the calls.

    A waiting task deposits its work.  The task that has the turn may do this work as well.  A turn at a key without
    other tasks takes two operations on a dictionary.  Unused keys take no memory.

    Args:
        name: The location of the keys, for error messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._taken: dict[K, deque[_Waiting[R, W]] | None] = {}

    def take(self, key: K) -> bool:
        """Take the turn at a key if it is free; return whether it was free.  `leave` ends the turn."""
        if key in self._taken:
            return False
        self._taken[key] = None
        return True

    async def wait(self, key: K, until: float | None, work: W) -> R | bool:
        """Wait for the turn at a key that is taken.

        Args:
            key: The key.
            until: The deadline, by the monotonic clock; None: no deadline.
            work: The work, for the task that has the turn.

        Returns:
            True: the caller has the turn.  False: the caller is inside `alone`, and has the turn already.  Otherwise
            the result of the work, which another task has done.

        Raises:
            Unavailable: The turn did not come in time.
        """
        if _alone.get() == (self, key):
            return False
        queue = self._taken[key]
        if queue is None:
            queue = self._taken[key] = deque()
        turn: asyncio.Future[R | None] = asyncio.get_running_loop().create_future()
        queue.append((turn, work))
        try:
            async with asyncio.timeout(None if until is None else until - monotonic()):
                result = await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.result() is None:
                self.leave(key)  # the task got the turn before it was cancelled: pass the turn on
            if isinstance(error, TimeoutError):
                said = f"{self._name}: other tasks write to session {key} all the time: nothing was stored"
                raise Unavailable(said) from None
            raise
        return True if result is None else result

    def waiting(self, key: K) -> list[_Waiting[R, W]]:
        """Return the future for the result and the work of each waiting task, in order."""
        queue = self._taken.get(key)
        return [(turn, work) for turn, work in queue if not turn.done()] if queue else []

    def leave(self, key: K) -> None:
        """End a turn, and give the next waiting task its turn."""
        queue = self._taken[key]
        while queue:
            turn, _ = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._taken[key]

    @asynccontextmanager
    async def alone(self, key: K, until: float | None, work: W) -> AsyncGenerator[None, None]:
        """Hold a turn during several operations that each take a turn.

        Args:
            key: The key.
            until: As in `wait`.
            work: Work that other tasks cannot do.

        Raises:
            Unavailable: The turn did not come in time.
        """
        if not self.take(key) and not await self.wait(key, until, work):
            yield
            return
        before = _alone.set((self, key))
        try:
            yield
        finally:
            _alone.reset(before)
            self.leave(key)


class Gate(Generic[K]):
    """Gives one task of an event loop exclusive use of a key, for tasks that otherwise run at the same time.

    Args:
        name: As in `Turns`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns[K, None, None]]
        self._turns = weakref.WeakKeyDictionary()

    async def pass_by(self, key: K, until: float | None = None) -> None:
        """Wait while another task has exclusive use of a key.

        Args:
            key: The key.
            until: As in `Turns.wait`.

        Raises:
            Unavailable: The exclusive use did not end in time.
        """
        turns = self._turns.get(asyncio.get_running_loop())
        if turns is not None and (turns.take(key) or await turns.wait(key, until, None)):
            turns.leave(key)

    @asynccontextmanager
    async def alone(self, key: K, until: float | None = None) -> AsyncGenerator[None, None]:
        """Take exclusive use of a key: other tasks wait in `pass_by`.

        Args:
            key: The key.
            until: As in `Turns.wait`.

        Raises:
            Unavailable: The exclusive use of other tasks did not end in time.
        """
        turns = self._turns.setdefault(asyncio.get_running_loop(), Turns(self._name))
        async with turns.alone(key, until, None):
            yield

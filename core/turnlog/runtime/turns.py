"""Tasks that work on the same key take turns."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Iterator
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
"""The turn that encloses the current code, and everything that is awaited in it, in other tasks as well."""


class Turns(Generic[K, W, R]):
    """Gives the tasks of one event loop their turns at a key, in the order in which they ask.

    A task that waits leaves its work, so that a task that has its turn may do it as well.  A key that no task works on
    costs two operations on a dictionary, and is kept nowhere.

    Args:
        name: Where the keys are, in error messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._taken: dict[K, deque[_Waiting[R, W]] | None] = {}

    def take(self, key: K) -> bool:
        """Take the turn at a key if it is free; return whether it was.  `leave` ends the turn."""
        if key in self._taken:
            return False
        self._taken[key] = None
        return True

    async def wait(self, key: K, until: float | None, work: W) -> R | bool:
        """Wait for the turn at a key that is taken.

        Args:
            key: The key.
            until: When to give up, by the monotonic clock; None: never.
            work: The work, for the task that has the turn.

        Returns:
            True: the caller has the turn.  False: it is inside of `alone`, and has the turn already.  Otherwise the
            result, if another task has done the work.

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
                self.leave(key)  # it got the turn just before: pass it on
            if isinstance(error, TimeoutError):
                said = f"{self._name}: other tasks write to session {key} all the time: nothing was stored"
                raise Unavailable(said) from None
            raise
        return True if result is None else result

    def waiting(self, key: K) -> Iterator[_Waiting[R, W]]:
        """Yield the tasks that wait for their turn: a future that takes the result, and the work."""
        for turn, work in self._taken.get(key) or ():
            if not turn.done():
                yield turn, work

    def leave(self, key: K) -> None:
        """End a turn: the next task that waits has its turn."""
        queue = self._taken[key]
        while queue:
            turn, _ = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._taken[key]

    @asynccontextmanager
    async def alone(self, key: K, until: float | None, work: W) -> AsyncGenerator[None, None]:
        """Keep a turn for several operations, each of which takes it.

        Args:
            key: The key.
            until: As in `wait`.
            work: Work that no other task can do.

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
    """Lets one task of an event loop be alone with a key, where tasks do not take turns otherwise.

    Args:
        name: As in `Turns`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns[K, None, None]]
        self._turns = weakref.WeakKeyDictionary()

    async def pass_by(self, key: K, until: float | None = None) -> None:
        """Wait while another task is alone with a key.

        Args:
            key: The key.
            until: As in `Turns.wait`.

        Raises:
            Unavailable: It took longer.
        """
        turns = self._turns.get(asyncio.get_running_loop())
        if turns is not None and (turns.take(key) or await turns.wait(key, until, None)):
            turns.leave(key)

    @asynccontextmanager
    async def alone(self, key: K, until: float | None = None) -> AsyncGenerator[None, None]:
        """Have the other tasks wait in `pass_by`.

        Args:
            key: The key.
            until: As in `Turns.wait`.

        Raises:
            Unavailable: Other tasks were alone with the key for longer.
        """
        turns = self._turns.setdefault(asyncio.get_running_loop(), Turns(self._name))
        async with turns.alone(key, until, None):
            yield

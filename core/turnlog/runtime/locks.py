"""Fair locks by key: the tasks that work on a key run one at a time, in order."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any, Final, Generic, TypeAlias, TypeVar

from ..errors import Unavailable

K = TypeVar("K")
W = TypeVar("W")
R = TypeVar("R")

_SPARE: Final = 0.01
"""Seconds before its deadline at which a task stops waiting.  A request that is sent later may get no answer in time,
and then its outcome is unknown.  An answer within a data centre takes about a millisecond."""

_Waiting: TypeAlias = tuple[asyncio.Future[R | None], W]

_alone: ContextVar[tuple[KeyedLocks[Any, Any, Any], object] | None] = ContextVar("turnlog_alone", default=None)
"""The lock of the `alone` block that encloses the current code; tasks that this code creates inherit it."""


class KeyedLocks(Generic[K, W, R]):
    """Fair locks by key for the tasks of one event loop: tasks acquire a lock in the order of their calls.

    A waiting task deposits its work.  The task that holds the lock may do this work as well.  Locking a key without
    other tasks takes two operations on a dictionary.  Unused keys take no memory.

    Args:
        name: The location of the keys, for error messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: dict[K, deque[_Waiting[R, W]] | None] = {}

    def try_acquire(self, key: K) -> bool:
        """Acquire the lock of a key if it is free; return whether it was free.  `release` releases it."""
        if key in self._held:
            return False
        self._held[key] = None
        return True

    async def wait(self, key: K, until: float | None, work: W) -> R | bool:
        """Wait for the lock of a key after `try_acquire` has returned False.

        Args:
            key: The key.
            until: The deadline, by the monotonic clock; None: no deadline.
            work: The work, for the task that holds the lock.

        Returns:
            True: the caller holds the lock.  False: the caller is inside `alone`, and holds the lock already.
            Otherwise the result of the work, which another task has done.

        Raises:
            Unavailable: Other tasks held the lock until 10 ms before the deadline.
        """
        if _alone.get() == (self, key):
            return False
        queue = self._held[key]
        if queue is None:
            queue = self._held[key] = deque()
        future: asyncio.Future[R | None] = asyncio.get_running_loop().create_future()
        queue.append((future, work))
        try:
            async with asyncio.timeout(None if until is None else until - _SPARE - monotonic()):
                result = await future
        except BaseException as error:
            if future.done() and not future.cancelled() and future.result() is None:
                self.release(key)  # the task got the lock before it was cancelled: pass the lock on
            if isinstance(error, TimeoutError):
                said = f"{self._name}: other tasks write to session {key} all the time: nothing was stored"
                raise Unavailable(said) from None
            raise
        return True if result is None else result

    def waiting(self, key: K) -> list[_Waiting[R, W]]:
        """Return the future for the result and the work of each waiting task, in order."""
        queue = self._held.get(key)
        return [(future, work) for future, work in queue if not future.done()] if queue else []

    def release(self, key: K) -> None:
        """Release a lock, and give it to the next waiting task."""
        queue = self._held[key]
        while queue:
            future, _ = queue.popleft()
            if not future.done():
                future.set_result(None)
                return
        del self._held[key]

    @asynccontextmanager
    async def alone(self, key: K, until: float | None, work: W) -> AsyncGenerator[None, None]:
        """Hold a lock during several operations that each acquire it.

        Args:
            key: The key.
            until: As in `wait`.
            work: Work that other tasks cannot do.

        Raises:
            Unavailable: Other tasks held the lock until the deadline.
        """
        if not self.try_acquire(key) and not await self.wait(key, until, work):
            yield
            return
        before = _alone.set((self, key))
        try:
            yield
        finally:
            _alone.reset(before)
            self.release(key)


class Gate(Generic[K]):
    """Gives one task of an event loop exclusive use of a key, for tasks that otherwise run at the same time.

    Args:
        name: As in `KeyedLocks`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, KeyedLocks[K, None, None]]
        self._locks = weakref.WeakKeyDictionary()

    async def wait(self, key: K, until: float | None = None) -> None:
        """Wait while another task has exclusive use of a key.

        Args:
            key: The key.
            until: As in `KeyedLocks.wait`.

        Raises:
            Unavailable: Another task had exclusive use until the deadline.
        """
        locks = self._locks.get(asyncio.get_running_loop())
        if locks is not None and (locks.try_acquire(key) or await locks.wait(key, until, None)):
            locks.release(key)

    @asynccontextmanager
    async def alone(self, key: K, until: float | None = None) -> AsyncGenerator[None, None]:
        """Take exclusive use of a key: other tasks wait in `wait`.

        Args:
            key: The key.
            until: As in `KeyedLocks.wait`.

        Raises:
            Unavailable: Other tasks had exclusive use until the deadline.
        """
        locks = self._locks.setdefault(asyncio.get_running_loop(), KeyedLocks(self._name))
        async with locks.alone(key, until, None):
            yield

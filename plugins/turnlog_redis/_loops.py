"""Something for each event loop, and another in a forked process."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Loops(Generic[T]):
    """One of a kind in each event loop, closed with the store, or at the end of its loop.

    Args:
        make: Makes one.
        close: Closes one, in its loop.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._made: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}
        _every.add(self)

    async def here(self) -> T:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._made.get(loop)
        if found is None:
            for other in list(self._made):  # to which other threads add theirs meanwhile
                if other.is_closed():
                    self._made.pop(other, None)
            one = self._make()
            guard = self._closing(one)
            self._made[loop] = one, guard
            await anext(guard)
            return one
        return found[0]

    async def close(self) -> None:
        """Close them all; those of other loops, when these come to it."""
        made, self._made = self._made, {}
        for loop, (_, guard) in made.items():
            if loop is asyncio.get_running_loop():
                await guard.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(guard.aclose(), loop)

    async def _closing(self, one: T) -> AsyncGenerator[None, None]:
        """Close it when the store is closed, or when its loop ends, which ends what was left of generators."""
        try:
            yield
        finally:
            await self._close(one)

    def leave_behind(self) -> None:
        """Go on without what is open, in a process that was forked, as all of it is the parent's.

        It is kept for ever: where it is freed, it is closed, and the parent's loop, which shares its list of sockets
        with this process, would hear no more of them.
        """
        _left_behind.append(self._made)
        self._made = {}


_every: weakref.WeakSet[Loops[Any]] = weakref.WeakSet()
_left_behind: list[object] = []


def _after_fork() -> None:
    for loops in list(_every):
        loops.leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

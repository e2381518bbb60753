"""One resource per event loop, dropped after a fork."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One resource per event loop, such as a pool of connections.  Threads may share it.

    `close` closes a resource.  Otherwise its loop closes it when the loop shuts down its asynchronous generators, as
    `asyncio.run` does at its end.  A forked child makes new resources, and leaves the resources of its parent open.

    Args:
        make: Makes a resource, in its loop.
        close: Closes a resource, in its loop; None: the resource needs no closing.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]] | None = None) -> None:
        self._make = make
        self._close = close
        self._made: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        _instances.add(self)

    async def get(self) -> T:
        """Return the resource of the running loop; make it at the first call."""
        loop = asyncio.get_running_loop()
        found = self._made.get(loop)
        if found is not None:
            return found[0]
        for other in list(self._made):  # a copy, because other threads may add their loops here
            if other.is_closed():
                self._made.pop(other, None)
        resource = self._make()
        guard = self._guard(resource)
        self._made[loop] = resource, guard
        await anext(guard)
        return resource

    async def close(self) -> None:
        """Close the resources of all loops.

        The resource of this loop is closed on return, also if another task began to close it.  A cancelled call does
        not interrupt the closing.  Other running loops close theirs later, and a stopped loop when it shuts down.
        """
        here = asyncio.get_running_loop()
        made, self._made = self._made, {}
        for loop, (_, guard) in made.items():
            if loop is here:
                task = loop.create_task(_finish(guard))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(guard.aclose(), loop)
        closing = [task for task in list(self._closing) if task.get_loop() is here]
        if closing:
            await asyncio.shield(asyncio.gather(*closing))

    async def _guard(self, resource: T) -> AsyncGenerator[None, None]:
        """Close a resource when this generator is closed: by `close`, or by the loop as it shuts down.

        A forked child that shuts down its parent's loop must not close the parent's resource.
        """
        owner = os.getpid()
        try:
            yield
        finally:
            if os.getpid() == owner and self._close is not None:
                await self._close(resource)

    def abandon(self) -> None:
        """Forget the resources without closing them, in a forked child: they belong to the parent.

        The child keeps a reference to the resources, because a resource closes its sockets when it is freed.  The child
        shares the parent's list of watched sockets (epoll).  Closing a socket here would remove it from that list, and
        the parent would receive nothing more on it.
        """
        _abandoned.append((self._made, self._closing))
        self._made, self._closing = {}, set()


async def _finish(guard: AsyncGenerator[None, None]) -> None:
    await guard.aclose()


_instances: weakref.WeakSet[PerLoop[Any]] = weakref.WeakSet()
_abandoned: list[object] = []


def _after_fork() -> None:
    for instance in list(_instances):
        instance.abandon()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)

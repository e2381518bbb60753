"""Connections of one event loop: so many at most, the last one used first, and a bounded wait for one."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from turnlog import Unavailable

C = TypeVar("C")


class Pool(Generic[C]):
    """Connections that are lent to one operation at a time.

    A driver's own pool would do; asyncpg's took 78 µs of a turn of 400 (`docs/decisions/0011-servers.md`), and that of
    the other driver behaves otherwise where it matters: in a cancellation, a fork, a second event loop.

    Args:
        connect: Makes a connection.
        discard: Drops one at once, without a word to the server.
        alive: Whether one still stands, as far as this side knows.
        size: How many there are at most.
        timeout: Seconds to wait for one.
        name: What messages call the database.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[C]],
        discard: Callable[[C], None],
        alive: Callable[[C], bool],
        *,
        size: int,
        timeout: float,
        name: str,
    ) -> None:
        self._connect = connect
        self._discard = discard
        self._alive = alive
        self._size = size
        self._timeout = timeout
        self._name = name
        self._count = 0  # connections that are idle, lent or on their way
        self._idle: list[C] = []
        self._waiting: deque[asyncio.Future[C | None]] = deque()
        self._closed = False

    def idle(self) -> C | None:
        """A connection that nobody uses, for the caller alone; None, if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if self._alive(connection):
                return connection
            self._count -= 1
            self._discard(connection)
        return None

    async def acquire(self) -> C:
        """A connection, for the caller alone, once there is one.

        Raises:
            Unavailable: None was free in time, or none could be made.
        """
        idle = self.idle()
        if idle is not None:
            return idle
        if self._count < self._size:
            self._count += 1
            return await self._made()
        waiter: asyncio.Future[C | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._timeout):
                lent = await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():  # it was handed over at the same moment: pass it on
                given = waiter.result()
                self.release(given, sound=given is not None)
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    f"{self._name}: all {self._size} connections were in use for {self._timeout:g} s: "
                    "nothing was done; pool_size allows for more"
                ) from None
            raise
        return await self._made() if lent is None or not self._alive(lent) else lent

    async def _made(self) -> C:
        """A new connection, which is counted already."""
        try:
            return await self._connect()
        except BaseException:
            self.release(None, sound=False)
            raise

    def release(self, connection: C | None, *, sound: bool) -> None:
        """Give a connection back.

        Args:
            connection: Which; None: one that was counted, but never made.
            sound: Whether its next answer will be that of the next question: otherwise it is dropped.
        """
        if connection is not None and not (sound and not self._closed and self._alive(connection)):
            self._discard(connection)
            connection = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)  # a place for a new one, if it is None
                return
        if connection is None:
            self._count -= 1
        else:
            self._idle.append(connection)

    def distrust(self) -> None:
        """Drop the idle ones, after one was lost: what ended that has ended them, even where nobody was told."""
        while self._idle:
            self._count -= 1
            self._discard(self._idle.pop())

    def close(self) -> list[C]:
        """Lend nothing any more; answers the idle ones, for the caller to close.  Lent ones are dropped on return."""
        self._closed = True
        idle, self._idle = self._idle, []
        self._count -= len(idle)
        return idle


class Pools(Generic[C]):
    """A pool for each event loop, and others in a forked process.

    Args:
        make: Makes a pool.
        bid_farewell: Closes a connection properly.
    """

    def __init__(self, make: Callable[[], Pool[C]], bid_farewell: Callable[[C], Awaitable[None]]) -> None:
        self._make = make
        self._bid_farewell = bid_farewell
        self._pools: dict[asyncio.AbstractEventLoop, tuple[Pool[C], AsyncGenerator[None, None]]] = {}
        _every.add(self)

    async def here(self) -> Pool[C]:
        """The pool of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._pools.get(loop)
        if found is None:
            for other in list(self._pools):  # to which other threads add theirs meanwhile
                if other.is_closed():
                    self._pools.pop(other, None)
            pool = self._make()
            guard = self._closing(pool)
            self._pools[loop] = pool, guard
            await anext(guard)
            return pool
        return found[0]

    async def close(self) -> None:
        """Close all connections that are not lent; those that are, when they come back."""
        pools, self._pools = self._pools, {}
        for loop, (_, guard) in pools.items():
            if loop is asyncio.get_running_loop():
                await guard.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(guard.aclose(), loop)

    async def _closing(self, pool: Pool[C]) -> AsyncGenerator[None, None]:
        """Close the pool when the store is closed, or when its loop ends, which ends what was left of generators."""
        try:
            yield
        finally:
            for connection in pool.close():
                with suppress(Exception):  # it is of no use any more, whatever becomes of it
                    await self._bid_farewell(connection)

    def leave_behind(self) -> None:
        """Go on without what is open, in a process that was forked, as all of it is the parent's.

        It is kept for ever: where it is freed, it is closed, and the parent's loop, which shares its list of sockets
        with this process, would hear no more of them.
        """
        _left_behind.append(self._pools)
        self._pools = {}


_every: weakref.WeakSet[Pools[Any]] = weakref.WeakSet()
_left_behind: list[object] = []


def _after_fork() -> None:
    for pools in list(_every):
        pools.leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""A pool of connections in one event loop, with a maximum size and a limited wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from turnlog import Unavailable

C = TypeVar("C")


class Pool(Generic[C]):
    """A pool of connections, each of which serves one operation at a time.  It lends the most recently used one first.

    The drivers have pools of their own.  asyncpg's took 78 µs of a turn of 400 (`docs/decisions/0011-servers.md`), and
    asyncmy's differs from it in a cancellation, after a fork and in a second event loop.

    Args:
        connect: Makes a connection.
        discard: Drops a connection at once, without sending anything to the server.
        alive: Returns whether a connection is open, as far as this side knows.
        size: The most connections that are open at the same time.
        timeout: Seconds to wait for a connection.
        name: The name of the database in error messages.
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
        self._count = 0  # connections that are idle, lent or being made
        self._idle: list[C] = []
        self._waiting: deque[asyncio.Future[C | None]] = deque()
        self._closed = False

    def idle(self) -> C | None:
        """Take an idle connection out of the pool; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if self._alive(connection):
                return connection
            self._count -= 1
            self._discard(connection)
        return None

    async def acquire(self) -> C:
        """Take a connection: an idle one, a new one, or the next that is released.

        Raises:
            Unavailable: No connection was released in time, or none could be made.
        """
        idle = self.idle()
        if idle is not None:
            return idle
        if self._count < self._size:
            self._count += 1
            return await self._make()
        waiter: asyncio.Future[C | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._timeout):
                lent = await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():  # `release` gave it a connection just before: pass that on
                given = waiter.result()
                self.release(given, sound=given is not None)
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    f"{self._name}: all {self._size} connections were in use for {self._timeout:g} s: "
                    "nothing was done; pool_size allows for more"
                ) from None
            raise
        return await self._make() if lent is None or not self._alive(lent) else lent

    async def _make(self) -> C:
        """Make a connection, which `_count` includes already."""
        try:
            return await self._connect()
        except BaseException:
            self.release(None, sound=False)
            raise

    def release(self, connection: C | None, *, sound: bool) -> None:
        """Give a connection back.

        Args:
            connection: The connection; None: it was counted, but could not be made.
            sound: Whether its next answer belongs to the next request; otherwise the connection is dropped.
        """
        if connection is not None and not (sound and not self._closed and self._alive(connection)):
            self._discard(connection)
            connection = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)  # None: the waiter makes a new one
                return
        if connection is None:
            self._count -= 1
        else:
            self._idle.append(connection)

    def drop_idle(self) -> None:
        """Drop the idle connections, after one was lost: the same cause may have ended them unnoticed."""
        while self._idle:
            self._count -= 1
            self._discard(self._idle.pop())

    def close(self) -> list[C]:
        """Return the idle connections for the caller to close.  A lent one is dropped on its release."""
        self._closed = True
        idle, self._idle = self._idle, []
        self._count -= len(idle)
        return idle

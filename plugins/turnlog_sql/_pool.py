"""A pool of connections in one event loop, with a maximum size and a limited wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, TypeVar

from turnlog import Unavailable
from turnlog.runtime import IDLE

C = TypeVar("C")


class Pool(Generic[C]):
    """A pool of connections, each of which serves one operation at a time.  It lends the most recently used one first.

    A connection that was idle for more than `IDLE` seconds must answer before it is lent.

    The drivers have pools of their own.  asyncpg's took 78 µs of a turn of 400 (`docs/decisions/0011-servers.md`), and
    asyncmy's differs from it in a cancellation, after a fork and in a second event loop.

    Args:
        connect: Makes a connection until a time by the monotonic clock.
        discard: Drops a connection at once, without sending anything to the server.
        alive: Returns whether a connection is open, as far as this side knows.
        answers: Returns whether the server still answers on a connection.
        size: The most connections that are open at the same time.
        name: The name of the database in error messages.
    """

    def __init__(
        self,
        connect: Callable[[float], Awaitable[C]],
        discard: Callable[[C], None],
        alive: Callable[[C], bool],
        answers: Callable[[C], Awaitable[bool]],
        *,
        size: int,
        name: str,
    ) -> None:
        self._connect = connect
        self._discard = discard
        self._alive = alive
        self._answers = answers
        self._size = size
        self._name = name
        self._count = 0  # connections that are idle, lent or being made
        self._idle: list[tuple[C, float]] = []  # each with the time of its release
        self._waiting: deque[asyncio.Future[C | None]] = deque()
        self._closed = False

    def idle(self) -> C | None:
        """Take an idle connection that need not be probed out of the pool; None if there is none."""
        while self._idle:
            connection, since = self._idle[-1]
            if monotonic() - since > IDLE:
                return None  # the others were idle for longer
            self._idle.pop()
            if self._alive(connection):
                return connection
            self._count -= 1
            self._discard(connection)
        return None

    async def acquire(self, until: float) -> C:
        """Take a connection: an idle one, a new one, or the next that is released.

        Args:
            until: When to give up, by the monotonic clock.

        Raises:
            Unavailable: No connection was released in time, or none could be made.
        """
        idle = self.idle() or await self._probed()
        if idle is not None:
            return idle
        if self._count < self._size:
            self._count += 1
            return await self._make(until)
        waiter: asyncio.Future[C | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(until - monotonic()):
                lent = await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():  # `release` gave it a connection just before: pass that on
                given = waiter.result()
                self.release(given, sound=given is not None)
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    f"{self._name}: all {self._size} connections were in use all the time: "
                    "nothing was done; pool_size allows for more"
                ) from None
            raise
        if lent is not None and not self._alive(lent):  # it was lost since `release` saw it
            self._discard(lent)
            lent = None
        return lent or await self._make(until)

    async def _probed(self) -> C | None:
        """Take a connection out of the pool that was idle for long, if it answers; otherwise drop all such ones."""
        if not self._idle:
            return None
        connection, _ = self._idle.pop()
        answers = False
        try:
            answers = self._alive(connection) and await self._answers(connection)
        finally:
            if not answers:
                self.drop_idle()
                self.release(connection, sound=False)
        return connection if answers else None

    async def _make(self, until: float) -> C:
        """Make a connection, which `_count` includes already."""
        try:
            return await self._connect(until)
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
            self._idle.append((connection, monotonic()))

    def drop_idle(self) -> None:
        """Drop the idle connections, after one was lost: the same cause may have ended them unnoticed."""
        while self._idle:
            self._count -= 1
            self._discard(self._idle.pop()[0])

    def close(self) -> list[C]:
        """Return the idle connections for the caller to close.  A lent one is dropped on its release."""
        self._closed = True
        idle, self._idle = self._idle, []
        self._count -= len(idle)
        return [connection for connection, _ in idle]

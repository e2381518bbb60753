"""`Pool`: the connections of one event loop, with a maximum size and a limited wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, Self, TypeVar

from turnlog import Closed, Unavailable
from turnlog.runtime import IDLE

C = TypeVar("C")


class Pool(Generic[C]):
    """A pool of connections.  Each connection serves one operation at a time; the most recently used one is lent first.

    A connection that was idle for more than `IDLE` seconds is probed before it is lent.

    The pools of the drivers are not used.  The pool of asyncpg took 78 µs of 400 µs for a turn
    (`docs/decisions/0011-servers.md`).  The pool of asyncmy behaves differently after a cancellation, after a fork and
    in a second event loop.

    Args:
        connect: Opens a connection before a deadline by the monotonic clock.
        discard: Drops a connection at once, without sending anything to the server.
        alive: Returns whether a connection is open, as far as the client knows.
        answers: Returns whether the server still answers on a connection.
        size: The largest number of open connections.
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
        self._count = 0  # the number of connections that are idle, lent or being opened
        self._idle: list[tuple[C, float]] = []  # each with the time of its release
        self._waiting: deque[asyncio.Future[C | None]] = deque()
        self._closed = False
        self._running = 0  # the number of operations
        self._ended = asyncio.Event()  # set when a closed pool has no running operation

    def __enter__(self) -> Self:
        """Begin an operation, for whose end `close` waits.

        Raises:
            Closed: The pool is closed.
        """
        if self._closed:
            raise self._refusal()
        self._running += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._running -= 1
        if self._closed and not self._running:
            self._ended.set()

    def _refusal(self) -> Closed:
        return Closed(f"{self._name} is not open: use it inside its 'with' block, or after open()")

    def idle(self) -> C | None:
        """Take an idle connection that need not be probed; return None if the pool has none."""
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
        """Take an idle connection, a new one, or the next one that is released.

        Args:
            until: The deadline, by the monotonic clock.

        Raises:
            Closed: The pool is closed.
            Unavailable: No connection was released in time, or a new one could not be opened.
        """
        if self._closed:
            raise self._refusal()
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
            # `release` may have given it a connection since: pass it on
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                given = waiter.result()
                self.release(given, sound=given is not None)
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    f"{self._name}: all {self._size} connections were in use until the timeout: "
                    "nothing was done; increase pool_size"
                ) from None
            raise
        if lent is not None and not self._alive(lent):  # the connection was lost after `release`
            self._discard(lent)
            lent = None
        return lent or await self._make(until)

    async def _probed(self) -> C | None:
        """Probe and take a connection that was idle for long; if the server does not answer, drop all idle ones."""
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
        """Open a connection, which `_count` already includes."""
        try:
            return await self._connect(until)
        except BaseException:
            self.release(None, sound=False)
            raise

    def release(self, connection: C | None, *, sound: bool) -> None:
        """Give a connection back.

        Args:
            connection: The connection; None: it was counted, but could not be opened.
            sound: Whether no answer is outstanding on the connection; if one is, the connection is dropped.
        """
        if connection is not None and not (sound and not self._closed and self._alive(connection)):
            self._discard(connection)
            connection = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)  # None: the waiter opens a new connection
                return
        if connection is None:
            self._count -= 1
        else:
            self._idle.append((connection, monotonic()))

    def drop_idle(self) -> None:
        """Drop the idle connections after one connection was lost: the same cause may have ended the others."""
        while self._idle:
            self._count -= 1
            self._discard(self._idle.pop()[0])

    async def close(self) -> list[C]:
        """Wait for the running operations, and return the idle connections for the caller to close.

        Operations that wait for a connection raise `Closed`.  Connections that are released later are dropped.
        """
        self._closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(self._refusal())
        try:
            if self._running:
                await self._ended.wait()
        except BaseException:  # such as a cancellation at the end of the event loop
            self.drop_idle()
            raise
        idle, self._idle = self._idle, []
        self._count -= len(idle)
        return [connection for connection, _ in idle]

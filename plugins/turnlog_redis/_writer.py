"""`Writer`: the tasks of an event loop that write to sessions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from time import monotonic

from turnlog import Change, Key, Receipt, Unavailable
from turnlog.errors import TurnlogError
from turnlog.runtime import KeyedLocks

from . import _scripts
from ._layout import keys_of
from ._retry import RetryingServer


class Waiting:
    """A change of a waiting task; the task that holds the lock may commit it together with its own change.

    Args:
        change: The change; None: no other task may commit it.
    """

    __slots__ = ("change", "sent")

    def __init__(self, change: Change | None) -> None:
        self.change = change
        self.sent = False
        """Whether the change may have been stored."""


class Writer:
    """The tasks of one event loop: they write to a session one after the other, and share a place in its queue.

    Args:
        server: The server of the queues.
    """

    def __init__(self, server: RetryingServer) -> None:
        self.name = os.urandom(8)
        self.locks: KeyedLocks[Key, Waiting, Receipt] = KeyedLocks(server.location.name)
        self.first: set[Key] = set()
        """The sessions in whose queue this writer is the first."""
        self._server = server

    @asynccontextmanager
    async def alone(self, key: Key) -> AsyncGenerator[None, None]:
        """Make all other writers of a session wait, as `Backend.alone`."""
        until, place = self._server.deadline(), keys_of(key.namespace, key.session.encode()).session
        try:
            async with self.locks.alone(key, until, Waiting(None)):
                ahead = 1
                while ahead:
                    sent = monotonic()
                    ahead = await self._server.run(until, _scripts.STAND, (place,), self.name)
                    await self.wait(ahead, sent, until)
                self.first.add(key)
                yield
                await self.leave(key, until)
        except TurnlogError:
            await self.leave(key, until)
            raise

    async def wait(self, ahead: int, sent: float, until: float) -> None:
        """Wait until this writer is probably the first in a session's queue.

        Args:
            ahead: The number of writers before it in the queue; each needs about one round trip.
            sent: The time of its last request.
            until: The deadline of the operation.

        Raises:
            Unavailable: The answer to another request would arrive after the deadline.
        """
        now = monotonic()
        trip = now - sent
        if now + (ahead + 2) * trip > until:
            raise Unavailable(
                f"{self._server.location.name}: other writers used the session until the timeout: nothing was stored"
            )
        if ahead:
            await asyncio.sleep(ahead * trip)

    async def leave(self, key: Key, until: float) -> None:
        """Give up the first place in the queue; otherwise the next writer would wait for `LEASE`."""
        if key in self.first:
            self.first.discard(key)
            with suppress(TurnlogError):
                place = keys_of(key.namespace, key.session.encode()).session
                await self._server.run(until, _scripts.PASS, (place,), self.name)

"""One connection for all operations of an event loop: what they ask in one turn of it travels together.

redis-py makes the connection: addresses, TLS, authentication and the protocol are its own.  Its pool and its pipelines
lend a connection to one caller at a time and wait for every answer, which costs more than the answer; here commands are
written as they come, and the answers are told apart by their order, which Redis keeps.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from redis import exceptions
from redis.asyncio.connection import AbstractConnection

Argument: TypeAlias = "bytes | str | int | float"
Command: TypeAlias = "tuple[Argument, ...]"


class Lost(Exception):
    """The connection ended before the answer came.

    Attributes:
        sent: Whether the command may have reached the server.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class Link:
    """A connection, shared.

    Args:
        make: Makes a connection that is not connected yet.
        timeout: Seconds without an answer after which it is taken for lost.
    """

    def __init__(self, make: Callable[[], AbstractConnection], timeout: float) -> None:
        self._make = make
        self._timeout = timeout
        self._connection: AbstractConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._unsent: list[tuple[list[bytes], asyncio.Future[Any]]] = []
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._answers = 0  # so many have come
        self._watch: asyncio.TimerHandle | None = None
        self._watched = 0

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands, between which no other is done.

        Raises:
            Lost: The connection ended before they came.
            RedisError: The server refused one.
        """
        if self._connection is None:
            await self._connected()
        connection = self._connection
        if connection is None:
            raise Lost("the connection was lost", sent=False)
        loop = asyncio.get_running_loop()
        if not self._unsent:
            loop.call_soon(self._flush)
        futures = []
        for command in commands:
            future: asyncio.Future[Any] = loop.create_future()
            self._unsent.append((connection.pack_command(*command), future))
            futures.append(future)
        if len(futures) == 1:
            return [await futures[0]]
        return await asyncio.gather(*futures)

    async def _connected(self) -> None:
        """Connect, once for all who wait for it; a caller that is cancelled leaves the others waiting."""
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(self._settled)
        await asyncio.shield(self._connecting)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # whoever waited was told

    async def _connect(self) -> None:
        connection = self._make()
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            with suppress(Exception):
                await connection.disconnect(nowait=True)
            if isinstance(error, (TimeoutError, OSError, exceptions.ConnectionError, exceptions.TimeoutError)):
                raise Lost(_said(error), sent=False) from error
            raise
        self._connection = connection
        self._reader = asyncio.get_running_loop().create_task(self._read(connection))

    def _flush(self) -> None:
        """Write what was asked in this turn of the loop; what nobody waits for any more is not sent."""
        unsent, self._unsent = self._unsent, []
        connection = self._connection
        asked = [(packed, future) for packed, future in unsent if not future.done()]
        if connection is None or connection._writer is None:  # noqa: SLF001 - it has no other door for what is written
            for _, future in asked:
                future.set_exception(Lost("the connection was lost", sent=False))
            return
        self._waiting += [future for _, future in asked]
        connection._writer.writelines([part for packed, _ in asked for part in packed])  # noqa: SLF001
        if self._watch is None and self._waiting:
            self._watched = self._answers
            self._watch = asyncio.get_running_loop().call_later(self._timeout, self._look)

    def _look(self) -> None:
        """Whether an answer has come since the last look; an answer that never comes would be waited for for ever."""
        self._watch = None
        if not self._waiting:
            return
        if self._answers == self._watched:
            self._break(Lost(f"no answer within {self._timeout:g} s", sent=True))
            return
        self._watched = self._answers
        self._watch = asyncio.get_running_loop().call_later(self._timeout, self._look)

    async def _read(self, connection: AbstractConnection) -> None:
        error: BaseException
        try:
            while True:
                try:
                    answer, refused = await connection.read_response(disable_decoding=True, timeout=math.inf), None
                except exceptions.ResponseError as raised:
                    answer, refused = None, raised
                self._answers += 1
                future = self._waiting.popleft()
                if future.done():
                    continue  # the caller was cancelled; the answer was its own
                if refused is None:
                    future.set_result(answer)
                else:
                    future.set_exception(refused)
        except asyncio.CancelledError:
            error = Lost("the connection was closed", sent=True)
        except BaseException as raised:  # noqa: BLE001 - whoever waits is told
            error = Lost(f"the connection was lost: {_said(raised)}", sent=True)
            error.__cause__ = raised
        if self._connection is connection:
            self._break(error)

    def _break(self, error: BaseException) -> None:
        """Drop the connection, and tell those who wait."""
        connection, self._connection = self._connection, None
        waiting, self._waiting = self._waiting, deque()
        reader, self._reader = self._reader, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # a batch may have more answers than are looked at
        if connection is not None and connection._writer is not None:  # noqa: SLF001
            connection._writer.transport.abort()  # noqa: SLF001
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()

    async def close(self) -> None:
        """Wait for what was asked until now, then end the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._unsent:
            self._flush()
        waiting = [future for future in self._waiting if not future.done()]
        if waiting:
            await asyncio.wait(waiting)  # as long as it is watched, and no longer
        connection, reader = self._connection, self._reader
        self._break(Lost("the store was closed", sent=True))
        if reader is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.wait([reader])
        if connection is not None:
            with suppress(Exception):
                await connection.disconnect(nowait=True)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""`SharedConnection`: one connection for all operations of an event loop, with pipelined commands.

redis-py opens the connection, with name resolution, TLS, authentication and protocol.  Its pools and pipelines lend a
connection to one caller at a time and wait for each answer, which takes longer than the answer itself.
`SharedConnection` therefore takes over the transport.  It sends the commands of one iteration of the event loop
together, and assigns answers to commands by their order, which Redis preserves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection

from turnlog.runtime import IDLE, PROBE, REACH, keep_alive, why_unreachable

T = TypeVar("T")
Argument: TypeAlias = "bytes | str | int | float"
Command: TypeAlias = "tuple[Argument, ...]"
_Batch: TypeAlias = "tuple[list[Any], int, asyncio.Future[list[Any]], float, float]"
"""The answers so far, the number of expected answers, the future that receives all of them, the time at which the batch
was queued, and the deadline of its caller."""


class Lost(Exception):
    """The connection ended before the answer arrived.

    Attributes:
        sent: Whether the command may have reached the server.
        again: Whether another attempt may reach a server.
        connected: Whether there was a connection; if not, another kind of server may listen on the port.
    """

    def __init__(self, reason: str, *, sent: bool, again: bool = True, connected: bool = True) -> None:
        super().__init__(reason)
        self.connected = connected
        self.sent = sent
        self.again = again


class Refused(Exception):
    """The server answered with an error; the text begins with its code in capitals, such as `NOAUTH`."""


PLAIN: Final = "it answers without TLS only"
"""The text of `Refused` if a server does not use TLS."""

NO_MASTER: Final = "all sentinels refuse: "
NO_SENTINEL: Final = "no server is a sentinel: "
NO_SERVICE: Final = "no sentinel watches the master: "
"""The beginnings of the text of `Refused` if no sentinel names the master; the text of each server follows."""

_FAILURES: Final = frozenset((Lost, Refused))


def any_failed(answers: Sequence[object]) -> bool:
    """Return whether one of the answers is `Lost` or `Refused`."""
    return not _FAILURES.isdisjoint(map(type, answers))


class SharedConnection(asyncio.Protocol):
    """A connection that serves many callers at the same time.  The first command opens it.

    If no data arrives for half of the timeout while answers are outstanding, the connection counts as lost.  The other
    half is left for another attempt.

    Args:
        connect: Opens a connection.
        timeout: Limit of the duration of an operation in seconds.
    """

    def __init__(self, connect: Callable[[], Awaitable[AbstractConnection]], timeout: float) -> None:
        self._make = connect
        self._timeout = timeout
        self._patience = timeout / 2
        self._used = 0.0  # the time at which the last command was queued
        self._received = 0.0  # the time at which data last arrived
        self._transport: asyncio.WriteTransport | None = None
        self._kept: AbstractConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._callers = 0  # the number of callers that wait for `_connecting`
        self._replies = hiredis.Reader(replyError=Refused)
        self._unsent: list[tuple[bytes, _Batch]] = []
        self._waiting: deque[_Batch] = deque()  # one entry for each answer
        self._watch: asyncio.TimerHandle | None = None

    async def ask_all(self, commands: Sequence[Command], until: float) -> list[Any]:
        """Return the answers to commands: values, `Refused` or `Lost`.  No other command is sent between them.

        Args:
            commands: The commands.
            until: The deadline, by the monotonic clock.
        """
        now = monotonic()
        if now - self._used > IDLE and self._transport is not None and not self._waiting:
            await self._probe(now)
        if self._transport is None:
            try:
                await self._connected(until)
            except (Lost, Refused) as error:
                return [error] * len(commands)
            now = monotonic()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type]
        self._used = now
        batch: _Batch = ([], len(packed), future, now, until)
        self._unsent.append((packed[0] if len(packed) == 1 else b"".join(packed), batch))
        if len(self._unsent) == 1:
            if self._waiting:
                loop.call_soon(self._flush)
            else:  # no answer is outstanding: send at once, without waiting for further commands of this iteration
                self._flush()
        if now + self._patience <= until:
            return await future  # `_look` limits the wait
        try:
            async with asyncio.timeout(until - now):
                return await future
        except TimeoutError:
            return [Lost(f"no answer within {self._timeout:g} s", sent=True)] * len(commands)

    async def _probe(self, now: float) -> None:
        """Drop the connection unless the server answers at once; commands of other callers follow the probe."""
        self._used = now
        (answer,) = await self.ask_all([(b"PING",)], now + min(PROBE, self._patience))
        if isinstance(answer, Lost):
            self._break(Lost("the connection was idle, and the server did not answer a probe", sent=True))

    @property
    def peer(self) -> str | None:
        """The host of the server; None without a connection, and for a Unix socket."""
        peer = None if self._transport is None else self._transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else None

    async def _connected(self, until: float) -> None:
        """Connect once for all callers; the cancellation of one caller does not affect the others."""
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add_done_callback(self._settled)
        connecting = self._connecting
        self._callers += 1
        try:
            await shielded(connecting, until)
        finally:
            self._callers -= 1
            if not self._callers and connecting is self._connecting:  # the last caller has given up
                self._connecting = None
                connecting.cancel()

    def _settled(self, task: asyncio.Task[None]) -> None:
        if self._connecting is task:
            self._connecting = None
        if not task.cancelled():
            task.exception()  # the callers raise it

    async def _connect(self) -> None:
        limit = min(REACH, self._timeout)
        try:
            async with asyncio.timeout(limit):
                connection = await self._make()
        except TimeoutError as error:
            raise Lost(f"no connection within {limit:g} s", sent=False, again=False, connected=False) from error
        except exceptions.AuthenticationError as error:  # a ConnectionError of redis-py
            raise Refused(said(error)) from error
        except exceptions.BusyLoadingError as error:  # a ConnectionError of redis-py
            raise Lost(said(error), sent=False) from error
        except (OSError, exceptions.ConnectionError, exceptions.TimeoutError, exceptions.InvalidResponse) as error:
            raise Lost(said(error), sent=False, again=False, connected=False) from error
        except exceptions.RedisError as error:
            raise Refused(said(error)) from error
        writer = connection._writer  # noqa: SLF001 - its transport is not public
        assert writer is not None
        self._kept = connection  # without a reference, garbage collection would close its socket
        self._replies = hiredis.Reader(replyError=Refused)
        keep_alive(writer.transport)
        writer.transport.set_protocol(self)
        self._transport = writer.transport

    def _flush(self) -> None:
        """Send the queue; skip cancelled requests."""
        unsent, self._unsent = self._unsent, []
        asked = [one for one in unsent if not one[1][2].done()]
        if self._transport is None:
            for _, (_, size, future, *_) in asked:
                future.set_result([Lost("the connection was lost", sent=False)] * size)
            return
        for _, batch in asked:
            self._waiting += [batch] * batch[1]
        self._transport.write(asked[0][0] if len(asked) == 1 else b"".join([packed for packed, _ in asked]))
        if self._watch is None and self._waiting:
            self._watch = asyncio.get_running_loop().call_later(self._patience, self._look)

    def _look(self) -> None:
        """Drop the connection if no data arrives, or if the oldest command has reached its deadline."""
        self._watch = None
        if not self._waiting:
            return
        _, _, _, queued, until = self._waiting[0]
        end = until if self._received > queued else queued + self._patience
        left = end - monotonic()
        if left > 0:
            self._watch = asyncio.get_running_loop().call_later(left, self._look)
        else:
            self._break(Lost(f"no answer within {end - queued:g} s", sent=True))

    def data_received(self, data: bytes) -> None:
        replies, waiting = self._replies, self._waiting
        self._received = monotonic()
        replies.feed(data)
        try:
            while (answer := replies.gets()) is not False:
                answers, size, future, *_ = waiting.popleft()
                answers.append(answer)
                if len(answers) == size and not future.done():  # a cancelled caller's answers are dropped
                    future.set_result(answers)
        except (hiredis.HiredisError, IndexError) as error:  # later data cannot be assigned to commands
            self._break(Lost(f"the server sent no valid answer: {said(error)}", sent=True))

    def connection_lost(self, exc: Exception | None) -> None:
        self._break(Lost(f"the connection was lost: {said(exc) if exc else 'the server closed it'}", sent=True))

    def _break(self, error: Lost) -> None:
        """Drop the connection, and answer all commands with an error."""
        transport, self._transport = self._transport, None
        waiting, self._waiting = self._waiting, deque()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for answers, size, future, *_ in waiting:
            if not future.done():
                future.set_result(answers + [error] * (size - len(answers)))
        if transport is not None:
            transport.abort()
        if self._kept is not None:
            self._kept._writer = None  # noqa: SLF001 - the transport is aborted, and must not be closed again
            self._kept = None

    async def close(self) -> None:
        """Wait for the answers to the commands so far, then close the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._unsent:
            self._flush()
        waiting = {future for _, _, future, *_ in self._waiting if not future.done()}
        try:
            if waiting:
                await asyncio.wait(waiting)  # `_look` limits the wait
        finally:
            self._break(Lost("the store was closed", sent=True))
        await asyncio.sleep(0)  # the transport closes its socket in the next iteration of the loop


async def shielded(task: asyncio.Task[T], until: float) -> T:
    """Return the result of a task for which several callers wait; a cancelled caller does not cancel the task.

    Args:
        task: The task.
        until: The deadline, by the monotonic clock.

    Raises:
        Lost: The task was cancelled, or was not done in time.
    """
    wait = max(0.0, until - monotonic())
    await asyncio.wait([task], timeout=wait)
    if not task.done():
        raise Lost(f"no connection within {wait:.1f} s", sent=False, connected=False)
    if task.cancelled():
        raise Lost("the store was closed", sent=False, again=False)
    return task.result()


def said(error: BaseException) -> str:
    """Return why a server cannot be reached, or else the message of an error in one line."""
    if reason := why_unreachable(error):
        return reason.why
    return " ".join(str(error).split()) or type(error).__name__

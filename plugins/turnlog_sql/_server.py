"""`Server`: a database on a server, with a pool of connections and retries."""

from __future__ import annotations

import asyncio
import enum
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Generic, TypeVar

from turnlog import OutcomeUnknown, TurnlogError, Unavailable
from turnlog.errors import InvalidInput
from turnlog.runtime import PerLoop

from ._database import Database
from ._operations import Row, Steps
from ._pool import Pool
from ._statements import Value

T = TypeVar("T")
C = TypeVar("C")

_TRIES: Final = 20  # the most attempts at a transaction that conflicts with others


class Failure(enum.Enum):
    """The meaning of a driver's error."""

    DUPLICATE = enum.auto()  # a key is there already: nothing was done
    BEGIN_ANEW = enum.auto()  # a deadlock, or the like: nothing was done
    LOST = enum.auto()  # the connection
    REFUSED = enum.auto()  # by the server: nothing was done


class Server(Database, Generic[C]):
    """A database on a server.

    Args:
        name: The name in messages, without a password.
        pool_size: The most connections in each event loop.
        timeout: Seconds to wait for a connection, and for an operation.
    """

    def __init__(self, name: str, *, pool_size: int, timeout: float) -> None:
        if type(pool_size) is not int or not 1 <= pool_size <= 1000:
            raise InvalidInput(f"pool_size must be an int from 1 to 1000, not {pool_size!r}")
        self.name = name
        self._timeout = timeout
        self._pools: PerLoop[Pool[C]] = PerLoop(
            lambda: Pool(self._connected, self.discard, self.alive, size=pool_size, timeout=timeout, name=name),
            self._close_pool,
        )

    # -------------------------------------------------------------------------------------------------- of the driver

    @abstractmethod
    async def connect(self) -> C:
        """Return a new connection on which each statement is a transaction."""

    @abstractmethod
    def alive(self, connection: C) -> bool:
        """Return whether a connection is open, as far as this side knows."""

    @abstractmethod
    def discard(self, connection: C) -> None:
        """Drop a connection at once, without sending anything to the server."""

    @abstractmethod
    async def close_connection(self, connection: C) -> None:
        """Close a connection, and say so to the server."""

    @abstractmethod
    async def fetch(self, connection: C, sql: str, values: tuple[Value, ...]) -> Sequence[Row]:
        """Execute a statement and return its rows.

        This and the methods below raise `TimeoutError` if the server does not answer within `timeout` seconds.
        """

    @abstractmethod
    async def execute_many(self, connection: C, sql: str, values: list[tuple[Value, ...]]) -> None:
        """Execute a statement once for each tuple of values."""

    @abstractmethod
    async def begin(self, connection: C) -> None:
        """Begin a transaction in which each statement sees what was committed before it."""

    @abstractmethod
    async def commit(self, connection: C) -> None:
        """Commit the transaction."""

    @abstractmethod
    async def roll_back(self, connection: C) -> None:
        """Roll the transaction back."""

    @abstractmethod
    def meaning(self, error: BaseException) -> Failure | None:
        """Return the meaning of an error; None if it is not the driver's."""

    @abstractmethod
    def translated(self, error: BaseException) -> TurnlogError:
        """Return the error to raise for one of the driver's; nothing was stored."""

    # ------------------------------------------------------------------------------------------------------- for steps

    async def close(self) -> None:
        await self._pools.close()

    async def _close_pool(self, pool: Pool[C]) -> None:
        for connection in pool.close():
            with suppress(Exception):  # the connection is not used any more, whatever the error
                await self.close_connection(connection)

    async def read(self, make: Callable[[], Steps[T]]) -> T:
        loop, lost = asyncio.get_running_loop(), 0
        end = loop.time() + self._timeout
        for tries in range(_TRIES):  # it changes nothing that another would not: it may be done again
            try:
                return await self._lent(lambda connection: self._drive(connection, make()))
            except (_Lost, _Duplicate) as error:
                lost += isinstance(error, _Lost)
                if lost > 1 or tries == _TRIES - 1 or loop.time() > end:
                    raise Unavailable(f"{self.name}: {error}") from error.__cause__
        raise AssertionError

    async def write(self, make: Callable[[], Steps[T]], *, first: Callable[[], Steps[T | None]] | None = None) -> T:
        loop, unknown = asyncio.get_running_loop(), False
        end = loop.time() + self._timeout
        if first is not None:
            steps = first
            try:
                answer = await self._lent(lambda connection: self._drive(connection, steps()))
                if answer is not None:
                    return answer
            except _Duplicate:
                pass  # it was done before, or is being done
            except _Lost as lost:
                unknown = True  # the steps below find out
                if loop.time() > end:
                    raise OutcomeUnknown(f"{self.name}: {lost}") from lost.__cause__
        for tries in range(_TRIES):
            committing = [False]
            try:
                return await self._lent(lambda connection: self._transact(connection, make(), committing))  # noqa: B023
            except _Duplicate as error:
                if tries == _TRIES - 1 or loop.time() > end:
                    kind = OutcomeUnknown if unknown else Unavailable
                    text = f"{self.name}: others were in the way {tries + 1} times, the last time: {error}"
                    raise kind(text if unknown else f"{text}: nothing was stored") from error.__cause__
            except _Lost as lost:
                unknown = unknown or committing[0]
                if unknown or tries or loop.time() > end:
                    kind = OutcomeUnknown if unknown else Unavailable
                    raise kind(f"{self.name}: {lost}") from lost.__cause__
            except Unavailable as error:
                if unknown:
                    raise OutcomeUnknown(str(error)) from error
                raise
        raise AssertionError

    async def _connected(self) -> C:
        task = asyncio.current_task()
        assert task is not None
        cancelled = task.cancelling()
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self.connect()
                if task.cancelling() > cancelled:  # and the driver kept it to itself, as `wait_for` does in Python 3.11
                    self.discard(connection)
                    raise asyncio.CancelledError  # noqa: TRY301 - it is the task's own
                return connection
        except TimeoutError:
            raise Unavailable(f"{self.name} did not answer within {self._timeout:g} s: nothing was done") from None
        except Exception as error:
            raise self.translated(error) from error

    async def _lent(self, work: Callable[[C], Awaitable[T]]) -> T:
        """Call a function with a connection.

        The connection returns to the pool, or is dropped if an answer may be outstanding on it.
        """
        pool = await self._pools.get()
        connection = pool.idle() or await pool.acquire()
        sound = False
        try:
            answer = await work(connection)
            sound = True
        except TurnlogError:
            sound = True
            raise
        except Exception as error:
            late = isinstance(error, TimeoutError)
            meaning = Failure.LOST if late else self.meaning(error)
            if meaning is None:
                raise
            if meaning is Failure.LOST:
                pool.drop_idle()
                said = (
                    f"no answer within {self._timeout:g} s" if late else f"the connection was lost: {in_a_line(error)}"
                )
                raise _Lost(said) from error
            sound = self.alive(connection)
            if meaning is Failure.REFUSED:
                raise self.translated(error) from error
            raise _Duplicate(in_a_line(error)) from error
        finally:
            pool.release(connection, sound=sound)
        return answer

    async def _drive(self, connection: C, steps: Steps[T]) -> T:
        rows: Sequence[Row] = ()
        fetch = self.fetch
        try:
            statement, values = next(steps)
            while True:
                if type(values) is list:
                    await self.execute_many(connection, statement.sql, values)
                    rows = ()
                else:
                    rows = await fetch(connection, statement.sql, values)  # type: ignore[arg-type]
                statement, values = steps.send(rows)
        except StopIteration as stop:
            answer: T = stop.value
            return answer

    async def _transact(self, connection: C, steps: Steps[T], committing: list[bool]) -> T:
        """Run steps in a transaction.  `committing[0]` becomes True before the commit is sent."""
        await self.begin(connection)
        try:
            answer = await self._drive(connection, steps)
        except Exception:
            if self.alive(connection):
                await self.roll_back(connection)
            raise
        committing[0] = True
        await self.commit(connection)
        return answer

    async def with_connection(self, work: Callable[[C], Awaitable[T]]) -> T:
        """Call a function with a connection, outside the steps.

        Raises:
            Unavailable: The connection was lost.
        """
        try:
            return await self._lent(work)
        except (_Lost, _Duplicate) as error:
            raise Unavailable(f"{self.name}: {error}") from error.__cause__


class _Lost(Exception):
    """The connection was lost, and its last request may have been carried out."""


class _Duplicate(Exception):
    """The transaction conflicts with another: nothing was done."""


def in_a_line(error: BaseException) -> str:
    """Return the message of an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__

"""`Server`: a database on a server, with connection pools and retries."""

from __future__ import annotations

import asyncio
import enum
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final, Generic, Protocol, TypeVar

from turnlog import AccessError, Closed, Key, OutcomeUnknown, SchemaError, TurnlogError, Unavailable
from turnlog.errors import InvalidInput
from turnlog.runtime import PROBE, REACH, KeyedLocks, PerLoop

from . import _operations
from ._database import Database
from ._operations import Steps
from ._pool import Pool
from ._refusals import CHECK
from ._rows import Row
from ._statements import Value

_TRIES: Final = 20  # the largest number of attempts for a transaction that conflicts with others


_GRACE: Final = 0.05
"""Seconds from the connection timeout until a driver that has ignored its cancellation is cancelled again."""


class Timed(Protocol):
    """A connection whose requests have a deadline."""

    until: float
    """The deadline of the requests, by the monotonic clock."""


T = TypeVar("T")
C = TypeVar("C", bound=Timed)
C_contra = TypeVar("C_contra", bound=Timed, contravariant=True)


class Failure(enum.Enum):
    """The meaning of a driver's error."""

    DUPLICATE = enum.auto()  # the key exists: nothing was done
    BEGIN_ANEW = enum.auto()  # a deadlock or a similar conflict: nothing was done
    LOST = enum.auto()  # the connection was lost
    REFUSED = enum.auto()  # the server has refused the request: nothing was done


class Server(Database, Generic[C]):
    """A database on a server.

    Args:
        name: The name in messages, without a password.
        pool_size: The largest number of connections in each event loop.
        timeout: Limit of the duration of an operation in seconds, including waits, connections and repeats.
    """

    def __init__(self, name: str, *, pool_size: int, timeout: float) -> None:
        if type(pool_size) is not int or not 1 <= pool_size <= 1000:
            raise InvalidInput(f"pool_size must be a whole number from 1 to 1000, not {pool_size!r}")
        if timeout == 0:
            raise InvalidInput("timeout must be greater than 0, because each operation on a server takes time")
        self.name = name
        self._timeout = timeout
        self._pools: PerLoop[Pool[C]] = PerLoop(
            lambda: Pool(self._connected, self.discard, self.alive, self._answers, size=pool_size, name=name),
            self._close_pool,
        )
        self._locks: PerLoop[KeyedLocks[Key, None, None]] = PerLoop(lambda: KeyedLocks(name))

    # ----------------------------------------------------------------------------------------------------- the driver

    @abstractmethod
    async def connect(self) -> C:
        """Return a new connection on which each statement is a transaction."""

    @abstractmethod
    def alive(self, connection: C) -> bool:
        """Return whether a connection is open, as far as the client knows."""

    @abstractmethod
    def discard(self, connection: C) -> None:
        """Drop a connection at once, without sending anything to the server."""

    @abstractmethod
    async def close_connection(self, connection: C) -> None:
        """Close a connection with a message to the server."""

    @abstractmethod
    async def fetch(self, connection: C, sql: str, values: tuple[Value, ...]) -> Sequence[Row]:
        """Execute a statement and return its rows.

        This and the methods below raise `TimeoutError` if the server does not answer within `left` seconds.
        """

    @abstractmethod
    async def execute_many(self, connection: C, sql: str, values: list[tuple[Value, ...]]) -> None:
        """Execute a statement once for each tuple of values."""

    @abstractmethod
    async def begin(self, connection: C) -> None:
        """Begin a transaction with the isolation level READ COMMITTED."""

    @abstractmethod
    async def commit(self, connection: C) -> None:
        """Commit the transaction."""

    @abstractmethod
    async def roll_back(self, connection: C) -> None:
        """Roll the transaction back."""

    @abstractmethod
    def meaning(self, error: BaseException) -> Failure | None:
        """Return the meaning of an error; None if the driver has not raised it."""

    @abstractmethod
    def translated(self, error: BaseException) -> TurnlogError:
        """Return the error to raise in place of an error of the driver after which nothing was stored."""

    # ------------------------------------------------------------------------------------------------------- the steps

    async def close(self) -> None:
        await self._pools.close()

    async def _close_pool(self, pool: Pool[C]) -> None:
        left = await pool.close()
        try:
            for connection in left:
                with suppress(Exception):  # the connection is not used any more, so errors do not matter
                    await self.close_connection(connection)
        except BaseException:  # such as a cancellation at the end of the event loop
            for connection in left:
                self.discard(connection)
            raise

    def left(self, connection: C) -> float:
        """Return the timeout of the next request of a connection in seconds."""
        return min(self._timeout, connection.until - monotonic())

    async def read(self, make: Callable[[], Steps[T]]) -> T:
        with await self._pools.get() as pool:
            lost, kept = 0, self._kept()
            until = monotonic() + self._timeout
            for tries in range(_TRIES):  # a read may be repeated
                try:
                    if kept is not None and kept.connection is not None:
                        return await self._used(pool, kept.take(), lambda one: self._drive(one, make()), kept.give_back)
                    return await self._lent(pool, lambda one: self._drive(one, make()), until, spare=not lost)
                except (_Lost, _Duplicate) as error:
                    lost += isinstance(error, _Lost)
                    if lost > 1 or tries == _TRIES - 1 or monotonic() > until:
                        raise Unavailable(f"{self.name}: {error}") from error.__cause__
            raise AssertionError

    async def write(
        self,
        make: Callable[[], Steps[T]],
        *,
        first: Callable[[], Steps[T | None]] | None = None,
        key: Key | None = None,
        again: bool = False,
    ) -> T:
        # `close` may be called during the wait below: the pool then refuses the operation
        until, pool = monotonic() + self._timeout, await self._pools.get()
        if key is None:
            with pool:
                return await self._write(pool, make, first, until, None, again=again)
        locks = await self._locks.get()
        held = locks.try_acquire(key) or bool(await locks.wait(key, until, None))
        try:
            with pool:
                return await self._write(pool, make, first, until, None if held else self._kept(key), again=again)
        finally:
            if held:
                locks.release(key)

    async def _write(
        self,
        pool: Pool[C],
        make: Callable[[], Steps[T]],
        first: Callable[[], Steps[T | None]] | None,
        until: float,
        kept: _Kept[C] | None,
        *,
        again: bool,
    ) -> T:
        unknown, lost = False, 0
        if first is not None and kept is None:
            steps = first
            try:
                answer = await self._lent(pool, lambda one: self._drive(one, steps()), until, spare=True)
                if answer is not None:
                    return answer
            except _Duplicate:
                pass  # the change was stored before, or another task is storing it
            except _Lost as error:
                unknown, lost = True, 1  # the steps below find out whether the change was stored
                if monotonic() > until:
                    raise OutcomeUnknown(f"{self.name}: {error}") from error.__cause__
        for tries in range(_TRIES):
            committing = [False]
            try:
                if kept is not None and kept.connection is not None:
                    last = partial(self._finish, make=make, committing=committing)
                    return await self._used(pool, kept.take(), last, kept.release)
                all_of_it = partial(self._transact, make=make, committing=committing)
                return await self._lent(pool, all_of_it, until, spare=not lost)
            except _Duplicate as error:
                if tries == _TRIES - 1 or monotonic() > until:
                    kind = OutcomeUnknown if unknown else Unavailable
                    text = f"{self.name}: other transactions conflicted {tries + 1} times, the last time: {error}"
                    raise kind(text if unknown else f"{text}: nothing was stored") from error.__cause__
            except _Lost as error:
                unknown, lost = unknown or committing[0], lost + 1
                if lost > 1 or monotonic() > until or (unknown and not again):
                    kind = OutcomeUnknown if unknown else Unavailable
                    raise kind(f"{self.name}: {error}") from error.__cause__
            except (AccessError, Closed, SchemaError, Unavailable) as error:
                if unknown:
                    raise OutcomeUnknown(str(error)) from error
                raise
        raise AssertionError

    @asynccontextmanager
    async def alone(self, key: Key) -> AsyncGenerator[None, None]:
        """As `Backend.alone`: a transaction locks the session, and the next write to it uses this transaction."""
        until, pool = monotonic() + self._timeout, await self._pools.get()
        locks = await self._locks.get()
        async with locks.alone(key, until, None):
            with pool:
                connection = pool.idle() or await pool.acquire(until)
                connection.until = (monotonic() + until) / 2
                kept = _Kept(self, key, pool.release)
                try:
                    await self._used(pool, connection, partial(self._begin_locked, key=key), kept.give_back)
                    connection.until = until
                except (_Lost, _Duplicate):  # go on without the lock
                    if kept.connection is not None:
                        pool.release(kept.take(), sound=True)
            token = _keeping.set(kept)
            try:
                yield
            finally:
                _keeping.reset(token)
                if kept.connection is not None:
                    with suppress(_Lost, _Duplicate, AccessError, Unavailable):  # the server then ends the transaction
                        await self._used(pool, kept.take(), self.roll_back, pool.release)

    def _kept(self, key: Key | None = None) -> _Kept[C] | None:
        """Return the connection of the enclosing `alone`: of a session, or without `key` of any session."""
        kept = _keeping.get()
        return kept if kept is not None and kept.server is self and key in (None, kept.key) else None

    async def _begin_locked(self, connection: C, key: Key) -> None:
        await self.begin(connection)
        try:
            await self._drive(connection, _operations.lock(self.statements, key))
        except Exception:
            if self.alive(connection):
                await self.roll_back(connection)
            raise

    async def _connected(self, until: float) -> C:
        task = asyncio.current_task()
        assert task is not None
        cancelled, limit = task.cancelling(), min(REACH, self._timeout)
        seconds = min(until - monotonic(), limit)
        try:
            # two timeouts: `wait_for` in Python 3.11, which drivers use, may ignore one cancellation
            async with asyncio.timeout(seconds + _GRACE), asyncio.timeout(seconds):
                connection = await self.connect()
                if task.cancelling() > cancelled:  # the driver has swallowed a cancellation (`wait_for`, Python 3.11)
                    self.discard(connection)
                    raise asyncio.CancelledError  # noqa: TRY301 - the cancellation of this task
                return connection
        except TimeoutError:
            raise Unavailable(f"{self.name} did not answer within {limit:g} s: nothing was done; {CHECK}") from None
        except Exception as error:
            raise self.translated(error) from error

    async def _answers(self, connection: C) -> bool:
        """Return whether the server answers on a connection that was idle for long."""
        connection.until = monotonic() + min(PROBE, self._timeout / 2)
        try:
            await self.fetch(connection, "SELECT 1", ())
        except Exception as error:
            if not isinstance(error, TimeoutError) and self.meaning(error) is None:
                raise
            return False
        return True

    async def _lent(self, pool: Pool[C], work: Callable[[C], Awaitable[T]], until: float, *, spare: bool) -> T:
        """Call a function with a connection.

        The connection returns to the pool, or is dropped if an answer may be outstanding on it.

        Args:
            pool: The pool.
            work: The function.
            until: The deadline of the operation, by the monotonic clock.
            spare: Give the function only half of the remaining time, so that time is left for another connection.
        """
        connection = pool.idle() or await pool.acquire(until)
        connection.until = until
        if spare:
            now = monotonic()
            connection.until = now + (until - now) / 2
        return await self._used(pool, connection, work, pool.release)

    async def _used(
        self, pool: Pool[C], connection: C, work: Callable[[C], Awaitable[T]], give_back: _GiveBack[C]
    ) -> T:
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
                in_time = f"no answer in time, the timeout is {self._timeout:g} s"
                raise _Lost(in_time if late else f"the connection was lost: {in_a_line(error)}") from error
            sound = self.alive(connection)
            if meaning is Failure.REFUSED:
                raise self.translated(error) from error
            raise _Duplicate(in_a_line(error)) from error
        finally:
            give_back(connection, sound=sound)
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

    async def _transact(self, connection: C, *, make: Callable[[], Steps[T]], committing: list[bool]) -> T:
        """Run steps in a transaction.  `committing[0]` becomes True before the commit is sent."""
        await self.begin(connection)
        return await self._finish(connection, make=make, committing=committing)

    async def _finish(self, connection: C, *, make: Callable[[], Steps[T]], committing: list[bool]) -> T:
        """Run steps in a transaction that was begun before, and end it."""
        try:
            answer = await self._drive(connection, make())
        except Exception:
            if self.alive(connection):
                await self.roll_back(connection)
            raise
        committing[0] = True
        await self.commit(connection)
        return answer

    async def with_connection(self, work: Callable[[C], Awaitable[T]]) -> T:
        """Call a function with a connection, without steps; the timeout applies to each of its requests.

        Raises:
            Unavailable: The connection was lost.
        """

        async def unlimited(connection: C) -> T:
            connection.until = inf
            return await work(connection)

        try:
            with await self._pools.get() as pool:
                return await self._lent(pool, unlimited, monotonic() + self._timeout, spare=False)
        except (_Lost, _Duplicate) as error:
            raise Unavailable(f"{self.name}: {error}") from error.__cause__


class _GiveBack(Protocol[C_contra]):
    def __call__(self, connection: C_contra, *, sound: bool) -> None: ...


class _Kept(Generic[C]):
    """A connection with a transaction that locks a session.

    Args:
        server: The server.
        key: The session.
        release: Gives the connection back to the pool.
    """

    def __init__(self, server: Server[C], key: Key, release: _GiveBack[C]) -> None:
        self.server = server
        self.key = key
        self.connection: C | None = None
        """The connection; None while it is in use, and before and after the transaction."""
        self.release = release

    def take(self) -> C:
        """Take the connection; the caller gives it back, or releases it when it ends the transaction."""
        connection, self.connection = self.connection, None
        assert connection is not None
        return connection

    def give_back(self, connection: C, *, sound: bool) -> None:
        """Keep the connection if it is sound; otherwise release it."""
        if sound:
            self.connection = connection
        else:
            self.release(connection, sound=False)


_keeping: ContextVar[_Kept[Any] | None] = ContextVar("turnlog_kept", default=None)


class _Lost(Exception):
    """The connection was lost, and its last request may have been carried out."""


class _Duplicate(Exception):
    """The transaction conflicts with another one: nothing was done."""


def in_a_line(error: BaseException) -> str:
    """Return the message of an error as one line."""
    return " ".join(str(error).split()) or type(error).__name__

"""`Worker`: a thread with a connection to SQLite, which serves any number of event loops."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from random import uniform
from time import monotonic
from typing import Any, Final, TypeAlias

from turnlog import Closed, Unavailable

from ._loop_waker import LoopWaker
from ._second_lock import close_in_the_child
from ._sqlite_connection import Connection

_MOST: Final = 64  # the largest number of requests that are served together


_AGAIN: Final = (0.001, 0.005)
"""Shortest and longest wait in seconds before the next attempt to get a lock of another process; the wait is random.  A
transaction takes up to a few milliseconds.  Waits that grow to 0.1 s, as in SQLite itself, favour the process that has
waited least (`docs/decisions/0009-sqlite.md`)."""

Work: TypeAlias = "tuple[asyncio.Future[Any], bool, Callable[[], Any] | None, Callable[[], Any] | None, float]"
"""A request: the future of its answer, whether it writes, a function that creates its steps, a function that creates
steps to try first, and the deadline for getting a lock, by the monotonic clock.  A request without steps ends the
thread."""

Outcome: TypeAlias = "tuple[Work, Any, BaseException | None]"
"""A request with its answer or its error."""


class Locked(Exception):
    """Another process holds a lock of the database: the thread repeats the request until its deadline."""


class Worker:
    """Serves requests in a thread; a forked child starts another thread.

    Args:
        name: The name of the database in error messages.
        timeout: Seconds that a request may wait for a lock.
        connect: Opens the connection, in the thread.  It must not wait for a lock, but raise `Locked`.
        serve: Serves the queued requests, and returns their outcomes in one or more parts.  The error of a request that
            did not get a lock is `Locked`.
    """

    def __init__(
        self,
        name: str,
        timeout: float,
        connect: Callable[[], Connection],
        serve: Callable[[Connection, Sequence[Work]], Iterable[list[Outcome]]],
    ) -> None:
        self._name = name
        self._timeout = timeout
        self._connect = connect
        self._serve = serve
        self._thread: _Thread | None = None

    def start(self) -> bool:
        """Start the thread; return False if it is running."""
        if self._thread is not None and not self._thread.ends:
            return False
        self._thread = self._started()
        return True

    async def stop(self) -> None:
        """Serve the queued requests, close the connection and end the thread.

        A cancelled call does not stop this, and another call waits for it.
        """
        thread = self._thread
        if thread is not None and thread.owned:
            future = _future()
            if thread.end((future, False, None, None, 0.0)):
                await future

    def do(
        self, make: Callable[[], Any], *, writes: bool, first: Callable[[], Any] | None = None
    ) -> asyncio.Future[Any]:
        """Queue a request and return the future of its answer.

        The thread skips a request that is cancelled before it begins, and finishes one that is cancelled later.

        Raises:
            Closed: The thread was stopped, or never started.
        """
        thread = self._thread
        if thread is not None and not thread.owned and not thread.ends:
            thread = self._thread = self._started()
        future = _future()
        if thread is None or not thread.put((future, writes, make, first, monotonic() + self._timeout)):
            raise Closed(f"{self._name} is not open: use it inside its 'with' block, or after open()")
        return future

    def _started(self) -> _Thread:
        late = f"{self._name} was locked by another process for {self._timeout:g} s: nothing was stored"
        return _Thread(self._connect, self._serve, late)


class _Thread:
    def __init__(
        self,
        connect: Callable[[], Connection],
        serve: Callable[[Connection, Sequence[Work]], Iterable[list[Outcome]]],
        late: str,
    ) -> None:
        self.owned = True  # False in a forked child: the thread runs in its parent
        self.connection: Connection | None = None  # set with `_connecting` held, unset with `busy` held
        self.busy = threading.Lock()  # held while the connection is in use
        self._connect = connect
        self._serve = serve
        self._late = late  # the message of the error if a lock is not released
        self._works: SimpleQueue[Work] = SimpleQueue()
        self._queueing = threading.Lock()
        self.ends: list[Work] = []  # the requests to end the thread; the queue has the first one
        self._has_ended = False
        self._wanted = False  # True while another thread waits to disconnect this one
        _threads.add(self)
        threading.Thread(target=self._work, name="turnlog-sqlite", daemon=True).start()

    def put(self, work: Work) -> bool:
        """Queue a request; return False if the end of the thread was queued before."""
        with self._queueing:
            if self.ends:
                return False
            self._works.put(work)
            return True

    def end(self, work: Work) -> bool:
        """Queue a request to end the thread; return False if the thread has ended."""
        with self._queueing:
            if self._has_ended:
                return False
            self.ends.append(work)
            if len(self.ends) == 1:
                self._works.put(work)
            return True

    def disconnect(self) -> None:
        """Close the connection as soon as it is not in use.  The caller is any thread that holds `_connecting`."""
        self._wanted = True
        with self.busy:
            self._wanted = False
            connection, self.connection = self.connection, None
            if connection is not None:
                connection.close()

    def _work(self) -> None:
        works: list[Work] = []  # requests that did not get a lock
        ends = False
        while works or not ends:
            works, ends = self._waiting(works, ends=ends)
            if works:
                works = self._do(works)
        with _connecting:
            self.disconnect()
        _threads.discard(self)
        with self._queueing:
            self._has_ended = True
        _deliver([(end, None, None) for end in self.ends])

    def _waiting(self, works: list[Work], *, ends: bool) -> tuple[list[Work], bool]:
        """Wait for a request, or until the next attempt of the requests that did not get a lock.

        Returns:
            The requests to serve, and whether the queue has no further request, because the thread ends.
        """
        try:
            work = self._works.get(timeout=uniform(*_AGAIN) if works else None)  # noqa: S311 - not a secret
        except Empty:
            return works, ends
        while work[2] is not None:
            works.append(work)
            if len(works) >= _MOST or self._works.empty():
                return works, False
            work = self._works.get()
        return works, True

    def _do(self, works: list[Work]) -> list[Work]:
        """Serve requests; return those that did not get a lock and are still before their deadline."""
        locked: list[Work] = []
        try:
            if self.connection is None:
                with _connecting:
                    _disconnect_replaced()
                    self.connection = self._connect()
            elif self._wanted:  # the lock is not fair: let the other thread get it first
                with _connecting:
                    pass
            with self.busy:
                connection = self.connection
                if connection is None:  # a fork in another thread has closed it
                    return works
                for outcomes in self._serve(connection, works):
                    locked += self._delivered(outcomes)
            if connection.replaced:
                with _connecting:
                    self.disconnect()
        except BaseException as error:  # noqa: BLE001 - the callers raise it
            locked += self._delivered([(work, None, error) for work in works])
        return locked

    def _delivered(self, outcomes: list[Outcome]) -> list[Work]:
        """Deliver outcomes; return the requests that did not get a lock and are still before their deadline."""
        for _, _, error in outcomes:
            if isinstance(error, Locked):
                break
        else:
            _deliver(outcomes)
            return []
        final: list[Outcome] = []
        again: list[Work] = []
        now = monotonic()
        for work, answer, error in outcomes:
            if not isinstance(error, Locked):
                final.append((work, answer, error))
            elif now < work[4]:
                again.append(work)
            else:
                late = Unavailable(self._late)
                late.__cause__ = error.__cause__
                final.append((work, None, late))
        if final:
            _deliver(final)
        return again


def _deliver(outcomes: list[Outcome]) -> None:
    """Pass outcomes to the loops of their futures, and wake each loop once."""
    loop, own, others = outcomes[0][0][0].get_loop(), outcomes, []
    if len(outcomes) > 1:
        own = [one for one in outcomes if one[0][0].get_loop() is loop]
        others = [one for one in outcomes if one[0][0].get_loop() is not loop]
    waker = _wakers.get(id(loop))
    if waker is not None and not loop.is_closed():  # no caller waits in a closed loop
        waker.wake(own)
    if others:
        _deliver(others)


# by the id of the loop: a lookup in a dictionary of weak references takes five times as long
_wakers: dict[int, LoopWaker[list[Outcome]]] = {}


def _future() -> asyncio.Future[Any]:
    """Return a future of the running loop, which the thread can wake."""
    loop = asyncio.get_running_loop()
    waker = _wakers.get(id(loop))
    if waker is None or waker.loop() is not loop:
        for number, other in list(_wakers.items()):
            past = other.loop()
            if past is None or past.is_closed():
                _wakers.pop(number, None)
        _wakers[id(loop)] = LoopWaker(loop, _settle)
    return loop.create_future()


def _settle(outcomes: list[Outcome]) -> None:
    for (future, *_), answer, error in outcomes:
        if future.done():
            continue  # the caller was cancelled
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)


# ---------------------------------------------------------------------------------------------------------- forking
#
# SQLite stores in memory which locks a process holds on a file.  A forked child has a copy of that memory, but not the
# locks.  The next process to close the file would then consider itself the last user, and delete the write-ahead log
# that the child still uses (sqlite.org/howtocorrupt.html, section 2.6).  Therefore each connection is closed before a
# fork, and parent and child open new connections when they need them.
#
# A thread holds `_connecting` while it connects.  A fork also holds it: a thread that is started during a fork waits
# until the fork is done.  Event loops never acquire it, and no thread waits for a lock of the database while it holds
# `_connecting`.

_threads: set[_Thread] = set()  # the running threads; other threads may copy the set, but not iterate over it
_connecting = threading.Lock()


def _disconnect_replaced() -> None:
    """Close the connections of this process whose files were replaced, before a connection to the new files is opened.

    All connections of a process to one database share one index of the log.  If an old connection were open, SQLite
    would use the old index for the new log.
    """
    for thread in list(_threads):
        connection = thread.connection
        if connection is not None and not connection.is_intact():
            thread.disconnect()


def _before_fork() -> None:
    _connecting.acquire()
    for thread in list(_threads):
        if thread.connection is not None:
            with suppress(Exception):  # the other connections must also be closed
                thread.disconnect()


def _in_the_parent() -> None:
    _connecting.release()


def _in_the_child() -> None:
    for thread in _threads:
        thread.owned = False
    _threads.clear()
    close_in_the_child()
    _connecting.release()
    for waker in _wakers.values():
        waker.reconnect_after_fork()
    _wakers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_the_parent, after_in_child=_in_the_child)

"""A thread that owns a connection to SQLite and serves any number of event loops."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Any, TypeAlias

from turnlog import Closed

from ._loop_waker import LoopWaker

_MOST = 64  # requests that are served together


Work: TypeAlias = "tuple[asyncio.Future[Any], bool, Callable[[], Any] | None, Callable[[], Any] | None]"
"""A request: the future of its answer, whether it writes, a function that makes its steps, and another that makes steps
to try first.  A request without steps ends the thread."""

Outcome: TypeAlias = "tuple[Work, Any, BaseException | None]"
"""A request with its answer or its error."""


class Worker:
    """Serves requests in a thread; a forked child starts a thread of its own.

    Args:
        name: The name of the database in error messages.
        connect: Makes the connection, in the thread.
        serve: Serves the requests that wait at the same moment, and returns their outcomes in one or more parts.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        serve: Callable[[sqlite3.Connection, Sequence[Work]], Iterable[list[Outcome]]],
    ) -> None:
        self._name = name
        self._connect = connect
        self._serve = serve
        self._thread: _Thread | None = None

    def start(self) -> bool:
        """Start the thread; return False if it runs already."""
        if self._thread is not None:
            return False
        self._thread = _Thread(self._connect, self._serve)
        return True

    async def stop(self) -> None:
        """Serve the requests that are queued, close the connection and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.owned:
            future = _future()
            if thread.put((future, False, None, None)):
                await future

    def do(
        self, make: Callable[[], Any], *, writes: bool, first: Callable[[], Any] | None = None
    ) -> asyncio.Future[Any]:
        """Queue a request and return the future of its answer.

        The thread skips a request that is cancelled before its turn.  It still serves one that is cancelled later.

        Raises:
            Closed: The thread was stopped, or never started.
        """
        thread = self._thread
        if thread is not None and not thread.owned:
            thread = self._thread = _Thread(self._connect, self._serve)
        future = _future()
        if thread is None or not thread.put((future, writes, make, first)):
            raise Closed(f"{self._name} is not open: open the store with 'async with'")
        return future


class _Thread:
    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        serve: Callable[[sqlite3.Connection, Sequence[Work]], Iterable[list[Outcome]]],
    ) -> None:
        self.owned = True  # False in a forked child: the thread runs in its parent
        self.connection: sqlite3.Connection | None = None
        self.busy = threading.Lock()  # held while SQLite is in use
        self._connect = connect
        self._serve = serve
        self._works: SimpleQueue[Work] = SimpleQueue()
        self._queueing = threading.Lock()
        self._closed = False
        _threads.add(self)
        threading.Thread(target=self._work, name="turnlog-sqlite", daemon=True).start()

    def put(self, work: Work) -> bool:
        """Queue a request; return False if the end was queued before, after which nothing is served."""
        with self._queueing:
            if self._closed:
                return False
            self._closed = work[2] is None
            self._works.put(work)
            return True

    def _work(self) -> None:
        end: Work | None = None
        while end is None:
            works, end = self._waiting()
            with self.busy:
                if works:
                    self._do(works)
                if end is not None and self.connection is not None:
                    self.connection.close()
            del works  # or this thread would keep the last answers until the next request
        _deliver([(end, None, None)])

    def _waiting(self) -> tuple[list[Work], Work | None]:
        """Wait for a request; return all that are queued then, and the end if it is among them."""
        works: list[Work] = []
        work = self._works.get()
        while work[2] is not None:
            works.append(work)
            if len(works) == _MOST or self._works.empty():
                return works, None
            work = self._works.get()
        return works, work

    def _do(self, works: Sequence[Work]) -> None:
        try:
            if self.connection is None:
                self.connection = self._connect()
            for outcomes in self._serve(self.connection, works):
                _deliver(outcomes)
        except BaseException as error:  # noqa: BLE001 - the callers raise it
            _deliver([(work, None, error) for work in works])


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


# by the id of the loop: a dictionary of weak references takes five times as long
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
            continue  # its caller was cancelled
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)


# ---------------------------------------------------------------------------------------------------------- forking
#
# SQLite keeps in memory which locks a process holds on a file.  A forked child has a copy of that memory, but not the
# locks: the next process to close the file would consider itself the last one, and delete the write-ahead log that the
# child still uses (sqlite.org/howtocorrupt.html, section 2.6).  So each connection is closed before a fork, and parent
# and child open new ones when they need them.

_threads: weakref.WeakSet[_Thread] = weakref.WeakSet()
_held: list[_Thread] = []
_forking = threading.Lock()


def _before_fork() -> None:
    _forking.acquire()  # two threads may fork at once
    _held[:] = [thread for thread in _threads if thread.owned]
    for thread in _held:
        thread.busy.acquire()
        if thread.connection is not None:
            thread.connection.close()
            thread.connection = None


def _in_the_parent() -> None:
    for thread in _held:
        thread.busy.release()
    _held.clear()
    _forking.release()


def _in_the_child() -> None:
    for waker in _wakers.values():
        waker.reconnect_after_fork()
    _wakers.clear()
    for thread in _held:
        thread.owned = False
    _held.clear()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_the_parent, after_in_child=_in_the_child)

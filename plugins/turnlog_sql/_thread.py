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

from ._loop_waker import Bell

_MOST = 64  # works that are done together at most


Work: TypeAlias = "tuple[asyncio.Future[Any], bool, Callable[[], Any] | None, Callable[[], Any] | None]"
"""What somebody waits for: the future, whether it writes, what makes its steps and those that come first; without
steps, the end."""

Outcome: TypeAlias = "tuple[Work, Any, BaseException | None]"
"""A work with its answer, or what it raised."""


class Worker:
    """The thread, and another one in each process that is forked from this.

    Args:
        name: What messages call the database.
        connect: Makes the connection; it is called in the thread.
        serve: Does works that were waiting at the same moment, and gives their outcomes in one or more parts.
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
        """Start the thread; False where it runs already."""
        if self._thread is not None:
            return False
        self._thread = _Thread(self._connect, self._serve)
        return True

    async def stop(self) -> None:
        """Do what was asked for until now, close the connection and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.here:
            future = _future()
            if thread.put((future, False, None, None)):
                await future

    def do(
        self, make: Callable[[], Any], *, writes: bool, first: Callable[[], Any] | None = None
    ) -> asyncio.Future[Any]:
        """Have a work done.  A caller that is cancelled before its turn came is passed over; later it is done.

        Raises:
            Closed: The thread was stopped, or never started.
        """
        thread = self._thread
        if thread is not None and not thread.here:
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
        self.here = True  # and not in the process that this one was forked from
        self.connection: sqlite3.Connection | None = None
        self.busy = threading.Lock()  # held while SQLite is in use
        self._connect = connect
        self._serve = serve
        self._works: SimpleQueue[Work] = SimpleQueue()
        self._door = threading.Lock()
        self._closed = False
        _threads.add(self)
        threading.Thread(target=self._work, name="turnlog-sqlite", daemon=True).start()

    def put(self, work: Work) -> bool:
        """Queue a work, unless the end was queued before: nothing may come behind that, or it would wait for ever."""
        with self._door:
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
            del works  # or this thread keeps the last answers until the next work comes
        _tell([(end, None, None)])

    def _waiting(self) -> tuple[list[Work], Work | None]:
        """What is waiting at this moment, once there is something; and the end, if that has come."""
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
                _tell(outcomes)
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is told
            _tell([(work, None, error) for work in works])


def _tell(outcomes: list[Outcome]) -> None:
    """Tell those who wait, each in its own loop, and each loop once."""
    loop, told, others = outcomes[0][0][0].get_loop(), outcomes, []
    if len(outcomes) > 1:
        told = [one for one in outcomes if one[0][0].get_loop() is loop]
        others = [one for one in outcomes if one[0][0].get_loop() is not loop]
    bell = _bells.get(id(loop))
    if bell is not None and not loop.is_closed():  # or nobody waits any more
        bell.ring(told)
    if others:
        _tell(others)


# by the id of the loop: a dictionary of weak references takes five times as long
_bells: dict[int, Bell[list[Outcome]]] = {}


def _future() -> asyncio.Future[Any]:
    """A future of the running loop, which can be told."""
    loop = asyncio.get_running_loop()
    bell = _bells.get(id(loop))
    if bell is None or bell.loop() is not loop:
        for place, other in list(_bells.items()):
            past = other.loop()
            if past is None or past.is_closed():
                _bells.pop(place, None)
        _bells[id(loop)] = Bell(loop, _settle)
    return loop.create_future()


def _settle(outcomes: list[Outcome]) -> None:
    for (future, *_), answer, error in outcomes:
        if future.done():
            continue  # the caller was cancelled meanwhile
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)


# ---------------------------------------------------------------------------------------------------------- forking
#
# SQLite keeps in memory which locks a process holds on a file, and a forked child has that memory, but not the locks:
# the next to close the file would take itself for the last, and remove the log under the child
# (sqlite.org/howtocorrupt.html, section 2.6).  So nothing is open while a process forks; afterwards each opens anew.

_threads: weakref.WeakSet[_Thread] = weakref.WeakSet()
_held: list[_Thread] = []
_forking = threading.Lock()


def _before_fork() -> None:
    _forking.acquire()  # two threads may fork at once
    _held[:] = [thread for thread in _threads if thread.here]
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
    for bell in _bells.values():
        bell.part()
    _bells.clear()
    for thread in _held:
        thread.here = False
    _held.clear()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_the_parent, after_in_child=_in_the_child)

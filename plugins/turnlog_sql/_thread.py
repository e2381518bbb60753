"""A thread that owns a connection and does one job after the other, for any number of event loops."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

_Job: TypeAlias = "tuple[asyncio.Future[Any], Callable[[sqlite3.Connection], Any] | None]"

_left_behind: list[object] = []
"""Connections of the process that this one was forked from: closing one here could take away the other's locks."""


class Worker:
    """The thread, and another one in each process that is forked from this.

    Args:
        connect: Makes the connection; it is called in the thread, before the first job.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._thread: _Thread | None = None

    async def start(self) -> None:
        """Start the thread, where none runs."""
        if self._thread is None:
            self._thread = _Thread(self._connect)

    async def stop(self) -> None:
        """Do what was asked for until now, close the connection and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            if thread.pid == os.getpid():
                await thread.do(None)
            else:
                _left_behind.append(thread)

    def do(self, job: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Do a job in the thread.  A caller that is cancelled before its turn came is passed over; later it is done."""
        thread = self._thread
        if thread is None:
            raise RuntimeError("the thread was not started")
        if thread.pid != os.getpid():
            _left_behind.append(thread)
            thread = self._thread = _Thread(self._connect)
        return thread.do(job)


class _Thread:
    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self.pid = os.getpid()
        self.connection: sqlite3.Connection | None = None
        self._connect = connect
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        threading.Thread(target=self._work, name="turnlog-sqlite", daemon=True).start()

    def do(self, job: Callable[[sqlite3.Connection], Any] | None) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        self._jobs.put((future, job))
        return future

    def _work(self) -> None:
        job: object = ...
        while job is not None:
            future, job = self._jobs.get()
            answer, error = None, None
            if job is None or not future.cancelled():
                try:
                    answer = self._done(job)
                except BaseException as raised:  # noqa: BLE001 - whoever waits for it is told
                    error = raised
            try:  # noqa: SIM105 - contextlib.suppress takes longer than what it would be about
                future.get_loop().call_soon_threadsafe(_tell, future, answer, error)
            except RuntimeError:  # that loop has been closed: nobody waits any more
                pass
            del future, answer, error  # or this thread keeps the last answer until the next job comes

    def _done(self, job: Callable[[sqlite3.Connection], T] | None) -> T | None:
        if job is None:
            if self.connection is not None:
                self.connection.close()
            return None
        if self.connection is None:
            self.connection = self._connect()
        return job(self.connection)


def _tell(future: asyncio.Future[Any], answer: object, error: BaseException | None) -> None:
    if future.done():
        return  # the caller was cancelled meanwhile
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)

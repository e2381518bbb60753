"""`ThreadedBackend`: a base class for backends whose drivers block."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, ParamSpec, TypeVar

from .backend import Backend

__all__ = ["ThreadedBackend"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ThreadedBackend(Backend):
    """A backend whose operations run in threads.

    A thread cannot be cancelled: the operation of a cancelled caller runs on.  `close` waits for all operations, and
    may itself be cancelled and called again.

    Args:
        ttl: As in `Backend`.
        clock: As in `Backend`.
    """

    def __init__(self, *, ttl: float | None = None, clock: Callable[[], float] = time.time) -> None:
        super().__init__(ttl=ttl, clock=clock)
        self._running: set[Future[None]] = set()

    async def in_thread(self, function: Callable[_P, _T], /, *args: _P.args, **named: _P.kwargs) -> _T:
        """Call a function in a thread of the event loop's executor, and return its answer.

        Raises:
            Closed: The backend is closed.
        """
        self.check_open()
        operation = _Operation(function)
        self._running.add(operation.ended)
        operation.ended.add_done_callback(self._running.discard)
        try:
            return await asyncio.to_thread(operation, *args, **named)
        finally:
            operation.leave()

    async def close(self) -> None:
        await super().close()
        running = [asyncio.wrap_future(ended) for ended in list(self._running)]
        if running:
            await asyncio.wait(running)


class _Operation(Generic[_P, _T]):
    """A call of a function in a thread, which ends when the thread has finished it and the caller has left."""

    def __init__(self, function: Callable[_P, _T]) -> None:
        self.ended: Future[None] = Future()
        self._function = function
        self._lock = Lock()
        self._is_in_thread = False
        self._has_left = False

    def __call__(self, *args: _P.args, **named: _P.kwargs) -> _T:
        with self._lock:
            if self._has_left:
                raise asyncio.CancelledError  # nobody receives it
            self._is_in_thread = True
        try:
            return self._function(*args, **named)
        finally:
            with self._lock:
                self._is_in_thread = False
                self._end()

    def leave(self) -> None:
        """Note that the caller has the answer, or was cancelled."""
        with self._lock:
            self._has_left = True
            self._end()

    def _end(self) -> None:
        if self._has_left and not self._is_in_thread and not self.ended.done():
            self.ended.set_result(None)

"""`call`: runs a coroutine in the event loop of a daemon thread, and returns its result."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

from ..errors import Closed, Unsupported
from .caller import ENDED, Caller

_P = ParamSpec("_P")
_T = TypeVar("_T")

_WORKERS: Final = 1_000
"""Maximum number of threads for the tools of a pipeline and the I/O of backends.

A tool may call `turnlog.sync` and wait for a backend that also needs such a thread.  With few threads, asyncio's
default, many tools at once would wait for each other forever.  A thread is started only if no other one is idle."""

_EXIT: Final = 10.0
"""Longest time in seconds for which the end of the process waits until the loop has closed its connections."""


class LoopThread:
    """A daemon thread that runs an event loop until the process ends.

    Attributes:
        loop: The event loop.
        ended: Whether the process ends, so that all tasks are cancelled, or has been forked.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.loop.set_default_executor(ThreadPoolExecutor(_WORKERS, thread_name_prefix="turnlog-sync-worker"))
        self.ended: bool = False
        self._thread = threading.Thread(target=self._run, name="turnlog-sync", daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return threading.get_ident() == self._thread.ident

    def _run(self) -> None:
        while not self.ended:
            with suppress(KeyboardInterrupt, SystemExit):  # a coroutine raised it: its caller also receives it
                self.loop.run_forever()
        self._close()

    def _close(self) -> None:
        """Cancel all tasks, and close the loop.

        `asyncio.Runner.close` also waits for the threads of the executor, in a thread that cannot be started any more.
        """
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def end(self) -> None:
        """Cancel all tasks, let the loop close its connections, and end the thread."""
        self.ended = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_EXIT)

    def result_of(self, task: asyncio.Task[_T]) -> _T:
        """Return the result of a task that has ended.

        Raises:
            Closed: The process ends, and the task was cancelled for that reason.
        """
        try:
            return task.result()
        except asyncio.CancelledError:
            if self.ended:
                raise Closed(ENDED) from None
            raise


_starting = threading.Lock()
_thread: LoopThread | None = None
_ended = False
_inherited: list[LoopThread] = []


def loop_thread() -> LoopThread:
    """Return the thread of this process; start it at the first call.

    Raises:
        Unsupported: The caller runs in this thread.
        Closed: The process ends.
    """
    global _thread  # noqa: PLW0603 - one thread for all stores of a process
    thread = _thread
    if thread is None or thread.ended:
        with _starting:
            if _ended:
                raise Closed(ENDED)
            thread = _thread = _thread or LoopThread()
    if thread.is_current:
        raise Unsupported(
            "turnlog.sync was called in its own event loop, which would wait for itself: in an async model or tool, "
            "write 'await asyncio.to_thread(store.load, ...)', or make the function plain instead of async"
        )
    return thread


def call(function: Callable[_P, Coroutine[Any, Any, _T]], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call an async function in the loop thread, and return its result.

    The coroutine runs in the context of the caller (`contextvars`).

    Raises:
        Unsupported: The caller runs in the loop thread.
        Closed: The process ends.
    """
    thread = loop_thread()
    caller: Caller[Any] = Caller(thread.loop)
    task: asyncio.Task[_T] = caller.begin(function(*args, **kwargs))  # a call has no other answer than its end
    return thread.result_of(task)


def _end() -> None:
    global _ended  # noqa: PLW0603 - the state of the process
    with _starting:
        _ended = True
    if _thread is not None:
        _thread.end()


def _after_fork() -> None:
    """Forget the thread, which runs in the parent only.

    A reference stays: if the loop was freed, it would unregister its sockets from a list (epoll) that the child shares
    with its parent.
    """
    global _thread, _starting
    if _thread is not None:
        _thread.ended = True
        _inherited.append(_thread)
    _thread, _starting = None, threading.Lock()


atexit.register(_end)
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)

"""`call`: runs a coroutine in the event loop of a daemon thread, and returns its result."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Generic, ParamSpec, TypeVar

from ..errors import Closed, Unsupported

_P = ParamSpec("_P")
_T = TypeVar("_T")

_WORKERS: Final = 1_000
"""Maximum number of threads for the tools of a pipeline and the I/O of backends.

A tool may call `turnlog.sync` and wait for a backend that also needs such a thread.  With few threads, asyncio's
default, many tools at once would wait for each other forever.  A thread is started only if no other one is idle."""

_EXIT: Final = 10.0
"""Longest time in seconds for which the end of the process waits until the loop has closed its connections."""


ENDED: Final = (
    "the process ends, so turnlog.sync takes no more calls: close stores before, or in a function that was passed to "
    "atexit.register after the import of turnlog.sync"
)


class Caller(Generic[_T]):
    """A thread that waits for a task of the loop, and meanwhile runs functions for the task.

    Attributes:
        task: The task; None until it is started.
    """

    __slots__ = ("_answers", "_loop", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self.task: asyncio.Task[Any] | None = None

    def begin(self, work: Coroutine[Any, Any, Any]) -> _T | asyncio.Task[Any]:
        """Start a task in the context of this thread, and return its first answer, as `ask`."""
        context = copy_context()
        context.run(_caller.set, self)
        try:
            return self.ask(self._start, work, context)
        finally:
            if self.task is None:
                work.close()  # otherwise Python warns of a coroutine that was never awaited

    def ask(self, function: Callable[..., object], *args: object) -> _T | asyncio.Task[Any]:
        """Call a function in the loop; return the next answer of the task, or the task itself after its end.

        If this thread is interrupted, cancel the task and wait for its end, so that nothing is half done.

        Raises:
            Closed: The loop is closed, because the process ends.
        """
        try:
            self._loop.call_soon_threadsafe(function, *args)
            return self._next()
        except BaseException:
            if self._loop.is_closed():
                raise Closed(ENDED) from None
            self._loop.call_soon_threadsafe(self.cancel)
            while not isinstance(self._next(), (asyncio.Task, Caller)):
                pass
            raise

    def _next(self) -> _T | asyncio.Task[Any]:
        while True:
            answer = self._answers.get()
            if not isinstance(answer, _Job):
                return answer  # type: ignore[no-any-return]
            answer.run(self._loop)

    # -------------------------------------------------------------------------------------------- called in the loop

    def answer(self, value: _T) -> None:
        """Pass a value to the thread."""
        self._answers.put(value)

    def cancel(self) -> None:
        """Cancel the task, and pass its end on to the thread once more: an interrupt may have taken it."""
        if self.task is None:  # the interrupt came before the start
            self._answers.put(self)
            return
        self.task.cancel()
        self.task.add_done_callback(self._answers.put)

    def _start(self, work: Coroutine[Any, Any, Any], context: Context) -> None:
        self.task = self._loop.create_task(work, context=context)
        self.task.add_done_callback(self._answers.put)

    async def run(self, function: Callable[[], Any]) -> Any:  # noqa: ANN401 - any result
        """Run a function in the thread, and return its result."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._answers.put(_Job(function, future))
        return await future


_caller: ContextVar[Caller[Any]] = ContextVar("turnlog_sync_caller")
"""The thread that waits for the present task."""


class _Job:
    """A function that the waiting thread runs for its task."""

    __slots__ = ("_function", "_future")

    def __init__(self, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self._function = function
        self._future = future

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        result: Any = None
        failure: Exception | None = None
        try:
            result = self._function()
        except StopIteration as error:  # a future cannot hold it
            failure = RuntimeError(f"the function raised {error!r}")
        except Exception as error:  # noqa: BLE001 - the task raises it
            failure = error
        loop.call_soon_threadsafe(self._settle, result, failure)

    def _settle(self, result: Any, failure: Exception | None) -> None:  # noqa: ANN401 - any result
        if self._future.done():  # the task was cancelled
            return
        if failure is None:
            self._future.set_result(result)
        else:
            self._future.set_exception(failure)


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


async def in_caller(function: Callable[..., _T], /, *args: object, **kwargs: object) -> _T:
    """Call a function in the thread that waits for the present task, and return its result."""
    result: _T = await _caller.get().run(partial(function, *args, **kwargs))
    return result


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

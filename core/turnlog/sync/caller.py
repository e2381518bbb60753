"""`Caller`: a thread that waits for a task of the loop, and `in_caller`, which runs a function in that thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

from ..errors import Closed

_T = TypeVar("_T")

ENDED: Final = (
    "the process ends, so turnlog.sync takes no more calls: close stores before, or in a function that was passed to "
    "atexit.register after the import of turnlog.sync"
)
"""The text of `Closed` once the process ends."""


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


async def in_caller(function: Callable[..., _T], /, *args: object, **kwargs: object) -> _T:
    """Call a function in the thread that waits for the present task, and return its result."""
    result: _T = await _caller.get().run(partial(function, *args, **kwargs))
    return result

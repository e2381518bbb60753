"""What a task waits for while a thread works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Generic, TypeVar

T = TypeVar("T")


class Answer(Generic[T]):
    """A future for the task that asked, and for no other, which goes on as soon as the loop is told.

    `asyncio.Future` would have it go on in the next turn of the loop, for which the loop asks the system again what
    there is to do: a turn on SQLite took 3 % longer.  Tasks wait for whatever has the methods of a future, by what it
    says in `_asyncio_future_blocking` (docs.python.org/3/library/asyncio-extending.html, "Task lifetime support").

    Args:
        loop: The running one.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_context", "_done", "_error", "_loop", "_result", "_wake")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._done = self._cancelled = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._wake: Callable[[Answer[T]], object] | None = None
        self._context: Context | None = None

    def settle(self, result: T | None, error: BaseException | None) -> None:
        """Answer, in the loop; what was cancelled meanwhile is left alone."""
        if self._done:
            return
        self._done, self._result, self._error = True, result, error
        wake, self._wake = self._wake, None
        if wake is not None and self._context is not None:
            self._context.run(wake, self)

    # ------------------------------------------------------------------------------------------- what a task asks for

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Where it is waited for."""
        return self._loop

    def done(self) -> bool:
        """Whether it is answered, or cancelled."""
        return self._done

    def cancelled(self) -> bool:
        """Whether nobody waits any more."""
        return self._cancelled

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - asyncio gives it
        """Wait no more; False where it is answered."""
        if self._done:
            return False
        self._done = self._cancelled = True
        wake, self._wake = self._wake, None
        if wake is not None:
            self._loop.call_soon(wake, self, context=self._context)
        return True

    def result(self) -> T:
        """The answer, or what was raised."""
        if self._cancelled:
            raise asyncio.CancelledError
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def add_done_callback(self, wake: Callable[[Answer[T]], object], *, context: Context | None = None) -> None:
        """What the task gives, to be woken by."""
        self._wake, self._context = wake, context

    def __await__(self) -> Generator[Answer[T], None, T]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

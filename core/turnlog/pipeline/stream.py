"""`Stream`: a reply in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self

from ..errors import InvalidInput
from ..event_loop import check_event_loop
from .execution import Execution
from .result import Result

if TYPE_CHECKING:
    from asyncio import Task


class Stream:
    """A reply in pieces: `async with pipeline.stream(...) as reply: async for piece in reply: ...`.

    The turn is stored after the last piece.  If the block ends earlier, the pipeline stores the question and the text
    so far, unless `on_cut` is `discard`.  Such a turn stays open, and reads as interrupted once another turn begins.
    If another task still waits for a piece when the block ends, that task is cancelled.

    Args:
        execution: An execution that has not begun.
        done: Completes the execution after the last piece, and returns its result.
    """

    def __init__(self, execution: Execution, done: Callable[[], Awaitable[Result]]) -> None:
        self._execution = execution
        self._done = done
        self._pieces = self._taken()
        self._state = "new"
        self._taker: Task[Any] | None = None  # the task that waits for a piece

    async def _taken(self) -> AsyncGenerator[str, None]:
        async with aclosing(self._execution.pieces()) as pieces:
            async for piece in pieces:
                yield piece
        await self._done()

    async def __aenter__(self) -> Self:
        check_event_loop()
        if self._state != "new":
            raise InvalidInput("a stream can be entered only once: call pipeline.stream() for another one")
        self._state = "entered"
        return self

    def __aiter__(self) -> Self:
        if self._state != "entered":
            raise InvalidInput("a stream can be read only in its block: async with pipeline.stream(...) as reply")
        return self

    async def __anext__(self) -> str:
        from asyncio import current_task  # imported late, to keep `import turnlog` fast

        self._taker = current_task()
        try:
            return await anext(self._pieces)
        finally:
            self._taker = None

    async def __aexit__(self, *error: object) -> None:
        from asyncio import wait

        self._state = "left"
        if self._taker is not None:  # a generator that another task runs cannot be closed
            self._taker.cancel()
            await wait([self._taker])
        await self._pieces.aclose()

    @property
    def result(self) -> Result:
        """The outcome, available after the last piece.

        Raises:
            InvalidInput: Not all pieces have been read.
        """
        if self._execution.result is None:
            raise InvalidInput("the stream has no result yet: read all of its pieces first")
        return self._execution.result

"""A reply that comes in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self

from ..errors import InvalidInput
from .execution import Execution, Result

if TYPE_CHECKING:
    from asyncio import Task


class Stream:
    """A reply that comes in pieces: `async with pipeline.stream(...) as reply: async for piece in reply: ...`.

    The turn is stored when the last piece was taken.  If the block is left before, the turn is stored as far as it
    was said, and stays open: it reads as interrupted once another turn begins.  A task that still waits for a piece
    then is cancelled.

    Args:
        execution: The execution, which was not begun.
        done: Returns its result, and does what follows it.
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
        if self._state != "new":
            raise InvalidInput("a stream is entered once: call pipeline.stream() for another one")
        self._state = "entered"
        return self

    def __aiter__(self) -> Self:
        if self._state != "entered":
            raise InvalidInput("pieces are taken inside the block: async with pipeline.stream(...) as reply")
        return self

    async def __anext__(self) -> str:
        from asyncio import current_task  # `import turnlog` does not pay for it

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
        """The outcome, once all pieces were taken.

        Raises:
            InvalidInput: There is none.
        """
        if self._execution.result is None:
            raise InvalidInput("the stream has no result: not all of its pieces were taken")
        return self._execution.result

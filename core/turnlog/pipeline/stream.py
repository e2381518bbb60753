"""A reply that comes in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Self

from ..errors import InvalidInput
from .execution import Execution, Result


class Stream:
    """A reply that comes in pieces: `async with pipeline.stream(...) as reply: async for piece in reply: ...`.

    The turn is stored when the last piece was taken.  If the block is left before, the turn is stored as far as it
    was said, and stays open: it reads as interrupted once another turn begins.

    Args:
        execution: The execution, which was not begun.
        done: Returns its result, and does what follows it.
    """

    def __init__(self, execution: Execution, done: Callable[[], Awaitable[Result]]) -> None:
        self._execution = execution
        self._done = done
        self._pieces = self._taken()

    async def _taken(self) -> AsyncGenerator[str, None]:
        async with aclosing(self._execution.pieces()) as pieces:
            async for piece in pieces:
                yield piece
        await self._done()

    async def __aenter__(self) -> Self:
        return self

    def __aiter__(self) -> AsyncIterator[str]:
        return self._pieces

    async def __aexit__(self, *error: object) -> None:
        await self._pieces.aclose()

    @property
    def result(self) -> Result:
        """The outcome, once all pieces were taken.

        Raises:
            InvalidInput: There is none yet.
        """
        if self._execution.result is None:
            raise InvalidInput("the stream has no result yet: take all pieces first")
        return self._execution.result

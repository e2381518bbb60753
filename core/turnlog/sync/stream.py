"""`Stream`: a reply in pieces."""

from __future__ import annotations

from typing import Self

from ..errors import InvalidInput
from ..pipeline import Stream as AsyncStream
from .iteration import Iteration
from .result import Result
from .wrapper import Wrapper


class Stream(Wrapper[AsyncStream]):
    """A reply in pieces: `with pipeline.stream(...) as reply: for piece in reply: ...`.

    The turn is stored after the last piece.  If the block ends earlier, the pipeline stores the question and the text
    so far, unless `on_cut` is `discard`.  Such a turn stays open, and reads as interrupted once another turn begins.
    If another thread still waits for a piece when the block ends, that wait is cancelled.
    """

    __slots__ = ("_pieces", "_state")

    _pieces: Iteration[str]
    _state: str

    @classmethod
    def over(cls, wrapped: AsyncStream) -> Self:
        self = super().over(wrapped)
        self._pieces = Iteration(wrapped)
        self._state = "new"
        return self

    def __enter__(self) -> Self:
        if self._state != "new":
            raise InvalidInput("a stream can be entered only once: call pipeline.stream() for another one")
        self._state = "entered"
        return self

    def __iter__(self) -> Self:
        if self._state != "entered":
            raise InvalidInput("a stream can be read only in its block: with pipeline.stream(...) as reply")
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def __exit__(self, *error: object) -> None:
        self._state = "left"
        self._pieces.close()

    @property
    def result(self) -> Result:
        """The outcome, available after the last piece.

        Raises:
            InvalidInput: Not all pieces have been read.
        """
        return Result.over(self.wrapped.result)

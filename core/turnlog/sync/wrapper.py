"""`Wrapper`: the base class of the synchronous classes."""

from __future__ import annotations

from typing import Generic, Self, TypeVar

_T = TypeVar("_T")


class Wrapper(Generic[_T]):
    """An object over an asynchronous object, whose coroutines run in the loop thread.

    Attributes:
        wrapped: The asynchronous object, for plugins that take one.
    """

    __slots__ = ("wrapped",)

    wrapped: _T

    @classmethod
    def over(cls, wrapped: _T) -> Self:
        """Return an object over an asynchronous one."""
        self = cls.__new__(cls)
        self.wrapped = wrapped
        return self

    def __repr__(self) -> str:
        return f"<turnlog.sync.{type(self).__name__} over {self.wrapped!r}>"

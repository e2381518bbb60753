"""`undo`: reads and cuts a session to which other tasks write at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from math import inf
from time import monotonic
from typing import Final, TypeVar

from .backend import Backend
from .errors import Conflict
from .values.key import Key

__all__ = ["undo"]

_T = TypeVar("_T")

_PATIENCE: Final = 30.0
"""Seconds until `undo` gives up: the default timeout of backends."""


async def _always() -> bool:
    return True


async def undo(
    backend: Backend,
    key: Key,
    attempt: Callable[[], Awaitable[_T]],
    may_succeed: Callable[[], Awaitable[bool]] = _always,
) -> _T:
    """Call a function that reads and cuts a session until it meets no conflict, and return its result.

    The first attempt is only a call of the function.  During further attempts the backend keeps other writers waiting.

    Args:
        backend: The backend.
        key: The session.
        attempt: The function; it raises `Conflict` if the session has changed between its read and its commit.
        may_succeed: Returns whether another attempt may succeed after a conflict.

    Raises:
        Conflict: Another attempt cannot succeed, or no attempt has succeeded within 30 seconds.
    """
    end = inf
    while True:
        try:
            async with nullcontext() if end == inf else backend.alone(key):
                return await attempt()
        except Conflict:
            now = monotonic()
            end = min(end, now + _PATIENCE)
            if now > end or not await may_succeed():
                raise

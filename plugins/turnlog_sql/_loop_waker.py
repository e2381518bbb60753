"""What wakes an event loop from another thread."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Bell(Generic[T]):
    """Tells an event loop what a thread has done.

    The loop listens to a pipe.  Its own `call_soon_threadsafe` is a pair of sockets, which costs four times as much to
    write to and to empty: without it a turn on SQLite takes 4 to 7 % less.  It is used where a loop cannot listen to a
    pipe, as on Windows.

    Args:
        loop: The running one; it is not kept alive.
        hear: What is called in the loop, with each that was told.

    Attributes:
        loop: A weak reference to it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, hear: Callable[[T], None]) -> None:
        self._hear = hear
        self._told: deque[T] = deque()
        self.loop = weakref.ref(loop)
        self._pipe: tuple[int, int] | None = None
        if os.name != "posix":
            return
        pipe = _pipe()
        # not closed sooner: a number that was closed may be another file's when somebody still rings
        close = weakref.finalize(self, _close, *pipe)
        close.atexit = False
        try:
            loop.add_reader(pipe[0], self._listen)
        except NotImplementedError:
            close()
            return
        self._pipe = pipe

    def ring(self, *told: T) -> None:
        """Tell it, from any thread."""
        self._told.extend(told)
        try:
            if self._pipe is not None:
                os.write(self._pipe[1], b"\0")
            elif (loop := self.loop()) is not None:
                loop.call_soon_threadsafe(self._listen)
        except BlockingIOError:  # it was rung so often that the pipe is full
            pass
        except RuntimeError:  # the loop has been closed: nobody waits any more
            pass

    def part(self) -> None:
        """Take another pipe in place of this one, in a child that was forked.

        Its copy of the loop would hear what the parent's is told, and the parent's would not.
        """
        if self._pipe is not None:
            for old, new in zip(self._pipe, _pipe(), strict=True):
                os.dup2(new, old, inheritable=False)
                os.close(new)

    def _listen(self) -> None:
        try:
            if self._pipe is not None:
                try:  # noqa: SIM105 - contextlib.suppress takes longer than what it would be about
                    os.read(self._pipe[0], 4096)
                except BlockingIOError:  # it was woken for nothing
                    pass
            while self._told:
                self._hear(self._told.popleft())
        except BaseException:  # such as KeyboardInterrupt, which ends the loop, but not for ever
            self.ring()
            raise


def _pipe() -> tuple[int, int]:
    """Both ends of a pipe; to wait for neither."""
    pipe = os.pipe()
    for end in pipe:
        os.set_blocking(end, False)
    return pipe


def _close(*ends: int) -> None:
    for end in ends:
        os.close(end)

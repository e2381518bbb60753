"""`Iteration`: reads an asynchronous iterator from other threads."""

from __future__ import annotations

import threading
from asyncio import Future, Task, get_running_loop
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Generic, ParamSpec, Self, TypeVar

from ..errors import InvalidInput
from .caller import Caller
from .loop_thread import LoopThread, loop_thread

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Item(Generic[_T]):
    __slots__ = ("value",)

    def __init__(self, value: _T) -> None:
        self.value = value


class Iteration(Generic[_T]):
    """An asynchronous iterator, read one item at a time.

    One task reads all items, from entering the block to leaving it, because timeouts and cancel scopes belong to a
    task.  Between two items the task waits, so that nothing is read ahead.

    Args:
        block: Makes the iterator, and closes it.
    """

    def __init__(self, block: AbstractAsyncContextManager[AsyncIterator[_T]]) -> None:
        self._block = block
        self._next_lock = threading.Lock()  # held by the thread that waits for an item
        self._thread: LoopThread | None = None
        self._caller: Caller[_Item[_T]] | None = None
        self._wanted: Future[bool] | None = None  # its result: another item is wanted
        self._ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _T:
        with self._next_lock:
            if self._ended:
                raise StopIteration
            thread = loop_thread()
            if self._thread not in (None, thread):
                raise InvalidInput("this iteration began before the process was forked: begin another one")
            try:
                if self._caller is None:
                    self._thread, self._caller = thread, Caller(thread.loop)
                    answer = self._caller.begin(self._read(self._caller))
                else:
                    answer = self._caller.ask(self._resume, True)  # noqa: FBT003 - the result of a future
            except BaseException:
                self._ended = True
                raise
            if isinstance(answer, _Item):
                return answer.value
            return self._end(thread, answer)

    def _end(self, thread: LoopThread, task: Task[None]) -> _T:
        self._ended = True
        thread.result_of(task)
        raise StopIteration

    def close(self) -> None:
        """Leave the block.  If another thread waits for an item, its wait is cancelled."""
        thread, caller = self._thread, self._caller
        if self._ended or thread is None or caller is None:
            self._ended = True
            return
        if thread.is_current:  # the garbage collector may run here: nothing can wait
            self._resume(False)  # noqa: FBT003 - the result of a future
            return
        if not self._next_lock.acquire(blocking=False):
            thread.loop.call_soon_threadsafe(caller.cancel)
            self._next_lock.acquire()
        try:
            self._leave(thread, caller)
        finally:
            self._next_lock.release()

    def _leave(self, thread: LoopThread, caller: Caller[Any]) -> None:
        """Let the task leave the block, unless it has ended, or has stayed in the parent of this process."""
        if self._ended or thread.ended or thread is not loop_thread():
            return
        self._ended = True
        task: Task[None] = caller.ask(self._resume, False)  # noqa: FBT003 - the result of a future
        thread.result_of(task)

    # -------------------------------------------------------------------------------------------- called in the loop

    async def _read(self, caller: Caller[_Item[_T]]) -> None:
        async with self._block as items:
            async for value in items:
                self._wanted = get_running_loop().create_future()
                caller.answer(_Item(value))
                if not await self._wanted:
                    break

    def _resume(self, more: bool) -> None:  # noqa: FBT001 - the result of a future
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(more)


def iterate(function: Callable[_P, AsyncIterator[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> Iterator[_T]:
    """Yield the items of an async generator; close it when this generator is closed."""
    items = function(*args, **kwargs)
    assert isinstance(items, AsyncGenerator)
    yield from Iteration(aclosing(items))  # `close` of this generator calls that of the iteration (PEP 380)

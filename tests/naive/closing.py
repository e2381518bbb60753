"""Naive backends: calls that run while `close` is called.

Backends execute their operations in a thread, or in a task with a queue.  The naive ones derive from two that are
correct, and change `close` or one step of an operation.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

from naive import fails
from turnlog import Backend, Change, Key, Layer, Page, Query, Receipt, Session
from turnlog.rules import SessionState
from turnlog.testing._closing import Closing
from turnlog_memory import MemoryBackend

T = TypeVar("T")

Operation: TypeAlias = "Callable[[], Coroutine[Any, Any, T]]"


class Kept(Layer):
    """Keeps the sessions of a folder after `close`."""

    places: ClassVar[dict[Path, OrderedDict[Key, SessionState]]] = {}

    def __init__(self, *, place: Path, **options: Any) -> None:
        memory = MemoryBackend(**options)
        self.states = memory._states = self.places.setdefault(place, OrderedDict())
        super().__init__(memory)
        self.capabilities = frozenset({"shared"})
        self.place = place

    async def open(self) -> None:
        await Backend.open(self)

    async def close(self) -> None:
        await Backend.close(self)

    def check_open(self) -> None:
        Backend.check_open(self)

    def alone(self, key: Key) -> AbstractAsyncContextManager[None]:
        return Backend.alone(self, key)

    async def work(self, operation: Operation[T]) -> T:
        """Execute an operation of the memory backend."""
        return await operation()

    async def read(self, key: Key, **asked: Any) -> Session:
        self.check_open()
        return await self.work(lambda: self.inner.read(key, **asked))

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.check_open()
        return await self.work(lambda: self.inner.commit(key, change))

    async def delete(self, key: Key, **how: Any) -> bool:
        self.check_open()
        return await self.work(lambda: self.inner.delete(key, **how))

    async def page(self, query: Query) -> Page:
        self.check_open()
        return await self.work(lambda: self.inner.page(query))


# --------------------------------------------------------------------------------------------------------- in a thread


class InAThread(Kept):
    """Executes its operations in a thread with a log file; `close` waits for the running ones."""

    is_connected = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._finishing = threading.Lock()

    async def open(self) -> None:
        await super().open()
        self.thread = ThreadPoolExecutor(1)
        self.log = os.open(self.place / "log", os.O_CREAT | os.O_WRONLY)
        self.is_connected = True

    async def work(self, operation: Operation[T]) -> T:
        return await asyncio.wrap_future(self.thread.submit(self._executed, operation))

    def _executed(self, operation: Operation[T]) -> T:
        if not self.is_connected:
            raise OSError("the connection is closed")
        os.fsync(self.log)
        try:
            operation().send(None)
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        raise AssertionError("operations of the memory backend never wait")

    async def close(self) -> None:
        await super().close()
        # a cancellation does not interrupt this, and a second call waits for it as well
        await asyncio.get_running_loop().run_in_executor(None, self._finish)

    def _finish(self) -> None:
        with self._finishing:
            self.thread.shutdown()
            self.disconnect()

    def disconnect(self) -> None:
        """Close the log."""
        if self.is_connected:
            self.is_connected = False
            os.close(self.log)


@fails(
    Closing,
    "running_calls_end_with_close",
    "turns_and_close",
    "several_tasks_close_at_once",
    "a_cancelled_close",
    "writers_that_wait_for_another_one",
    shared=True,
)
class ClosesUnderOperations(InAThread):
    """Closes the connection while operations run: they raise an error of the driver."""

    async def close(self) -> None:
        await Backend.close(self)
        self.disconnect()


@fails(Closing, "running_calls_end_with_close", "turns_and_close", shared=True)
class ReturnsAtOnce(InAThread):
    """Returns from `close` while the thread goes on."""

    async def close(self) -> None:
        await Backend.close(self)
        self.thread.shutdown(wait=False)


@fails(Closing, "running_calls_end_with_close", "turns_and_close", "several_tasks_close_at_once", shared=True)
class CancelsItsQueue(InAThread):
    """Cancels the operations that the thread has not begun: their calls end as if the caller had cancelled them."""

    async def close(self) -> None:
        await Backend.close(self)
        self.thread.shutdown(wait=False, cancel_futures=True)


@fails(Closing, "a_cancelled_close", shared=True)
class ClosesHalf(InAThread):
    """Does nothing in a second `close`, even if the first one was cancelled."""

    async def close(self) -> None:
        if not self._closed:
            await super().close()


# ----------------------------------------------------------------------------------------------------------- in a task


class InATask(Kept):
    """Executes its operations in a task; `close` waits for the running ones."""

    task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await super().open()
        self.queue: asyncio.Queue[tuple[asyncio.Future[Any], Operation[Any]] | None] = asyncio.Queue()
        self.task = asyncio.create_task(self.serve())

    async def work(self, operation: Operation[T]) -> T:
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        await self.queue.put((answer, operation))
        return await answer

    async def serve(self) -> None:
        """Execute the operations of the queue."""
        while (work := await self.queue.get()) is not None:
            answer, operation = work
            await asyncio.sleep(0)  # as a request to a server
            result = await operation()
            if not answer.done():
                answer.set_result(result)

    async def close(self) -> None:
        await super().close()
        if self.task is not None:
            self.queue.put_nowait(None)
            await asyncio.wait([self.task])


@fails(
    Closing,
    "running_calls_end_with_close",
    "turns_and_close",
    "several_tasks_close_at_once",
    "a_cancelled_close",
    shared=True,
)
class CancelsItsTask(InATask):
    """Cancels the task, so that running calls wait for ever."""

    async def close(self) -> None:
        await Backend.close(self)
        if self.task is not None:
            self.task.cancel()


@fails(Closing, "turns_and_close", shared=True)
class AcknowledgesFirst(InATask):
    """Acknowledges a change before it is stored, and drops the queue when it is closed."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.check_open()
        state = self.states.get(key)
        if state is None:
            return await super().commit(key, change)
        _, receipt = state.apply(change, self.clock())
        await self.queue.put((asyncio.get_running_loop().create_future(), lambda: self.inner.commit(key, change)))
        return receipt

    async def close(self) -> None:
        await Backend.close(self)
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])


@fails(Closing, "turns_and_close", shared=True)
class RefusesAfterStoring(InATask):
    """Raises `Closed` for a change that it has stored."""

    async def work(self, operation: Operation[T]) -> T:
        answer = await super().work(operation)
        self.check_open()
        return answer


@fails(Closing, "running_calls_end_with_close", shared=True)
class NeverRefuses(InATask):
    """Checks that it is open only in `open`, and starts its task again for a call after `close`."""

    def check_open(self) -> None:
        if self.task is not None and self.task.done():
            self.task = asyncio.create_task(self.serve())


@fails(Closing, "running_calls_end_with_close", shared=True)
class WaitsForQuiet(InATask):
    """Refuses calls only when none is running, so that `close` never returns."""

    running = 0

    async def work(self, operation: Operation[T]) -> T:
        self.running += 1
        try:
            return await super().work(operation)
        finally:
            self.running -= 1

    async def close(self) -> None:
        while self.running:  # noqa: ASYNC110 - naive
            await asyncio.sleep(0)
        await super().close()


@fails(Closing, "several_tasks_close_at_once", shared=True)
class ClosesOnce(InATask):
    """Forgets its task while `close` waits for it, so that a second `close` fails."""

    async def close(self) -> None:
        await Backend.close(self)
        task, self.task = self.task, None
        self.queue.put_nowait(None)
        await asyncio.wait([task])  # type: ignore[type-var]


@fails(Closing, "writers_that_wait_for_another_one", "running_calls_end_with_close", shared=True)
class WritesWhenItsTurnComes(InATask):
    """Checks that it is open before a writer waits for a session, and not after it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._locks: dict[Key, asyncio.Lock] = {}

    def alone(self, key: Key) -> AbstractAsyncContextManager[None]:
        return self._locks.setdefault(key, asyncio.Lock())

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.check_open()
        async with self.alone(key):
            return await self.work(lambda: self.inner.commit(key, change))

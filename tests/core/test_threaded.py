"""`ThreadedBackend`: operations in threads, cancelled callers, and `close`."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from turnlog import Change, Closed, Key, Page, Query, Receipt, Session
from turnlog.threaded import ThreadedBackend


class Threads(ThreadedBackend):
    async def read(self, key: Key, **asked: Any) -> Session:
        raise NotImplementedError

    async def commit(self, key: Key, change: Change) -> Receipt:
        raise NotImplementedError

    async def delete(self, key: Key, **how: Any) -> bool:
        raise NotImplementedError

    async def page(self, query: Query) -> Page:
        raise NotImplementedError


class Step:
    """A function that runs until it is released."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.goes_on = threading.Event()
        self.has_ended = False

    def __call__(self, answer: str = "done") -> str:
        self.begun.set()
        assert self.goes_on.wait(60)
        self.has_ended = True
        return answer


async def begun(step: Step) -> None:
    await asyncio.to_thread(step.begun.wait, 60)


async def test_an_answer_and_an_error_reach_the_caller() -> None:
    backend = Threads()
    assert await backend.in_thread(int, "12", base=3) == 5
    with pytest.raises(ValueError, match="invalid literal"):
        await backend.in_thread(int, "x")
    await backend.close()
    with pytest.raises(Closed):
        await backend.in_thread(int)


async def test_close_waits_for_the_operation_of_a_cancelled_caller() -> None:
    backend, step = Threads(), Step()
    call = asyncio.create_task(backend.in_thread(step))
    await begun(step)
    call.cancel()
    await asyncio.wait([call])
    closing = asyncio.create_task(backend.close())
    await asyncio.sleep(0)
    assert call.cancelled()
    assert not closing.done()
    step.goes_on.set()
    await closing
    assert step.has_ended


async def test_a_cancelled_close_can_be_repeated() -> None:
    backend, step = Threads(), Step()
    call = asyncio.create_task(backend.in_thread(step, "answer"))
    await begun(step)
    first = asyncio.create_task(backend.close())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(backend.close())
    await asyncio.sleep(0)
    assert not second.done()
    step.goes_on.set()
    await second
    assert await call == "answer"


async def test_a_call_that_is_cancelled_before_its_thread_begins_never_runs() -> None:
    backend, blocking, late = Threads(), Step(), Step()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    running = asyncio.create_task(backend.in_thread(blocking))
    waiting = asyncio.create_task(backend.in_thread(late))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    blocking.goes_on.set()
    late.goes_on.set()
    await backend.close()
    assert (await running, late.begun.is_set()) == ("done", False)

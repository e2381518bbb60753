"""A thread passes items to an event loop: all of them, in order, whatever kind of loop it is."""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnlog import Store, user
from turnlog_sql._loop_waker import LoopWaker
from turnlog_sql.sqlite import SQLiteBackend

posix = pytest.mark.only_where(os.name == "posix", "pipes", "there is no pipe that a loop can listen to")


class Deaf(asyncio.SelectorEventLoop):
    """An event loop that cannot watch a pipe, like that of Windows."""

    def add_reader(self, *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


async def passed(times: int) -> list[int]:
    """Return the items that a busy loop receives from a thread."""
    received: list[int] = []
    complete = asyncio.Event()

    def receive(number: int) -> None:
        received.append(number)
        if len(received) == times:
            complete.set()

    waker = LoopWaker(asyncio.get_running_loop(), receive)

    def wake() -> None:
        for number in range(times):
            waker.wake(number)

    thread = threading.Thread(target=wake)
    thread.start()
    thread.join()  # blocks the loop
    assert received == []
    await asyncio.wait_for(complete.wait(), 30)
    return received


@pytest.mark.parametrize("make", [asyncio.SelectorEventLoop, Deaf])
def test_all_items_arrive_in_order(make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The items are more than a pipe can hold."""
    loop = make()
    try:
        assert loop.run_until_complete(passed(100_000)) == list(range(100_000))
    finally:
        loop.close()


@posix
def test_a_loop_that_is_woken_for_nothing_goes_on() -> None:
    async def talk() -> None:
        received: asyncio.Queue[str] = asyncio.Queue()
        waker = LoopWaker(asyncio.get_running_loop(), received.put_nowait)
        waker._receive_all()
        waker.wake("something")
        assert await asyncio.wait_for(received.get(), 30) == "something"

    asyncio.run(talk())


def test_a_store_works_in_a_loop_that_cannot_watch_a_pipe(tmp_path: Path) -> None:
    async def talk() -> list[str]:
        async with Store(SQLiteBackend(f"sqlite:///{tmp_path}/t.db")) as store:
            for number in range(3):
                await store.append("s", [user(f"{number}")])
            return [message.text for message in await store.load("s")]

    loop = Deaf()
    try:
        assert loop.run_until_complete(talk()) == ["0", "1", "2"]
    finally:
        loop.close()


def open_files() -> int:
    """Return the number of open files of this process after a garbage collection."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def comes(about: Callable[[], bool]) -> bool:
    """Return whether a condition becomes true, after the store's thread has returned from the call that woke a loop.

    Until then the thread holds the waker, and the loop if there is no pipe.
    """
    end = time.monotonic() + 30
    while not about() and time.monotonic() < end:
        gc.collect()
    return about()


@posix
@pytest.mark.only_where(sys.platform == "linux", "linux", "open files are counted in /proc")
def test_loops_that_have_ended_leave_no_file_open(tmp_path: Path) -> None:
    """Stores are used one after the other, each in a loop of its own. Another store is used in many loops."""

    async def talk(store: Store) -> None:
        await store.append("s", [user("hello")])

    async def alone() -> None:
        async with Store(SQLiteBackend(f"sqlite:///{tmp_path}/t.db")) as store:
            await talk(store)

    asyncio.run(alone())
    before = open_files()
    for _ in range(20):
        asyncio.run(alone())
    shared = Store(SQLiteBackend(f"sqlite:///{tmp_path}/t.db"))
    asyncio.run(shared.open())
    for _ in range(20):
        asyncio.run(talk(shared))
    asyncio.run(shared.close())
    asyncio.run(alone())
    assert comes(lambda: open_files() <= before)


@posix
@pytest.mark.only_where(sys.platform == "linux", "linux", "open files are counted in /proc")
def test_abandoned_loops_leave_no_file_open(tmp_path: Path) -> None:
    """The loops were garbage-collected without being closed."""
    store = Store(SQLiteBackend(f"sqlite:///{tmp_path}/t.db"))
    asyncio.run(store.open())
    before = open_files()
    for make in (asyncio.SelectorEventLoop, Deaf) * 3:
        loop = make()
        loop.run_until_complete(store.append("s", [user("hello")]))
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gone = weakref.ref(loop)
            del loop
            assert comes(lambda gone=gone: gone() is None)  # type: ignore[misc]
    asyncio.run(store.append("s", [user("hello")]))
    assert comes(lambda: open_files() <= before)
    asyncio.run(store.close())


@posix
def test_a_child_takes_nothing_that_should_wake_its_parent(tmp_path: Path) -> None:
    """Both processes keep using the inherited loop, which watches the same pipe in both."""
    loop = asyncio.SelectorEventLoop()
    store = Store(SQLiteBackend(f"sqlite:///{tmp_path}/t.db"))
    loop.run_until_complete(store.open())

    async def talk(name: str) -> None:
        async with asyncio.timeout(30):
            for number in range(200):
                await store.append(name, [user(f"{number}")])

    pid = os.fork()
    if not pid:
        code = 1
        try:
            loop.run_until_complete(talk("child"))
            code = 0
        finally:
            os._exit(code)
    loop.run_until_complete(talk("parent"))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(loop.run_until_complete(store.load("child"))) == 200
    loop.run_until_complete(store.close())
    loop.close()


@posix
@pytest.mark.parametrize("place", ["reading", "receiving"])
def test_an_interrupt_that_stops_the_loop_leaves_the_other_items_to_its_next_run(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[int] = []
    stops = iter([True])

    def stop() -> None:
        if next(stops, False):
            raise KeyboardInterrupt

    def receive(number: int) -> None:
        if number == 1 and place == "receiving":
            stop()
        received.append(number)

    def read(end: int, most: int, read: Callable[[int, int], bytes] = os.read) -> bytes:
        data = read(end, most)
        if place == "reading":
            stop()
        return data

    monkeypatch.setattr("turnlog_sql._loop_waker.os.read", read)
    loop = asyncio.SelectorEventLoop()
    waker = LoopWaker(loop, receive)
    waker.wake(0, 1, 2)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    loop.close()
    assert received == ([0, 2] if place == "receiving" else [0, 1, 2])


@posix
def test_a_loop_that_was_closed_is_not_woken(tmp_path: Path) -> None:
    """Its requests are executed, and their answers are dropped."""
    store = Store(SQLiteBackend(f"sqlite:///{tmp_path}/t.db"))
    asyncio.run(store.open())
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())

    async def leave() -> None:
        loop.create_task(store.append("s", [user("left behind")]))
        await asyncio.sleep(0)

    loop.run_until_complete(leave())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    asyncio.run(store.close())  # executes the pending requests
    asyncio.run(store.open())
    assert [message.text for message in asyncio.run(store.load("s"))] == ["left behind"]
    asyncio.run(store.close())

"""Contract: any number of threads, each with an event loop of its own, may share a store."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from threading import Barrier
from typing import ClassVar

from ..store import Store
from ..values.capability import Capability
from ._base import ContractBase
from ._material import ID, history, say, texts

THREADS = 4
SESSIONS = 12
LOOPS = 3


class Threads(ContractBase):
    needs: ClassVar[frozenset[Capability]] = frozenset({"threads"})

    async def test_first_appends_of_threads(self, store: Store) -> None:
        """No append is lost if several threads write the first turn of a session at the same moment."""
        begin = Barrier(THREADS, timeout=60)

        async def write(thread: int) -> None:
            for n in range(SESSIONS):
                begin.wait()  # blocks only the loop of this thread
                await store.append(f"s{n}", say(f"{thread}"))

        await in_threads(write)
        said = [sorted(await history(store, f"s{n}")) for n in range(SESSIONS)]
        assert said == [sorted(f"{thread}" for thread in range(THREADS))] * SESSIONS

    async def test_reads_of_threads(self) -> None:
        """A read that restarts the time to live undoes no append of another thread."""
        store = await self.opened(ttl=1_000.0)

        async def work(thread: int) -> None:
            for n in range(SESSIONS):
                await store.append(ID, say(f"{thread}.{n}"))
                self.clock.advance(130)  # a read moves the expiry when 1/8 of the time to live has passed
                assert f"{thread}.{n}" in texts(await store.load(ID))

        await in_threads(work)
        expected = [f"{thread}.{n}" for thread in range(THREADS) for n in range(SESSIONS)]
        assert sorted(await history(store)) == sorted(expected)

    async def test_lists_among_threads(self, store: Store) -> None:
        """Sessions can be listed, counted and erased while other threads make and erase sessions."""

        async def work(thread: int) -> None:
            for n in range(SESSIONS):
                name = f"{thread}.{n}"
                await store.append(name, say("a"))
                assert name in [info.key.session async for info in store.sessions()]
                await store.backend.totals(store.namespace)
                if n % 2:
                    assert await store.erase(name)

        await in_threads(work)
        expected = {f"{thread}.{n}" for thread in range(THREADS) for n in range(0, SESSIONS, 2)}
        assert {info.key.session async for info in store.sessions()} == expected

    async def test_short_lived_loops(self, store: Store) -> None:
        """Threads may use a store in one event loop after another, and leave a loop without closing anything."""

        def work(thread: int) -> None:
            for n in range(LOOPS):
                asyncio.run(append(f"{thread}.{n}"))

        async def append(text: str) -> None:
            await store.append(ID, say(text))

        await asyncio.gather(*(asyncio.to_thread(work, thread) for thread in range(THREADS)))
        expected = [f"{thread}.{n}" for thread in range(THREADS) for n in range(LOOPS)]
        assert sorted(await history(store)) == expected


async def in_threads(work: Callable[[int], Awaitable[None]]) -> None:
    """Run a function in several threads at once, each with an event loop; the threads switch as often as possible."""

    async def run(thread: int) -> None:
        await work(thread)

    def in_own_loop(thread: int) -> None:
        asyncio.run(run(thread))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        await asyncio.gather(*(asyncio.to_thread(in_own_loop, thread) for thread in range(THREADS)))
    finally:
        sys.setswitchinterval(interval)

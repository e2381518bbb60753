"""Measure how memory grows with the number of operations: python benchmarks/memory_growth.py [--groups sqlite,redis] [--operations 1000000]

One process does mixed operations through `layers=cache,zstd`: loads, appends, new sessions, erased sessions, forks, stale
conditions, cancelled appends.  Before the first measurement it fills 10,000 sessions to the number of turns that they
retain.  So the amount in the backend stays about the same, and the smaller cache always evicts.  After each tenth of the
operations the script prints a line:

    resident    MiB of the process, as the kernel counts them, after a collection of garbage
    allocated   MiB in use of the C library's allocator (mallinfo2: uordblks and hblkhd); the library keeps the
                difference to `resident` for reuse
    blocks      blocks in use of Python's allocator (`sys.getallocatedblocks`): small objects of any kind
    objects     Python objects that the collector tracks, and below them the types that grew most since the first line
    maps        entries of each bounded map

`resident` rises until the maps are full.  After that, a rise of `allocated`, `blocks` or `objects` is a leak.  If only
`resident` rises, the C library keeps free memory; at the end `malloc_trim` shows the amount that it can release.
The script needs Linux with glibc, and starts a private server for redis.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import servers
from turnlog import Conflict, InvalidInput, SessionNotFound, Store, assistant, open_store, user
from turnlog.layers import stack_of
from turnlog.values import key as keys
from turnlog_cache import CacheLayer

SESSIONS, RETAIN, CACHED, TASKS, LONG = 10_000, 10, 2_000, 16, 40
MIB = 1024 * 1024


class _Info(ctypes.Structure):
    """`struct mallinfo2` (man 3 mallinfo)."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


libc = ctypes.CDLL("libc.so.6")
libc.mallinfo2.restype = _Info


def resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def allocated() -> float:
    info = libc.mallinfo2()
    return (info.uordblks + info.hblkhd) / MIB


def maps(store: Store) -> dict[str, int]:
    """Return the sizes of the maps in the cache, the backend and the memoised functions of the core."""
    cache = store.find(CacheLayer)
    *_, backend = stack_of(store.backend)
    found = {"cached": len(cache._entries), "cached KiB": cache._stats.bytes // 1024, "seen": len(backend._seen)}
    found |= {"pending": len(cache._pending), "missing": len(cache._missing)}
    found["shared reads"] = sum(len(each) for each in cache._reads.values())
    found["tasks"] = len(asyncio.all_tasks())
    for function in (keys.cached_key, keys.start_of):
        found[function.__wrapped__.__name__] = function.cache_info().currsize
    return found


class Work:
    """The operations; each returns the number of its calls of the store."""

    def __init__(self, store: Store, long: Store) -> None:
        self.store, self.long = store, long
        self.dice = random.Random(7)
        self.made = self.lost = 0

    def turn(self) -> list:
        dice = self.dice
        words = " ".join(f"{dice.getrandbits(40):x}" for _ in range(dice.randrange(2, 40)))
        return [user(f"question {dice.random()}"), assistant(words)]

    async def one(self) -> int:
        dice, store = self.dice, self.store
        name = f"session {int(SESSIONS * dice.random() ** 2)}"
        choice = dice.random()
        try:
            if choice < 0.52:
                await store.load(name, last=20)
            elif choice < 0.82:
                await store.append(name, self.turn())
            elif choice < 0.86:  # a session that no later operation reads
                fresh = store.within(f"tenant {self.made}") if dice.random() < 0.5 else store
                id = fresh.new_session_id()
                await fresh.append(id, self.turn(), owner=f"owner {self.made}")
                await fresh.load(id)
                await fresh.erase(id)
                return 3
            elif choice < 0.88:
                await store.erase(name)
                await store.append(name, self.turn())
                return 2
            elif choice < 0.90:
                with contextlib.suppress(SessionNotFound):
                    await store.load(f"nobody {self.made}")
            elif choice < 0.92:
                with contextlib.suppress(Conflict):
                    await store.append(name, self.turn(), expect=(await store.info("stale")).version)
                return 2
            elif choice < 0.94:
                task = asyncio.ensure_future(store.append(name, self.turn()))
                await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            elif choice < 0.96:
                await store.fork(name, copy := store.new_session_id())
                await store.rewind(copy, turns=1)
                await store.erase(copy)
                return 3
            elif choice < 0.97:
                await store.merge_metadata(name, {"title": words[:9] if (words := str(dice.random())) else ""})
            else:  # a long session, whose old turns are sealed in the background
                long = f"long {dice.randrange(LONG)}"
                receipt = await self.long.append(long, self.turn())
                if receipt.turns > 200:
                    await self.long.erase(long)
                    return 2
        except (SessionNotFound, InvalidInput):  # another task has erased it, or it has too few turns to undo one
            self.lost += 1
        return 1

    async def run(self, until: int) -> None:
        async def task() -> None:
            while self.made < until:
                made = await self.one()
                self.made += made  # in one step, because other tasks also add to it

        await asyncio.gather(*(task() for _ in range(TASKS)))


async def measure(url: str, operations: int) -> None:
    layers = [{"name": "cache", "max_sessions": CACHED}, "zstd"]
    async with open_store(url, layers=layers, retain=RETAIN) as store:
        work = Work(store, Store(store.backend))
        await store.append("stale", work.turn())
        for number in range(SESSIONS):
            messages = [message for _ in range(RETAIN) for message in work.turn()]
            await store.save(f"session {number}", messages)
        first: Counter | None = None
        began = time.monotonic()
        print("| operations | resident | allocated | blocks | objects | maps |\n|--:|--:|--:|--:|--:|---|", flush=True)
        for part in range(1, 11):
            await work.run(operations * part // 10)
            gc.collect()
            blocks, objects = sys.getallocatedblocks(), gc.get_objects()
            types = Counter(type(one).__name__ for one in objects)
            listed = ", ".join(f"{name} {size:,}" for name, size in maps(store).items())
            figures = f"{resident():.1f} | {allocated():.1f} | {blocks:,} | {len(objects):,}"
            print(f"| {work.made:,} | {figures} | {listed} |", flush=True)
            del objects
            if first is None:
                first = types
            else:
                grown = ", ".join(f"{name} {many:+,}" for name, many in (types - first).most_common(5))
                print(f"| | | | | {grown} | |", flush=True)
        libc.malloc_trim(0)
        print(f"\nafter malloc_trim: resident {resident():.1f}, allocated {allocated():.1f}")
        print(f"{work.lost:,} found no session; {time.monotonic() - began:.0f} s")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", default="sqlite,redis")
    parser.add_argument("--operations", type=int, default=1_000_000)
    args = parser.parse_args()
    for group in args.groups.split(","):
        print(f"\n**{group}**\n", flush=True)
        if group == "redis":
            with servers.Redis() as server:
                await measure(f"redis://127.0.0.1:{server.port}/0", args.operations)
        else:
            folder = tempfile.mkdtemp(prefix="bench-memory-")
            try:
                await measure(f"sqlite:///{folder}/memory.db?synchronous=NORMAL", args.operations)
            finally:
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())

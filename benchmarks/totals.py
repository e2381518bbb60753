"""Measure `Backend.totals`: python benchmarks/totals.py [--backends memory,sqlite,postgresql,mariadb,redis] [--sessions 100000]

The script prints the median time of 5 calls of `totals`, in ms, for the given number of sessions with two messages each.
For Redis it also prints the time of the longest script, during which the server answers no other client.  Then it prints
the time of a load with and without `StateMetrics`.  It checks no limits.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from statistics import median

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import servers
from turnlog import Store, assistant, open_store, user
from turnlog.metrics import StateMetrics
from turnlog_memory import MemoryBackend

AT_ONCE = 100


async def fill(store, many: int) -> None:
    turn = [user("hello"), assistant("x" * 600)]
    for start in range(0, many, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, many))
        await asyncio.gather(*(store.append(f"s{number}", turn) for number in numbers))


def longest_script(url: str) -> str:
    """Return the time of the slowest script since the slow log was emptied, in µs."""
    port = url.rpartition(":")[2].partition("/")[0]
    found = subprocess.run(
        ["redis-cli", "-p", port, "slowlog", "get", "200"], capture_output=True, text=True, check=True
    )
    lines = found.stdout.splitlines()
    spent = [int(lines[place - 1]) for place, line in enumerate(lines) if line.endswith("EVALSHA")]
    return f"; the longest script {max(spent, default=0)} µs"


async def timed(url: str, many: int) -> str:
    async with open_store(url or "memory://?max_sessions=10000000") as store:
        await fill(store, many)
        if url.startswith("redis"):
            port = url.rpartition(":")[2].partition("/")[0]
            slow = (["config", "set", "slowlog-log-slower-than", "0"], ["config", "set", "slowlog-max-len", "1000"])
            for words in (*slow, ["slowlog", "reset"]):
                subprocess.run(["redis-cli", "-p", port, *words], check=True, stdout=subprocess.DEVNULL)
        spent = []
        for _ in range(5):
            before = time.perf_counter()
            found = await store.backend.totals(store.namespace)
            spent.append((time.perf_counter() - before) * 1e3)
            assert (found.sessions, found.messages) == (many, 2 * many)
        return f"{median(spent):.0f} ms, {found}{longest_script(url) if url.startswith('redis') else ''}"


async def cost_of_a_load() -> str:
    """Return the minimum of nine rounds, with and without the layer that measures loads."""
    stores = [Store(MemoryBackend()), Store(MemoryBackend())]
    StateMetrics(stores[1])
    spent = ([], [])
    for store in stores:
        for _ in range(10):
            await store.append("s", [user("hello"), assistant("x" * 600)])
    for _ in range(9):
        for store, rounds in zip(stores, spent, strict=True):
            before = time.perf_counter()
            for _ in range(10_000):
                await store.session("s", last=20)
            rounds.append((time.perf_counter() - before) * 100)
    return f"load(last=20): {min(spent[0]):.1f} µs, with StateMetrics {min(spent[1]):.1f} µs"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", default="memory,sqlite,postgresql,mariadb,redis")
    parser.add_argument("--sessions", type=int, default=100_000)
    args = parser.parse_args()
    with ExitStack() as stack:
        for backend in args.backends.split(","):
            url = servers.started(backend, stack)
            url += "?synchronous=NORMAL" if backend == "sqlite" else ""
            print(f"{backend}: {await timed(url, args.sessions)}", flush=True)
    print(await cost_of_a_load())


if __name__ == "__main__":
    asyncio.run(main())

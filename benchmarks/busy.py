"""Measure one session with many concurrent writers: python benchmarks/busy.py [--backends sqlite,redis] [--seconds 60]

The script prints three tables for every backend:

1. 1,000 concurrent appends, one from each of 1,000 tasks of one process: the number of stored appends, and the seconds.
2. Eight processes that append without pause: appends a second, the number of refused ones, the appends of the slowest
   process divided by a fair share (one eighth of all), and the time of the longest append.
3. `rewind` and `pop` while 20 tasks of the same process, and then seven other processes, append without pause: the number
   of successful calls of 40, and the time of the longest call.

The exit status is 1 if an append, a rewind or a pop is refused, or a process gets less than half of a fair share.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from collections import Counter
from contextlib import ExitStack

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import servers
from turnlog import Store, TurnlogError, user

SHARED = ("sqlite", "postgresql", "mariadb", "redis")
BACKENDS = ("memory", *SHARED)
PROCESSES = 8
processes = multiprocessing.get_context("fork")


def store_at(backend: str, url: str) -> Store:
    if backend == "memory":
        from turnlog_memory import MemoryBackend

        return Store(MemoryBackend())
    if backend == "sqlite":
        from turnlog_sql.sqlite import SQLiteBackend

        return Store(SQLiteBackend(url))
    if backend == "postgresql":
        from turnlog_sql.postgresql import PostgreSQLBackend

        return Store(PostgreSQLBackend(url))
    if backend == "mariadb":
        from turnlog_sql.mysql import MySQLBackend

        return Store(MySQLBackend(url))
    from turnlog_redis import RedisBackend

    return Store(RedisBackend(url))


# ------------------------------------------------------------------------------------------------------------- at once


async def appends_at_once(backend: str, url: str, many: int) -> list[str]:
    async with store_at(backend, url) as store:
        await store.append("at once", [user("first")])
        begin = time.perf_counter()
        calls = (store.append("at once", [user(f"{n}")]) for n in range(many))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        took = time.perf_counter() - begin
        stored = {message.text for message in (await store.load("at once"))[1:]}
        acknowledged = {f"{n}" for n, answer in enumerate(answers) if not isinstance(answer, BaseException)}
        assert stored == acknowledged, "lost, or stored and refused"
        refused = Counter(type(answer).__name__ for answer in answers if isinstance(answer, BaseException))
    return [backend, f"{len(stored):,}", shown(refused), f"{took:.2f}"]


# ------------------------------------------------------------------------------------------------------------ processes


def at_once(many: int, work) -> list:
    """Run `work` in several forked processes, which start it together at a barrier; return their answers."""
    barrier, answers = processes.Barrier(many), processes.SimpleQueue()

    def do(number: int) -> None:
        try:
            answers.put((number, asyncio.run(work(number, barrier))))
        except BaseException as error:
            barrier.abort()
            answers.put((number, repr(error)))
            raise

    started = [processes.Process(target=do, args=(number,)) for number in range(many)]
    for process in started:
        process.start()
    found = [answers.get() for _ in started]
    for process in started:
        process.join()
    return [answer for _, answer in sorted(found)]


async def append_without_pause(
    store: Store, name: str, seconds: float, end=lambda: False
) -> tuple[int, Counter, float]:
    stored, refused, longest = 0, Counter(), 0.0
    stop = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < stop and not end():
        try:
            await store.append("busy", [user(f"{name} {stored}")])
            stored += 1
        except TurnlogError as error:
            refused[type(error).__name__] += 1
        longest = max(longest, time.perf_counter() - begin)
        await asyncio.sleep(0)
    return stored, refused, longest


def eight(backend: str, url: str, seconds: float) -> list[str]:
    async def write(number: int, barrier) -> tuple[int, Counter, float]:
        async with store_at(backend, url) as store:
            await store.append("busy", [user(f"{number} begin")])
            barrier.wait()
            return await append_without_pause(store, f"{number}", seconds)

    async def count() -> int:
        async with store_at(backend, url) as store:
            return (await store.info("busy")).turns

    answers = at_once(PROCESSES, write)
    stored = [one for one, _, _ in answers]
    refused = sum((one for _, one, _ in answers), Counter())
    assert asyncio.run(count()) == sum(stored) + PROCESSES, "lost, or stored and refused"
    fair = sum(stored) / PROCESSES
    longest = max(one for _, _, one in answers)
    return [backend, f"{sum(stored) / seconds:,.0f}", shown(refused), f"{min(stored) / fair:.2f}", f"{longest:.2f}"]


# --------------------------------------------------------------------------------------------------------- rewind, pop


async def undo(store: Store, many: int) -> list[str]:
    done, refused, longest = Counter(), Counter(), 0.0
    for number in range(many):
        what = "pop" if number % 2 else "rewind"
        begin = time.perf_counter()
        try:
            await (store.pop("busy") if number % 2 else store.rewind("busy", turns=1))
            done[what] += 1
        except TurnlogError as error:
            refused[f"{what}: {type(error).__name__}"] += 1
        longest = max(longest, time.perf_counter() - begin)
        await asyncio.sleep(0.001)
    return [f"{done.total()} of {many}", shown(refused), f"{longest:.2f}"]


async def undo_among_tasks(backend: str, url: str, many: int) -> list[str]:
    async with store_at(backend, url) as store:
        await store.append("busy", [user("first")])
        ended = asyncio.Event()
        writers = [asyncio.ensure_future(append_without_pause(store, f"{n}", 600, ended.is_set)) for n in range(20)]
        await asyncio.sleep(0.1)
        row = await undo(store, many)
        ended.set()
        refused = sum((one for _, one, _ in await asyncio.gather(*writers)), Counter())
    return [backend, "20 tasks", *row, shown(refused)]


def undo_among_processes(backend: str, url: str, many: int) -> list[str]:
    ended = processes.Event()

    async def work(number: int, barrier):
        async with store_at(backend, url) as store:
            await store.append("busy", [user("first")])
            barrier.wait()
            if number:
                return await append_without_pause(store, f"{number}", 600, ended.is_set)
            try:
                await asyncio.sleep(0.2)
                return await undo(store, many)
            finally:
                ended.set()

    row, *others = at_once(PROCESSES, work)
    refused = sum((one for _, one, _ in others), Counter())
    return [backend, "7 processes", *row, shown(refused)]


# --------------------------------------------------------------------------------------------------------------- tables


def shown(refused: Counter) -> str:
    return ", ".join(f"{many} {name}" for name, many in refused.items()) or "0"


def table(*rows: list[str]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for place, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |", flush=True)
        if not place:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--appends", type=int, default=1000)
    parser.add_argument("--undo", type=int, default=40)
    parser.add_argument("--tables", default="123", help="digits of the tables to print")
    given = parser.parse_args()
    names = given.backends.split(",")
    ok = True
    with ExitStack() as stack:

        def fresh(backend: str) -> str:
            return servers.started(backend, stack)

        if "1" in given.tables:
            rows = [asyncio.run(appends_at_once(one, fresh(one), given.appends)) for one in names]
            table(["backend", "stored", "refused", "seconds"], *rows)
            ok &= all(row[2] == "0" for row in rows)
        if "2" in given.tables:
            rows = [eight(one, fresh(one), given.seconds) for one in names if one in SHARED]
            table(["backend", "appends a second", "refused", "slowest / fair", "longest, s"], *rows)
            ok &= all(row[2] == "0" and float(row[3]) >= 0.5 for row in rows)
        if "3" in given.tables:
            rows = []
            for one in names:
                rows.append(asyncio.run(undo_among_tasks(one, fresh(one), given.undo)))
                if one in SHARED:
                    rows.append(undo_among_processes(one, fresh(one), given.undo))
            table(["backend", "while these append", "done", "refused", "longest, s", "appends refused"], *rows)
            ok &= all(row[3] == row[5] == "0" for row in rows)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())

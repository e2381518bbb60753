"""Compare turnlog with its peers and floors, and check the promised ratios:
python benchmarks/claims.py [--groups memory,sqlite,postgres,redis,cache] [--seconds 20]

The measured operation is a full turn: load the last 20 messages and append two.  In every round each store does a few turns
at each size of history, in an order that changes, so that other work on the machine affects all stores.  The script computes
a ratio of medians within each round, and shows the median of all rounds.  Then it measures turns a second with 50 concurrent
sessions, each with one turn after the other.  The exit status is 1 if a ratio is over its limit, 2 if a store is missing.

The group `cache` also uses Redis.  It includes parts of a turn: an append, a load of the last 20 messages, and a load of
everything.  Its smallest round trip is redis-py's GET, because all peers use redis-py.  turnlog's own PING is shown without
a limit.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import multiprocessing
import os
import platform
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import workload
from interface import Adapter, Turns, fresh
from run import check

import servers

SIZES = {
    10: 400,
    100: 60,
    1000: 8,
    10_000: 2,
}  # number of messages: number of sessions of that length, used in rotation
BLOCK = {"memory": 40, "sqlite": 6, "postgres": 6, "redis": 6, "cache": 6}  # turns of one store and size in one round
SESSIONS, EACH = 50, 10  # concurrent sessions, and turns of each session in one round
STORES = {
    "memory": {
        "turnlog_stores": ("turnlog memory",),
        "floor_values": ("floor memory same values", "floor memory bare values"),
        "floor_memory": ("floor dict[list]",),
    },
    "sqlite": {
        "turnlog_stores": (
            "turnlog sqlite FULL",
            "turnlog sqlite FULL zstd",
            "turnlog sqlite FULL cache trust",
            "turnlog sqlite NORMAL",
        ),
        "floor_sqlite": ("floor row/turn mp thread", "floor row/turn mp thread FULL"),
        "openai_agents": ("openai-agents SQLiteSession",),
    },
    "postgres": {
        "turnlog_stores": ("turnlog postgresql",),
        "floor_postgres": ("floor asyncpg row/turn mp noreset", "floor asyncpg row/turn mp 1conn"),
        "openai_agents": ("openai-agents SQLAlchemySession pg",),
    },
    "redis": {
        "turnlog_stores": ("turnlog redis", "turnlog redis zstd"),
        "floor_redis": ("floor list/turn mp", "floor list/turn mp EVALSHA"),
        "openai_agents": ("openai-agents RedisSession",),
    },
    "cache": {
        "turnlog_stores": ("turnlog redis", "turnlog redis cache validate", "turnlog redis cache trust"),
        "floor_redis": ("floor list/turn mp",),
    },
}
PARTS = {  # parts of a turn that are also measured alone, by store
    "redis": {"turnlog redis": ("append",), "floor list/turn mp EVALSHA": ("append",)},
    "cache": {
        "turnlog redis": ("append", "last 20", "all", "PING"),
        "turnlog redis cache validate": ("last 20", "all"),
        "turnlog redis cache trust": ("last 20", "all"),
        "floor list/turn mp": ("GET",),
    },
}
BLOCKS = {"last 20": 20, "all": 1}  # number of a part in one round, if it differs from that of turns


class Claim(NamedTuple):
    """A promised ratio: a store takes at most `limit` times as long as another.

    Attributes:
        group: The group of both stores.
        store: The name of the store.
        other: The name of the other store; None: `limit` is in microseconds.
        limit: The maximum of the ratio; None: the ratio is shown without a limit.
        at: The number of stored messages at which the limit applies.
    """

    group: str
    store: str
    other: str | None
    limit: float | None
    at: int = 1000


CLAIMS = (
    Claim("memory", "turnlog memory", "floor memory same values", 2.6),
    Claim("memory", "turnlog memory", "floor memory bare values", None),
    Claim("memory", "turnlog memory", "floor dict[list]", None),
    Claim("sqlite", "turnlog sqlite FULL", "floor row/turn mp thread FULL", 1.8),
    Claim("sqlite", "turnlog sqlite FULL", "openai-agents SQLiteSession", 1.0),
    Claim("sqlite", "turnlog sqlite NORMAL", "floor row/turn mp thread", None),
    Claim("sqlite", "turnlog sqlite NORMAL", "openai-agents SQLiteSession", 1 / 1.8),
    Claim("sqlite", "turnlog sqlite FULL zstd", "turnlog sqlite FULL", 1.2),
    Claim("sqlite", "turnlog sqlite FULL cache trust", "turnlog sqlite FULL", None),
    Claim("postgres", "turnlog postgresql", "floor asyncpg row/turn mp 1conn", 1.8),
    Claim("postgres", "turnlog postgresql", "floor asyncpg row/turn mp noreset", 1.5),
    Claim("postgres", "turnlog postgresql", "openai-agents SQLAlchemySession pg", 0.3),
    Claim("redis", "turnlog redis", "floor list/turn mp", 1.5),
    Claim("redis", "turnlog redis", "openai-agents RedisSession", 1 / 2.2),
    Claim("redis", "turnlog redis zstd", "turnlog redis", 1.2),
    Claim("redis", "turnlog redis, append", "floor list/turn mp EVALSHA, append", 1.6),
    Claim("cache", "turnlog redis cache trust, last 20", None, 10.0),
    Claim("cache", "turnlog redis cache validate, last 20", "floor list/turn mp, GET", 1.3),
    Claim("cache", "turnlog redis cache validate, last 20", "turnlog redis, PING", None),
    Claim("cache", "turnlog redis cache validate, last 20", "turnlog redis, last 20", None),
    Claim("cache", "turnlog redis cache validate, all", "turnlog redis, all", 1 / 50, at=10_000),
    Claim("cache", "turnlog redis cache trust, all", "turnlog redis, all", 1 / 50, at=10_000),
    Claim("cache", "turnlog redis cache validate", "turnlog redis, append", 2.1),
    Claim("cache", "turnlog redis cache trust", "turnlog redis, append", 1.4),
)
AT_ONCE = (  # here `limit` is a minimum: turns a second with 50 concurrent sessions, divided by those of the other
    Claim("sqlite", "turnlog sqlite FULL", "openai-agents SQLiteSession", 2.0),
    Claim("sqlite", "turnlog sqlite NORMAL", "openai-agents SQLiteSession", 3.5),
    Claim("postgres", "turnlog postgresql", "openai-agents SQLAlchemySession pg", 4.0),
    Claim("redis", "turnlog redis", "openai-agents RedisSession", 3.8),
    Claim("sqlite", "turnlog sqlite FULL", "floor row/turn mp thread FULL", None),
    Claim("sqlite", "turnlog sqlite NORMAL", "floor row/turn mp thread", None),
    Claim("redis", "turnlog redis", "floor list/turn mp", None),
)
FLAT = 1.5  # a turn at 10,000 stored messages / one at 100, because a load of 20 messages needs more than 10


class Part:
    """A store whose turn is only a part of a full turn."""

    def __init__(self, store: Adapter, part: str) -> None:
        self.store = store
        self.turn = getattr(self, f"_{part.replace(' ', '_').lower()}")
        self.convert = store.convert if part == "append" else lambda said: said

    async def _append(self, sid: str, messages: list) -> None:
        await self.store.append(sid, messages)

    async def _last_20(self, sid: str, _: list) -> None:
        await self.store.tail(sid, 20)

    async def _all(self, sid: str, _: list) -> None:
        await self.store.load(sid)

    async def _get(self, _sid: str, _: list) -> None:
        await self.store.r.get("smallest")

    async def _ping(self, _sid: str, _: list) -> None:
        await self.store.store.backend._server.ask_all([(b"PING",)])


class Run:
    """The stores of one group, with their sessions, and the times of their turns."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.stores: dict[str, Adapter] = {}
        self.both: dict[str, Adapter | Part] = {}
        self.times: dict[tuple[str, int], list[list[float]]] = {}

    async def open(self, env: dict) -> None:
        for module, names in STORES[self.group].items():
            try:
                found = importlib.import_module(f"adapters.{module}").ADAPTERS
            except ModuleNotFoundError as error:
                print(f"left out: {', '.join(names)} ({error})")
                continue
            for kind in found:
                if kind.name in names:
                    store = kind()
                    try:
                        await store.open(env)
                        await check(store, kind.name.replace("/", "-"))
                    except (ImportError, AssertionError) as error:
                        print(f"left out: {kind.name} ({type(error).__name__}: {error})")
                        continue
                    self.stores[kind.name] = store
        for place, store in enumerate(self.stores.values()):
            for n, sessions in SIZES.items():
                base = workload.generate(n)
                for s in range(sessions):
                    await store.seed(f"{n}-{s}", store.convert(fresh(base, f"{place:x}{n:x}{s:x}q")))
                    await store.load(f"{n}-{s}")  # fills the cache, if the store has one
        for name, parts in PARTS.get(self.group, {}).items():
            if name in self.stores:
                self.both |= {f"{name}, {part}": Part(self.stores[name], part) for part in parts}
        self.both |= self.stores

    async def measure(self, seconds: float) -> None:
        turns, order, block = Turns(), random.Random(1), BLOCK[self.group]
        cells = [(name, n) for name in self.both for n in SIZES]
        self.times = {cell: [] for cell in cells}
        used = dict.fromkeys(cells, 0)
        gc.collect()
        gc.freeze()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            said = [turns.next() for _ in range(max(block, *BLOCKS.values()))]
            order.shuffle(cells)
            for name, n in cells:
                store, size = self.both[name], BLOCKS.get(name.partition(", ")[2], block)
                plans = [(f"{n}-{(used[name, n] + i) % SIZES[n]}", m) for i, m in enumerate(said[:size])]
                used[name, n] += size
                self.times[name, n].append(await timed(store, plans))
        gc.unfreeze()

    async def measure_at_once(self, seconds: float) -> None:
        """Measure turns a second with 50 concurrent sessions."""
        wanted = {name for claim in AT_ONCE for name in (claim.store, claim.other) if claim.group == self.group}
        turns, order = Turns(), random.Random(2)
        names = [name for name in self.stores if name in wanted]
        self.rates: dict[str, list[float]] = {name: [] for name in names}
        for name in names:
            for s in range(SESSIONS):
                store = self.stores[name]
                await store.seed(
                    f"once-{s}", store.convert(fresh(workload.generate(20), f"{names.index(name):x}o{s:x}"))
                )
        gc.collect()
        gc.freeze()
        end = time.perf_counter() + seconds
        while names and (time.perf_counter() < end or len(self.rates[names[0]]) < 3):
            order.shuffle(names)
            said = [[turns.next() for _ in range(EACH)] for _ in range(SESSIONS)]
            for name in names:
                store = self.stores[name]
                plans = [[store.convert(one) for one in each] for each in said]

                async def talk(s: int, plan: list, store: Adapter = store) -> None:
                    for messages in plan:
                        await store.turn(f"once-{s}", messages)

                before = time.perf_counter()
                await asyncio.gather(*(talk(s, plan) for s, plan in enumerate(plans)))
                self.rates[name].append(SESSIONS * EACH / (time.perf_counter() - before))
        gc.unfreeze()

    async def close(self) -> None:
        for store in self.stores.values():
            await store.close()

    def median(self, name: str, n: int) -> float:
        return median(t for times in self.times[name, n] for t in times)

    def least(self, name: str, n: int) -> float:
        return min(t for times in self.times[name, n] for t in times)

    def ratio(self, one: tuple[str, int], other: tuple[str, int]) -> float:
        return median(median(a) / median(b) for a, b in zip(self.times[one], self.times[other], strict=True))


async def timed(store: Adapter, plans: list[tuple[str, list]]) -> list[float]:
    turn, clock, times = store.turn, time.perf_counter, []
    for sid, said in plans:
        messages = store.convert(said)  # between turns, as in an application, so that the CPU caches are not too warm
        before = clock()
        await turn(sid, messages)
        times.append(clock() - before)
    return times


def table(head: list[str], rows: list[list[str]]) -> None:
    print("| " + " | ".join(head) + " |\n|---|" + "--:|" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def judged(value: float, limit: float | None) -> str:
    return "" if limit is None else f"at most {limit:g}: {'pass' if value <= limit else 'FAIL'}"


def report(run: Run) -> tuple[int, int]:
    """Print the tables; return the number of claims that failed and the number that could not be measured."""
    failed = missing = 0
    print(f"\n**{run.group}: a full turn in µs, median (minimum)**\n")
    names = list(run.both)
    table(
        ["", *(f"{n:,}" for n in SIZES)],
        [
            [name, *(f"{run.median(name, n) * 1e6:.3g} ({run.least(name, n) * 1e6:.3g})" for n in SIZES)]
            for name in names
        ],
    )
    rows = []
    for claim in CLAIMS:
        if claim.group != run.group:
            continue
        if claim.store not in run.both or claim.other not in (None, *run.both):
            rows.append([f"{claim.store} / {claim.other}", *["-"] * len(SIZES), "missing"])
            missing += 1
            continue
        if claim.other is None:
            values = {n: run.median(claim.store, n) * 1e6 for n in SIZES}
        else:
            values = {n: run.ratio((claim.store, n), (claim.other, n)) for n in SIZES}
        value = values[claim.at]
        name = f"{claim.store}, in µs" if claim.other is None else f"{claim.store} / {claim.other}"
        rows.append([name, *(f"{one:.3g}" for one in values.values()), judged(value, claim.limit)])
        failed += claim.limit is not None and value > claim.limit
    print(f"**{run.group}: ratios, with limits at 1,000 stored messages, for loads of everything at 10,000**\n")
    table(["", *(f"{n:,}" for n in SIZES), ""], rows)
    rows = []
    for claim in AT_ONCE:
        if claim.group == run.group and claim.store in run.stores and claim.other in run.stores:
            one, other = run.rates[claim.store], run.rates[claim.other]
            times = median(a / b for a, b in zip(one, other, strict=True))
            failing = claim.limit is not None and times < claim.limit
            verdict = "" if claim.limit is None else f"at least {claim.limit:g}: {'FAIL' if failing else 'pass'}"
            rows.append(
                [
                    f"{claim.store} / {claim.other}",
                    f"{median(one):,.0f}",
                    f"{median(other):,.0f}",
                    f"{times:.2f}",
                    verdict,
                ]
            )
            failed += failing
    if rows:
        print(f"**{run.group}: turns a second, {SESSIONS} sessions at once**\n")
        table(["", "turns/s", "of the other", "times", ""], rows)
    rows = []
    for name in (name for name in names if name.startswith("turnlog") and not name.endswith((", all", ", PING"))):
        whole, long = run.ratio((name, 10_000), (name, 10)), run.ratio((name, 10_000), (name, 100))
        rows.append([name, f"{whole:.2f}", f"{long:.2f}", judged(long, FLAT)])
        failed += long > FLAT
    print(f"**{run.group}: growth of a turn with the history**\n")
    table(["", "10,000 / 10", "10,000 / 100", ""], rows)
    return failed, missing


async def measure_group(group: str, seconds: float) -> tuple[int, int]:
    """Measure a group and print its tables; return the number of ratios over their limits, and of missing ones."""
    folder, server, stack = tempfile.mkdtemp(prefix="bench-claims-"), None, ExitStack()
    try:
        run = Run(group)
        if group in ("postgres", "redis", "cache"):
            server = stack.enter_context(servers.Postgres() if group == "postgres" else servers.Redis())
        port = getattr(server, "port", None)
        await run.open({"dir": folder, "pg_port": port, "redis_port": port})
        await run.measure(seconds)
        await run.measure_at_once(seconds / 2)
        found = report(run)
        await run.close()
    finally:
        stack.close()
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
    return found


def in_process(group: str, seconds: float) -> tuple[int, int]:
    return asyncio.run(measure_group(group, seconds))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", default="memory,sqlite")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of measurement for each group")
    args = parser.parse_args()
    print(f"CPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores", flush=True)
    failed = missing = 0
    # a new process for each group: the heap of one group would slow down the garbage collection of the next
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        for group in args.groups.split(","):
            bad, gone = processes.submit(in_process, group, args.seconds).result()
            failed, missing = failed + bad, missing + gone
    print(f"{failed} over the limit, {missing} not measured")
    return 1 if failed else 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

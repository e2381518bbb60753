"""Measure the cost of a call of `turnlog.sync`, compared with the asynchronous call: python benchmarks/sync.py

The store is `memory://`, whose asynchronous calls never wait, so the difference is the cost of the synchronous API.  In
each round every kind of call is made a few times, in turns, so that other work on the machine slows all of them.  The
script also measures two raw hand-overs between threads: `queue` passes an object to a thread and back through two
`queue.SimpleQueue`, and `run_coroutine_threadsafe` runs an empty coroutine in the event loop of another thread.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from queue import SimpleQueue
from statistics import median

import turnlog.sync
from turnlog import assistant, open_store, user

TURN = [user("What is the weather like today?"), assistant("I cannot look outside, but I hope that it is fine.")]
SESSIONS = 50


class Queues:
    """A thread that returns each object."""

    def __init__(self) -> None:
        self.there: SimpleQueue[object] = SimpleQueue()
        self.back: SimpleQueue[object] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            self.back.put(self.there.get())

    def call(self, number: int) -> None:
        self.there.put(number)
        self.back.get()


async def empty() -> None:
    """Do nothing."""


def measure(rounds: int, calls: int) -> dict[str, list[float]]:
    """Return the time of a call in microseconds, by kind, for each round."""
    loop, queues = asyncio.new_event_loop(), Queues()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    here = asyncio.Runner()
    plain = open_store("memory://")
    store = turnlog.sync.open_store("memory://")
    here.run(plain.open())
    store.open()

    def of(call) -> float:
        begun = time.perf_counter()
        for number in range(calls):
            call(number)
        return (time.perf_counter() - begun) / calls * 1e6

    async def of_async(call) -> float:
        begun = time.perf_counter()
        for number in range(calls):
            await call(number)
        return (time.perf_counter() - begun) / calls * 1e6

    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        times = {
            "queue": of(queues.call),
            "run_coroutine_threadsafe": of(lambda _: asyncio.run_coroutine_threadsafe(empty(), loop).result()),
            "append, async": here.run(of_async(lambda n: plain.append(f"s{n % SESSIONS}", TURN))),
            "append, sync": of(lambda n: store.append(f"s{n % SESSIONS}", TURN)),
            "load, async": here.run(of_async(lambda n: plain.load(f"s{n % SESSIONS}", last=20))),
            "load, sync": of(lambda n: store.load(f"s{n % SESSIONS}", last=20)),
        }
        for kind, value in times.items():
            found.setdefault(kind, []).append(value)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--calls", type=int, default=100, help="calls of each kind in a round")
    given = parser.parse_args()
    found = measure(given.rounds, given.calls)
    rows = {kind: (median(times), min(times)) for kind, times in found.items()}
    for call in ("append", "load"):
        pairs = zip(rows[f"{call}, sync"], rows[f"{call}, async"], strict=True)
        middle, least = (sync - plain for sync, plain in pairs)
        rows[f"{call}, sync beyond async"] = middle, least
    print("| a call, µs | median | minimum |\n|---|--:|--:|")
    for kind, (middle, least) in rows.items():
        print(f"| {kind} | {middle:.3g} | {least:.3g} |")

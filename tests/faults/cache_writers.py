"""A program for the tests of the cache: two processes with a cache each, which operate alternately.

python cache_writers.py URL OPERATIONS validate|trust [unfenced|ageless]

Each operation begins after the other process's operation has ended.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from multiprocessing.synchronize import Barrier
from random import Random
from typing import Any, Final, cast

import msgspec

import server_writers
from turnlog import Change, Conflict, Key, Store, Version, user
from turnlog_cache import CacheLayer
from turnlog_cache._layer import Mode

SESSIONS: Final = 20
MAX_AGE: Final = {"": 0.2, "unfenced": 0.2, "ageless": 0.02}
"""Seconds.  The last is for the naive cache: a fast machine must find a stale read as well."""
NEXT: Final = b"n"
FAILED: Final = b"f"

Counts = tuple[int, int, int]  # stale reads, refused changes, stored turns


def unfenced(cache: CacheLayer) -> None:
    """Make a naive cache: its backend ignores conditions."""
    commit = cache.inner.commit

    async def naive(key: Key, change: Change) -> Any:
        return await commit(key, msgspec.structs.replace(change, expect=None))

    cache.inner.commit = naive  # type: ignore[method-assign]


class Writer:
    """One of the processes.

    Args:
        cache: The cache of the process.
        max_age: The maximum age of a read in `trust`, in seconds.
        number: The number of the process.
        turns: The number of acknowledged turns of each session, shared by both processes.
        sent: The time at which each turn was sent, by the clock that both processes share.
    """

    def __init__(self, cache: CacheLayer, max_age: float, number: int, turns: Any, sent: Any) -> None:
        self.store = Store(cache)
        self.mode = cache.mode
        self.max_age = max_age
        self.dice = Random(number)
        self.turns = turns
        self.sent = sent
        self.room = len(sent) // SESSIONS
        self.seen: dict[int, tuple[Version, int]] = {}
        self.stale = self.refused = self.stored = 0

    async def operate(self) -> None:
        """Read, or append with the version that was read, or append without a condition."""
        session = self.dice.randrange(SESSIONS)
        drawn = self.dice.random()
        if drawn < 0.5 and self.turns[session]:
            await self.read(session)
        elif drawn < 0.75 and session in self.seen:
            version, seen = self.seen[session]
            await self.append(session, version, fine=seen == self.turns[session])
        else:
            await self.append(session, None, fine=True)

    async def read(self, session: int) -> None:
        last = self.dice.choice([1, 5, 20, None])
        asked = time.monotonic()
        shown = await self.store.session(f"s{session}", last=last)
        stored, turns = self.turns[session], shown.info.turns
        assert shown.info.messages == turns
        assert [message.text for message in shown.messages] == [
            f"{session} {n}" for n in range(0 if last is None else max(0, turns - last), turns)
        ], "torn"
        if turns != stored:
            self.stale += 1
            assert self.mode == "trust", f"stale: {turns} of {stored}"
            assert turns < stored
            age = asked - self.sent[session * self.room + turns]
            assert age <= self.max_age, f"stale for {age} s"
        self.seen[session] = shown.version, turns

    async def append(self, session: int, expect: Version | None, *, fine: bool) -> None:
        number = self.turns[session]
        sent = time.monotonic()
        try:
            receipt = await self.store.append(f"s{session}", [user(f"{session} {number}")], expect=expect)
        except Conflict:
            assert not fine, "refused"
            self.refused += 1
            del self.seen[session]
            return
        assert fine, "a stale expect was accepted"
        assert receipt.number == number, "lost or twice"
        self.turns[session], self.sent[session * self.room + number] = number + 1, sent
        self.seen[session] = receipt.version, number + 1
        self.stored += 1


def main(url: str, operations: int, mode: Mode, naive: str) -> None:
    """Let both processes operate alternately, and check the stored turns."""
    turns = server_writers.processes.Array("q", SESSIONS, lock=False)
    sent = server_writers.processes.Array("d", SESSIONS * operations, lock=False)
    pipes = os.pipe(), os.pipe()

    async def work(number: int, barrier: Barrier) -> Counts:
        mine, others = pipes[number][0], pipes[1 - number][1]
        max_age = 3600 if naive == "ageless" else MAX_AGE[naive]  # trusts its entries for too long
        cache = CacheLayer(server_writers.at(url), mode=mode, max_age=max_age)
        if naive == "unfenced":
            unfenced(cache)
        async with cache:
            writer = Writer(cache, MAX_AGE[naive], number, turns, sent)
            barrier.wait()
            try:
                for place in range(operations // 2):
                    if (place or number) and os.read(mine, 1) != NEXT:
                        break
                    await writer.operate()
                    os.write(others, NEXT)
            except BaseException:
                os.write(others, FAILED)  # the other process waits for a byte
                raise
            return writer.stale, writer.refused, writer.stored

    counts = cast("list[Counts]", server_writers.at_once(2, work))

    async def check() -> None:
        async with Store(server_writers.at(url)) as store:
            for session, count in enumerate(turns):
                texts = [message.text for message in await store.load(f"s{session}")] if count else []
                assert texts == [f"{session} {number}" for number in range(count)], "lost, twice, or moved"

    asyncio.run(check())
    stale, refused, stored = (sum(one) for one in zip(*counts, strict=True))
    assert stored == sum(turns)
    sys.stdout.write(f"{stale} stale reads, {refused} refused, {stored} stored\n")


if __name__ == "__main__":
    url, operations, mode, *more = sys.argv[1:]
    main(url, int(operations), cast("Mode", mode), *(more or [""]))

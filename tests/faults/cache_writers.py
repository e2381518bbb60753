"""What tests of the cache do in processes of their own.

python cache_writers.py URL OPERATIONS validate|trust [unfenced|ageless]
    two processes, each with a cache, take turns: whatever one of them does begins after the other one was answered
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
from turnlog import Change, Conflict, Key, Version, user
from turnlog_cache import CacheLayer
from turnlog_cache._layer import Mode

SESSIONS: Final = 20
MAX_AGE: Final = {"": 0.2, "unfenced": 0.2, "ageless": 0.02}
"""Seconds; by the naive cache, which must be found out on a fast machine, too."""
NEXT: Final = b"n"
FAILED: Final = b"f"

Told = tuple[int, int, int]  # reads that were stale, changes that were refused, turns stored


def unfenced(cache: CacheLayer) -> None:
    """The naive cache, which takes what it has for what there is: the store is not asked to compare."""
    commit = cache.inner.commit

    async def naive(key: Key, change: Change) -> Any:
        return await commit(key, msgspec.structs.replace(change, expect=None))

    cache.inner.commit = naive  # type: ignore[method-assign]


def ageless(cache: CacheLayer) -> None:
    """The naive cache, which trusts in affinity for good."""
    cache._trusted = float("inf")


class Writer:
    """One of the processes.

    Args:
        cache: Its own.
        number: Which one it is.
        turns: How many turns each session has, as was acknowledged to either.
        sent: When each of them was sent, by the clock that all processes share.
    """

    def __init__(self, cache: CacheLayer, number: int, turns: Any, sent: Any) -> None:
        self.cache = cache
        self.max_age = cache.max_age
        self.dice = Random(number)
        self.turns = turns
        self.sent = sent
        self.room = len(sent) // SESSIONS
        self.seen: dict[int, tuple[Version, int]] = {}
        self.stale = self.refused = self.stored = 0

    async def operate(self) -> None:
        """Read, or append to what was read, or append to whatever is there."""
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
        shown = await self.cache.session(f"s{session}", last=last)
        there, turns = self.turns[session], shown.info.turns
        assert shown.info.messages == turns
        assert [message.text for message in shown.messages] == [
            f"{session} {n}" for n in range(0 if last is None else max(0, turns - last), turns)
        ], "torn"
        if turns != there:
            self.stale += 1
            assert self.cache.mode == "trust", f"stale: {turns} of {there}"
            assert turns < there
            age = asked - self.sent[session * self.room + turns]
            assert age <= self.max_age, f"stale for {age} s"
        self.seen[session] = shown.version, turns

    async def append(self, session: int, expect: Version | None, *, fine: bool) -> None:
        number = self.turns[session]
        sent = time.monotonic()
        try:
            receipt = await self.cache.append(f"s{session}", [user(f"{session} {number}")], expect=expect)
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
    """Let both of them take turns, and look at what is there."""
    turns = server_writers.processes.Array("q", SESSIONS, lock=False)
    sent = server_writers.processes.Array("d", SESSIONS * operations, lock=False)
    pipes = os.pipe(), os.pipe()

    async def work(number: int, barrier: Barrier) -> Told:
        mine, others = pipes[number][0], pipes[1 - number][1]
        cache = CacheLayer(server_writers.at(url), mode=mode, max_age=MAX_AGE[naive])
        if naive:
            {"unfenced": unfenced, "ageless": ageless}[naive](cache)
        async with cache:
            writer = Writer(cache, number, turns, sent)
            barrier.wait()
            try:
                for place in range(operations // 2):
                    if (place or number) and os.read(mine, 1) != NEXT:
                        break
                    await writer.operate()
                    os.write(others, NEXT)
            except BaseException:
                os.write(others, FAILED)  # or it would wait for ever
                raise
            return writer.stale, writer.refused, writer.stored

    told = cast("list[Told]", server_writers.at_once(2, work))

    async def look() -> None:
        async with server_writers.at(url) as store:
            for session, count in enumerate(turns):
                texts = [message.text for message in await store.load(f"s{session}")] if count else []
                assert texts == [f"{session} {number}" for number in range(count)], "lost, twice, or moved"

    asyncio.run(look())
    stale, refused, stored = (sum(one) for one in zip(*told, strict=True))
    assert stored == sum(turns)
    sys.stdout.write(f"{stale} stale reads, {refused} refused, {stored} stored\n")


if __name__ == "__main__":
    url, operations, mode, *more = sys.argv[1:]
    main(url, int(operations), cast("Mode", mode), *(more or [""]))

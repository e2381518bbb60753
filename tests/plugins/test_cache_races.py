"""Reads and changes that overtake each other: never an older state after a newer one was served."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from itertools import cycle, permutations
from typing import Any, Final

import pytest

from cached import Kind, Setup, Stop
from turnlog import Change, Key, Layer, Receipt, SessionNotFound, Version, user
from turnlog_cache import CacheLayer
from turnlog_cache._entry import Entry
from turnlog_cache._layer import Mode
from turnlog_memory import MemoryBackend

TIMES: Final = 1_000

ORDERS: Final = [
    order
    for order in permutations(("fill lands", "fill returns", "other lands", "other returns"))
    if order.index("fill lands") < order.index("fill returns")
    and order.index("other lands") < order.index("other returns")
]
"""The other, a change or another fill, lands before or after the fill, and is heard of before or after it."""

OTHERS: Final = ["append", "describe", "cut", "erase", "erase, made again", "fill, appended", "fill, made again"]


class Ranked(Layer):
    """Knows the states that a session went through, in order; None: there was none."""

    states: defaultdict[Key, list[Version | None]]

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        self.states[key].append(receipt.version)
        return receipt

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        found = await super().delete(key, expect=expect)
        self.states[key].append(None)
        return found


def ranked(**options: Any) -> Ranked:
    store = Ranked(MemoryBackend(**options))
    store.states = defaultdict(list)
    return store


class Race:
    """One session, what is asked of it, and what was served.

    Args:
        it: The cache and what is below it.
        session: Which session.
    """

    def __init__(self, it: Setup, session: str) -> None:
        assert isinstance(it.store, Ranked)
        self.it = it
        self.session = session
        self.states = it.store.states[Key("default", session)]
        self.newest = 0
        self.wrong: list[str] = []

    def rank(self, version: Version | None) -> int:
        """Which of the states it is."""
        return self.states.index(version)

    def heard(self, rank: int) -> None:
        """It was told the application."""
        self.newest = max(self.newest, rank)

    async def ask(self, last: int | None) -> int:
        """What is served."""
        try:
            return self.rank((await self.it.cache.session(self.session, last=last)).version)
        except SessionNotFound:
            return self.rank(None)

    async def look(self, last: int | None) -> None:
        """Whoever asks now must be shown what was told before, or something later."""
        known = self.newest
        rank = await self.ask(last)
        if rank < known:
            self.wrong.append(f"{rank} after {known}")
        if self.it.cache.mode == "validate" and rank != len(self.states) - 1:
            self.wrong.append(f"{rank} of {len(self.states)}")
        self.heard(rank)

    async def run(self, order: tuple[str, ...], other: str, *, evict: bool) -> None:
        """A fill and something else, held so that they land and return in this order."""
        it, session = self.it, self.session
        for number in range(3):
            await it.store.append(session, [user(f"{number}")])
        fill = Held(it, "read", self.ask(None))
        held: Held | None = None
        await fill.begun()
        for step in order:
            if step == "fill lands":
                await fill.land()
            elif step == "fill returns":
                self.heard(await fill.answered())
            elif step == "other lands":
                held = await self._begun(other)
                await held.land()
                if other == "erase, made again":
                    await it.store.append(session, [user("anew")])
            else:
                assert held is not None
                told = await held.answered()
                self.heard(told if isinstance(told, int) else self._written(told))
            if step.endswith("returns"):
                if evict:
                    await it.cache.load("another")
                await self.look(2)
        for last in (1, None, 2):
            await self.look(last)

    async def _begun(self, other: str) -> Held:
        """Something else, on its way."""
        it, session = self.it, self.session
        if other == "fill, appended":
            await it.store.append(session, [user("theirs")])
        elif other == "fill, made again":
            await it.store.erase(session)
            await it.store.append(session, [user("anew")])
        ways: dict[str, Callable[[], tuple[Kind, Coroutine[Any, Any, Any]]]] = {
            "append": lambda: ("commit", it.cache.append(session, [user("mine")])),
            "describe": lambda: ("commit", it.cache.merge_metadata(session, {"a": 1})),
            "cut": lambda: ("commit", it.cache.commit(Key("default", session), Change(keep=1))),
            "erase": lambda: ("delete", it.cache.erase(session)),
            "fill": lambda: ("read", self.ask(1)),
        }
        held = Held(it, *ways[other.split(",", maxsplit=1)[0]]())
        await held.begun()
        return held

    def _written(self, told: object) -> int:
        return self.rank(told.version if isinstance(told, Receipt) else None)


class Held:
    """A call that is held on its way to the store, and on its way back."""

    def __init__(self, it: Setup, kind: Kind, call: Coroutine[Any, Any, Any]) -> None:
        self.stops = it.asked.stops[kind]
        self.stop: Stop = it.asked.stop(kind)
        self.task = asyncio.create_task(call)

    async def begun(self) -> None:
        """When it is on its way, or, in `trust`, has been answered without."""
        sent = asyncio.create_task(self.stop.sent.wait())
        await asyncio.wait([sent, self.task], return_when=asyncio.FIRST_COMPLETED)
        if not sent.done():
            sent.cancel()
            self.stops.remove(self.stop)

    async def land(self) -> None:
        """When the store has done it."""
        if not self.task.done():
            await self.stop.land()

    async def answered(self) -> Any:
        """What the caller is told."""
        self.stop.answer()
        return await self.task


async def wrong_in(mode: Mode, order: tuple[str, ...], times: int) -> list[str]:
    """What went wrong in so many races of one order, each on a session of its own."""
    it = Setup(mode, store=ranked, max_sessions=3)
    await it.store.append("another", [user("x")])
    others, evicted = cycle(OTHERS), cycle([False, True])
    wrong = []
    for number in range(times):
        race, other, evict = Race(it, f"s{number}"), next(others), next(evicted)
        it.cache.max_sessions = 1 if evict else 3
        await race.run(order, other, evict=evict)
        wrong += [f"{other}, {evict=}: {what}" for what in race.wrong]
    assert it.cache._sent == {}
    return wrong


@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
@pytest.mark.parametrize("mode", ["validate", "trust"])
async def test_never_an_older_state_after_a_newer_one(mode: Mode, order: tuple[str, ...]) -> None:
    assert await wrong_in(mode, order, TIMES) == []


async def test_the_naive_cache_that_keeps_whatever_comes_back_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def put(self: CacheLayer, key: Key, base: Entry | None, entry: Entry, *_: object) -> None:
        self._entries[key] = entry

    monkeypatch.setattr(CacheLayer, "_put", put)
    assert await wrong_in("trust", ("fill lands", "other lands", "other returns", "fill returns"), 50)


async def test_the_naive_cache_that_compares_only_with_what_is_there_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What has gone since can no longer be compared with."""
    put = CacheLayer._put

    def naive(self: CacheLayer, key: Key, base: Entry | None, entry: Entry, *_: object) -> None:
        put(self, key, base, entry)

    monkeypatch.setattr(CacheLayer, "_put", naive)
    assert await wrong_in("trust", ("fill lands", "other lands", "other returns", "fill returns"), 50)

"""Reads and changes that overtake each other: the cache never serves an older state after a newer one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from itertools import cycle, permutations
from typing import Any, Final

import pytest

from cached import Setup
from turnlog import Change, Expect, Key, Layer, Receipt, SessionNotFound, Version, user
from turnlog_cache import CacheLayer
from turnlog_cache._entry import Entry
from turnlog_cache._layer import Mode
from turnlog_memory import MemoryBackend
from watched import Hold, Kind

TIMES: Final = 1_000

ORDERS: Final = [
    order
    for order in permutations(("fill applied", "fill answered", "other applied", "other answered"))
    if order.index("fill applied") < order.index("fill answered")
    and order.index("other applied") < order.index("other answered")
]
"""The orders in which the backend applies and answers the fill and the other call: a change or a second fill."""

OTHERS: Final = ["append", "describe", "cut", "erase", "erase, made again", "fill, appended", "fill, made again"]


class Ranked(Layer):
    """Records the versions of each session, in order. None: the session did not exist."""

    states: defaultdict[Key, list[Version | None]]

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        self.states[key].append(receipt.version)
        return receipt

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        found = await super().delete(key, expect=expect, for_owner=for_owner)
        self.states[key].append(None)
        return found


def ranked(**options: Any) -> Ranked:
    backend = Ranked(MemoryBackend(**options))
    backend.states = defaultdict(list)
    return backend


class Race:
    """The reads and changes of one session, and the states that the cache served.

    Args:
        it: The cache and its backend.
        session: The session.
    """

    def __init__(self, it: Setup, session: str) -> None:
        assert isinstance(it.backend, Ranked)
        self.it = it
        self.session = session
        self.states = it.backend.states[Key("default", session)]
        self.newest = 0
        self.wrong: list[str] = []

    def rank(self, version: Version | None) -> int:
        """Return the number of a state."""
        return self.states.index(version)

    def served(self, rank: int) -> None:
        """Record that the cache served a state to the application."""
        self.newest = max(self.newest, rank)

    async def read(self, last: int | None) -> int:
        """Return the state that the cache serves."""
        try:
            return self.rank((await self.it.store.session(self.session, last=last)).version)
        except SessionNotFound:
            return self.rank(None)

    async def check(self, last: int | None) -> None:
        """Read the session; record an error if the state is older than one that was served before."""
        known = self.newest
        rank = await self.read(last)
        if rank < known:
            self.wrong.append(f"{rank} after {known}")
        if self.it.cache.mode == "validate" and rank != len(self.states) - 1:
            self.wrong.append(f"{rank} of {len(self.states)}")
        self.served(rank)

    async def run(self, order: tuple[str, ...], other: str, *, evict: bool) -> None:
        """Make a fill and another call, and delay them so that they are applied and answered in this order."""
        it, session = self.it, self.session
        for number in range(3):
            await it.other_process.append(session, [user(f"{number}")])
        fill = Held(it, "read", self.read(None))
        held: Held | None = None
        await fill.begun()
        for step in order:
            if step == "fill applied":
                await fill.applied()
            elif step == "fill answered":
                self.served(await fill.answered())
            elif step == "other applied":
                held = await self._begun(other)
                await held.applied()
                if other == "erase, made again":
                    await it.other_process.append(session, [user("anew")])
            else:
                assert held is not None
                answer = await held.answered()
                self.served(answer if isinstance(answer, int) else self._written(answer))
            if step.endswith("answered"):
                if evict:
                    await it.store.load("another")
                await self.check(2)
        for last in (1, None, 2):
            await self.check(last)

    async def _begun(self, other: str) -> Held:
        """Begin the other call."""
        it, session = self.it, self.session
        if other == "fill, appended":
            await it.other_process.append(session, [user("theirs")])
        elif other == "fill, made again":
            await it.other_process.erase(session)
            await it.other_process.append(session, [user("anew")])
        ways: dict[str, Callable[[], tuple[Kind, Coroutine[Any, Any, Any]]]] = {
            "append": lambda: ("commit", it.store.append(session, [user("mine")])),
            "describe": lambda: ("commit", it.store.merge_metadata(session, {"a": 1})),
            "cut": lambda: ("commit", it.cache.commit(Key("default", session), Change(keep=1))),
            "erase": lambda: ("delete", it.store.erase(session)),
            "fill": lambda: ("read", self.read(1)),
        }
        held = Held(it, *ways[other.split(",", maxsplit=1)[0]]())
        await held.begun()
        return held

    def _written(self, answer: object) -> int:
        return self.rank(answer.version if isinstance(answer, Receipt) else None)


class Held:
    """A call that is delayed before the backend applies it, and before its caller gets the answer."""

    def __init__(self, it: Setup, kind: Kind, call: Coroutine[Any, Any, Any]) -> None:
        self.holds = it.watched.holds[kind]
        self.hold: Hold = it.watched.hold(kind)
        self.task = asyncio.create_task(call)

    async def begun(self) -> None:
        """Wait until the call reaches the backend or, in `trust` mode, until the cache answers it."""
        sent = asyncio.create_task(self.hold.sent.wait())
        await asyncio.wait([sent, self.task], return_when=asyncio.FIRST_COMPLETED)
        if not sent.done():
            sent.cancel()
            self.holds.remove(self.hold)

    async def applied(self) -> None:
        """Wait until the backend has applied the call."""
        if not self.task.done():
            await self.hold.apply()

    async def answered(self) -> Any:
        """Return the answer."""
        self.hold.answer()
        return await self.task


async def wrong_in(mode: Mode, order: tuple[str, ...], times: int) -> list[str]:
    """Return the errors of a number of races in one order. Each race has a session of its own."""
    it = Setup(mode, backend=ranked, max_sessions=3)
    await it.other_process.append("another", [user("x")])
    others, evicted = cycle(OTHERS), cycle([False, True])
    wrong = []
    for number in range(times):
        race, other, evict = Race(it, f"s{number}"), next(others), next(evicted)
        it.cache.max_sessions = 1 if evict else 3
        await race.run(order, other, evict=evict)
        wrong += [f"{other}, {evict=}: {what}" for what in race.wrong]
    assert it.cache._pending == {}
    return wrong


@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
@pytest.mark.parametrize("mode", ["validate", "trust"])
async def test_never_an_older_state_after_a_newer_one(mode: Mode, order: tuple[str, ...]) -> None:
    assert await wrong_in(mode, order, TIMES) == []


async def test_a_cache_that_keeps_every_answer_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    def put(self: CacheLayer, key: Key, base: Entry | None, entry: Entry, *_: object) -> None:
        self._entries[key] = entry

    monkeypatch.setattr(CacheLayer, "_put", put)
    assert await wrong_in("trust", ("fill applied", "other applied", "other answered", "fill answered"), 50)


async def test_a_cache_that_ignores_dropped_entries_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The naive cache compares an answer with the current entry, and a dropped entry is not current."""
    put = CacheLayer._put

    def naive(self: CacheLayer, key: Key, base: Entry | None, entry: Entry, *_: object) -> None:
        put(self, key, base, entry)

    monkeypatch.setattr(CacheLayer, "_put", naive)
    assert await wrong_in("trust", ("fill applied", "other applied", "other answered", "fill answered"), 50)

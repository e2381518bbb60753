"""`StateMetrics` equals a count by hand after thousands of random operations, on every backend and through layers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Unpack

import pytest

from further_ways import OnBackendOf, OverMemory
from redis_places import OnCluster, RedisContract
from sql_places import OverMariaDB, OverPostgreSQL, OverSQLite
from turnlog import Backend, Store, user
from turnlog.config import find_layer
from turnlog.metrics import StateMetrics
from turnlog.testing import BackendOptions

TTL = 80.0
STEP = TTL + 1
"""Seconds of one step. A session with the backend's time to live expires in each step, whenever it was last used."""
LONG = 300.0
"""A time to live that lasts for three steps and ends within four, in any state of the expiry (`limits.SLIDE`)."""
RETAIN = 5
KINDS = ("new", "append", "load", "rewind", "erase", "fork", "ttl")
AT_ONCE = 50
"""Concurrent operations, each on a session of its own."""


@dataclass
class Known:
    """The expected state of a session: the number of messages in each turn."""

    turns: list[int]
    lives: float = 1
    """The steps that the session survives after a use."""
    left: float = 1
    """The steps that the session still survives; it has expired at 0."""


class ByHand:
    """A store and its expected sessions."""

    def __init__(self, store: Store, random: Random) -> None:
        self.store = store
        self.random = random
        self.known: dict[str, Known] = {}
        self.made = 0

    def operation(self, busy: set[str]) -> Awaitable[object]:
        """Begin one operation on sessions that no other operation uses."""
        kind = self.random.choices(KINDS, (4, 12, 4, 2, 1, 1, 1))[0]
        free = [name for name in self.known if name not in busy]
        name = self.random.choice(free) if free and kind != "new" else self._new_name()
        busy.add(name)
        one, store = self.known.setdefault(name, Known([])), self.store
        if not one.turns or kind in ("new", "append"):
            return self._append(name, one)
        if kind == "erase":
            del self.known[name]
            return store.erase(name)
        if kind == "ttl":
            ttl, one.lives = self.random.choice(((LONG, 4), (0.0, float("inf"))))
        one.left = one.lives
        if kind == "ttl":
            return store.merge_metadata(name, ttl=ttl)
        if kind == "fork":
            target = self._new_name()
            busy.add(target)
            self.known[target] = Known([*one.turns], one.lives, one.lives)
            return store.fork(name, target)
        if kind == "rewind":
            one.turns.pop()
            return store.rewind(name, turns=1)
        return store.load(name, last=2)

    def _append(self, name: str, one: Known) -> Awaitable[object]:
        said = [user("x" * self.random.randrange(100)) for _ in range(self.random.randrange(1, 4))]
        one.turns.append(len(said))
        del one.turns[:-RETAIN]
        one.left = one.lives
        return self.store.append(name, said)

    def _new_name(self) -> str:
        self.made += 1
        return f"s{self.made}"

    def step(self) -> None:
        """Advance the expected sessions by one step."""
        for name, one in [*self.known.items()]:
            one.left -= 1
            if one.left <= 0:
                del self.known[name]


class Everywhere(OnBackendOf):
    """The test on the backend of another contract."""

    layers: ClassVar[tuple[str, ...]] = ()
    operations: ClassVar[int] = 10_000

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        backend = super().make(**options)
        for name in reversed(self.layers):
            backend = find_layer(name)(backend)
        return backend

    async def test_metrics_equal_a_count_by_hand(self) -> None:
        """`StateMetrics` equals the expected sessions after random operations and expiries."""
        store = await self.opened(ttl=TTL, retain=RETAIN)
        metrics, by_hand = StateMetrics(store), ByHand(store, Random(7))
        for done in range(0, self.operations, AT_ONCE):
            busy: set[str] = set()
            await asyncio.gather(*[by_hand.operation(busy) for _ in range(AT_ONCE)])
            if done % (self.operations // 20) == 0:
                await self.advance(STEP)
                by_hand.step()
                await self._compare(metrics, by_hand)
        await self._compare(metrics, by_hand)
        assert by_hand.known
        assert any(one.lives == 1 for one in by_hand.known.values())

    async def _compare(self, metrics: StateMetrics, by_hand: ByHand) -> None:
        found, known = await metrics.measure(), by_hand.known
        assert found.active_sessions == len(known)
        messages = sum(sum(one.turns) for one in known.values())
        assert found.avg_history_size.messages * max(len(known), 1) == pytest.approx(messages)
        infos = [info async for info in by_hand.store.sessions()]
        assert {info.key.session: info.messages for info in infos} == {n: sum(one.turns) for n, one in known.items()}
        assert found.avg_history_size.bytes * max(len(known), 1) == pytest.approx(sum(info.bytes for info in infos))
        assert found.storage_used is not None
        assert found.storage_used > 0 or not known


class TestMemory(Everywhere):
    below = OverMemory


class TestCacheOverMemory(Everywhere):
    below = OverMemory
    layers = ("cache", "zstd")


class TestSQLite(Everywhere):
    below = OverSQLite


class TestPostgreSQL(Everywhere):
    below = OverPostgreSQL
    operations = 2_000


class TestMariaDB(Everywhere):
    below = OverMariaDB
    operations = 2_000


class TestRedis(Everywhere):
    below = RedisContract
    operations = 2_000


class TestCluster(Everywhere):
    below = OnCluster
    operations = 2_000

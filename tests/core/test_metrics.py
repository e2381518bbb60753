"""The measurements of `StateMetrics`, without I/O."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, chain, repeat
from typing import Any

import msgspec
import pytest

from turnlog import (
    Conflict,
    CorruptRecord,
    InvalidInput,
    Key,
    Layer,
    MessageLayer,
    OutcomeUnknown,
    Page,
    Query,
    Receipt,
    Session,
    SessionNotFound,
    Store,
    Totals,
    Unavailable,
    user,
)
from turnlog.metrics import LoadTimes, StateMetrics
from turnlog.rules import totals_of
from turnlog.testing import Clock
from turnlog_memory import MemoryBackend


def timer(*seconds: float) -> Callable[[], float]:
    """Return a timer for loads that take these times, one after the other, and then no time."""
    return accumulate(chain.from_iterable((0.0, one) for one in chain(seconds, repeat(0.0)))).__next__


async def test_what_is_measured() -> None:
    store = Store(MemoryBackend())
    metrics = StateMetrics(store, timer=timer(0.5))
    assert metrics.namespace == "default"
    await store.append("a", [user("one"), user("two")])
    await store.append("b", [user("three")])
    await store.load("a")
    infos = [info async for info in store.sessions()]
    size = sum(info.bytes for info in infos)
    assert (await metrics.measure()).to_dict() == {
        "active_sessions": 2,
        "avg_history_size": {"messages": 1.5, "bytes": size / 2},
        "load_latency": {"loads": 1, "seconds": 0.5, "p50": 0.5, "p95": 0.5, "p99": 0.5},
        "storage_used": size,
    }


async def test_an_empty_store_has_no_latency_and_no_mean() -> None:
    metrics = StateMetrics(Store(MemoryBackend()))
    assert await metrics.probe() == 0
    found = (await metrics.measure()).to_dict()
    assert found["load_latency"] == {"loads": 0, "seconds": 0.0, "p50": None, "p95": None, "p99": None}
    assert (found["active_sessions"], found["avg_history_size"]) == (0, {"messages": 0.0, "bytes": 0.0})


async def test_percentiles_are_of_the_last_thousand_loads() -> None:
    store = Store(MemoryBackend())
    metrics = StateMetrics(store, timer=timer(*repeat(9.0, 500), *(float(n) for n in range(1_000, 0, -1))))
    await store.append("a", [user("x")])
    for _ in range(1_500):
        await store.load("a")
    latency = (await metrics.measure()).load_latency
    assert (latency.p50, latency.p95, latency.p99) == (500.0, 950.0, 990.0)
    assert (latency.loads, latency.seconds) == (1_500, 500 * 9.0 + sum(range(1_001)))


async def test_percentiles_of_a_few_loads_are_loads() -> None:
    store = Store(MemoryBackend())
    metrics = StateMetrics(store, timer=timer(4.0, 1.0, 3.0, 2.0))
    await store.append("a", [user("x")])
    for _ in range(4):
        await store.load("a", last=1)
    latency = (await metrics.measure()).load_latency
    assert (latency.p50, latency.p95, latency.p99) == (2.0, 4.0, 4.0)


async def test_a_look_at_the_info_and_a_missing_session_are_no_loads() -> None:
    store = Store(MemoryBackend())
    metrics = StateMetrics(store)
    await store.append("a", [user("x")])
    await store.info("a")
    await store.touch("a")
    with pytest.raises(SessionNotFound):
        await store.load("b")
    assert (await metrics.measure()).load_latency.loads == 0


async def test_views_that_are_made_later_are_timed_and_each_namespace_is_measured() -> None:
    store = Store(MemoryBackend())
    metrics = StateMetrics(store)
    tenant = store.within("tenant")
    await tenant.append("a", [user("x")])
    await tenant.for_owner("nobody").append("b", [user("x"), user("y")])
    await tenant.load("a")
    assert (await metrics.measure()).active_sessions == 0
    found = await StateMetrics(tenant).measure()
    assert (found.active_sessions, found.avg_history_size.messages, found.load_latency.loads) == (2, 1.5, 1)


async def test_one_layer_for_all_metrics_of_a_store() -> None:
    store = Store(MemoryBackend())
    first, second = StateMetrics(store), StateMetrics(store)
    assert isinstance(store.backend, LoadTimes)
    assert not isinstance(store.backend.inner, Layer)
    await store.append("a", [user("x")])
    await store.load("a")
    assert [(await one.measure()).load_latency.loads for one in (first, second)] == [1, 1]
    assert store.find(LoadTimes).stats() == {"loads": 1, "seconds": pytest.approx(0, abs=1), "errors": 0}


async def test_a_layer_below_is_still_asked_how_messages_are_read() -> None:
    class Shouting(MessageLayer):
        def read_message(self, message: Any) -> Any:
            return user(message.text.upper())

        def write_message(self, message: Any) -> Any:
            return user(message.text.lower())

    store = Store(Shouting(MemoryBackend()))
    StateMetrics(store)
    await store.save("a", [user("Hello")])
    history = await store.load("a")
    await store.save("a", [*history, user("Good Morning")])
    assert [message.text for message in await store.load("a")] == ["HELLO", "GOOD MORNING"]


async def test_failures_are_counted_and_answers_are_not() -> None:
    class Failing(MemoryBackend):
        error: Exception

        async def read(self, key: Key, **how: Any) -> Session:
            raise self.error

        async def commit(self, key: Key, change: Any) -> Receipt:
            raise self.error

        async def delete(self, key: Key, **how: Any) -> bool:
            raise self.error

        async def page(self, query: Query) -> Page:
            raise self.error

        async def copy(self, source: Key, target: Key, **how: Any) -> Receipt:
            raise self.error

        async def totals(self, namespace: str) -> Totals:
            raise self.error

    backend = Failing()
    store = Store(backend)
    metrics = StateMetrics(store)
    assert set(metrics.errors.values()) == {0}
    calls: list[Callable[[], Any]] = [
        lambda: store.load("a"),
        lambda: store.append("a", [user("x")]),
        lambda: store.erase("a"),
        lambda: anext(store.sessions()),
        lambda: store.fork("a", "b"),
        metrics.measure,
    ]
    for error in (Unavailable("gone"), CorruptRecord("bad"), OutcomeUnknown("lost"), Conflict("no"), KeyError("bug")):
        backend.error = error
        for call in calls:
            with pytest.raises(type(error)):
                await call()
    assert metrics.errors == {
        "AccessError": 0,
        "Unavailable": 6,
        "OutcomeUnknown": 6,
        "CorruptRecord": 6,
        "HistoryRegressed": 0,
    }


async def test_a_failed_load_is_not_timed() -> None:
    class Gone(MemoryBackend):
        async def read(self, key: Key, **how: Any) -> Session:
            raise Unavailable("gone")

    store = Store(Gone())
    metrics = StateMetrics(store)
    with pytest.raises(Unavailable):
        await store.load("a")
    assert (await metrics.measure()).load_latency.loads == 0


async def test_probes_load_stored_sessions_and_extend_no_life() -> None:
    clock = Clock()
    store = Store(MemoryBackend(ttl=80, clock=clock))
    metrics = StateMetrics(store)
    for name in ("a", "b", "c"):
        await store.append(name, [user("x")])
    clock.advance(75)
    assert await metrics.probe() == 100
    assert (await metrics.measure()).load_latency.loads == 100
    assert await metrics.probe(2) == 2
    clock.advance(6)
    assert await metrics.probe() == 0
    assert (await metrics.measure()).active_sessions == 0


async def test_probes_leave_out_what_cannot_be_read() -> None:
    class Damaged(MemoryBackend):
        async def read(self, key: Key, **how: Any) -> Session:
            if key.session == "bad":
                raise CorruptRecord("a bit has flipped", key=key)
            if key.session == "gone":
                raise SessionNotFound("it has just expired", key=key)
            return await super().read(key, **how)

    store = Store(Damaged())
    metrics = StateMetrics(store)
    for name in ("bad", "gone", "good"):
        await store.append(name, [user("x")])
    assert await metrics.probe(9) == 3
    assert metrics.errors["CorruptRecord"] == 3


@pytest.mark.parametrize("reads", [0, -1, 1.5, True, "9"])
async def test_how_many_probes(reads: Any) -> None:
    with pytest.raises(InvalidInput, match="reads"):
        await StateMetrics(Store(MemoryBackend())).probe(reads)


def test_what_has_no_metrics() -> None:
    with pytest.raises(InvalidInput, match="must be a Store"):
        StateMetrics(MemoryBackend())  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="pass the store"):
        StateMetrics(Store(MemoryBackend()).for_owner("ann"))


# ------------------------------------------------------------------------------ totals of a backend that counts nothing


async def test_totals_by_default_are_those_of_all_pages() -> None:
    backend = MemoryBackend()
    store = Store(backend)
    for number in range(7):
        await store.append(f"s{number}", [user("x"), user("y")])
    asked: list[Query] = []

    async def small(query: Query) -> Page:
        asked.append(query)
        return await backend.page(msgspec.structs.replace(query, limit=3))

    found = await backend.totals("default")
    assert await totals_of(small, "default") == msgspec.structs.replace(found, stored=None)
    assert len(asked) == 3


async def test_pages_that_go_round_in_circles_end() -> None:
    backend = MemoryBackend()
    for number in range(4):
        await Store(backend).append(f"s{number}", [user("x")])
    first = await backend.page(Query(namespace="default", limit=2))

    async def same(query: Query) -> Page:
        return first

    with pytest.raises(CorruptRecord, match="repeats pages"):
        await totals_of(same, "default")


async def test_a_backend_that_cannot_tell_what_it_occupies() -> None:
    class Silent(MemoryBackend):
        async def totals(self, namespace: str) -> Totals:
            return msgspec.structs.replace(await super().totals(namespace), stored=None)

    found = await StateMetrics(Store(Silent())).measure()
    assert found.to_dict()["storage_used"] is None

"""The memory store: bounded, least recently used first, whole sessions only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlog import InvalidInput, SessionNotFound, user
from turnlog.testing import Clock
from turnlog_memory import MemoryStore


async def names(store: MemoryStore) -> set[str]:
    """Which sessions are there."""
    return {info.key.session async for info in store.sessions()}


async def test_over_the_number_of_sessions_the_least_recently_used_goes() -> None:
    """Reading is use, asking for the info is not."""
    store = MemoryStore(max_sessions=3)
    for name in "abc":
        await store.append(name, [user(name)])
    await store.load("a")
    await store.info("b")
    await store.append("d", [user("d")])
    assert await names(store) == {"a", "c", "d"}
    with pytest.raises(SessionNotFound):
        await store.load("b")


async def test_over_the_bytes_whole_sessions_go_but_never_the_one_that_is_written() -> None:
    store = MemoryStore(max_bytes=3_000)
    for name in "abc":
        await store.append(name, [user("x" * 900)])
    await store.append("a", [user("x" * 900)])
    assert await names(store) == {"a", "c"}
    assert len(await store.load("a")) == 2
    await store.append("a", [user("x" * 9_000)])
    assert await names(store) == {"a"}
    assert len(await store.load("a")) == 3


steps = st.lists(
    st.tuples(
        st.sampled_from(["append", "rewind", "erase", "fork", "retain"]),
        st.sampled_from("abcd"),
        st.integers(0, 400),
    ),
    max_size=30,
)


async def _counted(steps: list[tuple[str, str, int]]) -> None:
    store = MemoryStore(max_sessions=3)
    for what, name, size in steps:
        try:
            if what == "append":
                await store.append(name, [user("x" * size)])
            elif what == "rewind":
                await store.rewind(name, turns=1)
            elif what == "erase":
                await store.erase(name)
            elif what == "fork":
                await store.erase("forked")
                await store.fork(name, "forked")
            else:
                store.retain = 1
                await store.append(name, [user("x" * size)])
                store.retain = None
        except (SessionNotFound, InvalidInput):
            continue
    states = list(store._states.values())
    assert len(states) <= 3
    assert store._bytes == sum(record.size for state in states for record in state.records)


@given(steps)
def test_the_bytes_are_those_of_what_is_there(steps: list[tuple[str, str, int]]) -> None:
    asyncio.run(_counted(steps))


async def test_what_has_expired_does_not_pile_up() -> None:
    clock = Clock()
    store = MemoryStore(ttl=10, clock=clock)
    for place in range(500):
        await store.append(f"s{place}", [user("hello")])
        clock.advance(1)
    assert len(store._states) < 50
    assert len(await names(store)) == 9


@pytest.mark.parametrize(
    "options", [{"max_sessions": 0}, {"max_bytes": -1}, {"max_sessions": True}, {"max_bytes": 1.5}]
)
def test_a_bound_is_a_number_from_1(options: Any) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        MemoryStore(**options)

"""The memory backend: bounded, with eviction of whole, least recently used sessions."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlog import Closed, InvalidInput, Key, Message, Record, SessionNotFound, Store, TooLarge, assistant, user
from turnlog.testing import Clock
from turnlog_memory import MemoryBackend

forks = pytest.mark.only_where(hasattr(os, "fork"), "forks", "this system cannot fork")


async def names(store: Store) -> set[str]:
    """Return the ids of the stored sessions."""
    return {info.key.session async for info in store.sessions()}


def inside(store: Store) -> MemoryBackend:
    """Return the backend. Tests read its private state, because the contract does not show the bounds."""
    assert isinstance(store.backend, MemoryBackend)
    return store.backend


async def test_too_many_sessions_evict_the_least_recently_used_one() -> None:
    """`load` counts as use, `info` does not."""
    store = Store(MemoryBackend(max_sessions=3))
    for name in "abc":
        await store.append(name, [user(name)])
    await store.load("a")
    await store.info("b")
    await store.append("d", [user("d")])
    assert await names(store) == {"a", "c", "d"}
    with pytest.raises(SessionNotFound):
        await store.load("b")


async def test_too_many_bytes_evict_whole_sessions_but_never_the_written_one() -> None:
    store = Store(MemoryBackend(max_bytes=3_000))
    for name in "abc":
        await store.append(name, [user("x" * 900)])
    await store.append("a", [user("x" * 900)])
    assert await names(store) == {"a", "c"}
    assert len(await store.load("a")) == 2
    await store.append("a", [user("x" * 9_000)])
    assert await names(store) == {"a"}
    assert len(await store.load("a")) == 3


async def test_uses_keep_a_session_and_other_reads_do_not() -> None:
    """Reads, writes and repeats count as use. Reads without `touch`, listings and failed calls do not."""
    store = Store(MemoryBackend(max_sessions=3))
    uses: dict[str, Callable[[], Awaitable[object]]] = {
        "load": lambda: store.load("a"),
        "append": lambda: store.append("a", [user("more")]),
        "again": lambda: store.append("a", [user("a")], turn_id="first"),
        "touch": lambda: store.touch("a"),
        "info": lambda: store.info("a"),
        "export": lambda: store.session("a", touch=False),
        "list": lambda: names(store),
        "fail": lambda: store.rewind("none", turns=1),
    }
    kept = set()
    for use, call in uses.items():
        for name in "abc":
            await store.erase(name)
        await store.erase("d")
        for name in "abc":
            await store.append(name, [user(name)], turn_id="first")
        try:
            await call()
        except SessionNotFound:
            assert use == "fail"
        await store.append("d", [user("d")])
        if "a" in await names(store):
            kept.add(use)
    assert kept == {"load", "append", "again", "touch"}


async def test_an_evicted_session_restarts_empty() -> None:
    """The turns, metadata, remembered changes and version are all removed."""
    store = Store(MemoryBackend(max_sessions=1))
    before = await store.append("a", [user("a")], turn_id="t", metadata={"title": "A"}, owner="alice")
    await store.append("b", [user("b")])
    after = await store.append("a", [user("another")], turn_id="t")
    info = await store.info("a")
    assert (info.turns, dict(info.metadata), info.owner) == (1, {}, "")
    assert after.version.epoch != before.version.epoch


async def test_metadata_count_as_bytes() -> None:
    """The limit of bytes also applies to sessions that hold only metadata."""
    store = Store(MemoryBackend(max_bytes=100_000))
    for place in range(10):
        await store.merge_metadata(f"s{place}", {"big": "x" * 30_000})
    assert await names(store) == {"s7", "s8", "s9"}
    await store.merge_metadata("s8", {"big": None})
    await store.merge_metadata("new", {"big": "x" * 30_000})
    assert await names(store) == {"s7", "s8", "s9", "new"}


STEPS = ["append", "rewind", "erase", "fork", "retain", "metadata", "seal", "repeat", "wait", "refused"]
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from("abcd"), st.integers(0, 400)), max_size=30)


async def _step(store: Store, clock: Clock, what: str, name: str, size: int) -> None:
    if what == "append":
        await store.append(name, [user("x" * size)])
    elif what == "rewind":
        await store.rewind(name, turns=1)
    elif what == "erase":
        await store.erase(name)
    elif what == "fork":
        await store.erase("forked")
        await store.fork(name, "forked")
    elif what == "retain":
        store.retain = 1
        await store.append(name, [user("x" * size)])
        store.retain = None
    elif what == "metadata":
        await store.merge_metadata(name, {"title": "x" * size or None, "é": size})
    elif what == "seal":
        key = Key("default", name)
        await store.backend.seal(key, Record.seal((await store.backend.read(key)).records))
    elif what == "repeat":
        for _ in range(2):
            await store.append(name, [user("x")], turn_id="once")
    elif what == "wait":
        clock.advance(size / 10)
    else:
        store.max_session_bytes = size + 1
        try:
            await store.append(name, [user("x" * 400)])
        finally:
            store.max_session_bytes = None


async def _counted(taken: list[tuple[str, str, int]]) -> None:
    clock = Clock()
    store = Store(MemoryBackend(max_sessions=3, max_bytes=2_000, ttl=60, clock=clock))
    for what, name, size in taken:
        try:
            await _step(store, clock, what, name, size)
        except (SessionNotFound, InvalidInput):
            continue
        sizes = []
        for state in inside(store)._states.values():
            assert state.header is not None
            metadata = state.header.metadata.encoded
            sizes.append(
                sum(record.size for record in state.records) + sum(len(k) + len(v) for k, v in metadata.items())
            )
        assert inside(store)._bytes == sum(sizes)
        assert len(sizes) <= 3
        assert sum(sizes) <= 2_000 or len(sizes) == 1


@given(steps)
def test_the_counted_bytes_are_those_of_the_stored_sessions(taken: list[tuple[str, str, int]]) -> None:
    asyncio.run(_counted(taken))


async def test_expired_sessions_do_not_accumulate() -> None:
    clock = Clock()
    store = Store(MemoryBackend(ttl=10, clock=clock))
    for place in range(500):
        await store.append(f"s{place}", [user("hello")])
        clock.advance(1)
    assert len(inside(store)._states) < 50
    assert len(await names(store)) == 9


async def test_expired_sessions_do_not_accumulate_among_permanent_ones() -> None:
    """Sessions that never expire are the least recently used, and there are more of them than one sweep visits."""
    clock = Clock()
    store = Store(MemoryBackend(ttl=10, clock=clock))
    for place in range(40):
        await store.merge_metadata(f"kept{place}", ttl=0)
    for place in range(500):
        await store.append(f"s{place}", [user("hello")])
        clock.advance(1)
    assert len(inside(store)._states) < 100
    assert len(await names(store)) == 49


class Racing(Clock):
    """A clock that advances with each call."""

    def __call__(self) -> float:
        self.advance(100)
        return self.now


async def test_a_session_does_not_expire_during_its_write() -> None:
    """The write uses one time: by it the written session is alive, and the older session has expired."""
    store = Store(MemoryBackend(ttl=10, clock=Racing()))
    for name in ("a", "b"):
        await store.append(name, [user(name)])
        assert list(inside(store)._states) == [Key("default", name)]
    await store.append("b", [user("b")])
    assert inside(store)._bytes == sum(state.header.bytes for state in inside(store)._states.values() if state.header)


async def test_a_time_to_live_below_the_precision_of_the_clock_ends_at_once() -> None:
    """At this distance from 1970, neighbouring floats differ by more than the time to live."""
    store = Store(MemoryBackend(ttl=1, clock=Clock(1e300)))
    await store.append("a", [user("a")])
    assert await names(store) == set()
    assert inside(store)._bytes == 0


async def test_an_expired_session_is_missing_before_it_is_swept() -> None:
    clock = Clock()
    store = Store(MemoryBackend(ttl=10, clock=clock))
    await store.append("a", [user("a")])
    clock.advance(10)
    with pytest.raises(SessionNotFound):
        await store.load("a")
    assert await names(store) == set()
    assert await store.erase("a") is False
    assert inside(store)._bytes == 0


def test_calls_never_suspend_and_start_no_thread() -> None:
    """Every call ends without suspending, so it needs no task, thread or event loop."""
    store = Store(MemoryBackend(), retain=3)
    threads = threading.active_count()

    def run(call: Coroutine[Any, Any, Any]) -> Any:
        with pytest.raises(StopIteration) as end:
            call.send(None)
        return end.value.value

    run(store.open())
    run(store.append("a", [user("a")]))
    run(store.save("a", [user("a"), assistant("b")]))
    run(store.fork("a", "b"))
    run(store.merge_metadata("b", {"title": "B"}, ttl=5))
    assert [message.text for message in run(store.load("b", last=1))] == ["a", "b"]
    assert run(store.erase("a")) is True
    run(store.close())
    assert threading.active_count() == threads


def test_several_event_loops_one_after_another() -> None:
    store = Store(MemoryBackend())
    for place in range(3):
        asyncio.run(store.append("a", [user(str(place))]))
    assert [message.text for message in asyncio.run(store.load("a"))] == ["0", "1", "2"]


async def test_many_tasks_lose_nothing() -> None:
    store = Store(MemoryBackend())
    await asyncio.gather(*(store.append("a", [user(f"{place}")]) for place in range(200)))
    assert sorted(int(message.text) for message in await store.load("a")) == list(range(200))


async def test_changes_of_a_caller_to_loaded_objects_reach_nobody() -> None:
    """Changes to the arguments of an earlier call reach nobody either."""
    store = Store(MemoryBackend())
    said: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    metadata: dict[str, Any] = {"tags": ["a"]}
    await store.append("a", [said], metadata=metadata)
    said["content"][0]["text"] = metadata["tags"][0] = "changed"
    for _ in range(2):
        session = await store.session("a")
        messages = session.messages
        content, tags = messages[0].content, session.info.metadata["tags"]
        assert (content, tags) == ([{"type": "text", "text": "a"}], ["a"])
        assert isinstance(content, list)
        assert isinstance(tags, list)
        content.clear()
        tags.clear()
        messages[0].to_dict()["content"] = "changed"
        messages.clear()
        with pytest.raises(AttributeError):
            session.turns[0].messages[0]._content = "changed"  # type: ignore[misc]
        assert [type(message) for message in await store.load("a")] == [Message]


async def test_a_closed_backend_is_empty() -> None:
    store = Store(MemoryBackend())
    await store.append("a", [user("a")], metadata={"title": "A"})
    await store.close()
    with pytest.raises(Closed):
        await store.load("a")
    async with store:
        assert await names(store) == set()
        assert inside(store)._bytes == 0


async def test_a_change_that_is_refused_changes_no_count() -> None:
    store = Store(MemoryBackend(), max_session_bytes=500)
    await store.append("a", [user("x" * 300)])
    before = inside(store)._bytes
    with pytest.raises(TooLarge):
        await store.append("a", [user("x" * 300)])
    assert inside(store)._bytes == before > 300


@pytest.mark.parametrize(
    "options", [{"max_sessions": 0}, {"max_bytes": -1}, {"max_sessions": True}, {"max_bytes": 1.5}]
)
def test_a_bound_is_a_number_from_1(options: Any) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        MemoryBackend(**options)


@forks
def test_a_fork_during_the_writes_of_other_threads() -> None:
    """The child inherits whole changes and a free lock: it can write, and its counters fit its sessions."""
    store, ended = Store(MemoryBackend(max_sessions=50)), threading.Event()

    async def write(thread: int) -> None:
        number = 0
        while not ended.is_set():
            await store.append(f"{thread}.{number % 40}", [user("x" * 100)])
            number += 1

    async def use() -> None:
        await store.append("new", [user("hello")])
        backend = inside(store)
        kept = [state.header for state in backend._states.values()]
        assert backend._bytes == sum(header.bytes for header in kept if header is not None)

    threads = [threading.Thread(target=asyncio.run, args=(write(thread),)) for thread in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(20):
            pid = os.fork()
            if not pid:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(20)  # ends a child that waits for a lock forever
                code = 1
                try:
                    use().send(None)
                except StopIteration:
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        sys.setswitchinterval(interval)
        ended.set()
        for thread in threads:
            thread.join()

"""The uses of turnlog, each as a short test."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnlog import (
    CorruptRecord,
    Key,
    Message,
    Pipeline,
    Session,
    SessionNotFound,
    Store,
    Unavailable,
    Window,
    assistant,
    open_store,
    user,
)
from turnlog.metrics import StateMetrics
from turnlog.testing import Clock
from turnlog_alerts import Alerts, Event, read_alerts
from turnlog_memory import MemoryBackend
from turnlog_offline import offline


@pytest.fixture
def store() -> Store:
    return Store(MemoryBackend())


def texts(messages: list[Message]) -> list[str]:
    return [message.text for message in messages]


async def test_save_load_and_fork(store: Store) -> None:
    await store.save("alice", [user("Hello"), assistant("Hi")])
    await store.fork("alice", "alice-2")
    await store.append("alice-2", [user("Only here"), assistant("Yes")])
    assert texts(await store.load("alice")) == ["Hello", "Hi"]
    assert texts(await store.load("alice-2")) == ["Hello", "Hi", "Only here", "Yes"]


async def test_limit_what_is_stored_and_what_the_model_is_given() -> None:
    store = Store(MemoryBackend(), retain=10)
    pipeline = Pipeline(store, offline, window=Window(messages=4))
    for number in range(20):
        result = await pipeline.execute("alice", "user", f"message {number}")
    assert (await store.info("alice")).messages == 20
    assert texts(list(result.messages))[-1] == "message 19"
    assert len(result.messages) <= 5


async def test_a_session_for_each_user_for_each_conversation_and_for_a_visitor(store: Store) -> None:
    ann = store.for_owner("ann")
    await ann.append("ann", [user("one session for the user")])
    conversation = store.new_session_id()
    await ann.append(conversation, [user("one of many conversations")])
    visitor = store.new_session_id()
    await store.append(visitor, [user("no name yet")])
    assert [info.key.session async for info in ann.sessions()] == [conversation, "ann"]
    await store.merge_metadata(visitor, owner="ann")  # the visitor has signed in
    assert len([info async for info in ann.sessions()]) == 3
    with pytest.raises(SessionNotFound):
        await store.for_owner("bob").load("ann")


async def test_the_history_is_read_only_if_it_is_needed(store: Store) -> None:
    pipeline = Pipeline(store, offline, load_history=lambda message: "my" in message.text)
    await pipeline.execute("alice", "user", "My name is Alice")
    assert len((await pipeline.execute("alice", "user", "Good morning")).messages) == 1
    assert "Alice" in (await pipeline.execute("alice", "user", "What is my name?")).response.text


async def test_a_large_history_is_compressed(tmp_path: Path) -> None:
    sizes = []
    for layers in ("", "?layers=zstd"):
        path = tmp_path / f"chat{len(layers)}.db"
        async with open_store(f"sqlite:///{path}{layers}") as store:
            turn = [user("Where is my order? " * 50), assistant("It is on its way. " * 50)]
            for _ in range(400):
                await store.append("alice", turn)
            assert await store.load("alice") == turn * 400
        sizes.append(path.stat().st_size)
    assert sizes[1] < sizes[0] / 3


async def test_a_session_expires_after_its_last_use() -> None:
    clock = Clock()
    store = Store(MemoryBackend(ttl=3_600, clock=clock))
    await store.append("alice", [user("Hello")])
    clock.advance(3_000)
    await store.load("alice")
    clock.advance(3_000)
    await store.load("alice")
    clock.advance(4_000)
    with pytest.raises(SessionNotFound):
        await store.load("alice")


async def test_go_on_with_an_empty_history_if_the_store_fails() -> None:
    class Unreadable(MemoryBackend):
        async def read(self, key: Key, **how: object) -> Session:
            raise CorruptRecord("a bit has flipped", key=key) if key.session == "bob" else Unavailable("gone")

    pipeline = Pipeline(Store(Unreadable()), offline, on_load_error="empty")
    for session_id in ("alice", "bob"):
        assert (await pipeline.execute(session_id, "user", "Hello")).response.text
    assert pipeline.stats()["failed_loads"] == 2


@pytest.mark.parametrize("layers", ["", "?layers=cache,zstd"])
async def test_how_many_sessions_there_are_and_how_fast_they_load(layers: str, tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/chat.db{layers}") as store:
        metrics = StateMetrics(store)
        pipeline = Pipeline(store, offline)
        for name in ("alice", "alice", "bob"):
            await pipeline.execute(name, "user", "Hello. " * 100)
        measured = (await metrics.measure()).to_dict()
        assert (measured["active_sessions"], measured["avg_history_size"]["messages"]) == (2, 3.0)
        assert measured["load_latency"]["loads"] == 1  # the first turn of a session loads nothing
        assert 0 < measured["load_latency"]["p50"] < 60
        assert measured["storage_used"] > 2_000
        assert (await StateMetrics(store.within("tenant")).measure()).active_sessions == 0


async def test_an_alert_fires_once_while_a_metric_moves_around_its_threshold() -> None:
    latencies = iter([0.1, *[0.3, 0.15] * 50, 0.1, 0.1])

    async def measure() -> dict[str, object]:
        return {"load_latency": {"p95": next(latencies)}}

    config = {"alerts": [{"metric": "load_latency.p95", "above": "200ms", "clear_at": "100ms"}]}
    events: list[Event] = []
    alerts = Alerts(measure, read_alerts(config=config), deliver=events.append)
    for _ in range(103):
        await alerts.check()
    assert [event.state for event in events] == ["firing", "resolved"]


@pytest.mark.parametrize("url", ["memory://", "sqlite:///chat.db", "sqlite:///chat.db?layers=cache,zstd"])
async def test_a_conversation(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store(url) as store:
        pipeline = Pipeline(store, offline)
        await pipeline.execute("alice", "user", "My name is Alice")
        async with pipeline.stream("alice", "user", "What is my name?") as reply:
            assert "Alice" in "".join([piece async for piece in reply])
        assert "Alice" not in (await pipeline.execute("bob", "user", "What is my name?")).response.text

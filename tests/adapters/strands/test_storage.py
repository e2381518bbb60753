"""Values of Strands under keys, in every store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strands import Agent
from strands.session.snapshot_session_manager import SnapshotSessionManager
from strands.storage import Storage
from strands.types.exceptions import StorageError

import turnlog.sync
from adapters.strands.agents import Rules, weather
from turnlog import InvalidInput, Message, Store, open_store
from turnlog.testing.faulty import FaultyBackend
from turnlog_cli import main
from turnlog_memory import MemoryBackend
from turnlog_strands import TurnlogStorage
from turnlog_strands._storage import _decoded, _encoded

SNAPSHOT = {"data": {"messages": [{"role": "user", "content": []}], "state": {"n": 0.1}}, "app_data": {}}


def scenario(test: Callable[[TurnlogStorage, Store], Awaitable[None]]) -> Callable[[str], None]:
    """Run an asynchronous test on each stack, with a new store."""

    def on_a_stack(url: str) -> None:
        async def run() -> None:
            async with open_store(url) as store:
                await test(TurnlogStorage(store), store)

        asyncio.run(run())

    on_a_stack.__name__ = test.__name__
    return on_a_stack


@scenario
async def test_values_are_returned_byte_for_byte(storage: TurnlogStorage, store: Store) -> None:
    for data in (b"", b"text", b"\xff\x00", json.dumps(SNAPSHOT).encode(), json.dumps(SNAPSHOT, indent=1).encode()):
        await storage.write("k", data)
        assert await storage.read("k") == data
    assert await storage.list("") == ["k"]
    await storage.delete("k")
    await storage.delete("k")
    assert await storage.read("k") is None
    assert isinstance(storage, Storage)


@scenario
async def test_keys_may_be_any_text(storage: TurnlogStorage, store: Store) -> None:
    keys = ["a/b", "a//b", "/a", "a%2Fb", "é\t\n", " x", "", "long/" + "x" * 300, "long/" + "x" * 301, "a/\ud800"]
    for number, key in enumerate(keys):
        await storage.write(key, str(number).encode())
    assert await storage.list("") == sorted(keys)
    assert await storage.list("long/") == sorted(key for key in keys if key.startswith("long/"))
    assert [await storage.read(key) for key in keys] == [str(number).encode() for number in range(len(keys))]


@scenario
async def test_search_finds_words(storage: TurnlogStorage, store: Store) -> None:
    await storage.write("notes.md", b"dark mode")
    await storage.write("other.md", b"nothing")
    assert [result.key for result in await storage.search("dark")] == ["notes.md"]


@scenario
async def test_a_snapshot_writes_only_new_messages(storage: TurnlogStorage, store: Store) -> None:
    message = {"role": "user", "content": [{"text": "hello"}]}
    await storage.write("k", json.dumps({"data": {"messages": [message] * 2}}).encode())
    before = await store.session("k")
    await storage.write("k", json.dumps({"data": {"messages": [message] * 4}}).encode())
    after = await store.session("k")
    assert len(after.turns) == 4
    assert after.turns[0].id == before.turns[0].id


def test_a_restart_remembers(url: str) -> None:
    with turnlog.sync.open_store(url) as store:
        for text in ("Paris", "Rome"):
            manager = SnapshotSessionManager("c", storage=TurnlogStorage(store))
            agent = Agent(model=Rules(), tools=[weather], session_manager=manager, callback_handler=None)
            agent(text)
        assert [message["role"] for message in agent.messages] == ["user", "assistant"] * 4


def test_a_lost_answer_is_stored_once() -> None:
    async def run() -> bytes | None:
        backend = FaultyBackend(MemoryBackend())
        async with Store(backend) as store:
            storage = TurnlogStorage(store)
            backend.fail_next("delay", "lose_reply")  # a write reads first
            await storage.write("k", b"text")
            return await storage.read("k")

    assert asyncio.run(run()) == b"text"


def test_bad_input() -> None:
    with pytest.raises(InvalidInput, match=r"turnlog\.sync\.Store, not str"):
        TurnlogStorage("memory://")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="drop parts of values"):
        TurnlogStorage(Store(MemoryBackend(), retain=5))


def test_errors_of_turnlog_are_storage_errors() -> None:
    async def run() -> None:
        async with open_store("memory://") as store:
            await store.append("k", [turnlog.user("hello")])
            with pytest.raises(StorageError, match=r"cannot read 'k': .* not written by TurnlogStorage"):
                await TurnlogStorage(store).read("k")

    asyncio.run(run())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.lists(st.fixed_dictionaries({"role": st.text()}, optional={"content": JSON, "strands": JSON})))
def test_any_snapshot_is_returned_byte_for_byte(rest: Any, messages: list[Any]) -> None:
    data = json.dumps({"rest": rest, "data": {"messages": messages, "state": rest}}, ensure_ascii=False)
    try:
        stored = data.encode()
    except UnicodeEncodeError:
        return
    assert _decoded([Message.from_dict(message) for message in _encoded(stored)]) == stored


def test_show_prints_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    with turnlog.sync.open_store(url) as store:
        manager = SnapshotSessionManager("c", storage=TurnlogStorage(store))
        Agent(model=Rules(), tools=[weather], session_manager=manager, callback_handler=None)("Paris")
    key = "session/c/scopes/agent/default/snapshots/snapshot_latest.json"
    assert main(["show", key, "--store", url]) == 0
    shown = capsys.readouterr().out
    assert "  user: Paris" in shown
    assert "  assistant: It is sunny." in shown

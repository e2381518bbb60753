"""The values of channels: lists as their new items, and every value as LangGraph's serializer returns it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import date
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

import turnlog.sync
from adapters.langgraph.graphs import put, thread, values
from turnlog import Key, Layer, Session
from turnlog_langgraph import TurnlogSaver
from turnlog_langgraph._values import dump, load
from turnlog_memory import MemoryBackend

ALICE = thread("alice")


class Color(StrEnum):
    RED = "red"


def nested(levels: int) -> list[Any]:
    """Return a list that is nested more deeply than a message of turnlog may be."""
    return [nested(levels - 1)] if levels else []


class Own(HumanMessage):
    """A message of the application."""


class Counting(Layer):
    """A layer that counts the records that it reads."""

    records = 0

    async def read(self, key: Key, **options: Any) -> Session:
        session = await self.inner.read(key, **options)
        self.records += len(session.records)
        return session


@pytest.fixture
def store() -> Iterator[turnlog.sync.Store]:
    with turnlog.sync.open_store("memory://") as opened:
        yield opened


MESSAGES = [
    HumanMessage("Hello", id="1"),
    HumanMessage([{"type": "text", "text": "Look"}, {"type": "image", "base64": "AAAA"}]),
    AIMessage("", tool_calls=[{"name": "f", "args": {"x": [1, None]}, "id": "c"}], usage_metadata=None),
    AIMessage("Hi", response_metadata={"model": "m", "bytes": b"\xff"}, additional_kwargs={"score": float("inf")}),
    AIMessage("Hi", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
    ToolMessage("sunny", tool_call_id="c", artifact={"rows": [1, 2]}, status="error"),
    ToolMessage("sunny", tool_call_id="c", artifact=(1, 2)),
    ToolMessage("sunny", tool_call_id="c", artifact={1: "one"}),
    ToolMessage("sunny", tool_call_id="c", artifact=[Color.RED]),
    ToolMessage("sunny", tool_call_id="c", artifact=nested(150)),
    ToolMessage("sunny", tool_call_id="c", artifact=date(2026, 1, 1)),
    SystemMessage("Be brief \ud800", name="editor"),
    ChatMessage(content="Hello", role="narrator"),
    RemoveMessage("1"),
    Own(content="Hello"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_a_message_is_loaded_as_the_serializer_of_langgraph_loads_it(message: Any, store: turnlog.sync.Store) -> None:
    serde = JsonPlusSerializer()
    for value in ([message], [*MESSAGES[:3], message], message, {"deep": [message]}):
        put(TurnlogSaver(store), ALICE, {"messages": value})
        expected = serde.loads_typed(serde.dumps_typed(value))
        for loaded in (values(TurnlogSaver(store), ALICE)["messages"], load(dump(value, serde), serde)):
            if "\ud800" not in str(message.content):  # LangGraph replaces lone surrogates
                assert loaded == expected
            assert type(loaded) is type(expected)
            if isinstance(loaded, list):
                assert [type(one) for one in loaded] == [type(one) for one in expected]
                assert repr(loaded[0]) == repr(expected[0]) or "\ud800" in str(message.content)


@pytest.mark.parametrize(
    "value",
    [None, [], [None], [[1], [2]], (1, 2), {"a": {1, 2}}, b"\xff", Color.RED, [Color.RED], [date(2026, 1, 1)], 2**63],
    ids=repr,
)
def test_a_value_is_loaded_as_the_serializer_of_langgraph_loads_it(value: Any, store: turnlog.sync.Store) -> None:
    serde = JsonPlusSerializer()
    put(TurnlogSaver(store), ALICE, {"x": value, "y": 1})
    put(TurnlogSaver(store), ALICE, {"y": 2})
    loaded = values(TurnlogSaver(store), ALICE)
    expected = serde.loads_typed(serde.dumps_typed(value))
    assert loaded == {"x": expected, "y": 2}
    assert type(loaded["x"]) is type(expected)


@pytest.mark.parametrize("seed", range(8))
def test_any_history_of_lists_is_loaded(seed: int) -> None:
    """Lists grow, shrink, change and branch; each checkpoint of each process returns its own list."""
    chance = random.Random(seed)
    with turnlog.sync.open_store("memory://") as store:
        savers = [TurnlogSaver(store) for _ in range(2)]
        stored: list[tuple[Any, dict[str, Any]]] = []
        for number in range(60):
            saver = chance.choice(savers)
            config, earlier = chance.choice(stored[-3:]) if stored else (ALICE, {})
            config = chance.choice([config, ALICE])  # an old checkpoint, or the last one
            earlier = values(saver, config) if stored else {}
            changed: dict[str, Any] = {}
            for name in chance.sample(["messages", "notes", "once"], chance.randint(1, 3)):
                items = [*earlier.get(name, ())][: chance.choice([None, None, None, -1, 1, 0])]
                text = f"{number} " * chance.choice([1, 100])
                new: Any = HumanMessage(text, id=str(number)) if name == "messages" else text
                changed[name] = [*items, *[new] * chance.randint(0, 2)]
            config = put(saver, config, changed)
            stored.append((config, {**earlier, **changed}))
        for saver in (*savers, TurnlogSaver(store)):
            for config, expected in stored:
                assert values(saver, config) == expected
            assert values(saver, ALICE) == stored[-1][1]
            listed = {one.config["configurable"]["checkpoint_id"]: one for one in saver.list(ALICE)}
            assert len(listed) == len(stored)
            for config, expected in stored:
                assert listed[config["configurable"]["checkpoint_id"]].checkpoint["channel_values"] == expected
        saver.prune(["alice"])
        for one in (*savers, TurnlogSaver(store)):
            assert values(one, ALICE) == stored[-1][1]
            assert one.get_tuple(stored[0][0]) is None


class Point(BaseModel):
    """A value of the application, inside a message."""

    x: int


def content(message: AIMessage) -> None:
    message.content = "final"


def nested_value(message: AIMessage) -> None:
    message.additional_kwargs["list"].append(2)


def further_field(message: Any) -> None:
    message.note = "final"


def inner_model(message: AIMessage) -> None:
    message.additional_kwargs["point"].x = 2


@pytest.mark.parametrize("change", [content, nested_value, further_field, inner_model])
def test_a_message_that_was_changed_in_place_is_stored(
    change: Callable[[AIMessage], None], store: turnlog.sync.Store
) -> None:
    saver, serde = TurnlogSaver(store), JsonPlusSerializer()
    message = AIMessage("draft", id="1", additional_kwargs={"list": [1], "point": Point(x=1)})
    messages = [HumanMessage("Write", id="0"), message, AIMessage("Done", id="2")]
    put(saver, ALICE, {"messages": messages[:2]})
    change(message)
    put(saver, ALICE, {"messages": messages})
    for one in (saver, TurnlogSaver(store)):
        assert values(one, ALICE)["messages"] == serde.loads_typed(serde.dumps_typed(messages))


def test_a_list_of_messages_takes_fewer_bytes_than_in_langgraph() -> None:
    serde = JsonPlusSerializer()
    messages = [HumanMessage("Hello", id="1"), AIMessage("Hi. " * 50, id="2")] * 100
    assert len(dump(messages, serde)[1]) < 0.75 * len(serde.dumps_typed(messages)[1])


def test_a_list_is_stored_as_its_new_items(store: turnlog.sync.Store) -> None:
    saver = TurnlogSaver(store)
    size: list[int] = []
    for number in range(100):
        earlier = values(saver, ALICE).get("messages", []) if number else []
        put(saver, ALICE, {"messages": [*earlier, HumanMessage("x" * 1_000, id=str(number))]})
        size.append(store.info("alice").bytes)
    whole = 100 * 1_100
    assert size[-1] < 4 * whole  # whole lists are 50 times as large
    assert sorted(after - before for before, after in pairwise(size))[80] < 2_000


def test_a_process_reads_new_turns_only_and_a_new_one_a_part() -> None:
    counting = Counting(MemoryBackend())
    with turnlog.sync.Store(counting) as store:
        saver = TurnlogSaver(store)
        for number in range(300):
            put(saver, ALICE, {"n": number} if number else {"n": 0, "text": "x" * 1_000})
        assert counting.records <= 300
        counting.records = 0
        assert values(TurnlogSaver(store), ALICE) == {"n": 299, "text": "x" * 1_000}
        assert counting.records <= 12
        counting.records = 0
        first = [*saver.list(ALICE)][-1]
        assert values(TurnlogSaver(store), first.config)["n"] == 0
        assert counting.records <= 620


class Derived(JsonPlusSerializer):
    """A serializer of the application that hides texts: each byte has another value."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        kind, data = super().dumps_typed(obj)
        return kind, bytes(255 - byte for byte in data)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return super().loads_typed((data[0], bytes(255 - byte for byte in data[1])))


@pytest.mark.parametrize(
    "serde",
    [EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef"), Derived()],
    ids=["encrypted", "derived"],
)
def test_an_encrypting_serializer_leaves_no_text(serde: SerializerProtocol, tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    with turnlog.sync.open_store(f"sqlite:///{path}") as store:
        for serializer, text in ((serde, "secret"), (None, "public")):
            saver = TurnlogSaver(store.within(text), serde=serializer)
            for number in range(3):
                earlier = values(saver, ALICE)["messages"] if number else []
                put(saver, ALICE, {"messages": [*earlier, HumanMessage(f"my {text}")], "note": text})
            assert len(values(TurnlogSaver(store.within(text), serde=serializer), ALICE)["messages"]) == 3
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"my public" in stored
    assert b"my secret" not in stored


def test_a_strict_serializer_refuses_other_classes(store: turnlog.sync.Store) -> None:
    put(TurnlogSaver(store), ALICE, {"messages": [Own(content="Hello")], "color": Color.RED})
    strict = TurnlogSaver(store, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    loaded = values(strict, ALICE)
    assert type(loaded["messages"][0]) is dict
    assert type(loaded["color"]) is str
    allowed = strict.with_allowlist([(Own.__module__, "Own")])
    assert isinstance(values(allowed, ALICE)["messages"][0], Own)

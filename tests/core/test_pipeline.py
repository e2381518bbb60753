"""The pipeline: it remembers, sends the model what fits, and stores a turn whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from turnlog import InvalidInput, Message, Pipeline, Session, SessionNotFound, Store, Window, assistant, system, user
from turnlog_memory import MemoryStore
from turnlog_offline import offline


class Recorder:
    """A model that answers anything, and keeps what it was given."""

    def __init__(self, answer: object = None) -> None:
        self.answer = assistant("ok") if answer is None else answer
        self.given: list[list[str]] = []
        self.options: dict[str, object] = {}

    async def __call__(self, messages: Sequence[Message], **options: object) -> Any:
        """Answer."""
        self.given.append([f"{message.role}:{message.text}" for message in messages])
        self.options = options
        return self.answer


async def filled(store: Store, turns: int) -> Store:
    """A session `s` of so many turns of two messages."""
    for place in range(turns):
        await store.append("s", [user(f"q{place}"), assistant(f"a{place}")])
    return store


async def test_the_second_message_remembers_the_first() -> None:
    pipeline = Pipeline(MemoryStore(), offline)
    await pipeline.execute("s", "user", "My name is Alice")
    assert "Alice" in (await pipeline.execute("s", "user", "What is my name?")).response.text
    assert "Alice" not in (await pipeline.execute("other", "user", "What is my name?")).response.text


class Counting(MemoryStore):
    """Counts the records that it hands out."""

    handed = 0

    async def read(self, *arguments: Any, **options: Any) -> Session:
        """Read, and count."""
        session = await super().read(*arguments, **options)
        self.handed += len(session.records)
        return session


@pytest.mark.parametrize("turns", [50, 1_000])
async def test_only_what_the_window_needs_is_loaded(turns: int) -> None:
    store = Counting()
    await filled(store, turns)
    await Pipeline(store, Recorder(), window=Window(messages=20)).execute("s", "user", "next")
    assert store.handed == 10


async def test_the_window_cuts_at_turns_and_never_below_the_last() -> None:
    store, model = await filled(MemoryStore(), 3), Recorder()
    await store.append("s", [user("long"), *[assistant(f"part {n}") for n in range(5)]])
    for messages, first in ((1, "user:long"), (7, "user:long"), (8, "user:q2"), (100, "user:q0")):
        await Pipeline(store, model, window=Window(messages=messages)).execute("s", "user", "now")
        assert (model.given[-1][0], model.given[-1][-1]) == (first, "user:now")
        await store.rewind("s", turns=1)


async def test_the_system_prompt_is_first_and_once() -> None:
    """The pipeline's, else the metadata's, else what opens the history."""
    store, model = MemoryStore(), Recorder()
    await store.append("s", [system("of the history"), user("q"), assistant("a")])
    await Pipeline(store, model).execute("s", "user", "1")
    await store.merge_metadata("s", {"system": "of the metadata"})
    await Pipeline(store, model).execute("s", "user", "2")
    await Pipeline(store, model, system="of the pipeline").execute("s", "user", "3")
    await Pipeline(store, model, system="of the pipeline", window=Window(messages=2)).execute("s", "user", "4")
    await Pipeline(store, model, system="of the pipeline").execute("new", "user", "5")
    for given, whose in zip(model.given, ("history", "metadata", *["pipeline"] * 3), strict=True):
        assert given[0] == f"system:of the {whose}"
        assert sum(said.startswith("system:") for said in given) == 1
    assert [m.role for m in await store.load("s")].count("system") == 1  # the prompt itself is not stored


@pytest.mark.parametrize("answer", ["text", 5, {}, {"role": "assistant", "content": {1, 2}}])
async def test_what_is_no_answer_is_refused_and_nothing_is_stored(answer: object) -> None:
    store = MemoryStore()
    with pytest.raises(InvalidInput, match="the model's answer"):
        await Pipeline(store, Recorder(answer)).execute("s", "user", "hello")
    with pytest.raises(SessionNotFound):
        await store.load("s")


async def test_a_dictionary_is_an_answer_and_options_reach_the_model() -> None:
    model = Recorder({"role": "assistant", "content": "hi", "tool_calls": []})
    pipeline = Pipeline(MemoryStore(), model, options={"temperature": 0})
    result = await pipeline.execute("s", "user", "hello")
    assert result.response.to_dict() == model.answer
    assert model.options == {"temperature": 0}
    assert [message.role for message in await pipeline.store.load("s")] == ["user", "assistant"]


async def test_nothing_is_stored_when_the_model_raises_or_is_cancelled() -> None:
    store, begun = await filled(MemoryStore(), 1), asyncio.Event()

    async def fails(messages: Sequence[Message], **_: object) -> Message:
        raise RuntimeError("no answer")

    async def hangs(messages: Sequence[Message], **_: object) -> Message:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    before = await store.info("s")
    with pytest.raises(RuntimeError, match="no answer"):
        await Pipeline(store, fails).execute("s", "user", "hello")
    task = asyncio.ensure_future(Pipeline(store, hangs).execute("s", "user", "hello"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await store.info("s")).version == before.version


async def test_two_at_once_both_store_whole_turns_and_neither_sees_the_other() -> None:
    store, both = MemoryStore(), asyncio.Barrier(2)
    model = Recorder()

    async def answer(messages: Sequence[Message], **options: object) -> Any:
        await both.wait()
        await model(messages)
        return assistant(f"to {messages[-1].text}")

    pipeline = Pipeline(store, answer)
    await asyncio.gather(*(pipeline.execute("s", "user", text) for text in ("one", "two")))
    turns = (await store.session("s")).turns
    assert sorted(tuple(m.text for m in turn.messages) for turn in turns) == [("one", "to one"), ("two", "to two")]
    assert sorted(model.given) == [["user:one"], ["user:two"]]


@pytest.mark.parametrize("messages", [0, -1, True, "5", 1.5])
def test_a_window_is_a_number_from_1(messages: Any) -> None:
    with pytest.raises(InvalidInput, match="Window"):
        Window(messages=messages)


def test_a_model_is_something_to_call() -> None:
    with pytest.raises(InvalidInput, match="model"):
        Pipeline(MemoryStore(), "gpt")  # type: ignore[arg-type]

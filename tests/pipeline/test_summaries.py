"""Summaries replace old turns in the window; the turns stay stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from turnlog import (
    Change,
    Conflict,
    InvalidInput,
    Key,
    Layer,
    Message,
    Pipeline,
    Receipt,
    Session,
    Store,
    Summaries,
    Window,
    assistant,
    user,
)
from turnlog.pipeline.summaries import covers
from turnlog_memory import MemoryBackend


class Writer:
    """A summarising model that counts its calls and records its input."""

    def __init__(self) -> None:
        self.given: list[str] = []

    async def __call__(self, messages: Sequence[Message], **_: object) -> Message:
        self.given.append(messages[-1].text)
        return assistant(f"summary {len(self.given)}")


@pytest.fixture
def store() -> Store:
    return Store(MemoryBackend())


@pytest.fixture
def writer() -> Writer:
    return Writer()


async def echo(messages: Sequence[Message], **_: object) -> Message:
    return assistant(f"a{messages[-1].text[1:]}")


def pipeline(store: Store, writer: Writer, *, automatic: bool = True) -> Pipeline:
    summaries = Summaries(model=writer, threshold=8, keep=4, automatic=automatic)
    return Pipeline(store, echo, window=Window(messages=100), summaries=summaries)


async def test_beyond_the_threshold_old_turns_are_summarised_and_stay_stored(store: Store, writer: Writer) -> None:
    chat = pipeline(store, writer)
    for number in range(6):
        result = await chat.execute("s", "user", f"q{number}")
    assert [message.text for message in result.messages] == [f"{who}{n}" for n in range(5) for who in "qa"] + ["q5"]
    assert writer.given == [
        "user: q0\nassistant: a0\nuser: q1\nassistant: a1\nuser: q2\nassistant: a2\nuser: q3\nassistant: a3"
    ]
    result = await chat.execute("s", "user", "q6")
    assert [message.text for message in result.messages] == [
        "Summary of the conversation so far:\nsummary 1",
        "q4",
        "a4",
        "q5",
        "a5",
        "q6",
    ]
    assert len(await store.load("s")) == 14


async def test_the_next_summary_includes_the_earlier_one(store: Store, writer: Writer) -> None:
    chat = pipeline(store, writer)
    for number in range(12):
        result = await chat.execute("s", "user", f"q{number}")
    assert len(writer.given) == 2
    assert writer.given[1].startswith("Earlier summary: summary 1\nuser: q4\n")
    assert result.messages[0].text.endswith("summary 2")
    texts = [message.text for message in result.messages[1:]]
    assert texts[0] == "q9" or texts[0] == "q8"


async def test_a_summary_of_turns_that_were_undone_is_not_used(store: Store, writer: Writer) -> None:
    chat = pipeline(store, writer)
    for number in range(6):
        await chat.execute("s", "user", f"q{number}")
    await store.rewind("s", turns=4)
    result = await chat.execute("s", "user", "new")
    assert [message.text for message in result.messages] == ["q0", "a0", "q1", "a1", "new"]
    for number in range(2):
        result = await chat.execute("s", "user", f"new {number}")
    assert not any("summary" in message.text for message in result.messages)


async def test_a_summary_outlives_turns_that_retention_dropped(writer: Writer) -> None:
    store = Store(MemoryBackend(), retain=3)
    chat = pipeline(store, writer)
    await store.append("s", [user("q")] * 9)
    for number in range(6):
        result = await chat.execute("s", "user", f"q{number}")
    assert result.messages[0].text.endswith("summary 1")
    assert [message.text for message in result.messages[1:]] == ["q2", "a2", "q3", "a3", "q4", "a4", "q5"]


async def test_two_that_summarise_at_once_do_no_harm(store: Store) -> None:
    for number in range(6):
        await store.append("s", [user(f"q{number}"), assistant(f"a{number}")])

    async def slow(messages: Sequence[Message], **_: object) -> Message:
        await pipeline(store, Writer()).summarize("s")
        await store.append("s", [user("meanwhile")])
        return assistant("too late")

    late = Pipeline(store, echo, summaries=Summaries(model=slow, threshold=8, keep=4))
    assert await late.summarize("s") is None
    result = await pipeline(store, Writer()).execute("s", "user", "?")
    assert result.messages[0].text.endswith("summary 1")
    assert (await store.info("s")).turns == 8


async def test_a_turn_or_a_title_that_is_written_meanwhile_does_not_lose_the_summary(store: Store) -> None:
    for number in range(6):
        await store.append("s", [user(f"q{number}"), assistant(f"a{number}")])

    async def slow(messages: Sequence[Message], **_: object) -> Message:
        await store.append("s", [user("meanwhile"), assistant("yes")])
        await store.merge_metadata("s", {"title": "T"})
        return assistant("in time")

    made = await Pipeline(store, echo, summaries=Summaries(model=slow, threshold=8, keep=4)).summarize("s")
    assert made is not None
    assert (made.text, made.until) == ("in time", 4)
    metadata = (await store.info("s")).metadata
    assert metadata["title"] == "T"
    assert metadata["turnlog.summary"] == msgspec.to_builtins(made)


async def test_a_failed_summary_is_counted_and_due_again(store: Store, writer: Writer) -> None:
    async def broken(messages: Sequence[Message], **_: object) -> Message:
        raise RuntimeError("no")

    chat = Pipeline(store, echo, summaries=Summaries(model=broken, threshold=4, keep=2))
    for number in range(5):
        await chat.execute("s", "user", f"q{number}")
    assert chat.stats()["failed_summaries"] == 2
    assert (await store.info("s")).turns == 5


async def test_an_application_may_summarise_when_it_likes(store: Store, writer: Writer) -> None:
    chat = pipeline(store, writer, automatic=False)
    for number in range(8):
        await chat.execute("s", "user", f"q{number}")
    assert writer.given == []
    summary = await chat.summarize("s")
    assert summary is not None
    assert summary.until == 6
    assert await chat.summarize("s") is None


@pytest.mark.parametrize(("threshold", "keep"), [(4, 4), (0, 0), (4, -1)])
def test_limits_are_checked(writer: Writer, threshold: int, keep: int) -> None:
    with pytest.raises(InvalidInput):
        Summaries(model=writer, threshold=threshold, keep=keep)


def test_a_summarising_model_can_be_called() -> None:
    with pytest.raises(InvalidInput, match=r"Summaries\(model\) must be a model, not str"):
        Summaries(model="gpt")  # type: ignore[arg-type]


async def test_a_turn_without_text_is_summarised_as_json(store: Store, writer: Writer) -> None:
    """A call without text, and a message of a format without roles."""
    await store.append("s", [{"role": "assistant", "tool_calls": [{"id": "c1"}]}, {"type": "reasoning"}])
    await pipeline(store, writer).summarize("s")
    for number in range(4):
        await store.append("s", [user(f"q{number}")])
    await pipeline(store, writer).summarize("s")
    assert writer.given == ['{"role":"assistant","tool_calls":[{"id":"c1"}]}\n{"type":"reasoning"}']


async def test_a_session_that_is_erased_during_its_summary_stays_erased(store: Store) -> None:
    async def erasing(messages: Sequence[Message], **_: object) -> Message:
        await store.erase("s")
        return assistant("summary")

    await store.append("s", [user("q0")])
    for number in range(1, 6):
        await store.append("s", [user(f"q{number}")])
    chat = Pipeline(store, echo, summaries=Summaries(model=erasing, threshold=8, keep=4))
    assert await chat.summarize("s") is None
    assert [info.key.session async for info in store.sessions()] == []


async def test_a_pipeline_without_summaries_says_so(store: Store) -> None:
    with pytest.raises(InvalidInput, match="makes no summaries"):
        await Pipeline(store, echo).summarize("s")


async def test_a_summary_of_turns_that_were_undone_is_no_part_of_the_next(store: Store, writer: Writer) -> None:
    chat = pipeline(store, writer)
    for number in range(6):
        await chat.execute("s", "user", f"q{number}")
    await store.rewind("s", turns=5)
    for number in range(9):
        await store.append("s", [user(f"new {number}"), assistant("!")])
    made = await chat.summarize("s")
    assert made is not None
    assert "summary 1" not in writer.given[-1]
    assert [f"new {number}" in writer.given[-1] for number in range(9)] == [True] * 7 + [False] * 2
    assert "q0" in writer.given[-1]
    result = await chat.execute("s", "user", "?")
    assert result.messages[0].text.endswith(made.text)


async def test_a_summary_of_undone_turns_does_not_come_back_when_retention_drops_the_rest(writer: Writer) -> None:
    store = Store(MemoryBackend(), retain=4)
    chat = Pipeline(
        store, echo, summaries=Summaries(model=writer, threshold=4, keep=2, automatic=False), window=Window(messages=40)
    )
    for number in range(4):
        await store.append("s", [user(f"q{number}"), assistant("!")])
    assert await chat.summarize("s") is not None
    await store.rewind("s", turns=4)
    for number in range(9):
        result = await chat.execute("s", "user", f"new {number}")
        assert not any("summary" in message.text for message in result.messages)


async def test_an_open_turn_is_not_summarised(store: Store, writer: Writer) -> None:
    chat = Pipeline(store, echo, summaries=Summaries(model=writer, threshold=1, keep=0, automatic=False))
    await store.append("s", [user("q0"), assistant("a0")])
    await store.append("s", [user("q1"), assistant("One moment.")], turn_id="t", open=True)
    made = await chat.summarize("s")
    assert made is not None
    assert made.until == 1
    await store.append("s", [assistant("a1")], turn_id="t", part=1)
    result = await chat.execute("s", "user", "?")
    assert [message.text for message in result.messages[1:]] == ["q1", "One moment.", "a1", "?"]


@pytest.mark.parametrize("text", ["", " \n"])
async def test_an_empty_summary_stands_for_nothing(store: Store, text: str) -> None:
    async def empty(messages: Sequence[Message], **_: object) -> Message:
        return assistant(text)

    chat = Pipeline(store, echo, summaries=Summaries(model=empty, threshold=4, keep=2))
    for number in range(4):
        result = await chat.execute("s", "user", f"q{number}")
    assert [message.text for message in result.messages][:2] == ["q0", "a0"]
    assert chat.stats()["failed_summaries"] == 1


async def test_a_summary_of_a_session_that_is_erased_meanwhile_covers_nothing(store: Store, writer: Writer) -> None:
    for number in range(6):
        await store.append("s", [user(f"q{number}"), assistant(f"a{number}")])
    summary = await pipeline(store, writer).summarize("s")
    assert summary is not None
    await store.rewind("s", turns=1)
    info = await store.info("s")
    assert await covers(store, info, summary)
    await store.erase("s")
    assert not await covers(store, info, summary)


async def test_turns_that_are_undone_before_they_are_read_are_not_summarised(store: Store, writer: Writer) -> None:
    class Undone(Layer):
        async def read(self, key: Key, **options: Any) -> Session:
            if options["before"] is not None:
                await store.rewind("s", turns=6)
            return await super().read(key, **options)

    for number in range(6):
        await store.append("s", [user(f"q{number}"), assistant(f"a{number}")])
    assert await pipeline(Store(Undone(store.backend)), writer).summarize("s") is None
    assert writer.given == []


async def test_a_summary_that_meets_a_conflict_each_time_is_given_up(writer: Writer) -> None:
    tried: list[Key] = []

    class Refusing(MemoryBackend):
        async def commit(self, key: Key, change: Change) -> Receipt:
            if change.metadata is None:
                return await super().commit(key, change)
            tried.append(key)
            raise Conflict("other metadata was written first")

    store = Store(Refusing())
    for number in range(6):
        await store.append("s", [user(f"q{number}"), assistant(f"a{number}")])
    assert await pipeline(store, writer).summarize("s") is None
    assert len(tried) == 5

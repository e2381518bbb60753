"""Failures of the store before and after the model's answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from turnlog import (
    Change,
    Conflict,
    CorruptRecord,
    InvalidInput,
    Key,
    Layer,
    Message,
    OutcomeUnknown,
    Pipeline,
    Receipt,
    Session,
    SessionNotFound,
    Store,
    TooLarge,
    Unavailable,
    Window,
    assistant,
    system,
    user,
)
from turnlog.limits import MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES
from turnlog.pipeline.finish import finish
from turnlog_memory import MemoryBackend


class Failing(MemoryBackend):
    """A backend that raises the given errors at its next calls."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[Exception] = []
        self.commits: list[Exception] = []
        self.stores_first = False

    async def read(self, key: Key, **how: Any) -> Session:
        if self.reads:
            raise self.reads.pop()
        return await super().read(key, **how)

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self.commits:
            if self.stores_first:
                await super().commit(key, change)
            raise self.commits.pop()
        return await super().commit(key, change)


@pytest.fixture
def backend() -> Failing:
    return Failing()


@pytest.fixture
def store(backend: Failing) -> Store:
    return Store(backend)


async def count(messages: list[Message], **_: object) -> Message:
    return assistant(str(len(messages)))


async def test_a_failed_load_raises_before_the_model_is_asked(store: Store, backend: Failing) -> None:
    backend.reads = [Unavailable("gone")]
    with pytest.raises(Unavailable):
        await Pipeline(store, never).execute("s", "user", "?")


async def never(messages: list[Message], **_: object) -> Message:
    raise AssertionError("the model was asked")


async def test_a_failed_load_may_count_as_an_empty_history(
    store: Store, backend: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    await store.append("s", [user("q"), assistant("a")])
    backend.reads = [Unavailable("gone")]
    pipeline = Pipeline(store, count, on_load_error="empty", system="Be brief.")
    with caplog.at_level(logging.WARNING, "turnlog"):
        result = await pipeline.execute("s", "user", "?")
    assert result.messages == (system("Be brief."), user("?"))
    assert pipeline.stats()["failed_loads"] == 1
    assert "'s' could not be read" in caplog.text
    assert [message.text for message in await store.load("s")] == ["q", "a", "?", "2"]


@pytest.mark.parametrize("concurrency", ["append", "raise", "serialize"])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("error", [Unavailable("gone"), OutcomeUnknown("cut off")])
async def test_a_failed_save_returns_the_answer_and_can_be_sent_again(
    store: Store, backend: Failing, error: Exception, stored: bool, concurrency: Any
) -> None:
    async def model(messages: list[Message], **_: object) -> Message:
        backend.commits, backend.stores_first = [error, error], stored
        return await count(messages)

    pipeline = Pipeline(store, model, concurrency=concurrency)
    result = await pipeline.execute("s", "user", "?")
    assert (result.response.text, result.error) == ("1", error)
    assert pipeline.stats()["failed_saves"] == 1
    with pytest.raises(type(error)):
        _ = result.receipt
    if backend.commits:  # otherwise the end of the lease has raised the second error
        with pytest.raises(type(error)):
            await result.save()
    receipt = await result.save()
    assert receipt.number == 0
    assert [message.text for message in await store.load("s")] == ["?", "1"]


async def test_so_does_a_stream(store: Store, backend: Failing) -> None:
    backend.commits = [Unavailable("gone")]
    async with Pipeline(store, count).stream("s", "user", "?") as reply:
        assert [piece async for piece in reply] == ["1"]
    assert isinstance(reply.result.error, Unavailable)
    await reply.result.save()
    assert (await store.info("s")).turns == 1


async def test_a_result_that_is_stored_is_not_sent_again(store: Store) -> None:
    result = await Pipeline(store, count).execute("s", "user", "?")
    assert await result.save() == result.receipt


async def test_a_cut_that_cannot_be_stored_hides_no_error(store: Store, backend: Failing) -> None:
    async def broken(messages: list[Message], **_: object) -> Message:
        raise RuntimeError("no")

    backend.commits = [Unavailable("gone")]
    pipeline = Pipeline(store, broken, on_error="keep")
    with pytest.raises(RuntimeError):
        await pipeline.execute("s", "user", "?")
    assert pipeline.stats()["failed_saves"] == 1


async def test_oversize_turns_are_counted(store: Store) -> None:
    await store.append("s", [user("q")] * 5)
    pipeline = Pipeline(store, count, window=Window(messages=4))
    assert (await pipeline.execute("s", "user", "?")).response.text == "6"
    assert pipeline.stats()["oversize_turns"] == 1


async def test_a_turn_that_was_saved_later_may_be_saved_again(store: Store, backend: Failing) -> None:
    backend.commits = [Unavailable("gone")]
    result = await Pipeline(store, count).execute("s", "user", "?")
    assert await result.save() == await result.save()
    assert (await store.info("s")).turns == 1


async def test_a_damaged_history_may_count_as_an_empty_one_with_a_turn_id_too(store: Store, backend: Failing) -> None:
    backend.reads = [CorruptRecord("damaged"), CorruptRecord("damaged")]
    result = await Pipeline(store, count, on_load_error="empty").execute("s", "user", "?", turn_id="t")
    assert result.receipt.number == 0


def test_an_async_load_history_is_refused(store: Store) -> None:
    async def never_asked(message: Message) -> bool:
        return False

    with pytest.raises(InvalidInput, match="load_history must be a function of a message, not an async one"):
        Pipeline(store, count, load_history=never_asked)  # type: ignore[arg-type]


async def test_a_question_or_metadata_that_are_too_large_are_refused_before_the_model_is_called(store: Store) -> None:
    async def model(messages: list[Message]) -> Message:
        pytest.fail("the model was called")

    pipeline = Pipeline(store, model)
    with pytest.raises(TooLarge, match="16777216"):
        await pipeline.execute("alice", "user", "x" * MAX_PAYLOAD_BYTES)
    await store.append("alice", [user("a")], metadata={"a": "x" * (MAX_METADATA_BYTES - 100)})
    for metadata in ({"b": "x" * MAX_METADATA_BYTES}, {"b": "x" * 100}):
        with pytest.raises(TooLarge, match="metadata"):
            await pipeline.execute("alice", "user", "b", metadata=metadata)
    assert len(await store.load("alice")) == 1


@pytest.mark.parametrize("kind", ["whole", "streamed"])
async def test_the_error_of_an_answer_that_cannot_be_stored_has_the_question_and_the_answer(
    store: Store, kind: str
) -> None:
    answer = {"role": "assistant", "content": [{"type": "set", "items": {1}}]}

    async def whole(messages: list[Message]) -> Any:
        return answer

    async def streamed(messages: list[Message]) -> Any:
        yield answer

    with pytest.raises(InvalidInput, match="set") as caught:
        await Pipeline(store, {"whole": whole, "streamed": streamed}[kind]).execute("alice", "user", "a")
    assert (caught.value.question, caught.value.answer) == (user("a"), answer)


async def test_the_error_of_a_round_that_is_too_large_has_the_question_and_the_answer(store: Store) -> None:
    call = assistant(tool_calls=[{"id": "c", "function": {"name": "many", "arguments": "{}"}}])

    async def model(messages: list[Message], **options: Any) -> Message:
        return call

    def many() -> str:
        return "x" * MAX_PAYLOAD_BYTES

    with pytest.raises(TooLarge) as caught:
        await Pipeline(store, model, tools=[many]).execute("alice", "user", "a")
    assert (caught.value.question, caught.value.answer) == (user("a"), call)


async def test_the_error_of_an_answer_that_is_too_large_has_the_question_and_the_answer(store: Store) -> None:
    async def model(messages: list[Message]) -> Message:
        return assistant("x" * MAX_PAYLOAD_BYTES)

    result = await Pipeline(store, model).execute("alice", "user", "a")
    assert isinstance(result.error, TooLarge)
    assert (result.error.question, result.error.answer) == (user("a"), result.response)


@pytest.mark.parametrize("others", [1, 100])
async def test_a_request_is_repeated_after_turns_of_others(others: int) -> None:
    """Another task stores a turn while the model answers; after 100 refused tries the pipeline gives up."""
    store = Store(MemoryBackend())
    requests = 0

    async def model(messages: Sequence[Message], **_: object) -> Message:
        nonlocal requests
        requests += 1
        if requests <= others:
            await store.append("s", [user(f"other {requests}")])
        return assistant(f"answer {requests}")

    pipeline = Pipeline(store, model, window=Window(messages=1), concurrency="retry")
    if others == 1:
        result = await pipeline.execute("s", "user", "?")
        assert result.response.text == "answer 2"
        assert [message.text for message in await store.load("s")] == ["other 1", "?", "answer 2"]
        return
    with pytest.raises(Conflict, match="other requests stored their turns first, 100 times in a row"):
        await pipeline.execute("s", "user", "?")
    assert requests == 100


async def test_a_session_that_is_erased_while_its_history_is_read_stays_gone() -> None:
    """The model receives the turns of the first read; the further turns that fit the window are gone."""
    given: list[int] = []

    class Erased(Layer):
        async def read(self, key: Key, **options: Any) -> Session:
            session = await super().read(key, **options)
            await self.inner.delete(key)
            return session

    async def model(messages: list[Message], **_: object) -> Message:
        given.append(len(messages))
        return assistant("!")

    store = Store(MemoryBackend())
    for number in range(100):
        await store.append("s", [user(f"{number}")])
    pipeline = Pipeline(Store(Erased(store.backend)), model, window=Window(tokens=10_000))
    with pytest.raises(Conflict):
        await pipeline.execute("s", "user", "?")
    assert given == [65]
    with pytest.raises(SessionNotFound):
        await store.info("s")


async def test_a_request_in_an_erased_session_is_not_repeated(store: Store) -> None:
    asked = []

    async def model(messages: list[Message], **_: object) -> Message:
        asked.append(len(messages))
        await store.erase("s")
        return assistant("!")

    await store.append("s", [user("hi")])
    with pytest.raises(Conflict):
        await Pipeline(store, model, concurrency="retry").execute("s", "user", "?")
    assert asked == [2]


async def test_a_failed_search_for_the_turn_raises_before_the_model_is_asked(store: Store, backend: Failing) -> None:
    await store.append("s", [user("hi")])
    backend.reads = [Unavailable("gone")]
    with pytest.raises(Unavailable):
        await Pipeline(store, never).execute("s", "user", "?", turn_id="t")


async def test_a_session_that_is_erased_after_its_lease_was_taken_stays_gone() -> None:
    class Erasing(Layer):
        async def read(self, key: Key, **options: Any) -> Session:
            if options["last"] != 0:  # the lease reads only the info
                await self.inner.delete(key)
            return await super().read(key, **options)

    store = Store(Erasing(MemoryBackend()))
    with pytest.raises(Conflict, match="was erased, or has expired, while its lease was held"):
        await Pipeline(store, never, concurrency="serialize").execute("s", "user", "?")
    with pytest.raises(SessionNotFound):
        await store.info("s")


async def test_work_that_is_cancelled_as_well_does_not_hide_the_cancellation() -> None:
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        raise asyncio.CancelledError

    task = asyncio.create_task(finish(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task

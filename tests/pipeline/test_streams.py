"""Streams: a complete stream is stored after its last piece; a cut stream is stored up to the cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from turnlog import (
    Change,
    Conflict,
    InvalidInput,
    Key,
    Message,
    Pipeline,
    Receipt,
    Reply,
    Serialize,
    SessionNotFound,
    Store,
    Stream,
    Unavailable,
    Usage,
    assistant,
)
from turnlog_memory import MemoryBackend
from turnlog_offline import offline

PIECES = ["The ", "order ", "was ", "shipped."]


@pytest.fixture
def store() -> Store:
    return Store(MemoryBackend())


async def spoken(messages: Sequence[Message], **_: object) -> AsyncIterator[str]:
    for piece in PIECES:
        yield piece


async def texts(store: Store, session_id: str = "s") -> list[str]:
    return [message.text for message in await store.load(session_id)]


async def test_pieces_come_one_by_one_and_the_turn_is_stored_after_the_last(store: Store) -> None:
    seen = []
    async with Pipeline(store, spoken).stream("s", "user", "Where is it?") as reply:
        async for piece in reply:
            seen.append(piece)
            with pytest.raises(SessionNotFound):
                await store.load("s")
    assert seen == PIECES
    assert await texts(store) == ["Where is it?", "The order was shipped."]
    assert reply.result.response == assistant("The order was shipped.")
    assert not (await store.session("s")).turns[0].open


async def test_a_whole_model_is_one_piece_and_a_streamed_model_can_be_executed(store: Store) -> None:
    async with Pipeline(store, offline).stream("a", "user", "My name is Alice") as reply:
        whole = [piece async for piece in reply]
    assert whole == [reply.result.response.text]
    result = await Pipeline(store, spoken).execute("b", "user", "Where is it?")
    assert result.response.text == "The order was shipped."


async def test_a_model_may_yield_its_whole_answer_and_its_usage_at_the_end(store: Store) -> None:
    answer = assistant("Shipped.", refusal=None)

    async def model(messages: Sequence[Message], **_: object) -> AsyncIterator[str | Reply]:
        yield "Shipped."
        yield Reply(answer, Usage(12, 3, cached=4))

    async with Pipeline(store, model).stream("s", "user", "Where is it?") as reply:
        assert [piece async for piece in reply] == ["Shipped."]
    assert reply.result.usage == Usage(12, 3, 4)
    assert (await store.load("s"))[1] == answer


async def test_a_model_uses_its_method_for_streams(store: Store) -> None:
    class Both:
        async def __call__(self, messages: Sequence[Message], **_: object) -> Message:
            return assistant("whole")

        async def stream(self, messages: Sequence[Message], **_: object) -> AsyncIterator[str]:
            yield "streamed"

    pipeline = Pipeline(store, Both())
    assert (await pipeline.execute("s", "user", "?")).response.text == "whole"
    async with pipeline.stream("s", "user", "?") as reply:
        assert [piece async for piece in reply] == ["streamed"]


@pytest.mark.parametrize("how", ["cancelled", "left", "failed"])
@pytest.mark.parametrize("taken", range(len(PIECES) + 1))
async def test_a_stream_that_is_cut_at_any_piece_keeps_what_was_said(store: Store, taken: int, how: str) -> None:
    reached = asyncio.Event()

    async def model(messages: Sequence[Message], **_: object) -> AsyncIterator[str]:
        for piece in PIECES[:taken]:
            yield piece
        reached.set()
        if how == "failed":
            raise RuntimeError("no more")
        await asyncio.Event().wait()

    pipeline = Pipeline(store, model, on_error="keep")

    async def take() -> None:
        async with pipeline.stream("s", "user", "Where is it?", turn_id="t") as reply:
            count = 0
            async for _ in reply:
                count += 1
                if how == "left" and count == taken:
                    return

    if how == "left" and not taken:
        return  # nothing was sent
    task = asyncio.create_task(take())
    if how == "cancelled":
        await reached.wait()
        task.cancel()
    error = {"cancelled": asyncio.CancelledError, "failed": RuntimeError}.get(how)
    if error is None:
        await task
    else:
        with pytest.raises(error):
            await task
    (turn,) = (await store.session("s")).turns
    said = "".join(PIECES[:taken])
    assert turn.open
    assert [message.text for message in turn.messages] == ["Where is it?", *([said] if said else [])]
    assert pipeline.stats()["cut_streams"] == (0 if how == "failed" and not taken else 1)

    await Pipeline(store, offline).execute("s", "user", "Hello?")
    first, second = (await store.session("s")).turns
    assert (first.interrupted, second.interrupted) == (True, False)


async def test_a_cut_stream_is_answered_anew_under_its_turn_id(store: Store) -> None:
    given = []

    async def model(messages: Sequence[Message], **_: object) -> AsyncIterator[str]:
        given.append([message.text for message in messages])
        yield "The "
        if len(given) == 1:
            raise RuntimeError("no more")
        yield "end."

    pipeline = Pipeline(store, model)
    for error in (RuntimeError, None):
        async with pipeline.stream("s", "user", "Where is it?", turn_id="t") as reply:
            if error is None:
                assert [piece async for piece in reply] == ["The ", "end."]
            else:
                with pytest.raises(error):
                    [piece async for piece in reply]
    assert given == [["Where is it?"], ["Where is it?"]]  # a cut answer is not in the history
    (turn,) = (await store.session("s")).turns
    assert not turn.open
    assert [message.text for message in turn.messages] == ["Where is it?", "The ", "The end."]

    async with pipeline.stream("s", "user", "Where is it?", turn_id="t") as reply:
        assert [piece async for piece in reply] == ["The end."]
    assert len(given) == 2


async def test_policies_may_keep_nothing(store: Store) -> None:
    pipeline = Pipeline(store, spoken, on_cut="discard")
    async with pipeline.stream("s", "user", "Where is it?") as reply:
        async for _ in reply:
            break
    with pytest.raises(SessionNotFound):
        await store.load("s")
    assert pipeline.stats()["cut_streams"] == 1


@pytest.mark.parametrize(("on_error", "kept"), [("discard", []), ("keep", ["Where is it?"])])
@pytest.mark.parametrize("streamed", [False, True])
async def test_the_question_stays_or_goes_when_the_model_fails(
    store: Store, on_error: Any, kept: list[str], streamed: bool
) -> None:
    async def model(messages: Sequence[Message], **_: object) -> Message:
        raise RuntimeError("no")

    pipeline = Pipeline(store, model, on_error=on_error)
    with pytest.raises(RuntimeError):
        if streamed:
            async with pipeline.stream("s", "user", "Where is it?") as reply:
                [piece async for piece in reply]
        else:
            await pipeline.execute("s", "user", "Where is it?")
    try:
        stored = await texts(store)
    except SessionNotFound:
        stored = []
    assert stored == kept


async def test_a_model_that_yields_nothing_is_an_error(store: Store) -> None:
    async def model(messages: Sequence[Message], **_: object) -> AsyncIterator[str]:
        for piece in PIECES[:0]:
            yield piece

    with pytest.raises(InvalidInput, match="the model's answer is empty"):
        await Pipeline(store, model).execute("s", "user", "?")


async def test_a_result_is_there_once_all_pieces_were_taken(store: Store) -> None:
    async with Pipeline(store, spoken).stream("s", "user", "?") as reply:
        with pytest.raises(InvalidInput, match="read all of its pieces first"):
            _ = reply.result
    with pytest.raises(SessionNotFound):  # no piece was taken, so the model was not called
        await store.load("s")


@pytest.mark.parametrize("concurrency", ["append", "serialize"])
@pytest.mark.parametrize("reads_all", [False, True])
async def test_a_stream_that_is_left_while_another_task_waits_for_a_piece(
    store: Store, concurrency: Any, reads_all: bool
) -> None:
    """A server may send keep-alives while another task waits for a piece, and its client may disconnect."""
    waits = asyncio.Event()

    async def model(messages: Sequence[Message], **_: object) -> AsyncIterator[str]:
        yield "The "
        waits.set()
        await asyncio.Event().wait()

    async def reader(reply: Stream) -> None:
        async for _ in reply:
            if not reads_all:
                await anext(reply)

    with pytest.raises(ConnectionResetError):
        async with Pipeline(store, model, concurrency=concurrency).stream("s", "user", "?") as reply:
            reading = asyncio.ensure_future(reader(reply))
            await waits.wait()
            raise ConnectionResetError
    assert reading.cancelled()
    assert await texts(store) == ["?", "The "]
    again = Pipeline(store, spoken, concurrency=Serialize(wait=0.2) if concurrency == "serialize" else "append")
    await again.execute("s", "user", "?")  # no lease is left


async def test_a_stream_is_for_one_block(store: Store) -> None:
    reply = Pipeline(store, spoken).stream("s", "user", "?")
    with pytest.raises(InvalidInput, match="only in its block"):
        async for _ in reply:
            pass
    async with reply:
        assert [piece async for piece in reply] == PIECES
    with pytest.raises(InvalidInput, match="only in its block"):
        async for _ in reply:
            pass
    with pytest.raises(InvalidInput, match="entered only once"):
        async with reply:
            pass


async def test_of_two_streams_under_one_id_the_second_must_ask_again(store: Store) -> None:
    answers = iter(["one", "two", "three"])

    async def model(messages: Sequence[Message], **_: object) -> AsyncIterator[str]:
        answer = next(answers)
        yield answer
        yield "."

    pipeline = Pipeline(store, model)
    async with pipeline.stream("s", "user", "?", turn_id="t") as first:
        assert await anext(first) == "one"
        async with pipeline.stream("s", "user", "?", turn_id="t") as second:
            assert [piece async for piece in second] == ["two", "."]
        with pytest.raises(Conflict, match="call again with this turn id"):
            async for _ in first:
                pass
    async with pipeline.stream("s", "user", "?", turn_id="t") as third:
        assert [piece async for piece in third] == ["two."]
    assert await texts(store) == ["?", "two."]


async def test_nothing_follows_a_whole_answer(store: Store) -> None:
    async def model(messages: Sequence[Message], **_: object) -> AsyncIterator[str | Reply]:
        yield Reply(assistant("Shipped."))
        yield "And more."

    with pytest.raises(InvalidInput, match="another piece after its whole message"):
        await Pipeline(store, model).execute("s", "user", "?")


def test_a_stream_cannot_be_asked_again(store: Store) -> None:
    with pytest.raises(InvalidInput, match="serialize"):
        Pipeline(store, spoken, concurrency="retry").stream("s", "user", "?")


async def test_a_stream_that_is_cancelled_while_its_turn_is_stored_keeps_it() -> None:
    class Slow(MemoryBackend):
        begun: asyncio.Event
        go_on: asyncio.Event

        async def commit(self, key: Key, change: Change) -> Receipt:
            self.begun.set()
            await self.go_on.wait()
            return await super().commit(key, change)

    backend = Slow()
    backend.begun, backend.go_on = asyncio.Event(), asyncio.Event()
    store = Store(backend)

    async def client() -> None:
        async with Pipeline(store, spoken).stream("s", "user", "Where is it?") as reply:
            async for _ in reply:
                pass

    task = asyncio.create_task(client())
    await backend.begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    backend.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await texts(store) == ["Where is it?", "The order was shipped."]


async def test_a_cancellation_is_not_lost_if_the_store_fails_meanwhile() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Gone(MemoryBackend):
        async def commit(self, key: Key, change: Change) -> Receipt:
            begun.set()
            await go_on.wait()
            raise Unavailable("gone")

    pipeline = Pipeline(Store(Gone()), spoken)

    async def client() -> None:
        async with pipeline.stream("s", "user", "Where is it?") as reply:
            async for _ in reply:
                pass

    task = asyncio.create_task(client())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pipeline.stats()["failed_saves"] == 1


async def test_an_empty_piece_says_nothing(store: Store) -> None:
    """Chat Completions begins each stream with an empty piece."""

    async def model(messages: Sequence[Message], **_: object) -> AsyncIterator[str]:
        yield ""
        if len(messages) > 1:
            raise RuntimeError("no")

    with pytest.raises(InvalidInput, match="the model's answer is empty"):
        await Pipeline(store, model).execute("s", "user", "?")
    await store.append("s", [assistant("Hello.")])
    with pytest.raises(RuntimeError):
        async with Pipeline(store, model).stream("s", "user", "?") as reply:
            assert [piece async for piece in reply] == []
    assert await texts(store) == ["Hello."]


@pytest.mark.parametrize(
    ("pieces", "stored"), [(["Hi \ud83d", "\ude00"], "Hi \U0001f600"), (["Hi \ud83d", "!"], "Hi \ufffd!")]
)
@pytest.mark.parametrize("cut", [False, True])
async def test_pieces_may_part_a_character(store: Store, pieces: list[str], stored: str, cut: bool) -> None:
    async def model(messages: Sequence[Message], **_: object) -> AsyncIterator[str]:
        for piece in pieces:
            yield piece
        if cut:
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError) if cut else contextlib.nullcontext():
        async with Pipeline(store, model).stream("s", "user", "?") as reply:
            assert [piece async for piece in reply] == pieces
    assert await texts(store) == ["?", stored]


async def test_a_usage_is_one(store: Store) -> None:
    async def model(messages: Sequence[Message], **_: object) -> Any:
        return Reply(assistant("!"), {"input": 1})  # type: ignore[arg-type]

    with pytest.raises(InvalidInput, match="the usage must be Usage"):
        await Pipeline(store, model).execute("s", "user", "?")

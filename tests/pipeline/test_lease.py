"""The lease of a session with `concurrency="serialize"`, and concurrent calls in one process.

`tests/faults/test_pipeline_concurrency.py` has the tests with several processes.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from turnlog import (
    Change,
    Conflict,
    IdReused,
    Key,
    Message,
    OutcomeUnknown,
    Pipeline,
    Receipt,
    Serialize,
    SessionNotFound,
    Store,
    assistant,
    open_store,
    user,
)
from turnlog.pipeline.lease import Lease
from turnlog_memory import MemoryBackend


class Time:
    """A clock that advances with each sleep."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def store() -> Store:
    return Store(MemoryBackend())


@pytest.fixture
def lease(store: Store) -> Callable[..., Lease]:
    """Return a function that creates leases without renewal, each with its own clock."""

    def lease(time: Time | None = None, **options: float) -> Lease:
        never = asyncio.Event().wait
        moved = time or Time()
        return Lease(
            store,
            "s",
            **{"seconds": 10.0, "wait": 60.0, **options},
            clock=moved.clock,
            sleep=moved.sleep if time else lambda _: never(),
        )

    return lease


async def test_a_waiter_takes_over_once_the_lease_has_stood_still_by_its_own_clock(
    store: Store, lease: Callable[..., Lease]
) -> None:
    first, time = lease(), Time()
    await first.__aenter__()
    second = lease(time)
    await second.__aenter__()
    assert 10 <= time.now - 1_000 < 11
    with pytest.raises(Conflict):
        await first.commit(lambda expect: store.append("s", [user("late")], expect=expect))
    await second.commit(lambda expect: store.append("s", [user("in time")], expect=expect))
    await first.__aexit__()  # another holder's lease stays
    await second.__aexit__()
    assert [message.text for message in await store.load("s")] == ["in time"]
    assert "turnlog.lease" not in (await store.info("s")).metadata


async def test_a_lease_that_is_renewed_is_waited_for_and_the_wait_has_an_end(
    store: Store, lease: Callable[..., Lease]
) -> None:
    class Renewed(Time):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            if self.slept % 5 == 0:
                await first._renew_once()

    first, time = lease(), Renewed()
    await first.__aenter__()
    with pytest.raises(Conflict, match="for 60 s"):
        await lease(time).__aenter__()
    assert time.now - 1_000 >= 60
    await first.commit(lambda expect: store.append("s", [user("still mine")], expect=expect))
    await first.__aexit__()


async def test_a_renewal_whose_answer_is_lost_costs_nothing() -> None:
    class Deaf(MemoryBackend):
        deaf = False

        async def commit(self, key: Key, change: Change) -> Receipt:
            receipt = await super().commit(key, change)
            if self.deaf:
                raise OutcomeUnknown("cut off")
            return receipt

    backend, never = Deaf(), asyncio.Event()
    store = Store(backend)
    async with Lease(store, "s", seconds=10, wait=10, sleep=lambda _: never.wait()) as lease:
        backend.deaf = True
        await lease._renew_once()
        await lease._renew_once()  # no automatic renewal: its clock does not move
        backend.deaf = False
        await lease.commit(lambda expect: store.append("s", [user("mine")], expect=expect))
    assert not (await store.info("s")).metadata


async def test_metadata_that_others_write_do_not_end_a_lease_and_turns_do(
    store: Store, lease: Callable[..., Lease]
) -> None:
    async with lease() as one:
        one.bind((await store.info("s")).version)
        await store.merge_metadata("s", {"title": "T"})
        await one.commit(lambda expect: store.append("s", [user("mine")], expect=expect))
        await store.append("s", [user("without a lease")])
        with pytest.raises(Conflict, match="without its lease"):
            await one.commit(lambda expect: store.append("s", [user("mine, too")], expect=expect))


async def test_a_failed_model_leaves_no_session_and_no_lease(store: Store) -> None:
    async def model(messages: list[Message], **_: object) -> Message:
        raise RuntimeError("no")

    pipeline = Pipeline(store, model, concurrency="serialize")
    with pytest.raises(RuntimeError):
        await pipeline.execute("s", "user", "?")
    with pytest.raises(SessionNotFound):
        await store.info("s")
    await store.append("s", [user("?"), assistant("!")])
    with pytest.raises(RuntimeError):
        await pipeline.execute("s", "user", "?")
    assert not (await store.info("s")).metadata


async def test_a_session_that_is_erased_under_a_lease_stays_gone(store: Store) -> None:
    async def model(messages: list[Message], **_: object) -> Message:
        await store.erase("s")
        return assistant("!")

    with pytest.raises(Conflict):
        await Pipeline(store, model, concurrency="serialize").execute("s", "user", "?")
    with pytest.raises(SessionNotFound):
        await store.info("s")


async def test_a_session_that_is_erased_while_its_lease_is_awaited_stays_gone(
    store: Store, lease: Callable[..., Lease]
) -> None:
    class Erased(Time):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            await store.erase("s")

    await store.append("s", [user("?")])
    await lease().__aenter__()
    with pytest.raises(Conflict, match="while a request waited for its lease"):
        await lease(Erased()).__aenter__()
    with pytest.raises(SessionNotFound):
        await store.info("s")


async def test_an_owner_is_that_of_the_session_that_a_lease_makes(store: Store) -> None:
    async def model(messages: list[Message], **_: object) -> Message:
        return assistant("!")

    pipeline = Pipeline(store, model, concurrency=Serialize(lease=5, wait=5))
    await pipeline.execute("s", "user", "?", owner="ann")
    assert (await store.info("s")).owner == "ann"
    with pytest.raises((SessionNotFound, Conflict)):
        await pipeline.execute("s", "user", "?", owner="bob")
    assert (await store.info("s")).turns == 1


async def test_a_stream_that_is_cancelled_repeatedly_is_kept_and_leaves_no_lease(tmp_path: Path) -> None:
    """A cancel scope of anyio, as used by Starlette, repeats the cancellation until all its tasks have ended."""
    begun = asyncio.Event()

    async def model(messages: list[Message], **_: object) -> AsyncIterator[str]:
        yield "The order "
        begun.set()
        await asyncio.Event().wait()

    async def request(store: Store, session_id: str) -> None:
        async with Pipeline(store, model, concurrency="serialize").stream(session_id, "user", "?") as reply:
            async for _ in reply:
                pass

    async with open_store(f"sqlite:///{tmp_path}/chat.db") as store:
        for session_id in ("a", "b", "c"):
            begun.clear()
            task = asyncio.create_task(request(store, session_id))
            await begun.wait()
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
            session = await store.session(session_id)
            assert [message.text for message in session.messages] == ["?", "The order "]
            assert not session.info.metadata


async def test_a_lease_that_a_fork_has_copied_is_none(store: Store, lease: Callable[..., Lease]) -> None:
    async def model(messages: list[Message], **_: object) -> Message:
        return assistant("!")

    async with lease():
        await store.fork("s", "copy")
        await Pipeline(store, model, concurrency=Serialize(wait=0.001)).execute("copy", "user", "?")
    assert not (await store.info("copy")).metadata


@pytest.mark.parametrize("concurrency", ["append", "retry", "serialize"])
async def test_several_calls_under_one_turn_id_give_one_turn(store: Store, concurrency: Any) -> None:
    """The models of the calls answer differently, and each call stores some of the rounds."""
    numbers = itertools.count()

    async def look() -> str:
        """Look."""
        return "here"

    async def model(messages: list[Message], **_: object) -> Message:
        number = next(numbers)
        for _pause in range(number * 7 % 5):
            await asyncio.sleep(0)
        if sum(message.role == "tool" for message in messages) == 3:
            return assistant(f"Answer {number}")
        call = {"id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        return assistant(None, tool_calls=[call])

    pipeline = Pipeline(store, model, tools=[look], concurrency=concurrency)
    results = await asyncio.gather(*[pipeline.execute("s", "user", "?", turn_id="t") for _ in range(5)])
    (turn,) = (await store.session("s")).turns
    assert [result.response for result in results] == [turn.messages[-1]] * 5
    assert len(turn.messages) == 8


async def test_an_id_of_a_turn_that_was_undone_is_refused_after_one_more_try(store: Store) -> None:
    asked = itertools.count(1)

    async def model(messages: list[Message], **_: object) -> Message:
        return assistant(str(next(asked)))

    pipeline = Pipeline(store, model)
    await pipeline.execute("s", "user", "?", turn_id="t")
    await store.rewind("s", turns=1)
    with pytest.raises(IdReused):
        await pipeline.execute("s", "user", "?", turn_id="t")
    assert next(asked) == 4


async def test_metadata_that_are_written_before_a_model_fails_stay_without_a_lease(store: Store) -> None:
    async def model(messages: list[Message], **_: object) -> Message:
        await store.merge_metadata("s", {"title": "T"})
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await Pipeline(store, model, concurrency="serialize").execute("s", "user", "?")
    assert dict((await store.info("s")).metadata) == {"title": "T"}


async def test_a_write_that_is_refused_for_another_reason_is_not_tried_for_ever(store: Store, lease: Any) -> None:
    async with lease() as one:

        async def write(expect: object) -> Receipt:
            raise Conflict("the part does not follow")

        with pytest.raises(Conflict, match="does not follow"):
            await asyncio.wait_for(one.commit(write), 10)


@pytest.mark.parametrize("stored", [False, True])
async def test_a_request_that_is_cancelled_while_it_takes_the_lease_leaves_none(stored: bool) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryBackend):
        async def commit(self, key: Key, change: Change) -> Receipt:
            receipt = await super().commit(key, change)
            if change.metadata is not None:
                begun.set()
                await go_on.wait()
            return receipt

    store = Store(Slow())
    if stored:
        await store.append("s", [user("Hello"), assistant("Hi")])

    async def never(messages: list[Message], **_: object) -> Message:
        raise AssertionError("the model was asked")

    task = asyncio.create_task(Pipeline(store, never, concurrency="serialize").execute("s", "user", "?"))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    if stored:
        assert not (await store.info("s")).metadata
    else:
        with pytest.raises(SessionNotFound):
            await store.info("s")


async def test_a_request_that_is_cancelled_while_another_takes_the_lease_leaves_that_one() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryBackend):
        async def commit(self, key: Key, change: Change) -> Receipt:
            if not begun.is_set():
                begun.set()
                await go_on.wait()
            return await super().commit(key, change)

    store, never = Store(Slow()), asyncio.Event().wait

    def lease() -> Lease:
        return Lease(store, "s", seconds=10.0, wait=60.0, sleep=lambda _: never())

    task = asyncio.create_task(lease().__aenter__())
    await begun.wait()
    async with lease() as other:
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await other.commit(lambda expect: store.append("s", [user("mine")], expect=expect))
    assert not (await store.info("s")).metadata

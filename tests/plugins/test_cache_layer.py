"""What the cache asks of the store, what it keeps, and what makes it forget."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cached import KEY, Setup, texts
from turnlog import (
    ABSENT,
    Change,
    ConfigError,
    Conflict,
    CorruptRecord,
    HistoryRegressed,
    InvalidInput,
    Key,
    Layer,
    OutcomeUnknown,
    Receipt,
    Record,
    Session,
    SessionNotFound,
    Store,
    Unavailable,
    Version,
    assistant,
    open_store,
    user,
)
from turnlog.errors import TurnlogError
from turnlog_cache import CacheLayer
from turnlog_cache._layer import Mode
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend

BOTH = pytest.mark.parametrize("mode", ["validate", "trust"])


# -------------------------------------------------------------------------------------------------------------- reading


async def test_validate_asks_one_read_with_since_and_last_and_hears_nothing_where_nothing_is_new() -> None:
    it = Setup()
    await it.filled(5)
    version = (await it.store.session("s")).version
    answered: list[int] = []
    inner_read = it.asked.inner.read

    async def read(*of: Any, **how: Any) -> Any:
        session = await inner_read(*of, **how)
        answered.append(len(session.records))
        return session

    it.asked.inner.read = read  # type: ignore[method-assign]
    assert [m.text for m in await it.cache.load("s", last=3)] == ["q3", "a3", "q4", "a4"]
    assert it.asked.reads == [{"last": 3, "before": None, "since": version, "touch": True}]
    await it.cache.load("s")
    assert answered == [0, 0]
    assert (it.cache.stats.hits, it.cache.stats.misses, it.cache.stats.stale) == (2, 1, 0)


async def test_validate_hears_what_is_new_and_no_more() -> None:
    it = Setup()
    await it.filled(5)
    version = (await it.store.session("s")).version
    await it.store.append("s", [user("new")])
    assert texts(await it.agrees())[-1] == "new"
    assert [read["since"] for read in it.asked.reads] == [version]
    assert it.cache.stats.stale == 1


async def test_trust_asks_nothing_within_max_age_and_again_after_it() -> None:
    it = Setup("trust", max_age=10.0)
    await it.filled(5)
    await it.store.append("s", [user("new")])
    it.pass_by(10.0)
    for part in ({}, {"last": 3}, {"before": 2}, {"last": 1, "before": 4}):
        assert "new" not in [message.text for message in await it.cache.load("s", **part)]
    assert it.asked.reads == []
    it.pass_by(0.001)
    assert (await it.cache.load("s"))[-1].text == "new"
    assert len(it.asked.reads) == 1
    it.pass_by(10.0)
    assert (await it.cache.load("s"))[-1].text == "new"
    assert len(it.asked.reads) == 1, "it is current again for so long"


@pytest.mark.parametrize("learnt", ["read", "receipt", "its own ttl"])
async def test_what_is_kept_never_outlives_the_session(learnt: str) -> None:
    it = Setup("trust", ttl=20.0, max_age=1000.0)
    await it.filled(2)
    lives = 20.0
    if learnt != "read":
        it.pass_by(10.0)
        own: Any = {"ttl": 8.0} if learnt == "its own ttl" else {"owner": "ann"}
        await it.cache.merge_metadata("s", **own)
        lives = 8.0 if learnt == "its own ttl" else 20.0
        it.asked.forget()
    it.pass_by(lives - 0.01)
    session = await it.cache.session("s")
    assert session.info.expires_in == pytest.approx(0.01, abs=1e-3)
    assert it.asked.reads == []
    it.pass_by(0.02)
    with pytest.raises(SessionNotFound):
        await it.cache.load("s")
    assert not it.kept()


async def test_a_trusted_read_extends_no_life_and_the_next_validated_one_does() -> None:
    it = Setup("trust", ttl=20.0, max_age=5.0)
    await it.filled(2)
    it.pass_by(5.0)
    await it.cache.load("s")
    assert (await it.store.info("s")).expires_in == pytest.approx(15.0)
    it.pass_by(1.0)
    await it.cache.load("s")
    assert (await it.store.info("s")).expires_in == pytest.approx(20.0)


@BOTH
async def test_clock_jumps_of_the_store_change_nothing(mode: Mode) -> None:
    it = Setup(mode, max_age=10.0)
    await it.filled(3)
    for jump in (-86_400.0, 3 * 86_400.0):
        it.clock.advance(jump)
        await it.cache.append("s", [user("at another time")])
        await it.agrees()
    assert len(it.asked.reads) == (0 if mode == "trust" else 2)


async def test_a_part_that_was_told_newer_is_never_followed_by_what_was_before() -> None:
    """An info, a part that is not kept and a continuation are answered by the store also in `trust`."""
    asks: list[Callable[[CacheLayer, Version], Awaitable[object]]] = [
        lambda cache, seen: cache.info("s"),
        lambda cache, seen: cache.touch("s"),
        lambda cache, seen: cache.read(KEY, since=seen),
        lambda cache, seen: cache.load("s", before=1),
    ]
    for ask in asks:
        it = Setup("trust")
        await it.filled(5, last=2)
        seen = (await it.store.session("s")).version
        await it.store.append("s", [user("new")])
        await ask(it.cache, seen)
        assert (await it.cache.load("s", last=1))[-1].text == "new"
        assert it.cache.stats.stale == 1


@pytest.mark.parametrize("ask", ["info", "part"])
async def test_what_was_told_to_be_gone_is_gone(ask: str) -> None:
    it = Setup("trust")
    await it.filled(5, last=2)
    await it.store.erase("s")
    with pytest.raises(SessionNotFound):
        await (it.cache.info("s") if ask == "info" else it.cache.load("s"))
    with pytest.raises(SessionNotFound):
        await it.cache.load("s", last=1)


# -------------------------------------------------------------------------------------------------------------- writing


@BOTH
async def test_a_write_that_expects_what_a_stale_read_showed_is_refused_and_the_caller_told(mode: Mode) -> None:
    it = Setup(mode)
    await it.filled(3)
    seen = (await it.cache.session("s")).version
    await it.store.append("s", [user("between")])
    for write in (
        it.cache.append("s", [user("mine")], expect=seen),
        it.cache.rewind("s", turns=1, expect=seen),
        it.cache.rewind("s", messages=1, expect=seen),
        it.cache.save("s", [user("mine")], expect=seen),
    ):
        with pytest.raises(Conflict):
            await write
    await it.store.merge_metadata("s", {"a": 1})
    with pytest.raises(Conflict):
        await it.cache.merge_metadata("s", {"b": 1}, expect=seen)
    with pytest.raises(Conflict):
        await it.cache.erase("s", expect=seen)
    assert not it.kept()
    assert it.cache.stats.conflicts >= 1
    assert texts(await it.agrees())[-1] == "between"


@pytest.mark.parametrize("how", ["rewind", "save", "save all the same"])
async def test_what_expects_more_than_a_trusted_read_shows_is_not_computed_from_it(how: str) -> None:
    """The caller was told of a version by another process; the last two messages are no longer those kept here."""
    it = Setup("trust")
    await it.filled(3)
    receipt = await it.store.append("s", [user("between"), user("and")])
    there = await it.store.load("s")
    if how == "rewind":
        await it.cache.rewind("s", messages=2, expect=receipt.version)
        assert await it.store.load("s") == there[:-2], "or it would cut by turns that are not the last"
        return
    if how == "save all the same":
        await it.store.rewind("s", turns=3)
        there = await it.store.load("s")
    await it.cache.save("s", [*there, user("new")], expect=receipt.version if how == "save" else None)
    assert await it.store.load("s") == [*there, user("new")]


@BOTH
async def test_an_append_that_expects_nothing_is_never_refused_and_its_receipt_tells(mode: Mode) -> None:
    it = Setup(mode)
    await it.filled(3)
    await it.store.append("s", [user("between")])
    await it.cache.append("s", [user("mine")])
    assert not it.kept()
    assert it.cache.stats.stale == 1
    assert texts(await it.agrees())[-2:] == ["between", "mine"]


@BOTH
@pytest.mark.parametrize("last", [None, 3])
async def test_own_writes_are_kept_without_another_read(mode: Mode, last: int | None) -> None:
    it = Setup(mode, ttl=1000.0)
    await it.filled(5, last=last)
    writes: list[Callable[[], Awaitable[object]]] = [
        lambda: it.cache.append("s", [user("one"), assistant("two")]),
        lambda: it.cache.append("s", [user("round 0")], turn_id="r", open=True),
        lambda: it.cache.append("s", [assistant("round 1")], turn_id="r", part=1, open=True),
        lambda: it.cache.append("s", [assistant("round 2")], turn_id="r", part=2),
        lambda: it.cache.append("s", [user("all")], owner="ann", metadata={"a": 1, "b": [2]}),
        lambda: it.cache.merge_metadata("s", {"a": None, "c": "d"}),
        lambda: it.cache.merge_metadata("s", owner="bob"),
        lambda: it.cache.merge_metadata("s", ttl=500.0),
        lambda: it.cache.merge_metadata("s", ttl=0),
    ]
    if last is None:  # what goes is not here: its bytes, and its messages where nothing is added, are not known
        writes.append(lambda: it.cache.commit(KEY, Change(append=(_record("r"),), retain=4)))
        writes.append(lambda: it.cache.commit(KEY, Change(retain=2)))
    for write in writes:
        it.pass_by(1.0)
        await write()
        it.asked.forget()
        await it.agrees(last=3)
        assert [(r["last"], r["since"] is None) for r in it.asked.reads] == [(3, False)] * (mode == "validate")
        if last is None:
            await it.agrees()
    assert it.cache.stats.stale == 0
    assert it.cache.stats.misses == 1


@BOTH
@pytest.mark.parametrize("ttl", [None, 100.0])
async def test_a_session_that_was_made_here_is_here(mode: Mode, ttl: float | None) -> None:
    """Its first turn is not read again."""
    it = Setup(mode, ttl=ttl)
    first: list[Callable[[], Awaitable[object]]] = [
        lambda: it.cache.append("s", [user("one"), assistant("two")]),
        lambda: it.cache.append("s", [user("round 0")], turn_id="r", open=True, expect=ABSENT),
        lambda: it.cache.append("s", [user("all")], owner="ann", metadata={"a": 1, "b": [2]}),
        lambda: it.cache.save("s", [user("one"), assistant("two"), user("three")]),
        lambda: it.cache.merge_metadata("s", {"a": 1}, ttl=500.0),
        lambda: it.cache.commit(KEY, Change(append=(_record("r"),), retain=4, first=17)),
    ]
    for make in first:
        await make()
        it.asked.forget()
        it.pass_by(1.0)
        await it.agrees()
        await it.cache.append("s", [user("next")])
        await it.agrees(last=3)
        assert [read["since"] is None for read in it.asked.reads] == [False, False] * (mode == "validate")
        await it.cache.delete(KEY)
    assert it.cache.stats.misses == 1, "save has looked whether there is one"
    assert it.cache.stats.stale == 0


@BOTH
async def test_what_was_made_and_not_wholly_kept_is_read(mode: Mode) -> None:
    it = Setup(mode)
    await it.cache.commit(KEY, Change(append=tuple(_record(f"m{n}") for n in range(5)), retain=2))
    await it.agrees()
    assert it.cache.stats.misses == 1


@pytest.mark.parametrize("how", ["deleted", "and made again", "expired", "made by another", "made under a layer"])
async def test_a_session_that_was_made_and_is_gone_before_we_hear_of_it_is_gone(how: str) -> None:
    it = Setup("trust", ttl=60.0)
    stop = it.asked.stop("commit")
    writing = asyncio.create_task(it.cache.append("s", [user("q"), assistant("a")]))
    if how == "made by another":
        await stop.sent.wait()
        await it.store.append("s", [user("another's")])
    await stop.land()
    if how in ("deleted", "and made again"):
        await it.cache.delete(KEY)
    if how == "and made again":
        await it.store.append("s", [user("another's")])
    if how == "expired":
        it.pass_by(61.0)
    if how == "made under a layer":
        await it.store.append("s", [user("another's")])
        await it.cache.load("s")
    stop.answer()
    await writing
    if how in ("deleted", "expired"):
        with pytest.raises(SessionNotFound):
            await it.cache.load("s")
    else:
        await it.agrees()
    assert it.asked.reads


@BOTH
@pytest.mark.parametrize("made", ["by us", "by another"])
async def test_a_repeat_of_what_made_a_session_is_not_taken_for_the_first_time(mode: Mode, made: str) -> None:
    it = Setup(mode)
    change = Change(append=(_record("r"),))
    await (it.cache if made == "by us" else it.store).commit(KEY, change)
    await it.store.append("s", [user("another's")])
    await it.cache.open()  # nothing is kept
    receipt = await it.cache.commit(KEY, change)
    assert receipt.previous == receipt.version
    await it.agrees()


class Together(Layer):
    """Answers a read, and an erasure behind it, in one turn of the event loop."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.gate = asyncio.Event()

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await self.inner.read(key, **asked)
        await self.gate.wait()
        return session

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        found = await self.inner.delete(key, expect=expect)
        await self.gate.wait()
        return found


async def test_a_flight_that_has_landed_takes_nobody_in() -> None:
    """It passed the store before something that was acknowledged in the same turn of the event loop."""
    store = MemoryBackend()
    await store.append("s", [user("secret")])
    together = Together(store)
    cache = CacheLayer(together, mode="trust")

    async def erase() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await cache.erase("s")
        with pytest.raises(SessionNotFound):
            await cache.load("s")

    both = asyncio.gather(cache.load("s"), erase())
    for _ in range(5):
        await asyncio.sleep(0)
    together.gate.set()
    assert [message.text for message in (await both)[0]] == ["secret"]


@BOTH
async def test_several_records_at_once_are_kept(mode: Mode) -> None:
    it = Setup(mode)
    await it.filled(5, last=4)
    await it.cache.commit(KEY, Change(append=tuple(_record(f"m{n}") for n in range(3))))
    it.asked.forget()
    await it.agrees(last=6)
    assert len(it.asked.reads) == (mode == "validate")
    assert it.cache.stats.stale == 0


@BOTH
@pytest.mark.parametrize("ttl", [None, 100.0])
@pytest.mark.parametrize("retain", [None, 4])
async def test_windows_stay_right_while_the_session_changes(mode: Mode, ttl: float | None, retain: int | None) -> None:
    """Turns of one to five messages, and rounds of them: a read by number of messages begins with the right one."""
    chance = Random(7)
    for last in (1, 2, 3, 5, 8, 300, None):
        it = Setup(mode, ttl=ttl, retain=retain)
        await it.filled(8, last=last)
        part, id = 0, "first"
        for number in range(30):
            said = [user(f"{number}.{place}") for place in range(chance.randint(1, 5))]
            more = chance.random() < 0.3
            await it.cache.append("s", said, turn_id=id, part=part, open=more)
            part, id = (part + 1, id) if more else (0, f"turn {number}")
            if mode == "validate" and chance.random() < 0.2:
                await it.store.append("s", [user(f"{number}, and another")])
                await it.cache.load("s", last=1, before=1_000)  # the change is heard of, and the end is left behind
                part, id = 0, f"another turn {number}"
            if chance.random() < 0.2:
                await it.cache.merge_metadata("s", {"number": number})
            if chance.random() < 0.2:  # it is not always asked for in between
                continue
            it.pass_by(1.0)
            shown, fresh = await it.cache.session("s", last=last), await it.store.session("s", last=last)
            assert shown.turns == fresh.turns
            assert (shown.version, shown.info.first) == (fresh.version, fresh.info.first)
            assert (shown.info.messages, shown.info.metadata) == (fresh.info.messages, fresh.info.metadata)
            assert shown.messages == [message for turn in shown.turns for message in turn.messages]
            assert await it.cache.load("s", last=last) == await it.store.load("s", last=last)
        assert it.cache.stats.misses <= 2, "it was kept"
        if mode == "trust":
            assert len(it.asked.reads) <= 1


@pytest.mark.parametrize("lost", [False, True])
async def test_what_is_foreseen_is_not_shown_before_it_is_stored(lost: bool) -> None:
    it = Setup("trust")
    await it.filled(3, last=2)
    stop = it.asked.stop("commit")
    if lost:
        it.asked.fail("commit", Unavailable("nobody is there"))
    writing = asyncio.ensure_future(it.cache.append("s", [user("q3"), user("a3")]))
    await stop.sent.wait()
    assert [m.text for m in await it.cache.load("s", last=2)] == ["q2", "a2"]
    stop.answer()
    if lost:
        with pytest.raises(Unavailable):
            await writing
        assert [m.text for m in await it.cache.load("s", last=2)] == ["q2", "a2"]
    else:
        await writing
        assert [m.text for m in await it.cache.load("s", last=2)] == ["q3", "a3"]
        assert it.asked.reads == []


@BOTH
async def test_metadata_of_another_that_came_between_are_not_overlooked(mode: Mode) -> None:
    """The turns are as they were foreseen, and the rest is not."""
    it = Setup(mode)
    await it.filled(3)
    stop = it.asked.stop("commit")
    writing = asyncio.ensure_future(it.cache.append("s", [user("q3")]))
    await stop.sent.wait()
    await it.store.merge_metadata("s", {"mood": "changed"})
    stop.answer()
    await writing
    await it.agrees()
    assert it.cache.stats.stale == 1


@BOTH
async def test_a_repeat_of_what_another_stored_is_not_taken_for_the_first_time(mode: Mode) -> None:
    """It leads where it was foreseen to lead, but was said at another time, and others have gone on since."""
    it = Setup(mode)
    await it.filled(3, last=2)
    await it.store.append("s", [user("x")], turn_id="x", open=True)
    it.pass_by(5.0)
    await it.store.append("s", [user("y")], turn_id="x", part=1)
    it.pass_by(5.0)
    await it.cache.append("s", [user("x")], turn_id="x", open=True)
    await it.agrees(last=2)
    await it.agrees()


@BOTH
async def test_a_sealed_run_that_is_appended_is_not_taken_for_turns(mode: Mode) -> None:
    it = Setup(mode)
    await it.filled(3, last=1)
    await it.cache.load("s", last=1)
    for number in range(3):
        await it.store.append("other", [user(f"{number}"), assistant("yes")])
    run = Record.seal((await it.store.read(Key("default", "other"))).records)
    await it.cache.commit(KEY, Change(append=(run,)))
    assert len((await it.agrees(last=1)).messages) == 2
    assert await it.cache.load("s", last=1) == await it.store.load("s", last=1)


class Later(Layer):
    """It is not at once that a change is encoded."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        await asyncio.sleep(0)
        receipt = await self.inner.commit(key, change)
        for record in change.append:
            _ = record.payload
        return receipt


async def test_what_goes_is_not_counted_for_more_than_it_was_when_it_came() -> None:
    """A string that is not of ASCII takes more memory once it has been encoded."""
    cache = CacheLayer(Later(MemoryBackend(retain=3)), mode="trust")
    for number in range(40):
        await cache.append("s", [user("ж" * 5000 + str(number))], turn_id=f"{number}", open=True)
        await cache.append("s", [user("ж" * 5000 + str(number))], turn_id=f"{number}", part=1)
        await cache.load("s")
        assert 0 <= cache.stats.bytes <= 600_000
    assert cache.stats.bytes > 60_000


@pytest.mark.parametrize("later", [False, True])
async def test_what_is_idle_gives_way_to_changes_alone(later: bool) -> None:
    it = Setup("trust", max_age=1e6, idle=60.0)
    cache = it.cache if later else CacheLayer(it.store, mode="trust", max_age=1e6, idle=60.0, timer=it.timer)
    for name in ("idle", "busy"):
        await it.store.append(name, [user("x")])
        await cache.load(name)
    for _ in range(3):
        it.pass_by(40.0)
        await cache.append("busy", [user("x")])
    assert (cache.stats.sessions, cache.stats.evictions) == (1, 1)


async def test_what_another_entry_added_to_the_list_is_not_taken_for_what_was_foreseen() -> None:
    """A read that found another's turn has not come back to where it is kept; then an append is acknowledged."""
    it = Setup("trust")
    await it.filled(3)
    entry = it.cache._entries[KEY]
    await it.store.fork("s", "aside")
    await it.store.append("aside", [user("aside")])
    aside = await it.store.read(Key("default", "aside"))
    assert entry.grown(aside.info, aside.records[-1:], entry.seen) is not None
    await it.cache.append("s", [user("q3")])
    await it.agrees()
    assert it.asked.reads == []


async def test_what_was_written_lives_no_longer_in_the_cache_than_in_the_store() -> None:
    """Also once what is before it has been read."""
    it = Setup("trust", ttl=100.0, max_age=1_000.0)
    await it.filled(20, last=2)
    await it.cache.append("s", [user("q20"), user("a20")])
    await it.cache.load("s", last=9)
    await it.cache.load("s", last=9)
    it.pass_by(99.0)
    assert len(await it.cache.load("s", last=9)) == 10
    it.pass_by(2.0)
    with pytest.raises(SessionNotFound):
        await it.cache.load("s", last=9)


async def test_two_changes_at_once_are_both_kept() -> None:
    """The second was foreseen where the session no longer is."""
    it = Setup("trust")
    await it.filled(3, last=2)
    await asyncio.gather(it.cache.append("s", [user("one")]), it.cache.append("s", [user("two")]))
    await it.agrees(last=3)
    await it.agrees(last=2)
    assert it.asked.reads == []
    assert it.cache.stats.stale == 0


@BOTH
async def test_an_append_that_drops_what_is_not_here_is_kept_too(mode: Mode) -> None:
    it = Setup(mode, retain=6)
    await it.filled(6, last=3)
    for number in range(10):
        await it.cache.append("s", [user(f"{number}")])
        it.asked.forget()
        shown = await it.cache.session("s", last=2)
        fresh = await it.store.session("s", last=2)
        assert shown.turns == fresh.turns
        assert (shown.info.first, shown.info.messages) == (fresh.info.first, fresh.info.messages)
        assert len(it.asked.reads) == (mode == "validate")
    assert it.cache.stats.misses == 1
    it.pass_by(31.0)
    await it.agrees()
    assert it.cache.stats.misses == 1, "it is whole by now"


def _record(text: str) -> Record:
    return Record.of((user(text),), id=f"turn {text}", time=0.0)


async def test_bytes_that_are_dropped_at_once_are_not_counted() -> None:
    it = Setup("trust")
    await it.filled(3)
    await it.cache.commit(KEY, Change(append=tuple(_record(f"n{number}") for number in range(5)), retain=2))
    await it.agrees()
    assert it.asked.reads == []


@BOTH
async def test_what_only_drops_turns_tells_when_the_session_expires(mode: Mode) -> None:
    it = Setup(mode, ttl=100.0)
    await it.filled(8)
    it.pass_by(20.0)
    await it.cache.commit(KEY, Change(retain=5))
    assert (await it.agrees()).info.expires_in == pytest.approx(100.0)


@pytest.mark.parametrize("dropped", ["before", "after"])
async def test_two_reads_of_a_version_on_both_sides_of_a_drop(dropped: str) -> None:
    """No version changes by it, and what was dropped does not come back."""
    it = Setup("trust", max_age=1_000.0)
    for number in range(6):
        await it.store.append("s", [user(f"{number}")])
    early, late = it.asked.stop("read"), it.asked.stop("read")
    reads = [asyncio.create_task(it.cache.load("s"))]
    await early.sent.wait()
    it.pass_by(1.0)
    reads.append(asyncio.create_task(it.cache.load("s", last=2)))
    await late.sent.wait()
    first, second = (early, late) if dropped == "before" else (late, early)
    await first.land()
    await it.store.commit(KEY, Change(retain=3))
    await second.land()
    second.answer()
    await asyncio.wait([reads[1 if dropped == "before" else 0]])
    first.answer()
    await asyncio.wait(reads)
    assert (await it.cache.session("s", last=2)).info.first == 3


async def test_a_sealed_run_with_a_damaged_turn_hides_no_other() -> None:
    """The run is whole, and what is in it cannot be read."""
    it = Setup()
    await it.store.append("s", [user("a")])
    bad = _record("bad")
    await it.store.commit(KEY, Change(append=(bad.with_payload(bad.payload[:-1]),)))
    for text in "bcd":
        await it.store.append("s", [user(text)])
    await it.store.commit(KEY, Change(seal=Record.seal((await it.store.read(KEY)).records[:2])))
    assert [message.text for message in await it.cache.load("s", last=1)] == ["d"]
    assert len((await it.cache.read(KEY)).records) == len((await it.store.read(KEY)).records)
    for store in (it.store, it.cache):
        with pytest.raises(CorruptRecord):
            await store.load("s")


async def test_a_repeat_is_kept_where_it_tells_nothing_new_and_dropped_where_others_went_on() -> None:
    it = Setup("trust")
    await it.filled(2)

    async def send() -> None:
        await it.cache.append("s", [user("r0")], turn_id="r", open=True)

    await send()
    await send()
    assert it.kept()
    await it.store.append("s", [user("r1")], turn_id="r", part=1)  # no turn more, and a message more
    await send()
    assert not it.kept()
    await it.agrees()


@BOTH
@pytest.mark.parametrize("what", ["rewind", "messages", "save", "pop", "erase", "fork", "seal"])
async def test_what_cuts_or_rewrites_is_dropped(mode: Mode, what: str) -> None:
    it = Setup(mode)
    await it.filled(5)
    if what == "fork":
        await it.filled(2, "source")
        await it.store.erase("s")
        await it.cache.fork("source", "s")
    elif what == "erase":
        await it.cache.erase("s")
    elif what == "seal":
        await it.cache.commit(KEY, Change(seal=Record.seal((await it.store.read(KEY)).records[1:4])))
    elif what == "save":
        await it.cache.save("s", [user("q0"), user("other")], expect=(await it.cache.session("s")).version)
    elif what == "pop":
        await it.cache.pop("s")
    elif what == "rewind":
        await it.cache.rewind("s", turns=2)
    else:
        await it.cache.rewind("s", messages=3)
    assert not it.kept()
    if what == "erase":
        with pytest.raises(SessionNotFound):
            await it.cache.load("s")
    else:
        await it.agrees()


@BOTH
@pytest.mark.parametrize("error", [OutcomeUnknown("?"), Unavailable("?"), HistoryRegressed("?"), OSError("?")])
@pytest.mark.parametrize("done", [False, True])
async def test_a_change_whose_outcome_is_not_known_is_dropped(
    mode: Mode,
    error: Exception,
    done: bool,
) -> None:
    it = Setup(mode)
    await it.filled(3)
    it.asked.fail("commit", error, done=done)
    with pytest.raises(type(error)):
        await it.cache.append("s", [user("perhaps")])
    assert not it.kept()
    assert ("perhaps" in texts(await it.agrees())) is done


@BOTH
async def test_a_change_that_was_cancelled_is_dropped(mode: Mode) -> None:
    it = Setup(mode)
    await it.filled(3)
    stop = it.asked.stop("commit")
    task = asyncio.create_task(it.cache.append("s", [user("perhaps")]))
    await stop.land()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not it.kept()
    assert texts(await it.agrees())[-1] == "perhaps"


@BOTH
@pytest.mark.parametrize("by", ["read", "commit"])
async def test_a_history_that_regressed_is_told_once_and_then_it_goes_on(mode: Mode, by: str) -> None:
    it = Setup(mode, max_age=10.0)
    await it.filled(3)
    saved = dict(it.store._states)  # type: ignore[attr-defined]
    seen = (await it.cache.append("s", [user("lost")])).version
    it.store._states.update(saved)  # type: ignore[attr-defined]
    it.pass_by(11.0)
    with pytest.raises(HistoryRegressed):
        await (it.cache.load("s") if by == "read" else it.cache.append("s", [user("x")], expect=seen))
    assert not it.kept()
    await it.agrees()
    await it.cache.append("s", [user("on")])
    await it.agrees()


# ------------------------------------------------------------------------------------------------- who asks at once


@BOTH
async def test_200_tasks_that_ask_for_a_cold_session_cause_one_read(mode: Mode) -> None:
    it = Setup(mode)
    await it.store.append("s", [user("x")])
    assert len({tuple(map(repr, one)) for one in await asyncio.gather(*(it.cache.load("s") for _ in range(200)))}) == 1
    assert len(it.asked.reads) == 1


@BOTH
async def test_who_asks_while_it_is_read(mode: Mode) -> None:
    """In `validate` a second read begins after they asked, and shows what was stored; in `trust` they join."""
    it = Setup(mode)
    await it.store.append("s", [user("x")])
    stop = it.asked.stop("read")
    first = [asyncio.create_task(it.cache.load("s")) for _ in range(5)]
    await stop.land()
    await it.store.append("s", [user("y")])
    later = [asyncio.create_task(it.cache.load("s")) for _ in range(5)]
    await asyncio.sleep(0)
    stop.answer()
    assert {len(one) for one in await asyncio.gather(*first)} == {1}
    assert {len(one) for one in await asyncio.gather(*later)} == {1 if mode == "trust" else 2}
    assert len(it.asked.reads) == (1 if mode == "trust" else 2)


async def test_nobody_joins_a_read_that_was_sent_too_long_ago() -> None:
    it = Setup("trust", max_age=30.0)
    await it.store.append("s", [user("x")])
    stop = it.asked.stop("read")
    first = asyncio.create_task(it.cache.load("s"))
    await stop.land()
    await it.store.append("s", [user("y")])
    it.pass_by(31.0)
    later = asyncio.create_task(it.cache.load("s"))
    await asyncio.sleep(0)
    stop.answer()
    assert (len(await first), len(await later)) == (1, 2)


@BOTH
@pytest.mark.parametrize("how", ["append", "erase", "told"])
async def test_nobody_joins_a_read_that_an_acknowledged_change_may_have_passed(mode: Mode, how: str) -> None:
    it = Setup(mode)
    await it.store.append("s", [user("x")])
    stop = it.asked.stop("read")
    first = asyncio.create_task(it.cache.load("s"))
    await stop.land()
    if how == "append":
        await it.cache.append("s", [user("mine")])
    elif how == "erase":
        await it.cache.erase("s")
    else:
        await it.store.append("s", [user("theirs")])
        await it.cache.info("s")
    later = asyncio.create_task(it.cache.load("s"))
    await asyncio.sleep(0)
    stop.answer()
    assert len(await first) == 1
    if how == "erase":
        with pytest.raises(SessionNotFound):
            await later
    else:
        assert len(await later) == 2
        await it.agrees()


@BOTH
async def test_one_of_many_is_cancelled_and_the_others_are_not(mode: Mode) -> None:
    it = Setup(mode)
    await it.store.append("s", [user("x")])
    stop = it.asked.stop("read")
    tasks = [asyncio.create_task(it.cache.load("s")) for _ in range(200)]
    await stop.sent.wait()
    tasks[0].cancel()
    stop.answer()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(one, list) for one in found[1:])
    assert len(it.asked.reads) == 1
    assert it.kept()


@BOTH
async def test_a_read_that_nobody_began_leaves_the_next_one_free(mode: Mode) -> None:
    """Whoever ends all tasks of a loop ends the one that reads, before it has begun or while it is held."""
    it = Setup(mode)
    await it.store.append("s", [user("x")])
    for begun in (False, True):
        before = asyncio.all_tasks()
        stop = it.asked.stop("read") if begun else None
        asyncio.create_task(it.cache.load("s")).add_done_callback(lambda task: task.cancelled())
        await asyncio.sleep(0)
        if stop is not None:
            await stop.sent.wait()
        ended = asyncio.all_tasks() - before
        for task in ended:
            task.cancel()
        await asyncio.wait(ended)
        assert len(await it.cache.load("s")) == 1
        it.cache._clear()


@BOTH
async def test_a_read_that_fails_is_told_to_all_and_logged_by_none(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    it = Setup(mode)
    await it.store.append("s", [user("x")])
    it.asked.fail("read", Unavailable("no"))
    with caplog.at_level(logging.DEBUG, "asyncio"):
        found = await asyncio.gather(*(it.cache.load("s") for _ in range(20)), return_exceptions=True)
        assert {type(one) for one in found} == {Unavailable}
        it.asked.fail("read", Unavailable("no"))
        stop = it.asked.stop("read")
        alone = asyncio.create_task(it.cache.load("s"))
        await stop.sent.wait()
        alone.cancel()  # and nobody is left who could be told
        stop.answer()
        await asyncio.wait([alone])
        await asyncio.sleep(0.01)
        del alone, found
        gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert len(await it.cache.load("s")) == 1


# -------------------------------------------------------------------------------------------------------------- missing


async def test_a_session_that_is_not_there_is_remembered_for_a_second_in_trust() -> None:
    it = Setup("trust")
    for seconds, reads in ((0.0, 1), (1.0, 1), (0.001, 2)):
        it.pass_by(seconds)
        with pytest.raises(SessionNotFound):
            await it.cache.load("s")
        assert len(it.asked.reads) == reads
    validate = Setup("validate")
    for reads in (1, 2):
        with pytest.raises(SessionNotFound):
            await validate.cache.load("s")
        assert len(validate.asked.reads) == reads


async def test_and_no_longer_than_max_age() -> None:
    it = Setup("trust", max_age=0.1)
    with pytest.raises(SessionNotFound):
        await it.cache.load("s")
    await it.store.append("s", [user("x")])
    it.pass_by(0.2)
    assert len(await it.cache.load("s")) == 1


@pytest.mark.parametrize("how", ["append", "fork", "merge", "told"])
async def test_what_we_made_ourselves_or_were_told_of_is_there(how: str) -> None:
    it = Setup("trust")
    with pytest.raises(SessionNotFound):
        await it.cache.load("s")
    if how == "append":
        await it.cache.append("s", [user("x")])
    elif how == "merge":
        await it.cache.merge_metadata("s", owner="ann")
    else:
        await it.store.append("source", [user("x")])
        if how == "fork":
            await it.cache.fork("source", "s")
        else:
            await it.store.fork("source", "s")
            await it.cache.info("s")
    await it.agrees()


@pytest.mark.parametrize("made", ["by us", "by another, and read"])
async def test_a_session_that_is_made_while_it_is_found_missing_is_there(made: str) -> None:
    it = Setup("trust")
    stop = it.asked.stop("read")
    task = asyncio.create_task(it.cache.load("s"))
    await stop.land()
    if made == "by us":
        await it.cache.append("s", [user("x")])
    else:
        await it.store.append("s", [user("x")])
        await it.cache.load("s", last=1)
    stop.answer()
    with pytest.raises(SessionNotFound):
        await task
    assert len(await it.cache.load("s")) == 1


async def test_missing_sessions_are_remembered_within_bounds() -> None:
    it = Setup("trust", max_sessions=10)
    for number in range(100):
        with pytest.raises(SessionNotFound):
            await it.cache.load(f"s{number}")
        assert len(it.cache._missing) <= 10


# ---------------------------------------------------------------------------------------------------------------- parts


@BOTH
async def test_a_session_of_which_the_end_is_here_serves_that_and_fetches_the_rest_once(mode: Mode) -> None:
    it = Setup(mode)
    await it.filled(10, last=5)
    for last in (1, 3, 5):
        await it.agrees(last=last)
    asked = [(read["last"], read["before"]) for read in it.asked.reads]
    assert asked == ([] if mode == "trust" else [(1, None), (3, None), (5, None)])
    it.asked.forget()
    await it.agrees(last=9)
    assert [(r["last"], r["before"], r["since"] is None) for r in it.asked.reads] == [
        (9, None, False),
        (3, 7, True),  # what is missing, before what is here
    ]
    await it.agrees()
    it.asked.forget()
    await it.agrees()
    await it.agrees(last=17, before=9)
    assert all(read["since"] is not None and read["before"] is None for read in it.asked.reads)
    assert len(it.asked.reads) == (0 if mode == "trust" else 2)


@BOTH
async def test_before_within_and_outside_of_what_is_here(mode: Mode) -> None:
    it = Setup(mode)
    await it.filled(10, last=6)  # turns 7 to 9
    for last in (None, 1, 2, 4, 8, 50):
        for before in range(12):
            it.asked.forget()
            await it.agrees(last=last, before=before)
            within = last is not None and before > 7 and 2 * (min(before, 10) - 7) >= last
            assert len(it.asked.reads) == (0 if mode == "trust" and within else 1)
            if mode == "validate":
                assert (it.asked.reads[0]["since"] is not None) is within


SEALING: list[tuple[str, Callable[..., Any]]] = [("memory", MemoryBackend), ("sqlite", SQLiteBackend)]


@BOTH
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("run", [(0, 3), (2, 8), (5, 8), (7, 10), (0, 10), (9, 10)])
async def test_where_the_store_has_sealed_since(mode: Mode, kind: str, run: tuple[int, int], tmp_path: Path) -> None:
    """Turns 6 to 9 are here as single records, whatever the store has made of them."""

    def sqlite(**options: Any) -> SQLiteBackend:
        return SQLiteBackend(f"sqlite:///{tmp_path}/t.db", sweep=0, synchronous="NORMAL", **options)

    for last in (None, 3, 10, 13):
        for before in (None, 4, 7, 9):
            it = Setup(mode, store=sqlite if kind == "sqlite" else MemoryBackend, max_age=10.0)
            async with it.cache:
                await it.store.erase("s")
                await it.filled(10, last=8)
                sealed = (await it.store.read(KEY)).records[slice(*run)]
                if len(sealed) > 1:
                    await it.store.commit(KEY, Change(seal=Record.seal(sealed)))
                shown = await it.cache.session("s", last=last, before=before)
                assert shown.turns == (await it.store.session("s", last=last, before=before)).turns
                assert len(it.asked.reads) <= 4
                await it.store.append("s", [user("more"), user("and more")])
                it.pass_by(11.0)
                await it.agrees(last=last, before=before)
                await it.agrees()
                it.asked.forget()
                await it.agrees()
                assert len(it.asked.reads) == (0 if mode == "trust" else 1), "it is whole now"


@BOTH
async def test_where_others_cut_while_the_rest_is_fetched(mode: Mode) -> None:
    it = Setup(mode)
    await it.filled(10, last=4)
    stops = it.asked.stop("read"), it.asked.stop("read")
    task = asyncio.create_task(it.cache.load("s"))
    await stops[0].land()
    await it.store.rewind("s", turns=5)
    stops[0].answer()
    await stops[1].land()
    stops[1].answer()
    assert len(await task) == 10
    await it.agrees()


@BOTH
async def test_what_another_process_no_longer_retains_goes_here_too(mode: Mode) -> None:
    it = Setup(mode, max_age=10.0)
    await it.filled(20)
    bytes_before = it.cache.stats.bytes
    await it.store.commit(KEY, Change(append=(_record("last"),), retain=3))
    it.pass_by(11.0)
    assert len((await it.agrees()).turns) == 3
    entry = it.cache._entries[KEY]
    assert entry.log[entry.start].number == 18
    assert it.cache.stats.bytes < bytes_before / 2


@BOTH
async def test_what_is_no_longer_retained_takes_no_memory(mode: Mode) -> None:
    it = Setup(mode, retain=5)
    await it.filled(1)
    for number in range(300):
        await it.cache.append("s", [user(f"{number} " + "x" * 1000)])
    entry = it.cache._entries[KEY]
    assert len(entry.log) <= 10
    assert entry.size >= 1000 * len(entry.log), "what is still in the list is counted"
    await it.agrees()


# --------------------------------------------------------------------------------------------------------------- bounds


def _sizes(it: Setup) -> int:
    return sum(entry.size for entry in it.cache._entries.values())


@BOTH
async def test_bytes_are_bounded_and_the_least_recently_used_go_first(mode: Mode) -> None:
    it = Setup(mode, max_bytes=100_000)
    for number in range(9):
        await it.store.append(f"s{number}", [user("x" * 20_000)])
    for number in range(4):
        await it.cache.load(f"s{number}")
    await it.cache.load("s0")
    await it.cache.load("s4")
    assert [it.kept(f"s{number}") for number in range(5)] == [True, False, True, True, True]
    for number in range(9):
        await it.cache.load(f"s{number}")
        assert it.cache.stats.bytes == _sizes(it) <= 100_000
    assert it.cache.stats.sessions == 4
    assert it.cache.stats.evictions == it.cache.stats.misses - 4


@BOTH
async def test_a_session_that_is_larger_than_all_of_it_pushes_nobody_out(mode: Mode) -> None:
    it = Setup(mode, max_bytes=100_000)
    await it.filled(3)
    await it.store.append("large", [user("x" * 200_000)])
    for _ in range(2):
        assert len((await it.cache.load("large"))[0].text) == 200_000
    assert it.kept()
    assert not it.kept("large")
    await it.cache.append("s", [user("x" * 200_000)])  # it grows too large
    assert not it.kept()
    assert it.cache.stats.bytes == 0
    await it.agrees()


@BOTH
async def test_metadata_is_counted(mode: Mode) -> None:
    it = Setup(mode)
    await it.filled(1)
    before = it.cache.stats.bytes
    await it.cache.merge_metadata("s", {"a": "x" * 30_000})
    assert 30_000 < it.cache.stats.bytes - before < 31_000
    await it.cache.merge_metadata("s", {"a": None})
    assert it.cache.stats.bytes == before


@BOTH
async def test_sessions_are_bounded_and_idle_ones_go(mode: Mode) -> None:
    it = Setup(mode, max_sessions=3, idle=60.0, max_age=1000.0)
    for number in range(5):
        await it.filled(1, f"s{number}")
        assert it.cache.stats.sessions <= 3
        it.pass_by(10.0)
    assert [it.kept(f"s{number}") for number in range(5)] == [False, False, True, True, True]
    await it.cache.load("s2")
    it.pass_by(55.0)
    await it.filled(1, "new")  # which shows that s3 has not been used for 75 seconds, and s4 for 65
    assert [it.kept(f"s{number}") for number in (2, 3, 4)] == [True, False, False]
    assert it.cache.stats.evictions == 4
    assert it.cache.stats.bytes == _sizes(it)


async def test_stats_say_what_happened() -> None:
    it = Setup("trust", max_age=10.0)
    await it.filled(3, last=2)  # a miss
    await it.cache.load("s", last=1)  # a hit
    await it.cache.load("s")  # a miss: a part is not here
    await it.store.append("s", [user("x")])
    it.pass_by(11.0)
    await it.cache.load("s")  # a hit, and stale
    with pytest.raises(Conflict):
        await it.cache.append("s", [user("x")], expect=Version(b"e" * 16, 0, 0, b"", b""))
    stats = it.cache.stats
    assert (stats.hits, stats.misses, stats.stale, stats.conflicts, stats.evictions) == (2, 2, 1, 1, 0)
    assert (stats.sessions, stats.bytes) == (0, 0)


async def test_a_session_that_had_expired_is_not_said_to_be_somebody_elses_work() -> None:
    it = Setup("trust", ttl=10.0)
    await it.filled(2)
    it.pass_by(11.0)
    await it.cache.append("s", [user("anew")])
    assert it.cache.stats.stale == 0
    await it.agrees()


# ------------------------------------------------------------------------------------------------------- what surrounds


@BOTH
async def test_tenants_share_the_cache_and_nothing_in_it(mode: Mode) -> None:
    it = Setup(mode)
    a, b = it.cache.within("a"), it.cache.within("b")
    for tenant, name in ((a, "a"), (b, "b")):
        await tenant.append("s", [user(name)])
    for _ in range(2):
        assert [m.text for m in await a.load("s")] == ["a"]
        assert [m.text for m in await b.load("s")] == ["b"]
        with pytest.raises(SessionNotFound):
            await it.cache.load("s")
    assert it.cache.stats.sessions == 2
    assert it.cache.stats.hits >= 2
    await a.erase("s")
    with pytest.raises(SessionNotFound):
        await a.load("s")
    assert [m.text for m in await b.load("s")] == ["b"]


@BOTH
async def test_what_a_caller_does_to_what_it_was_given_reaches_nobody(mode: Mode) -> None:
    it = Setup(mode)
    calls: Any = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    await it.store.append("s", [user([{"type": "text", "text": "x"}]), assistant(None, tool_calls=calls)])
    await it.store.merge_metadata("s", {"list": [1]})
    for _ in range(3):
        session = await it.cache.session("s")
        messages: Any = await it.cache.load("s")
        metadata: Any = session.info.metadata
        assert messages[0].content == [{"type": "text", "text": "x"}]
        assert messages[1].tool_calls == calls
        assert metadata["list"] == [1]
        messages[0].content[0]["text"] = "changed"
        messages[1].tool_calls[0]["function"]["name"] = "changed"
        messages[1].to_dict()["tool_calls"].clear()
        metadata["list"].append(2)
        messages.clear()
        session.messages.clear()
        for broken in (lambda s=session: s.records.append(1), lambda s=session: setattr(s.info, "turns", 9)):
            with pytest.raises(AttributeError):
                broken()
    await it.agrees()


@BOTH
async def test_a_damaged_record_hides_no_other(mode: Mode) -> None:
    it = Setup(mode)
    await it.store.append("s", [user("sound")])
    bad = _record("bad")
    await it.store.commit(KEY, Change(append=(bad.with_payload(bad.payload[:-1]),)))
    await it.store.append("s", [user("after")])
    for store in (it.store, it.cache, it.cache):
        assert [m.text for m in await store.load("s", last=1)] == ["after"]
        assert [m.text for m in await store.load("s", before=1)] == ["sound"]
        with pytest.raises(CorruptRecord) as caught:
            await store.load("s")
        assert (caught.value.key, caught.value.turn) == (KEY, 1)
        await store.append("s", [user("after")])


async def test_a_sealed_record_that_is_damaged_is_told_as_without_a_cache() -> None:
    it = Setup()
    await it.filled(10, last=4)
    sealed = Record.seal((await it.store.read(KEY)).records[2:9])
    await it.store.commit(KEY, Change(seal=sealed.with_payload(sealed.payload[:-1])))
    for store in (it.store, it.cache, it.cache):
        with pytest.raises(CorruptRecord) as caught:
            await store.load("s")
        assert (caught.value.key, caught.value.turn) == (KEY, 2)


@BOTH
async def test_opening_and_closing_empty_it(mode: Mode) -> None:
    it = Setup(mode)
    for end in (it.cache.open, it.cache.close):
        await it.filled(2)
        stop = it.asked.stop("read")
        task = asyncio.create_task(it.cache.load("other"))
        await stop.sent.wait()
        await it.store.append("other", [user("x")])
        await stop.land()
        assert it.cache.stats.sessions == 1
        await end()
        stop.answer()
        await task
        assert (it.cache.stats.sessions, it.cache.stats.bytes, it.kept("other")) == (0, 0, False)
    with pytest.raises(TurnlogError, match="not open"):
        await it.cache.load("s")


@BOTH
def test_threads_with_a_loop_each_over_one_cache(mode: Mode, tmp_path: Path) -> None:
    """Each sees its own turns at once and in order, and in the end all of them are there, whoever wrote beside it."""
    threads, turns = 4, 40
    store = SQLiteBackend(f"sqlite:///{tmp_path}/t.db", synchronous="NORMAL", sweep=0)
    cache = CacheLayer(store, mode=mode, max_bytes=60_000)
    problems: list[BaseException] = []

    async def work(me: int) -> None:
        dice = Random(me)
        for turn in range(turns):
            await cache.append("shared", [user(f"{me}:{turn}")])
            shown = [m.text for m in await cache.load("shared")]
            mine = [text for text in shown if text.startswith(f"{me}:")]
            assert mine == [f"{me}:{n}" for n in range(turn + 1)]
            await cache.load("shared", last=dice.randint(1, 10))
            await cache.append(f"own {me}", [user("x" * 300)])
            assert len(await cache.load(f"own {me}")) == turn + 1

    def run(me: int) -> None:
        try:
            asyncio.run(work(me))
        except BaseException as error:  # noqa: BLE001 - it belongs to the test's thread
            problems.append(error)

    async def all_of_them() -> None:
        async with cache:
            workers = [threading.Thread(target=run, args=(me,)) for me in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                await asyncio.to_thread(worker.join)
            assert problems == []
            assert len(await store.load("shared")) == threads * turns
            assert cache.stats.bytes == sum(entry.size for entry in cache._entries.values())
            assert cache._sent == {}

    asyncio.run(all_of_them())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@BOTH
def test_a_child_that_was_forked_begins_anew(mode: Mode, tmp_path: Path) -> None:
    """Also where another thread was changing the cache, or reading for it."""

    def make() -> CacheLayer:
        return CacheLayer(SQLiteBackend(f"sqlite:///{tmp_path}/t.db", sweep=0), mode=mode)

    async def warm(cache: CacheLayer) -> None:
        async with cache.inner:
            await cache.append("s", [user("x")])
            assert len(await cache.load("s")) == 1

    async def child(cache: CacheLayer) -> int:
        async with cache:
            await cache.append("s", [user("from the child")])
            return len(await cache.load("s"))

    cache = make()
    asyncio.run(warm(cache))
    assert cache.stats.sessions == 1
    with cache._lock:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                empty = cache.stats.sessions == 0 == cache.stats.bytes
                code = 0 if empty and asyncio.run(asyncio.wait_for(child(cache), 10)) == 2 else 1
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert cache.stats.sessions == 1


# -------------------------------------------------------------------------------------------------------- configuration


def test_the_order_that_makes_no_sense_is_refused_and_the_right_one_said() -> None:
    for wrong, said in (
        ("zstd,cache", "nearer to the store"),
        ("gzip,cache", "nearer to the store"),
        ("cache,cache", "is there twice"),
        ("cache,zstd,cache", "is there twice"),
    ):
        with pytest.raises(ConfigError, match=said):
            open_store(f"memory://?layers={wrong}")
    with pytest.raises(InvalidInput, match="a stack takes one"):
        CacheLayer(CacheLayer(MemoryBackend()))
    stack = open_store("memory://?layers=cache,zstd")
    assert isinstance(stack, CacheLayer)
    assert isinstance(stack.inner, ZstdLayer)


@pytest.mark.parametrize(
    "option",
    [
        {"mode": "hope"},
        {"max_age": 0},
        {"max_age": float("inf")},
        {"max_age": float("nan")},
        {"max_age": "30"},
        {"max_age": True},
        {"idle": -1},
        {"max_bytes": 0},
        {"max_bytes": 1.5},
        {"max_bytes": True},
        {"max_sessions": 0},
        {"max_sessions": "many"},
    ],
)
def test_bad_options_are_refused_by_name(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(option))):
        CacheLayer(MemoryBackend(), **option)


def test_a_layer_is_found_wherever_it_stands() -> None:
    cache = CacheLayer(ZstdLayer(MemoryBackend()))
    assert CacheLayer.find(Layer(cache).within("shop")) is cache
    with pytest.raises(InvalidInput, match=r"there is no CacheLayer in <ZstdLayer over <MemoryBackend"):
        CacheLayer.find(cache.inner)


def test_options_come_from_configuration() -> None:
    layer = {"name": "cache", "mode": "trust", "max_age": "2m", "max_bytes": 1000, "max_sessions": 7, "idle": "1h"}
    cache = open_store("memory://", layers=[layer])
    assert isinstance(cache, CacheLayer)
    assert (cache.mode, cache.max_age, cache.max_bytes, cache.max_sessions, cache.idle) == (
        "trust",
        120,
        1000,
        7,
        3600,
    )
    with pytest.raises(ConfigError, match="mode"):
        open_store("memory://", layers=[{"name": "cache", "mode": "hope"}])
    with pytest.raises(ConfigError, match="max_age"):
        open_store("memory://", layers=[{"name": "cache", "maxage": 3}])

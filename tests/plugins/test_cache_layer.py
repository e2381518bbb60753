"""The calls of the cache to its backend, the entries that it keeps, and the reasons to drop an entry."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cached import Setup, texts
from turnlog import (
    ABSENT,
    ANY,
    PRESENT,
    Backend,
    Change,
    ConfigError,
    Conflict,
    CorruptRecord,
    Expect,
    HistoryRegressed,
    InvalidInput,
    Key,
    Layer,
    Message,
    MessageLayer,
    OutcomeUnknown,
    PayloadLayer,
    Receipt,
    Record,
    Session,
    SessionNotFound,
    Store,
    Times,
    Unavailable,
    Version,
    assistant,
    open_store,
    user,
)
from turnlog.errors import Closed
from turnlog.payload import wrap
from turnlog_cache import CacheLayer, CacheStats
from turnlog_cache._layer import Mode
from turnlog_compression import GzipLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend
from watched import KEY

BOTH = pytest.mark.parametrize("mode", ["validate", "trust"])


# -------------------------------------------------------------------------------------------------------------- reading


async def test_validate_reads_once_with_since_and_last_and_gets_nothing_if_nothing_is_new() -> None:
    it = Setup()
    await it.fill(5)
    version = (await it.other_process.session("s")).version
    answered: list[int] = []
    inner_read = it.backend.read

    async def read(*arguments: Any, **options: Any) -> Session:
        session = await inner_read(*arguments, **options)
        answered.append(len(session.records))
        return session

    it.backend.read = read  # type: ignore[method-assign]
    assert [m.text for m in await it.store.load("s", last=3)] == ["q3", "a3", "q4", "a4"]
    assert it.watched.reads == [("default", "s", 3, None, version, True)]
    await it.store.load("s")
    assert answered == [0, 0]
    assert (it.cache.counters.hits, it.cache.counters.misses, it.cache.counters.stale) == (2, 1, 0)


@BOTH
@pytest.mark.parametrize(
    "parts", [{}, {"append": (Record.of((user("x"),), id="x", time=0.0),)}, {"metadata": {"a": 1}}]
)
async def test_times_that_a_change_carries_are_those_of_the_entry(mode: Mode, parts: dict[str, Any]) -> None:
    # Seen failing when a change that leaves the version counts as a repeat.
    it = Setup(mode, ttl=400.0)
    await it.fill(3)
    it.advance(10)
    now = it.clock.now
    await it.cache.commit(KEY, Change(**parts, times=Times(now - 90, now - 80, now + 70)))
    assert (await it.agrees()).info.updated == now - 80
    it.advance(10)
    await it.store.merge_metadata("s", {"title": "renamed"})
    assert (await it.agrees()).info.updated == now - 80
    await it.store.append("s", [user("more")])
    assert (await it.agrees()).info.updated == now + 10


async def test_validate_gets_only_the_new_records() -> None:
    it = Setup()
    await it.fill(5)
    version = (await it.other_process.session("s")).version
    await it.other_process.append("s", [user("new")])
    assert texts(await it.agrees())[-1] == "new"
    assert [read.since for read in it.watched.reads] == [version]
    assert it.cache.counters.stale == 1


async def test_trust_does_not_read_within_max_age_and_reads_again_after_it() -> None:
    it = Setup("trust", max_age=10.0)
    await it.fill(5)
    await it.other_process.append("s", [user("new")])
    it.advance(10.0)
    for part in ({}, {"last": 3}, {"before": 2}, {"last": 1, "before": 4}):
        assert "new" not in [message.text for message in await it.store.load("s", **part)]
    assert it.watched.reads == []
    it.advance(0.001)
    assert (await it.store.load("s"))[-1].text == "new"
    assert len(it.watched.reads) == 1
    it.advance(10.0)
    assert (await it.store.load("s"))[-1].text == "new"
    assert len(it.watched.reads) == 1, "the entry is valid for another max_age"


@pytest.mark.parametrize("source", ["read", "receipt", "its own ttl"])
async def test_no_entry_outlives_its_session(source: str) -> None:
    it = Setup("trust", ttl=20.0, max_age=1000.0)
    await it.fill(2)
    lives = 20.0
    if source != "read":
        it.advance(10.0)
        own: Any = {"ttl": 8.0} if source == "its own ttl" else {"owner": "ann"}
        await it.store.merge_metadata("s", **own)
        lives = 8.0 if source == "its own ttl" else 20.0
        it.watched.clear()
    it.advance(lives - 0.01)
    session = await it.store.session("s")
    assert session.info.expires_in == pytest.approx(0.01, abs=1e-3)
    assert it.watched.reads == []
    it.advance(0.02)
    with pytest.raises(SessionNotFound):
        await it.store.load("s")
    assert not it.has()


async def test_a_trusted_read_extends_no_life_and_the_next_validating_read_does() -> None:
    it = Setup("trust", ttl=20.0, max_age=5.0)
    await it.fill(2)
    it.advance(5.0)
    await it.store.load("s")
    assert (await it.other_process.info("s")).expires_in == pytest.approx(15.0)
    it.advance(1.0)
    await it.store.load("s")
    assert (await it.other_process.info("s")).expires_in == pytest.approx(20.0)


@BOTH
async def test_jumps_of_the_backends_clock_change_nothing(mode: Mode) -> None:
    it = Setup(mode, max_age=10.0)
    await it.fill(3)
    for jump in (-86_400.0, 3 * 86_400.0):
        it.clock.advance(jump)
        await it.store.append("s", [user("at another time")])
        await it.agrees()
    assert len(it.watched.reads) == (0 if mode == "trust" else 2)


async def test_no_older_state_is_served_after_a_forwarded_read_returned_a_newer_one() -> None:
    """In `trust` mode the cache also forwards `info`, a read of a part that is not cached, and a read with `since`."""
    reads: list[Callable[[Setup, Version], Awaitable[object]]] = [
        lambda it, _: it.store.info("s"),
        lambda it, _: it.store.touch("s"),
        lambda it, seen: it.cache.read(KEY, since=seen),
        lambda it, _: it.store.load("s", before=1),
    ]
    for read in reads:
        it = Setup("trust")
        await it.fill(5, last=2)
        seen = (await it.other_process.session("s")).version
        await it.other_process.append("s", [user("new")])
        await read(it, seen)
        assert (await it.store.load("s", last=1))[-1].text == "new"
        assert it.cache.counters.stale == 1


@pytest.mark.parametrize("read", ["info", "part"])
async def test_a_session_that_a_forwarded_read_did_not_find_is_dropped(read: str) -> None:
    it = Setup("trust")
    await it.fill(5, last=2)
    await it.other_process.erase("s")
    with pytest.raises(SessionNotFound):
        await (it.store.info("s") if read == "info" else it.store.load("s"))
    with pytest.raises(SessionNotFound):
        await it.store.load("s", last=1)


# -------------------------------------------------------------------------------------------------------------- writing


@BOTH
async def test_a_write_that_expects_the_version_of_a_stale_read_is_refused(mode: Mode) -> None:
    it = Setup(mode)
    await it.fill(3)
    seen = (await it.store.session("s")).version
    await it.other_process.append("s", [user("between")])
    for write in (
        it.store.append("s", [user("mine")], expect=seen),
        it.store.rewind("s", turns=1, expect=seen),
        it.store.rewind("s", messages=1, expect=seen),
        it.store.save("s", [user("mine")], expect=seen),
    ):
        with pytest.raises(Conflict):
            await write
    with pytest.raises(Conflict):
        await it.store.merge_metadata("s", {"b": 1}, expect=seen)
    with pytest.raises(Conflict):
        await it.store.erase("s", expect=seen)
    assert not it.has()
    assert it.cache.counters.conflicts >= 1
    assert texts(await it.agrees())[-1] == "between"


@BOTH
async def test_the_backend_compares_each_strength_of_a_version(mode: Mode) -> None:
    """A change of metadata conflicts only with `version.exact`. A change of turns also conflicts with `version`."""
    it = Setup(mode)
    await it.fill(3)
    seen = (await it.store.session("s")).version
    await it.other_process.merge_metadata("s", {"a": 1})
    for write in (it.store.append("s", [user("mine")], expect=seen.exact), it.store.erase("s", expect=seen.exact)):
        with pytest.raises(Conflict):
            await write
    await it.store.append("s", [user("mine")], expect=seen)
    for write in (it.store.append("s", [user("mine")], expect=seen), it.store.fork("s", "copy", expect=seen)):
        with pytest.raises(Conflict):
            await write
    await it.store.append("s", [user("mine")], expect=seen.session)
    await it.other_process.erase("s")
    await it.other_process.append("s", [user("anew")])
    for write in (
        it.store.append("s", [user("mine")], expect=seen.session),
        it.store.fork("s", "copy", expect=seen.session),
    ):
        with pytest.raises(Conflict):
            await write
    assert await it.store.erase("s", expect=PRESENT)
    for write in (
        it.store.append("s", [user("mine")], expect=PRESENT),
        it.store.erase("s", expect=PRESENT),
        it.store.fork("s", "copy", expect=PRESENT),
    ):
        with pytest.raises(SessionNotFound):
            await write


@BOTH
@pytest.mark.parametrize("owner", [None, "ann"])
async def test_every_condition_and_owner_reaches_the_backend(mode: Mode, owner: str | None) -> None:
    it = Setup(mode)
    conditions: list[Callable[[Version], Expect]] = [
        lambda _: None,
        lambda _: PRESENT,
        lambda seen: seen.session,
        lambda seen: seen,
        lambda seen: seen.exact,
    ]
    for number, condition in enumerate(conditions):
        for kind in ("copy", "commit", "delete"):
            await it.store.append("s", [user("x")], owner="ann")
            expect = condition((await it.store.session("s")).version)
            it.watched.clear()
            if kind == "copy":
                target = Key("default", f"copy {number}")
                await it.cache.copy(KEY, target, at=None, change_id="c", expect=expect, for_owner=owner)
            elif kind == "commit":
                await it.cache.commit(KEY, Change(metadata={"a": 1}, expect=expect, for_owner=owner))
            else:
                await it.cache.delete(KEY, expect=expect, for_owner=owner)
            assert it.watched.options == [(kind, expect, owner)]


@pytest.mark.parametrize("how", ["rewind", "save", "save without a condition"])
async def test_a_write_that_expects_a_later_version_is_not_computed_from_a_trusted_read(how: str) -> None:
    """Another process gave the caller a version. The last two messages of the session are not the cached ones."""
    it = Setup("trust")
    await it.fill(3)
    receipt = await it.other_process.append("s", [user("between"), user("and")])
    stored = await it.other_process.load("s")
    if how == "rewind":
        await it.store.rewind("s", messages=2, expect=receipt.version)
        assert await it.other_process.load("s") == stored[:-2], "the cut was computed from old turns"
        return
    if how == "save without a condition":
        await it.other_process.rewind("s", turns=3)
        stored = await it.other_process.load("s")
    await it.store.save("s", [*stored, user("new")], expect=receipt.version if how == "save" else None)
    assert await it.other_process.load("s") == [*stored, user("new")]


@BOTH
async def test_an_append_without_a_condition_is_never_refused_and_its_receipt_shows_a_stale_entry(mode: Mode) -> None:
    it = Setup(mode)
    await it.fill(3)
    await it.other_process.append("s", [user("between")])
    await it.store.append("s", [user("mine")])
    assert not it.has()
    assert it.cache.counters.stale == 1
    assert texts(await it.agrees())[-2:] == ["between", "mine"]


@BOTH
@pytest.mark.parametrize("last", [None, 3])
async def test_own_writes_are_cached_without_another_read(mode: Mode, last: int | None) -> None:
    it = Setup(mode, ttl=1000.0)
    await it.fill(5, last=last)
    writes: list[Callable[[], Awaitable[object]]] = [
        lambda: it.store.append("s", [user("one"), assistant("two")]),
        lambda: it.store.append("s", [user("round 0")], turn_id="r", open=True),
        lambda: it.store.append("s", [assistant("round 1")], turn_id="r", part=1, open=True),
        lambda: it.store.append("s", [assistant("round 2")], turn_id="r", part=2),
        lambda: it.store.append("s", [user("all")], metadata={"a": 1, "b": [2]}),
        lambda: it.store.merge_metadata("s", {"a": None, "c": "d"}),
        lambda: it.store.merge_metadata("s", owner="bob"),
        lambda: it.store.for_owner("bob").append("s", [user("bob's")], expect=PRESENT),
        lambda: Store(it.cache, max_session_bytes=100_000).append("s", [user("limited")]),
        lambda: it.store.merge_metadata("s", ttl=500.0),
        lambda: it.store.merge_metadata("s", ttl=0),
    ]
    if last is None:  # with a part of the session, the cache does not know the size of dropped turns
        writes.append(lambda: it.cache.commit(KEY, Change(append=(_record("r"),), retain=4)))
        writes.append(lambda: it.cache.commit(KEY, Change(retain=2)))
    for write in writes:
        it.advance(1.0)
        await write()
        it.watched.clear()
        await it.agrees(last=3)
        assert [(r.last, r.since is None) for r in it.watched.reads] == [(3, False)] * (mode == "validate")
        if last is None:
            await it.agrees()
    assert it.cache.counters.stale == 0
    assert it.cache.counters.misses == 1


@BOTH
@pytest.mark.parametrize("ttl", [None, 100.0])
async def test_a_session_that_is_made_through_the_cache_is_cached(mode: Mode, ttl: float | None) -> None:
    """The cache does not read its first turn again."""
    it = Setup(mode, ttl=ttl)
    first: list[Callable[[], Awaitable[object]]] = [
        lambda: it.store.append("s", [user("one"), assistant("two")]),
        lambda: it.store.append("s", [user("round 0")], turn_id="r", open=True, expect=ABSENT),
        lambda: it.store.append("s", [user("all")], metadata={"a": 1, "b": [2]}),
        lambda: it.store.save("s", [user("one"), assistant("two"), user("three")]),
        lambda: it.store.merge_metadata("s", {"a": 1}, ttl=500.0),
        lambda: it.cache.commit(KEY, Change(append=(_record("r"),), retain=4, first=17)),
        lambda: it.store.for_owner("ann").append("s", [user("one")]),
    ]
    for make in first:
        await make()
        it.watched.clear()
        it.advance(1.0)
        await it.agrees()
        await it.store.append("s", [user("next")])
        await it.agrees(last=3)
        assert [read.since is None for read in it.watched.reads] == [False, False] * (mode == "validate")
        await it.cache.delete(KEY)
    assert it.cache.counters.misses == 1, "save reads first"
    assert it.cache.counters.stale == 0


@BOTH
async def test_a_new_session_of_which_the_first_commit_dropped_turns_is_read(mode: Mode) -> None:
    it = Setup(mode)
    await it.cache.commit(KEY, Change(append=tuple(_record(f"m{n}") for n in range(5)), retain=2))
    await it.agrees()
    assert it.cache.counters.misses == 1


@pytest.mark.parametrize(
    "how", ["deleted", "deleted and made again", "expired", "made by another process", "extended and read"]
)
async def test_another_change_between_the_commit_that_makes_a_session_and_its_answer(how: str) -> None:
    it = Setup("trust", ttl=60.0)
    hold = it.watched.hold("commit")
    writing = asyncio.create_task(it.store.append("s", [user("q"), assistant("a")]))
    if how == "made by another process":
        await hold.sent.wait()
        await it.other_process.append("s", [user("another's")])
    await hold.apply()
    if how in ("deleted", "deleted and made again"):
        await it.cache.delete(KEY)
    if how == "deleted and made again":
        await it.other_process.append("s", [user("another's")])
    if how == "expired":
        it.advance(61.0)
    if how == "extended and read":
        await it.other_process.append("s", [user("another's")])
        await it.store.load("s")
    hold.answer()
    await writing
    if how in ("deleted", "expired"):
        with pytest.raises(SessionNotFound):
            await it.store.load("s")
    else:
        await it.agrees()
    assert it.watched.reads


@BOTH
@pytest.mark.parametrize("made", ["through the cache", "by another process"])
async def test_a_repeat_of_the_change_that_made_a_session_makes_no_entry(mode: Mode, made: str) -> None:
    it = Setup(mode)
    change = Change(append=(_record("r"),))
    await (it.cache if made == "through the cache" else it.backend).commit(KEY, change)
    await it.other_process.append("s", [user("another's")])
    await it.cache.open()  # empties the cache
    receipt = await it.cache.commit(KEY, change)
    assert receipt.previous == receipt.version
    await it.agrees()


class Together(Layer):
    """Answers a read and a later deletion in one iteration of the event loop."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.gate = asyncio.Event()

    async def read(self, key: Key, **options: Any) -> Session:
        session = await self.inner.read(key, **options)
        await self.gate.wait()
        return session

    async def delete(self, key: Key, **options: Any) -> bool:
        found = await self.inner.delete(key, **options)
        await self.gate.wait()
        return found


async def test_no_read_joins_one_that_has_its_answer() -> None:
    """The deletion is acknowledged after that answer, in the same iteration of the event loop."""
    together = Together(MemoryBackend())
    store = Store(CacheLayer(together, mode="trust"))
    await store.append("s", [user("secret")])
    await store.backend.open()  # empties the cache

    async def erase() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await store.erase("s")
        with pytest.raises(SessionNotFound):
            await store.load("s")

    both = asyncio.gather(store.load("s"), erase())
    for _ in range(5):
        await asyncio.sleep(0)
    together.gate.set()
    assert [message.text for message in (await both)[0]] == ["secret"]


@BOTH
async def test_several_records_in_one_change_are_cached(mode: Mode) -> None:
    it = Setup(mode)
    await it.fill(5, last=4)
    await it.cache.commit(KEY, Change(append=tuple(_record(f"m{n}") for n in range(3))))
    it.watched.clear()
    await it.agrees(last=6)
    assert len(it.watched.reads) == (mode == "validate")
    assert it.cache.counters.stale == 0


@BOTH
@pytest.mark.parametrize("ttl", [None, 100.0])
@pytest.mark.parametrize("retain", [None, 4])
async def test_windows_stay_right_while_the_session_changes(mode: Mode, ttl: float | None, retain: int | None) -> None:
    """Turns have one to five messages, or rounds of them; a read by number of messages begins at the right turn."""
    chance = Random(7)
    for last in (1, 2, 3, 5, 8, 300, None):
        it = Setup(mode, ttl=ttl, retain=retain)
        await it.fill(8, last=last)
        part, id = 0, "first"
        for number in range(30):
            said = [user(f"{number}.{place}") for place in range(chance.randint(1, 5))]
            more = chance.random() < 0.3
            await it.store.append("s", said, turn_id=id, part=part, open=more)
            part, id = (part + 1, id) if more else (0, f"turn {number}")
            if mode == "validate" and chance.random() < 0.2:
                await it.other_process.append("s", [user(f"{number}, and another")])
                await it.store.load("s", last=1, before=1_000)  # shows the change to the cache, but not the new turn
                part, id = 0, f"another turn {number}"
            if chance.random() < 0.2:
                await it.store.merge_metadata("s", {"number": number})
            if chance.random() < 0.2:  # some changes are not followed by a read
                continue
            it.advance(1.0)
            shown, stored = await it.store.session("s", last=last), await it.other_process.session("s", last=last)
            assert shown.turns == stored.turns
            assert (shown.version, shown.info.first) == (stored.version, stored.info.first)
            assert (shown.info.messages, shown.info.metadata) == (stored.info.messages, stored.info.metadata)
            assert shown.messages == [message for turn in shown.turns for message in turn.messages]
            assert await it.store.load("s", last=last) == await it.other_process.load("s", last=last)
        assert it.cache.counters.misses <= 2, "the entry was dropped"
        if mode == "trust":
            assert len(it.watched.reads) <= 1


@pytest.mark.parametrize("lost", [False, True])
async def test_a_change_is_not_shown_before_it_is_stored(lost: bool) -> None:
    it = Setup("trust")
    await it.fill(3, last=2)
    hold = it.watched.hold("commit")
    if lost:
        it.watched.fail("commit", Unavailable("no server"))
    writing = asyncio.ensure_future(it.store.append("s", [user("q3"), user("a3")]))
    await hold.sent.wait()
    assert [m.text for m in await it.store.load("s", last=2)] == ["q2", "a2"]
    hold.answer()
    if lost:
        with pytest.raises(Unavailable):
            await writing
        assert [m.text for m in await it.store.load("s", last=2)] == ["q2", "a2"]
    else:
        await writing
        assert [m.text for m in await it.store.load("s", last=2)] == ["q3", "a3"]
        assert it.watched.reads == []


@BOTH
async def test_metadata_that_another_process_sets_during_a_commit_are_shown(mode: Mode) -> None:
    """The turns are as the cache computed them, but the metadata are not."""
    it = Setup(mode)
    await it.fill(3)
    hold = it.watched.hold("commit")
    writing = asyncio.ensure_future(it.store.append("s", [user("q3")]))
    await hold.sent.wait()
    await it.other_process.merge_metadata("s", {"mood": "changed"})
    hold.answer()
    await writing
    await it.agrees()
    assert it.cache.counters.stale == 1


@BOTH
async def test_a_repeat_of_another_processs_change_is_not_cached_as_a_new_one(mode: Mode) -> None:
    """Its version is the computed one. Its time is not, and the session has grown since."""
    it = Setup(mode)
    await it.fill(3, last=2)
    await it.other_process.append("s", [user("x")], turn_id="x", open=True)
    it.advance(5.0)
    await it.other_process.append("s", [user("y")], turn_id="x", part=1)
    it.advance(5.0)
    await it.store.append("s", [user("x")], turn_id="x", open=True)
    await it.agrees(last=2)
    await it.agrees()


@BOTH
async def test_a_sealed_record_that_is_appended_counts_as_its_turns(mode: Mode) -> None:
    it = Setup(mode)
    await it.fill(3, last=1)
    await it.store.load("s", last=1)
    for number in range(3):
        await it.other_process.append("other", [user(f"{number}"), assistant("yes")])
    run = Record.seal((await it.backend.read(Key("default", "other"))).records)
    await it.cache.commit(KEY, Change(append=(run,)))
    assert len((await it.agrees(last=1)).messages) == 2
    assert await it.store.load("s", last=1) == await it.other_process.load("s", last=1)


class EncodesLater(Layer):
    """Encodes the records of a change after the cache has measured them."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        await asyncio.sleep(0)
        receipt = await self.inner.commit(key, change)
        for record in change.append:
            _ = record.payload
        return receipt


async def test_a_dropped_record_is_subtracted_at_the_size_that_was_added() -> None:
    """A string with non-ASCII characters takes more memory once it has been encoded."""
    cache = CacheLayer(EncodesLater(MemoryBackend()), mode="trust")
    store = Store(cache, retain=3)
    for number in range(40):
        await store.append("s", [user("ж" * 5000 + str(number))], turn_id=f"{number}", open=True)
        await store.append("s", [user("ж" * 5000 + str(number))], turn_id=f"{number}", part=1)
        await store.load("s")
        assert 0 <= cache.counters.bytes <= 600_000
    assert cache.counters.bytes > 60_000


@pytest.mark.parametrize("waits", [False, True])
async def test_commits_alone_drop_idle_sessions(waits: bool) -> None:
    """The backend answers at once, or after other tasks have run."""
    it = Setup("trust", max_age=1e6, idle=60.0)
    cache = it.cache if waits else CacheLayer(it.backend, mode="trust", max_age=1e6, idle=60.0, timer=it.timer)
    store = Store(cache)
    for name in ("idle", "busy"):
        await it.other_process.append(name, [user("x")])
        await store.load(name)
    for _ in range(3):
        it.advance(40.0)
        await store.append("busy", [user("x")])
    assert (cache.counters.sessions, cache.counters.evictions) == (1, 1)


async def test_two_entries_that_share_a_list_each_see_their_own_records() -> None:
    """A read finds a turn of another process. Before the cache stores its entry, an append is acknowledged."""
    it = Setup("trust")
    await it.fill(3)
    entry = it.cache._entries[KEY]
    await it.other_process.fork("s", "aside")
    await it.other_process.append("aside", [user("aside")])
    aside = await it.backend.read(Key("default", "aside"))
    assert entry.grown(aside.info, aside.records[-1:], entry.seen) is not None
    await it.store.append("s", [user("q3")])
    await it.agrees()
    assert it.watched.reads == []


async def test_a_written_turn_lives_no_longer_in_the_cache_than_in_the_backend() -> None:
    """The same holds after a read of earlier turns."""
    it = Setup("trust", ttl=100.0, max_age=1_000.0)
    await it.fill(20, last=2)
    await it.store.append("s", [user("q20"), user("a20")])
    await it.store.load("s", last=9)
    await it.store.load("s", last=9)
    it.advance(99.0)
    assert len(await it.store.load("s", last=9)) == 10
    it.advance(2.0)
    with pytest.raises(SessionNotFound):
        await it.store.load("s", last=9)


async def test_two_concurrent_changes_are_both_cached() -> None:
    """The second was sent before the first was acknowledged."""
    it = Setup("trust")
    await it.fill(3, last=2)
    await asyncio.gather(it.store.append("s", [user("one")]), it.store.append("s", [user("two")]))
    await it.agrees(last=3)
    await it.agrees(last=2)
    assert it.watched.reads == []
    assert it.cache.counters.stale == 0


@BOTH
async def test_an_append_that_drops_turns_outside_the_entry_is_cached(mode: Mode) -> None:
    it = Setup(mode, retain=6)
    await it.fill(6, last=3)
    for number in range(10):
        await it.store.append("s", [user(f"{number}")])
        it.watched.clear()
        shown = await it.store.session("s", last=2)
        stored = await it.other_process.session("s", last=2)
        assert shown.turns == stored.turns
        assert (shown.info.first, shown.info.messages) == (stored.info.first, stored.info.messages)
        assert len(it.watched.reads) == (mode == "validate")
    assert it.cache.counters.misses == 1
    it.advance(31.0)
    await it.agrees()
    assert it.cache.counters.misses == 1, "the entry is whole"


def _record(text: str) -> Record:
    return Record.of((user(text),), id=f"turn {text}", time=0.0)


async def test_records_that_their_own_change_drops_are_not_counted() -> None:
    it = Setup("trust")
    await it.fill(3)
    await it.cache.commit(KEY, Change(append=tuple(_record(f"n{number}") for number in range(5)), retain=2))
    await it.agrees()
    assert it.watched.reads == []


@BOTH
async def test_a_change_that_only_drops_turns_extends_the_life_of_the_entry(mode: Mode) -> None:
    it = Setup(mode, ttl=100.0)
    await it.fill(8)
    it.advance(20.0)
    await it.cache.commit(KEY, Change(retain=5))
    assert (await it.agrees()).info.expires_in == pytest.approx(100.0)


@pytest.mark.parametrize("dropped", ["before", "after"])
async def test_dropped_turns_do_not_come_back(dropped: str) -> None:
    """Two reads overlap a change that drops turns. The change does not alter the version."""
    it = Setup("trust", max_age=1_000.0)
    for number in range(6):
        await it.other_process.append("s", [user(f"{number}")])
    early, late = it.watched.hold("read"), it.watched.hold("read")
    reads = [asyncio.create_task(it.store.load("s"))]
    await early.sent.wait()
    it.advance(1.0)
    reads.append(asyncio.create_task(it.store.load("s", last=2)))
    await late.sent.wait()
    first, second = (early, late) if dropped == "before" else (late, early)
    await first.apply()
    await it.backend.commit(KEY, Change(retain=3))
    await second.apply()
    second.answer()
    await asyncio.wait([reads[1 if dropped == "before" else 0]])
    first.answer()
    await asyncio.wait(reads)
    assert (await it.store.session("s", last=2)).info.first == 3


async def test_a_sealed_record_with_a_damaged_turn_hides_no_other_record() -> None:
    """The envelope of the damaged turn is sound, so the backend can seal the record; its body holds no messages."""
    it = Setup()
    await it.other_process.append("s", [user("a")])
    await it.backend.commit(KEY, Change(append=(_record("bad").with_payload(wrap(b"\x01")),)))
    for text in "bcd":
        await it.other_process.append("s", [user(text)])
    assert await it.backend.seal(KEY, Record.seal((await it.backend.read(KEY)).records[:2]))
    assert [message.text for message in await it.store.load("s", last=1)] == ["d"]
    assert len((await it.cache.read(KEY)).records) == len((await it.backend.read(KEY)).records)
    for store in (it.other_process, it.store):
        with pytest.raises(CorruptRecord):
            await store.load("s")


async def test_a_repeat_keeps_the_entry_unless_another_process_wrote_since() -> None:
    it = Setup("trust")
    await it.fill(2)

    async def send() -> None:
        await it.store.append("s", [user("r0")], turn_id="r", open=True)

    await send()
    await send()
    assert it.has()
    await it.other_process.append("s", [user("r1")], turn_id="r", part=1)  # one more message, but no more turns
    await send()
    assert not it.has()
    await it.agrees()


@BOTH
@pytest.mark.parametrize("what", ["rewind", "messages", "save", "pop", "erase", "fork", "seal"])
async def test_a_cut_a_replacement_or_a_seal_drops_the_entry(mode: Mode, what: str) -> None:
    it = Setup(mode)
    await it.fill(5)
    if what == "fork":
        await it.fill(2, "source")
        await it.other_process.erase("s")
        await it.store.fork("source", "s")
    elif what == "erase":
        await it.store.erase("s")
    elif what == "seal":
        assert await it.cache.seal(KEY, Record.seal((await it.backend.read(KEY)).records[1:4]))
    elif what == "save":
        await it.store.save("s", [user("q0"), user("other")], expect=(await it.store.session("s")).version)
    elif what == "pop":
        await it.store.pop("s")
    elif what == "rewind":
        await it.store.rewind("s", turns=2)
    else:
        await it.store.rewind("s", messages=3)
    assert not it.has()
    if what == "erase":
        with pytest.raises(SessionNotFound):
            await it.store.load("s")
    else:
        await it.agrees()


@BOTH
@pytest.mark.parametrize("error", [OutcomeUnknown("?"), Unavailable("?"), HistoryRegressed("?"), OSError("?")])
@pytest.mark.parametrize("applied", [False, True])
async def test_a_failed_change_drops_the_entry(mode: Mode, error: Exception, applied: bool) -> None:
    it = Setup(mode)
    await it.fill(3)
    it.watched.fail("commit", error, applied=applied)
    with pytest.raises(type(error)):
        await it.store.append("s", [user("perhaps")])
    assert not it.has()
    assert ("perhaps" in texts(await it.agrees())) is applied


@BOTH
async def test_a_refused_fork_drops_the_entry_of_its_source(mode: Mode) -> None:
    """The caller reads the source again and finds the version that the fork must expect."""
    it = Setup(mode)
    await it.fill(3)
    seen = (await it.store.session("s")).version
    await it.other_process.append("s", [user("between")])
    with pytest.raises(Conflict):
        await it.store.fork("s", "copy", expect=seen)
    assert not it.has()
    await it.store.fork("s", "copy", expect=(await it.store.session("s")).version)
    await it.agrees("copy")


@BOTH
async def test_a_cancelled_change_drops_the_entry(mode: Mode) -> None:
    it = Setup(mode)
    await it.fill(3)
    hold = it.watched.hold("commit")
    task = asyncio.create_task(it.store.append("s", [user("perhaps")]))
    await hold.apply()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not it.has()
    assert texts(await it.agrees())[-1] == "perhaps"


@BOTH
@pytest.mark.parametrize("by", ["read", "commit"])
async def test_a_regressed_history_is_reported_once(mode: Mode, by: str) -> None:
    it = Setup(mode, max_age=10.0)
    await it.fill(3)
    assert isinstance(it.backend, MemoryBackend)
    saved = dict(it.backend._states)
    seen = (await it.store.append("s", [user("lost")])).version
    it.backend._states.update(saved)
    it.advance(11.0)
    with pytest.raises(HistoryRegressed):
        await (it.store.load("s") if by == "read" else it.store.append("s", [user("x")], expect=seen))
    assert not it.has()
    await it.agrees()
    await it.store.append("s", [user("on")])
    await it.agrees()


# ----------------------------------------------------------------------------------------------------- concurrent reads


@BOTH
async def test_200_tasks_that_load_a_cold_session_cause_one_read(mode: Mode) -> None:
    it = Setup(mode)
    await it.other_process.append("s", [user("x")])
    assert len({tuple(map(repr, one)) for one in await asyncio.gather(*(it.store.load("s") for _ in range(200)))}) == 1
    assert len(it.watched.reads) == 1


@BOTH
async def test_a_load_during_a_read_of_the_same_session(mode: Mode) -> None:
    """In `validate` mode a second read begins after the load and shows all turns. In `trust` mode the load joins."""
    it = Setup(mode)
    await it.other_process.append("s", [user("x")])
    hold = it.watched.hold("read")
    first = [asyncio.create_task(it.store.load("s")) for _ in range(5)]
    await hold.apply()
    await it.other_process.append("s", [user("y")])
    later = [asyncio.create_task(it.store.load("s")) for _ in range(5)]
    await asyncio.sleep(0)
    hold.answer()
    assert {len(one) for one in await asyncio.gather(*first)} == {1}
    assert {len(one) for one in await asyncio.gather(*later)} == {1 if mode == "trust" else 2}
    assert len(it.watched.reads) == (1 if mode == "trust" else 2)


async def test_no_load_joins_a_read_that_was_sent_more_than_max_age_ago() -> None:
    it = Setup("trust", max_age=30.0)
    await it.other_process.append("s", [user("x")])
    hold = it.watched.hold("read")
    first = asyncio.create_task(it.store.load("s"))
    await hold.apply()
    await it.other_process.append("s", [user("y")])
    it.advance(31.0)
    later = asyncio.create_task(it.store.load("s"))
    await asyncio.sleep(0)
    hold.answer()
    assert (len(await first), len(await later)) == (1, 2)


@BOTH
@pytest.mark.parametrize("how", ["append", "erase", "info"])
async def test_no_load_joins_a_read_that_may_have_missed_an_acknowledged_change(mode: Mode, how: str) -> None:
    it = Setup(mode)
    await it.other_process.append("s", [user("x")])
    hold = it.watched.hold("read")
    first = asyncio.create_task(it.store.load("s"))
    await hold.apply()
    if how == "append":
        await it.store.append("s", [user("mine")])
    elif how == "erase":
        await it.store.erase("s")
    else:
        await it.other_process.append("s", [user("theirs")])
        await it.store.info("s")
    later = asyncio.create_task(it.store.load("s"))
    await asyncio.sleep(0)
    hold.answer()
    assert len(await first) == 1
    if how == "erase":
        with pytest.raises(SessionNotFound):
            await later
    else:
        assert len(await later) == 2
        await it.agrees()


@BOTH
async def test_cancelling_one_of_many_loads_leaves_the_others(mode: Mode) -> None:
    it = Setup(mode)
    await it.other_process.append("s", [user("x")])
    hold = it.watched.hold("read")
    tasks = [asyncio.create_task(it.store.load("s")) for _ in range(200)]
    await hold.sent.wait()
    tasks[0].cancel()
    hold.answer()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(one, list) for one in found[1:])
    assert len(it.watched.reads) == 1
    assert it.has()


@BOTH
async def test_a_cancelled_shared_read_does_not_block_the_next_one(mode: Mode) -> None:
    """A program that cancels all tasks of a loop also cancels the shared read, before it starts or while it waits."""
    it = Setup(mode)
    await it.other_process.append("s", [user("x")])
    for begun in (False, True):
        before = asyncio.all_tasks()
        hold = it.watched.hold("read") if begun else None
        asyncio.create_task(it.store.load("s")).add_done_callback(lambda task: task.cancelled())
        await asyncio.sleep(0)
        if hold is not None:
            await hold.sent.wait()
        ended = asyncio.all_tasks() - before
        for task in ended:
            task.cancel()
        await asyncio.wait(ended)
        assert len(await it.store.load("s")) == 1
        await it.cache.open()  # empties the cache


@BOTH
async def test_a_failed_read_is_raised_in_all_tasks_and_never_logged(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    it = Setup(mode)
    await it.other_process.append("s", [user("x")])
    it.watched.fail("read", Unavailable("no"))
    with caplog.at_level(logging.DEBUG, "asyncio"):
        found = await asyncio.gather(*(it.store.load("s") for _ in range(20)), return_exceptions=True)
        assert {type(one) for one in found} == {Unavailable}
        it.watched.fail("read", Unavailable("no"))
        hold = it.watched.hold("read")
        alone = asyncio.create_task(it.store.load("s"))
        await hold.sent.wait()
        alone.cancel()  # no task waits for the read any more
        hold.answer()
        await asyncio.wait([alone])
        await asyncio.sleep(0.01)
        del alone, found
        gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert len(await it.store.load("s")) == 1


# ----------------------------------------------------------------------------------------------------- missing sessions


async def test_trust_remembers_for_a_second_that_a_session_is_missing() -> None:
    it = Setup("trust")
    for seconds, reads in ((0.0, 1), (1.0, 1), (0.001, 2)):
        it.advance(seconds)
        with pytest.raises(SessionNotFound):
            await it.store.load("s")
        assert len(it.watched.reads) == reads
    validate = Setup("validate")
    for reads in (1, 2):
        with pytest.raises(SessionNotFound):
            await validate.store.load("s")
        assert len(validate.watched.reads) == reads


async def test_trust_remembers_a_missing_session_no_longer_than_max_age() -> None:
    it = Setup("trust", max_age=0.1)
    with pytest.raises(SessionNotFound):
        await it.store.load("s")
    await it.other_process.append("s", [user("x")])
    it.advance(0.2)
    assert len(await it.store.load("s")) == 1


@pytest.mark.parametrize("how", ["append", "fork", "merge", "info"])
async def test_a_session_that_was_missing_is_found_once_the_cache_made_or_read_it(how: str) -> None:
    it = Setup("trust")
    with pytest.raises(SessionNotFound):
        await it.store.load("s")
    if how == "append":
        await it.store.append("s", [user("x")])
    elif how == "merge":
        await it.store.merge_metadata("s", owner="ann")
    else:
        await it.other_process.append("source", [user("x")])
        if how == "fork":
            await it.store.fork("source", "s")
        else:
            await it.other_process.fork("source", "s")
            await it.store.info("s")
    await it.agrees()


@pytest.mark.parametrize("made", ["through the cache", "by another process, and read"])
async def test_a_session_that_is_made_during_a_read_that_misses_it_is_found(made: str) -> None:
    it = Setup("trust")
    hold = it.watched.hold("read")
    task = asyncio.create_task(it.store.load("s"))
    await hold.apply()
    if made == "through the cache":
        await it.store.append("s", [user("x")])
    else:
        await it.other_process.append("s", [user("x")])
        await it.store.load("s", last=1)
    hold.answer()
    with pytest.raises(SessionNotFound):
        await task
    assert len(await it.store.load("s")) == 1


async def test_missing_sessions_are_remembered_within_bounds() -> None:
    it = Setup("trust", max_sessions=10)
    for number in range(100):
        with pytest.raises(SessionNotFound):
            await it.store.load(f"s{number}")
        assert len(it.cache._missing) <= 10


# --------------------------------------------------------------------------------------------------- parts of a session


@BOTH
async def test_an_entry_serves_the_end_of_a_session_and_the_rest_is_read_once(mode: Mode) -> None:
    it = Setup(mode)
    await it.fill(10, last=5)
    for last in (1, 3, 5):
        await it.agrees(last=last)
    asked = [(read.last, read.before) for read in it.watched.reads]
    assert asked == ([] if mode == "trust" else [(1, None), (3, None), (5, None)])
    it.watched.clear()
    await it.agrees(last=9)
    assert [(r.last, r.before, r.since is None) for r in it.watched.reads] == [
        (9, None, False),
        (3, 7, True),  # the turns before the entry
    ]
    await it.agrees()
    it.watched.clear()
    await it.agrees()
    await it.agrees(last=17, before=9)
    assert all(read.since is not None and read.before is None for read in it.watched.reads)
    assert len(it.watched.reads) == (0 if mode == "trust" else 2)


@BOTH
async def test_before_inside_and_outside_the_entry(mode: Mode) -> None:
    it = Setup(mode)
    await it.fill(10, last=6)  # turns 7 to 9
    for last in (None, 1, 2, 4, 8, 50):
        for before in range(12):
            it.watched.clear()
            await it.agrees(last=last, before=before)
            within = last is not None and before > 7 and 2 * (min(before, 10) - 7) >= last
            assert len(it.watched.reads) == (0 if mode == "trust" and within else 1)
            if mode == "validate":
                assert (it.watched.reads[0].since is not None) is within


@BOTH
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("run", [(0, 3), (2, 8), (5, 8), (7, 10), (0, 10), (9, 10)])
async def test_turns_that_are_sealed_after_they_were_cached(
    mode: Mode, kind: str, run: tuple[int, int], tmp_path: Path
) -> None:
    """The entry holds turns 6 to 9 as single records; the backend may store them sealed."""

    def sqlite(**options: Any) -> SQLiteBackend:
        return SQLiteBackend(f"sqlite:///{tmp_path}/t.db", sweep=0, synchronous="NORMAL", **options)

    for last in (None, 3, 10, 13):
        for before in (None, 4, 7, 9):
            it = Setup(mode, backend=sqlite if kind == "sqlite" else MemoryBackend, max_age=10.0)
            async with it.cache:
                await it.other_process.erase("s")
                await it.fill(10, last=8)
                sealed = (await it.backend.read(KEY)).records[slice(*run)]
                if len(sealed) > 1:
                    assert await it.backend.seal(KEY, Record.seal(sealed))
                shown = await it.store.session("s", last=last, before=before)
                assert shown.turns == (await it.other_process.session("s", last=last, before=before)).turns
                assert len(it.watched.reads) <= 4
                await it.other_process.append("s", [user("more"), user("and more")])
                it.advance(11.0)
                await it.agrees(last=last, before=before)
                await it.agrees()
                it.watched.clear()
                await it.agrees()
                assert len(it.watched.reads) == (0 if mode == "trust" else 1), "the entry is whole"


@BOTH
async def test_a_cut_while_the_rest_of_a_session_is_read(mode: Mode) -> None:
    it = Setup(mode)
    await it.fill(10, last=4)
    holds = it.watched.hold("read"), it.watched.hold("read")
    task = asyncio.create_task(it.store.load("s"))
    await holds[0].apply()
    await it.other_process.rewind("s", turns=5)
    holds[0].answer()
    await holds[1].apply()
    holds[1].answer()
    assert len(await task) == 10
    await it.agrees()


@BOTH
async def test_turns_that_another_process_drops_leave_the_entry(mode: Mode) -> None:
    it = Setup(mode, max_age=10.0)
    await it.fill(20)
    bytes_before = it.cache.counters.bytes
    await it.backend.commit(KEY, Change(append=(_record("last"),), retain=3))
    it.advance(11.0)
    assert len((await it.agrees()).turns) == 3
    entry = it.cache._entries[KEY]
    assert entry.log[entry.start].number == 18
    assert it.cache.counters.bytes < bytes_before / 2


@BOTH
async def test_turns_that_are_no_longer_retained_take_no_memory(mode: Mode) -> None:
    it = Setup(mode, retain=5)
    await it.fill(1)
    for number in range(300):
        await it.store.append("s", [user(f"{number} " + "x" * 1000)])
    entry = it.cache._entries[KEY]
    assert len(entry.log) <= 10
    assert entry.size >= 1000 * len(entry.log), "the entry counts its whole list"
    await it.agrees()


# --------------------------------------------------------------------------------------------------------------- bounds


def _sizes(it: Setup) -> int:
    return sum(entry.size for entry in it.cache._entries.values())


@BOTH
async def test_bytes_are_bounded_and_the_least_recently_used_entries_are_evicted(mode: Mode) -> None:
    it = Setup(mode, max_bytes=100_000)
    for number in range(9):
        await it.other_process.append(f"s{number}", [user("x" * 20_000)])
    for number in range(4):
        await it.store.load(f"s{number}")
    await it.store.load("s0")
    await it.store.load("s4")
    assert [it.has(f"s{number}") for number in range(5)] == [True, False, True, True, True]
    for number in range(9):
        await it.store.load(f"s{number}")
        assert it.cache.counters.bytes == _sizes(it) <= 100_000
    assert it.cache.counters.sessions == 4
    assert it.cache.counters.evictions == it.cache.counters.misses - 4


@BOTH
async def test_a_session_larger_than_max_bytes_evicts_no_other(mode: Mode) -> None:
    it = Setup(mode, max_bytes=100_000)
    await it.fill(3)
    await it.other_process.append("large", [user("x" * 200_000)])
    for _ in range(2):
        assert len((await it.store.load("large"))[0].text) == 200_000
    assert it.has()
    assert not it.has("large")
    await it.store.append("s", [user("x" * 200_000)])  # exceeds max_bytes
    assert not it.has()
    assert it.cache.counters.bytes == 0
    await it.agrees()


@BOTH
async def test_metadata_are_counted(mode: Mode) -> None:
    it = Setup(mode)
    await it.fill(1)
    before = it.cache.counters.bytes
    await it.store.merge_metadata("s", {"a": "x" * 30_000})
    assert 30_000 < it.cache.counters.bytes - before < 31_000
    await it.store.merge_metadata("s", {"a": None})
    assert it.cache.counters.bytes == before


@BOTH
async def test_sessions_are_bounded_and_idle_ones_are_evicted(mode: Mode) -> None:
    it = Setup(mode, max_sessions=3, idle=60.0, max_age=1000.0)
    for number in range(5):
        await it.fill(1, f"s{number}")
        assert it.cache.counters.sessions <= 3
        it.advance(10.0)
    assert [it.has(f"s{number}") for number in range(5)] == [False, False, True, True, True]
    await it.store.load("s2")
    it.advance(55.0)
    await it.fill(1, "new")  # s3 was last used 75 seconds ago, s4 65 seconds ago
    assert [it.has(f"s{number}") for number in (2, 3, 4)] == [True, False, False]
    assert it.cache.counters.evictions == 4
    assert it.cache.counters.bytes == _sizes(it)


async def test_counters_count_each_outcome() -> None:
    it = Setup("trust", max_age=10.0)
    await it.fill(3, last=2)  # a miss
    await it.store.load("s", last=1)  # a hit
    await it.store.load("s")  # a miss: the cache holds only a part
    await it.other_process.append("s", [user("x")])
    it.advance(11.0)
    await it.store.load("s")  # a hit on a stale entry
    with pytest.raises(Conflict):
        await it.store.append("s", [user("x")], expect=Version(b"e" * 16, 0, 0, b"", b""))
    assert it.cache.counters == CacheStats(hits=2, misses=2, stale=1, conflicts=1, evictions=0, sessions=0, bytes=0)
    assert it.cache.stats() == asdict(it.cache.counters)


async def test_an_expired_session_is_not_counted_as_stale() -> None:
    it = Setup("trust", ttl=10.0)
    await it.fill(2)
    it.advance(11.0)
    await it.store.append("s", [user("anew")])
    assert it.cache.counters.stale == 0
    await it.agrees()


# --------------------------------------------------------------------------------------------- tenants, damage, threads


@BOTH
async def test_tenants_share_a_cache_but_no_session(mode: Mode) -> None:
    it = Setup(mode)
    a, b = it.store.within("a"), it.store.within("b")
    for tenant, name in ((a, "a"), (b, "b")):
        await tenant.append("s", [user(name)])
    for _ in range(2):
        assert [m.text for m in await a.load("s")] == ["a"]
        assert [m.text for m in await b.load("s")] == ["b"]
        with pytest.raises(SessionNotFound):
            await it.store.load("s")
    assert it.cache.counters.sessions == 2
    assert it.cache.counters.hits >= 2
    await a.erase("s")
    with pytest.raises(SessionNotFound):
        await a.load("s")
    assert [m.text for m in await b.load("s")] == ["b"]


@BOTH
async def test_a_caller_that_changes_its_result_changes_no_other(mode: Mode) -> None:
    it = Setup(mode)
    calls: Any = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    await it.other_process.append("s", [user([{"type": "text", "text": "x"}]), assistant(None, tool_calls=calls)])
    await it.other_process.merge_metadata("s", {"list": [1]})
    for _ in range(3):
        session = await it.store.session("s")
        messages: Any = await it.store.load("s")
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
async def test_a_damaged_record_hides_no_other_record(mode: Mode) -> None:
    it = Setup(mode)
    await it.other_process.append("s", [user("sound")])
    bad = _record("bad")
    await it.backend.commit(KEY, Change(append=(bad.with_payload(bad.payload[:-1]),)))
    await it.other_process.append("s", [user("after")])
    for store in (it.other_process, it.store, it.store):
        assert [m.text for m in await store.load("s", last=1)] == ["after"]
        assert [m.text for m in await store.load("s", before=1)] == ["sound"]
        with pytest.raises(CorruptRecord) as caught:
            await store.load("s")
        assert (caught.value.key, caught.value.turn) == (KEY, 1)
        await store.append("s", [user("after")])


async def test_a_damaged_sealed_record_is_reported_as_without_a_cache() -> None:
    it = Setup()
    await it.fill(10, last=4)
    sealed = Record.seal((await it.backend.read(KEY)).records[2:9])
    assert await it.backend.seal(KEY, sealed.with_payload(sealed.payload[:-1]))
    for store in (it.other_process, it.store, it.store):
        with pytest.raises(CorruptRecord) as caught:
            await store.load("s")
        assert (caught.value.key, caught.value.turn) == (KEY, 2)


@BOTH
async def test_opening_and_closing_empty_the_cache(mode: Mode) -> None:
    it = Setup(mode)
    for end in (it.cache.open, it.cache.close):
        await it.fill(2)
        hold = it.watched.hold("read")
        task = asyncio.create_task(it.store.load("other"))
        await hold.sent.wait()
        await it.other_process.append("other", [user("x")])
        await hold.apply()
        assert it.cache.counters.sessions == 1
        await end()
        hold.answer()
        await task
        assert (it.cache.counters.sessions, it.cache.counters.bytes, it.has("other")) == (0, 0, False)
    with pytest.raises(Closed):
        await it.store.load("s")


@BOTH
def test_threads_with_a_loop_each_over_one_cache(mode: Mode, tmp_path: Path) -> None:
    """Each thread sees its own turns at once and in order. At the end every turn is stored."""
    threads, turns = 4, 40
    backend = SQLiteBackend(f"sqlite:///{tmp_path}/t.db", synchronous="NORMAL", sweep=0)
    cache = CacheLayer(backend, mode=mode, max_bytes=60_000)
    store = Store(cache)
    problems: list[BaseException] = []

    async def work(me: int) -> None:
        dice = Random(me)
        for turn in range(turns):
            await store.append("shared", [user(f"{me}:{turn}")])
            shown = [m.text for m in await store.load("shared")]
            mine = [text for text in shown if text.startswith(f"{me}:")]
            assert mine == [f"{me}:{n}" for n in range(turn + 1)]
            await store.load("shared", last=dice.randint(1, 10))
            await store.append(f"own {me}", [user("x" * 300)])
            assert len(await store.load(f"own {me}")) == turn + 1

    def run(me: int) -> None:
        try:
            asyncio.run(work(me))
        except BaseException as error:  # noqa: BLE001 - the main thread reports it
            problems.append(error)

    async def run_all() -> None:
        async with cache:
            workers = [threading.Thread(target=run, args=(me,)) for me in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                await asyncio.to_thread(worker.join)
            assert problems == []
            assert len(await Store(backend).load("shared")) == threads * turns
            assert cache.counters.bytes == sum(entry.size for entry in cache._entries.values())
            assert cache._pending == {}

    asyncio.run(run_all())


@pytest.mark.only_where(hasattr(os, "fork"), "forks", "this system cannot fork")
@BOTH
def test_a_forked_child_begins_with_an_empty_cache(mode: Mode, tmp_path: Path) -> None:
    """Another thread of the parent holds the cache's lock during the fork."""
    cache = CacheLayer(SQLiteBackend(f"sqlite:///{tmp_path}/t.db", sweep=0), mode=mode)
    store = Store(cache)

    async def parent() -> None:
        async with cache.inner:
            await store.append("s", [user("x")])
            assert len(await store.load("s")) == 1

    async def child() -> int:
        async with store:
            await store.append("s", [user("from the child")])
            return len(await store.load("s"))

    asyncio.run(parent())
    assert cache.counters.sessions == 1
    with cache._lock:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                empty = cache.counters.sessions == 0 == cache.counters.bytes
                code = 0 if empty and asyncio.run(asyncio.wait_for(child(), 10)) == 2 else 1
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert cache.counters.sessions == 1


# --------------------------------------------------------------------------------------------------------------- owners


@BOTH
async def test_a_view_of_one_owner_shows_no_other_owners_session(mode: Mode) -> None:
    """Other callers use the session through the same cache, so the cache has an entry."""
    it = Setup(mode)
    await it.store.append("s", [user("ann's")], owner="ann")
    await it.store.load("s")
    assert it.has()
    bob = it.store.for_owner("bob")
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: bob.load("s"),
        lambda: bob.load("s", last=1),
        lambda: bob.load("s", before=1),
        lambda: bob.info("s"),
        lambda: bob.touch("s"),
        lambda: bob.append("s", [user("bob's")]),
        lambda: bob.save("s", [user("bob's")], expect=ANY),
        lambda: bob.rewind("s", turns=1),
        lambda: bob.pop("s"),
        lambda: bob.merge_metadata("s", {"a": 1}),
        lambda: bob.fork("s", "copy"),
        lambda: bob.erase("s", expect=PRESENT),
    ]
    for attempt in attempts:
        with pytest.raises(SessionNotFound):
            await attempt()
    assert not await bob.erase("s")
    assert [info async for info in bob.sessions()] == []
    assert (await bob.erase_owner("ann")).sessions == 0
    assert texts(await it.agrees()) == ["ann's"]
    assert [message.text for message in await it.store.for_owner("ann").load("s")] == ["ann's"]


@BOTH
async def test_an_owner_that_the_cache_itself_changed_counts_at_once(mode: Mode) -> None:
    it = Setup(mode)
    ann, bob = it.store.for_owner("ann"), it.store.for_owner("bob")
    await ann.append("s", [user("x")])
    await it.store.merge_metadata("s", owner="bob")
    assert len(await bob.load("s")) == 1
    with pytest.raises(SessionNotFound):
        await ann.load("s")


async def test_validate_shows_no_session_that_another_process_gave_to_another_owner() -> None:
    it = Setup("validate")
    ann = it.store.for_owner("ann")
    await ann.append("s", [user("x")])
    await it.other_process.merge_metadata("s", owner="bob")
    with pytest.raises(SessionNotFound):
        await ann.load("s")
    assert len(await it.store.for_owner("bob").load("s")) == 1


async def test_trust_may_show_a_session_to_its_former_owner_until_max_age_and_refuses_its_writes() -> None:
    it = Setup("trust", max_age=10.0)
    ann, bob = it.store.for_owner("ann"), it.store.for_owner("bob")
    await ann.append("s", [user("x")])
    await it.other_process.merge_metadata("s", owner="bob")
    await it.other_process.append("s", [user("bob's secret")])
    it.advance(10.0)
    assert [message.text for message in await ann.load("s")] == ["x"]
    with pytest.raises(SessionNotFound):
        await bob.load("s")
    it.advance(0.001)
    with pytest.raises(SessionNotFound):
        await ann.load("s")
    assert len(await bob.load("s")) == 2
    for write in (ann.append("s", [user("y")]), ann.merge_metadata("s", {"a": 1}), ann.fork("s", "copy")):
        with pytest.raises(SessionNotFound):
            await write
    assert not await ann.erase("s")


async def test_trust_refuses_the_writes_of_a_former_owner_at_once() -> None:
    it = Setup("trust")
    ann = it.store.for_owner("ann")
    for write in (
        lambda: ann.append("s", [user("y")]),
        lambda: ann.merge_metadata("s", {"a": 1}),
        lambda: ann.rewind("s", turns=1),
        lambda: ann.fork("s", "copy"),
        lambda: ann.erase("s", expect=PRESENT),
    ):
        await it.other_process.erase("s")
        await ann.append("s", [user("x")])
        await ann.load("s")
        await it.other_process.merge_metadata("s", owner="bob")
        assert len(await ann.load("s")) == 1, "the cache trusts its entry"
        with pytest.raises(SessionNotFound):
            await write()
        with pytest.raises(SessionNotFound):
            await ann.load("s")


# -------------------------------------------------------------------------------------------------------- configuration


class Upper(MessageLayer):
    """A layer that changes messages."""

    def write_message(self, message: Message) -> Message:
        return user(message.text.upper())


class Reversing(PayloadLayer):
    """A stand-in for an encryption."""

    position = "encryption"
    codec = 128

    def encode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        return payload[::-1]

    def decode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        return payload[::-1]


@BOTH
async def test_a_message_layer_belongs_over_a_cache_and_never_below_it(mode: Mode) -> None:
    with pytest.raises(InvalidInput, match=r"CacheLayer \(cache\) cannot wrap Upper \(messages\)"):
        CacheLayer(Upper(MemoryBackend()), mode=mode)
    with pytest.raises(InvalidInput, match="cannot wrap Upper"):
        CacheLayer(ZstdLayer(Layer(Upper(MemoryBackend()))), mode=mode)
    store = Store(Upper(CacheLayer(ZstdLayer(Reversing(MemoryBackend())), mode=mode)))
    for count in (1, 2):
        await store.append("s", [user("hello")])
        assert [message.text for message in await store.load("s")] == ["HELLO"] * count
    await store.save("s", [*await store.load("s"), user("more")])
    assert [message.text for message in await store.load("s")] == ["HELLO", "HELLO", "MORE"]
    assert store.find(CacheLayer).counters.stale == 0


@pytest.mark.parametrize("below", [ZstdLayer, GzipLayer, Reversing])
def test_a_cache_belongs_over_compression_and_encryption(below: type[Layer]) -> None:
    assert isinstance(CacheLayer(below(MemoryBackend())).inner, below)
    with pytest.raises(InvalidInput, match=rf"{below.__name__} \(\w+\) cannot wrap CacheLayer \(cache\)") as caught:
        below(CacheLayer(MemoryBackend()))
    assert "messages, cache, compression, encryption" in str(caught.value)


def test_a_wrong_order_of_layers_is_a_configuration_error() -> None:
    for wrong, message in (
        ("zstd,cache", "wrong order: write layers=cache,zstd"),
        ("gzip,cache", "wrong order: write layers=cache,gzip"),
        ("cache,cache", "twice"),
        ("cache,zstd,cache", "twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_store(f"memory://?layers={wrong}")
    with pytest.raises(InvalidInput, match="a stack has at most one layer for cache"):
        CacheLayer(CacheLayer(MemoryBackend()))
    cache = open_store("memory://?layers=cache,zstd").find(CacheLayer)
    assert isinstance(cache.inner, ZstdLayer)


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


def test_a_store_finds_its_cache_anywhere_in_the_stack() -> None:
    cache = CacheLayer(ZstdLayer(MemoryBackend()))
    assert Store(Layer(cache)).within("shop").for_owner("ann").find(CacheLayer) is cache
    with pytest.raises(InvalidInput, match="this store has no CacheLayer"):
        Store(cache.inner).find(CacheLayer)


def test_options_come_from_configuration() -> None:
    layer = {"name": "cache", "mode": "trust", "max_age": "2m", "max_bytes": 1000, "max_sessions": 7, "idle": "1h"}
    cache = open_store("memory://", layers=[layer]).find(CacheLayer)
    options = (cache.mode, cache.max_age, cache.max_bytes, cache.max_sessions, cache.idle)
    assert options == ("trust", 120, 1000, 7, 3600)
    with pytest.raises(ConfigError, match="mode"):
        open_store("memory://", layers=[{"name": "cache", "mode": "hope"}])
    with pytest.raises(ConfigError, match="max_age"):
        open_store("memory://", layers=[{"name": "cache", "maxage": 3}])

"""Recompressing: everything is brought to how it would be written now, beside whoever writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import servers
from sql_places import emptied_postgresql
from turnlog import Change, Key, Record, SessionNotFound, Store, assistant, user
from turnlog.payload import codec_of
from turnlog.testing import Clock
from turnlog_compression import CompressionLayer, GzipLayer, OffLayer, Recompressed, _recompressing
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_redis import RedisBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend
from watched import KEY, Watched, fill, numbers, said, settled, shape

PLAIN, GZIP, ZSTD = 0, 1, 2


@pytest.fixture(params=["memory", "sqlite", "redis", "postgresql"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """The store below, of every kind, without a session in it."""
    if request.param == "memory":
        return MemoryBackend()
    if request.param == "sqlite":
        return SQLiteBackend(f"sqlite:///{tmp_path}/turnlog.db", synchronous="NORMAL")
    if request.param == "postgresql":
        return PostgreSQLBackend(emptied_postgresql(), sweep=0)
    servers.ask_redis(servers.redis(), "FLUSHDB")
    return RedisBackend(servers.redis())


async def ran(layer: CompressionLayer, **asked: Any) -> list[Recompressed]:
    """What became of the sessions."""
    return [told async for told in layer.recompress(**{"idle": None, "rate": None, **asked})]


async def codecs(store: Store, session: str = KEY.session) -> list[int]:
    """How the records of a session are written."""
    read = await store.read(Key(store.namespace, session), touch=False)
    return [codec_of(record.payload) for record in read.records]


def aged(clock: Clock) -> Watched:
    """A store whose sessions were written an hour ago, as soon as its clock is moved."""
    return Watched(MemoryBackend(clock=clock))


# -------------------------------------------------------------------------------------------------- what it makes of it


async def test_every_codec_becomes_any_other(anywhere: Store) -> None:
    """Small turns stay plain; who reads meanwhile sees no difference."""
    async with anywhere:
        await fill(GzipLayer(anywhere), "s", 40)
        await GzipLayer(anywhere).append("s", [user("hi")])
        before = await GzipLayer(anywhere).session("s", touch=False)
        for layer, codec in (
            (ZstdLayer(anywhere), ZSTD),
            (OffLayer(anywhere), PLAIN),
            (GzipLayer(anywhere), GZIP),
            (OffLayer(anywhere), PLAIN),
        ):
            (told,) = [one for one in await ran(layer) if one.before != one.after]
            assert told.session == "s"
            assert set((await codecs(anywhere))[:-1]) == {codec}
            assert (await codecs(anywhere))[-1] == PLAIN
            assert (await layer.session("s", touch=False)).turns == before.turns
            info = await layer.info("s")
            assert (info.version, info.updated, info.messages) == (
                before.version,
                before.info.updated,
                before.info.messages,
            )
            assert info.bytes == told.after
            assert not [one for one in await ran(layer) if one.before != one.after], "all is done"


async def test_what_was_idle_is_sealed_whole(anywhere: Store) -> None:
    """All but a turn that more rounds may follow; what is not idle, all but the last 32 turns."""
    async with anywhere:
        layer = ZstdLayer(anywhere, seal=False)
        await fill(layer, "long", 80)
        await fill(layer, "short", 3)
        await fill(layer, "open", 5)
        await layer.append("open", said(5), turn_id="t", open=True)
        assert {told.session for told in await ran(layer, idle=3600)} == {"long", "short", "open"}
        assert await shape(anywhere, "long") == [48] + [1] * 32
        assert await shape(anywhere, "short") == [1] * 3
        for _ in range(2):
            told = await ran(layer, idle=0)
            assert await shape(anywhere, "long") == [80]
            assert await shape(anywhere, "short") == [3]
            assert await shape(anywhere, "open") == [5, 1]
        assert [one for one in told if one.before != one.after] == []
        await layer.append("open", said(6), turn_id="t", part=1)
        await ran(layer, idle=0)
        assert await shape(anywhere, "open") == [6]
        for name, count in (("long", 80), ("short", 3), ("open", 6)):
            assert numbers(await layer.load(name, before=count))[:count] == list(range(count))


async def test_a_long_session_is_sealed_in_runs_of_about_a_megabyte() -> None:
    """Whoever needs one turn of a run opens all of it."""
    async with ZstdLayer(MemoryBackend(), seal=False) as layer:
        for number in range(40):
            await layer.append("s", [user(f"turn {number}"), assistant(f"{number} " * 40_000)])
        await ran(layer, idle=0)
        records = (await layer.inner.read(KEY)).records
        assert [int.from_bytes(record.payload[4:8]) <= 1024 * 1024 for record in records] == [True] * len(records)
        assert 4 <= len(records) < 12
        assert numbers(await layer.load("s")) == list(range(40))


async def test_levels_are_not_told_apart() -> None:
    store = Watched(MemoryBackend())
    async with ZstdLayer(store) as layer:
        await fill(layer, "s", 3)
        assert await codecs(store) == [ZSTD] * 3
        assert len(await ran(ZstdLayer(store, level=19))) == 1
        assert not store.seals


async def test_a_damaged_record_is_left_and_counted() -> None:
    """The rest of its session, and the others, are done."""
    store = Watched(MemoryBackend())
    layer = GzipLayer(store, seal=False)
    async with layer:
        await fill(layer, "other", 40)
        await fill(layer, "s", 40)
        sound = (await store.read(KEY, last=1)).records[-1]
        payload = bytes([*sound.payload[:30], sound.payload[30] ^ 1, *sound.payload[31:]])
        damaged = Record.of(tuple(said(40)), id="damaged", time=0.0).with_payload(payload)
        await store.commit(KEY, Change(append=(damaged,)))
        await fill(layer, "s", 40, start=41)
        told = {one.session: one for one in await ran(ZstdLayer(store))}
        assert (told["s"].damaged, told["other"].damaged) == (1, 0)
        assert set(await codecs(store, "other")) == {ZSTD}
        assert set((await codecs(store))[-32:]) == {ZSTD}
        (left,) = [record for record in (await store.read(KEY)).records if record.id == "damaged"]
        assert left.payload == payload
        assert numbers(await layer.load("s", before=40)) == list(range(40))


async def test_other_tenants_are_left_alone() -> None:
    store = MemoryBackend()
    async with GzipLayer(store) as layer:
        await fill(layer, "s", 2)
        await fill(layer.within("beside"), "s", 2)
        assert [told.session for told in await ran(ZstdLayer(store))] == ["s"]
        assert await codecs(store.within("beside")) == [GZIP] * 2
        assert [info.key.session async for info in layer.within("beside").sessions()] == ["s"]


async def test_a_lifetime_is_neither_extended_nor_cut() -> None:
    """What has expired is not looked at."""
    clock = Clock()
    store = MemoryBackend(clock=clock, ttl=1000.0)
    async with GzipLayer(store) as layer:
        await fill(layer, "gone", 2)
        clock.advance(600)
        await fill(layer, "s", 2)
        clock.advance(600)
        assert [told.session for told in await ran(ZstdLayer(store), idle=0)] == ["s"]
        info = await layer.info("s")
        assert (info.expires_in, info.updated) == (400.0, clock.now - 600)
        clock.advance(401)
        with pytest.raises(SessionNotFound):
            await layer.load("s")
        assert await ran(ZstdLayer(store), idle=0) == []


# ----------------------------------------------------------------------------------------------- stopping and going on


async def stopped_after(layer: CompressionLayer, count: int, **asked: Any) -> list[str]:
    """The sessions that were done before it was stopped."""
    told: list[str] = []
    sessions: AsyncIterator[Recompressed] = layer.recompress(**asked)
    async for one in sessions:
        told.append(one.session)
        if len(told) == count:
            break
    await sessions.aclose()  # type: ignore[attr-defined]
    return told


async def many(clock: Clock, count: int = 250) -> Watched:
    """So many sessions that were written with gzip, at some time in the past."""
    store = aged(clock)
    layer = GzipLayer(store)
    await layer.open()
    for number in range(count):
        await fill(layer, f"s{number:03}", 1)
        clock.advance(1)
    clock.advance(3600)
    store.reads.clear()
    return store


def sessions_read(store: Watched) -> set[str]:
    return {key.session for key in store.reads if key.namespace == "default"}


async def test_it_goes_on_where_it_stopped() -> None:
    """What was done is not read again, but for the last hundred at most."""
    clock = Clock()
    store = await many(clock)
    done = await stopped_after(ZstdLayer(store), 230)
    assert len(sessions_read(store)) == 230
    store.reads.clear()
    clock.advance(7200)
    rest = [told.session for told in await ran(ZstdLayer(store))]
    assert sessions_read(store) == set(rest)
    assert not set(done[:200]) & set(rest)
    assert set(done) | set(rest) == {f"s{number:03}" for number in range(250)}
    assert {(await codecs(store, f"s{number:03}"))[0] for number in range(250)} == {ZSTD}
    store.reads.clear()
    await ran(ZstdLayer(store))
    assert len(sessions_read(store)) == 250, "when all was done it begins anew"


@pytest.mark.parametrize("other", [{"idle": 60.0}, {"idle": None, "codec": "gzip"}, {"idle": None, "level": 4}])
async def test_another_request_begins_anew(other: dict[str, Any]) -> None:
    store = await many(Clock())
    await stopped_after(ZstdLayer(store), 230)
    codec, level = other.get("codec"), other.get("level", 3)
    store.reads.clear()
    await ran(GzipLayer(store) if codec else ZstdLayer(store, level=level), idle=other["idle"])
    assert len(sessions_read(store)) == 250


async def test_where_it_stopped_is_in_no_listing() -> None:
    store = await many(Clock())
    await stopped_after(ZstdLayer(store), 230)
    assert len([info async for info in store.sessions()]) == 250


async def test_what_changed_since_it_stopped_is_done_too() -> None:
    """It has moved to the front, where the first part of the way was."""
    clock = Clock()
    store = await many(clock)
    await stopped_after(ZstdLayer(store), 230)
    clock.advance(60)
    for name in ("s000", "s249", "new"):
        await fill(GzipLayer(store), name, 1, start=1)
    clock.advance(3600)
    told = [one.session for one in await ran(ZstdLayer(store))]
    assert {"s249", "new", "s000"} <= set(told)
    assert told.count("s100") == 0
    for name in ("s000", "s249", "new"):
        assert set(await codecs(store, name)) == {ZSTD}


@pytest.mark.parametrize("rate", [None, 0.5, 20.0])
async def test_its_rate_is_bounded(monkeypatch: pytest.MonkeyPatch, rate: float | None) -> None:
    """Two sessions begin no sooner after each other than the rate says; without one nothing waits."""
    now, slept, times = 100.0, 0, list[float]()

    async def sleep(seconds: float) -> None:
        nonlocal now, slept
        now, slept = now + max(0.0, seconds), slept + 1

    monkeypatch.setattr(
        _recompressing,
        "asyncio",
        SimpleNamespace(sleep=sleep, get_running_loop=lambda: SimpleNamespace(time=lambda: now)),
    )
    store = await many(Clock(), 30)
    async for _ in ZstdLayer(store).recompress(rate=rate):
        times.append(now)
        now += 0.001  # what a session takes
    assert len(times) == 30
    if rate is None:
        assert slept == 0
    else:
        assert min(after - before for before, after in pairwise(times)) >= 0.999 / rate
        assert times[-1] - times[0] == pytest.approx(29 / rate, rel=0.01)


# --------------------------------------------------------------------------------------------- beside whoever writes


async def test_who_writes_meanwhile_loses_nothing(anywhere: Store) -> None:
    """A turn more, or fewer, at every step; in the end all is as it should be, and all turns are there."""
    async with anywhere:
        writer = GzipLayer(anywhere, seal=False)
        there = {f"s{number}": 40 for number in range(8)}
        for name in there:
            await fill(writer, name, 40)
        step = 0
        async for _ in ZstdLayer(anywhere).recompress(idle=0):
            for name in list(there)[step % 3 :: 3]:
                if step >= 20:
                    break
                if step % 4 == 3:
                    await writer.rewind(name, turns=11)
                    there[name] -= 11
                else:
                    for number in range(there[name], there[name] + 5):
                        await writer.append(name, said(number))
                    there[name] += 5
            step += 1
        assert step > 8, "what changed was looked at again"
        for name, count in there.items():
            assert numbers(await writer.load(name)) == list(range(count))
            assert set(await codecs(anywhere, name)) == {ZSTD}


@pytest.mark.parametrize("passes", [100, 1])
async def test_what_moves_past_it_is_found_in_another_pass(monkeypatch: pytest.MonkeyPatch, passes: int) -> None:
    """It moves from where it was not yet to where it was already; a single pass never meets it."""
    monkeypatch.setattr(_recompressing, "MAX_PAGE", 5)
    monkeypatch.setattr(_recompressing, "_PASSES", passes)
    clock = Clock()
    store = MemoryBackend(clock=clock)
    await fill(GzipLayer(store), "old", 1)
    for number in range(20):
        clock.advance(10)
        await fill(ZstdLayer(store), f"s{number}", 1)
    clock.advance(3600)
    met: list[str] = []
    async for told in ZstdLayer(store).recompress():
        if not met:
            clock.advance(1)
            await fill(ZstdLayer(store), "old", 1, start=1)
        clock.advance(1)
        met.append(told.session)
    assert await codecs(store, "old") == [ZSTD if passes > 1 else GZIP, ZSTD]
    assert len(met) == (21 if passes > 1 else 20)


async def test_without_an_end_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes otherwise all the time does not keep it going for ever."""
    monkeypatch.setattr(_recompressing, "_PASSES", 7)
    store = MemoryBackend(clock=Clock())
    number = 0
    async for _ in ZstdLayer(store, seal=False).recompress():
        await fill(GzipLayer(store, seal=False), "s", 1, start=number)
        number += 1
    assert number == 0, "there was nothing"
    await fill(GzipLayer(store), "s", 1)
    async for _ in ZstdLayer(store, seal=False).recompress():
        number += 1
        await fill(GzipLayer(store, seal=False), "s", 1, start=number)
    assert number == 7
    assert numbers(await ZstdLayer(store).load("s")) == list(range(8))


@pytest.mark.parametrize("when", ["before", "at the last read"])
async def test_a_session_that_is_deleted_meanwhile_is_passed_over(when: str) -> None:
    class Deleting(Watched):
        async def read(self, key: Key, **asked: Any) -> Any:
            if key.session == "s1" and (when == "before" or self.seals):
                await self.inner.delete(key)
            return await super().read(key, **asked)

    clock = Clock()
    store = Deleting(MemoryBackend(clock=clock))
    for number in range(3):
        await fill(GzipLayer(store.inner), f"s{number}", 1)
        clock.advance(10)
    if when != "before":
        await store.inner.delete(Key("default", "s2"))
    told = {one.session for one in await ran(ZstdLayer(store))}
    assert told == ({"s0", "s2"} if when == "before" else {"s0"})


async def test_two_at_once_do_it_once_each() -> None:
    """They share where they stopped, and nothing is the worse for it."""
    store = await many(Clock(), 120)
    await asyncio.gather(*(ran(ZstdLayer(store)) for _ in range(2)))
    for number in range(120):
        assert await codecs(store, f"s{number:03}") == [ZSTD]
        assert numbers(await ZstdLayer(store).load(f"s{number:03}")) == [0]


async def test_the_sealer_goes_on_beside_it() -> None:
    layer = ZstdLayer(MemoryBackend())
    async with layer:
        await fill(layer, "s", 200)
        told = await ran(layer)
        await settled(layer)
        assert len(told) >= 1
        assert sum(await shape(layer.inner)) == 200
        assert (await shape(layer.inner))[-32:] == [1] * 32
        assert max((await shape(layer.inner))[:-32]) >= 32
        assert numbers(await layer.load("s")) == list(range(200))

"""Dictionaries: what turns have in common is left out of them; in no listing, and forgotten when nothing needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from turnlog import Change, InvalidInput, Key, Layer, Query, Receipt, Record, Store, assistant, user
from turnlog.errors import CorruptRecord
from turnlog.payload import codec_of
from turnlog.testing import Clock
from turnlog_compression import CompressionLayer, GzipLayer, OffLayer, Recompressed, _recompressing
from turnlog_compression.zstd import Trained, ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend
from watched import Watched

PLAIN, ZSTD, WITH_DICTIONARY = 0, 2, 3
HOUR = 3600.0

Make = Callable[..., Store]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes the store below."""
    if request.param == "memory":
        return MemoryBackend
    return lambda **options: SQLiteBackend(f"sqlite:///{tmp_path}/turnlog.db", synchronous="NORMAL", **options)


SAID = "please cancel my reservation and refund the certificate to the payment card as the insurance policy says"


def spoken(dice: Random) -> list[Any]:
    """A turn of an agent, made of what agents say again and again."""
    said = " ".join(dice.choice(SAID.split()) for _ in range(25))
    answer = (
        f"I have found reservation {dice.randrange(10**6)}. The details are: origin {dice.choice('ABC')}, cabin "
        f"economy, payment method credit_card_{dice.randrange(10**7)}. Do you confirm (yes/no) that I shall proceed?"
    )
    return [user(said), assistant(answer)]


async def filled(store: Store, sessions: int = 60, *, start: int = 0) -> None:
    dice = Random(start)
    for number in range(start, start + sessions):
        for _ in range(20):
            await store.append(f"s{number}", spoken(dice), owner=f"owner {number % 3}")


async def codecs(store: Store, session: str) -> set[int]:
    return {codec_of(one.payload) for one in (await store.read(Key(store.namespace, session), touch=False)).records}


async def ran(layer: CompressionLayer, **asked: Any) -> list[Recompressed]:
    return [told async for told in layer.recompress(**asked)]


# ------------------------------------------------------------------------------------------------- training, writing


async def test_single_turns_shrink_two_to_three_times(shared_data: list[dict[str, Any]]) -> None:
    """Turns of an airline's agents, of conversations that it was not trained on; five times it was, about."""
    split = 150
    async with MemoryBackend(max_bytes=1 << 30) as plain:
        layer = ZstdLayer(plain, seal=False)
        for conversation in shared_data[:split]:
            await layer.save(conversation["session_id"], conversation["messages"])
        trained = await layer.train()
        assert trained.size <= 64 * 1024
        assert trained.sessions > 50
        sizes = {}
        for name, writer in (
            ("plain", OffLayer(plain)),
            ("zstd", ZstdLayer(plain, seal=False)),
            ("dictionary", ZstdLayer(plain, seal=False, dictionary=True)),
        ):
            within = writer.within(plain.namespace)
            total = 0
            for conversation in shared_data[split:]:
                session = f"{name} {conversation['session_id']}"
                await within.save(session, conversation["messages"])
                records = (await plain.read(Key(plain.namespace, session))).records
                total += sum(len(record.payload) for record in records[1:])  # the first holds the policy, too
                assert [m.to_dict() for m in await layer.load(session)] == conversation["messages"]
            sizes[name] = total
        assert sizes["plain"] / sizes["dictionary"] >= 4.0
        assert sizes["zstd"] / sizes["dictionary"] >= 2.0


async def test_turns_are_written_with_it_and_read_by_every_layer(make: Make) -> None:
    async with make() as store:
        before = ZstdLayer(store, dictionary=True)
        await filled(before)
        assert await codecs(store, "s1") == {ZSTD, PLAIN} & await codecs(store, "s1"), "there is none yet"
        trained = await before.train()
        assert 32768 <= trained.id < 2**31
        assert trained.sessions == 60
        assert trained.rounds == 1200
        assert 256 < trained.size <= 64 * 1024
        await filled(before, 1, start=100)
        assert await codecs(store, "s100") == {WITH_DICTIONARY}
        await filled(ZstdLayer(store), 1, start=101)
        assert WITH_DICTIONARY not in await codecs(store, "s101"), "only who asks for it writes with it"
        whole = [message.text for message in await before.load("s100")]
        assert len(whole) == 40
        for layer in (ZstdLayer(store), GzipLayer(store), OffLayer(store), ZstdLayer(store, dictionary=True)):
            assert [message.text for message in await layer.load("s100")] == whole
        plain = Record.of(tuple(spoken(Random(1))), id="t", time=0.0)
        sizes = [(await layer.written(Key("default", "x"), (plain,)))[0].size for layer in (before, ZstdLayer(store))]
        assert plain.size / sizes[0] >= 2.0
        assert sizes[1] / sizes[0] >= 1.5


async def test_it_is_in_no_listing(make: Make) -> None:
    """Nor is it an owner's, or anything that an application can name."""
    async with make() as store:
        layer = ZstdLayer(store, dictionary=True)
        await filled(layer, 60)
        there = sorted([info.key.session async for info in layer.sessions()])
        await layer.train()
        assert sorted([info.key.session async for info in layer.sessions()]) == there
        page = await layer.page(Query(namespace="default", limit=1000))
        assert sorted(info.key.session for info in page.infos) == there
        for owner in ("owner 0", "default"):
            exported = [session.info.key.session async for session in layer.export_owner(owner)]
            assert set(exported) <= set(there)
        with pytest.raises(InvalidInput, match="turnlog:"):
            layer.within("turnlog:dictionaries")


async def test_it_is_a_namespaces_own(make: Make) -> None:
    """What is copied to another is written there without it, or with its own."""
    async with make() as store:
        layer = ZstdLayer(store, dictionary=True)
        await filled(layer)
        await layer.train()
        await filled(layer, 1, start=100)
        elsewhere = layer.within("elsewhere")
        await filled(elsewhere, 1)
        assert WITH_DICTIONARY not in await codecs(store.within("elsewhere"), "s0")
        await layer.copy(Key("default", "s100"), Key("elsewhere", "copy"), at=None, change_id="c")
        assert WITH_DICTIONARY not in await codecs(store.within("elsewhere"), "copy")
        whole = [message.text for message in await layer.load("s100")]
        assert [message.text for message in await elsewhere.load("copy")] == whole
        await layer.fork("s100", "fork")
        assert await codecs(store, "fork") == {WITH_DICTIONARY}
        assert [message.text for message in await layer.load("fork")] == whole


async def test_another_writer_finds_the_newest_after_ten_minutes() -> None:
    clock = Clock()
    async with MemoryBackend(clock=clock) as store:
        writer, trainer = (ZstdLayer(store, dictionary=True) for _ in range(2))
        await filled(writer)
        await trainer.train()
        clock.advance(599)
        await filled(writer, 1, start=100)
        assert WITH_DICTIONARY not in await codecs(store, "s100")
        clock.advance(1)
        await filled(writer, 1, start=101)
        assert await codecs(store, "s101") == {WITH_DICTIONARY}


async def test_too_little_to_train_on_is_told() -> None:
    async with ZstdLayer(MemoryBackend(), dictionary=True) as layer:
        with pytest.raises(InvalidInput, match="0 rounds of 0 sessions in 'default', 0 bytes, are too few"):
            await layer.train()
        await layer.append("s", [user("hello")])
        with pytest.raises(InvalidInput, match="1 rounds of 1 sessions"):
            await layer.train()
        await layer.append("s", spoken(Random(1)))
        assert WITH_DICTIONARY not in await codecs(layer.inner, "s")


async def test_what_is_damaged_is_not_trained_on() -> None:
    async with ZstdLayer(MemoryBackend(), dictionary=True) as layer:
        await filled(layer)
        record = Record.of(tuple(spoken(Random(1))), id="t", time=0.0)
        await layer.inner.commit(
            Key("default", "bad"), Change(append=(record.with_payload(b"\xc1\x54\x01\x02damaged"),))
        )
        trained = await layer.train()
        assert trained.rounds == 1200


# ------------------------------------------------------------------------------------------------------- if it is lost


async def test_a_record_whose_dictionary_is_missing_says_which(make: Make) -> None:
    """It hides nothing beside it."""
    async with make() as store:
        layer = ZstdLayer(store, dictionary=True)
        await filled(layer)
        trained = await layer.train()
        await filled(layer, 1, start=100)
        await GzipLayer(store).append("s100", [user("after " + "it " * 200)])
        await store.delete(Key("turnlog:dictionaries", "default"))
        for reader in (ZstdLayer(store), GzipLayer(store), OffLayer(store)):
            with pytest.raises(CorruptRecord, match=f"'s100'.*dictionary {trained.id}, which is not there") as caught:
                await reader.load("s100")
            assert caught.value.turn == 0
            assert (await reader.load("s100", last=1))[0].text.startswith("after")
            assert len(await reader.load("s1")) == 40


# ---------------------------------------------------------------------------------------------- what it may remember


async def test_an_owner_who_is_erased_is_told_what_may_hold_their_words(make: Make) -> None:
    """Until it is trained anew without them, and all is brought to the new one."""
    clock = Clock()
    async with make(clock=clock) as store:
        layer = ZstdLayer(store, dictionary=True)
        await filled(layer)
        first = await layer.train()
        (stored,) = (await store.read(Key("turnlog:dictionaries", "default"))).messages
        owners = stored.get("owners")
        assert isinstance(owners, list)
        assert len(owners) == 3
        assert not any("owner" in str(owner) for owner in owners), "digests"
        erased = await layer.erase_owner("owner 1")
        assert (erased.sessions, erased.traces) == (20, (f"dictionary {first.id} of 'default'",))
        assert (await layer.erase_owner("somebody")).traces == ()
        assert (await layer.within("elsewhere").erase_owner("owner 1")).traces == ()
        second = await layer.train()
        assert (await layer.erase_owner("owner 1")).traces == (f"dictionary {first.id} of 'default'",)
        assert (await layer.erase_owner("owner 0")).traces == tuple(
            f"dictionary {one.id} of 'default'" for one in (first, second)
        )
        clock.advance(HOUR)
        await ran(layer)
        assert (await layer.erase_owner("owner 1")).traces == ()


# ------------------------------------------------------------------------------------------------------- forgetting


async def two_trained(store: Store, clock: Clock) -> tuple[ZstdLayer, Trained, Trained]:
    """A store whose session `s100` is written with the first of two dictionaries."""
    layer = ZstdLayer(store, dictionary=True, seal=False)
    await filled(layer)
    first = await layer.train()
    await filled(layer, 1, start=100)
    second = await layer.train()
    clock.advance(60)
    return layer, first, second


async def test_an_old_one_is_forgotten_an_hour_after_nothing_needs_it(make: Make) -> None:
    """Not sooner: others may write with it still.  All is readable at every time."""
    clock = Clock()
    async with make(clock=clock) as store:
        layer, first, second = await two_trained(store, clock)
        whole = {f"s{number}": await layer.load(f"s{number}") for number in (0, 7, 100)}
        for passed, forgotten in ((0, ()), (HOUR - 61, ()), (1, (first.id,)), (HOUR, ())):
            clock.advance(passed)
            told = await ran(layer)
            assert [one.forgotten for one in told if not one.session] == ([forgotten] if forgotten else [])
            for name, messages in whole.items():
                for reader in (ZstdLayer(store), OffLayer(store)):
                    assert await reader.load(name) == messages
        assert list(await ZstdLayer(store).dictionaries.fetch("default")) == [second.id]


async def test_one_that_a_damaged_record_may_need_stays(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its neighbours in a run are left with it: also where the pass was stopped after them, and goes on later."""
    monkeypatch.setattr(_recompressing, "_SESSIONS", 1)
    clock = Clock()
    async with make(clock=clock) as store:
        layer, first, second = await two_trained(store, clock)
        sound = (await store.read(Key("default", "s100"))).records[-1]
        damaged = Record.of(tuple(spoken(Random(1))), id="bad", time=0.0)
        await store.commit(Key("default", "s100"), Change(append=(damaged.with_payload(sound.payload[:-1] + b"\0"),)))
        for _ in range(3):
            await filled(OffLayer(store), 1, start=100)  # so that it is in a run
        clock.advance(HOUR)
        whole = await layer.load("s100", before=20)
        sessions = layer.recompress()
        async for one in sessions:
            if one.session == "s100":
                assert one.damaged == 1
            if one.session == "s50":
                break
        await sessions.aclose()  # type: ignore[attr-defined]
        clock.advance(HOUR)
        told = await ran(layer)
        assert "s100" not in {one.session for one in told}
        assert not [one for one in told if one.forgotten]
        assert set(await ZstdLayer(store).dictionaries.fetch("default")) == {first.id, second.id}
        assert await ZstdLayer(store).load("s100", before=20) == whole


async def test_one_that_an_open_turn_needs_stays_until_it_goes_on(make: Make) -> None:
    """No seal is let in where more rounds may follow."""
    clock = Clock()
    async with make(clock=clock) as store:
        layer = ZstdLayer(store, dictionary=True)
        await filled(layer)
        first = await layer.train()
        await layer.append("open", spoken(Random(5)), turn_id="t", open=True)
        assert await codecs(store, "open") == {WITH_DICTIONARY}
        second = await layer.train()
        clock.advance(HOUR)
        assert not [one for one in await ran(layer, idle=0) if one.forgotten]
        assert len(await ZstdLayer(store).load("open")) == 2
        await layer.append("open", spoken(Random(6)), turn_id="t", part=1)
        clock.advance(60)
        assert [one.forgotten for one in await ran(layer, idle=0) if one.forgotten] == [(first.id,)]
        assert len(await ZstdLayer(store).load("open")) == 4
        assert list(await layer.dictionaries.fetch("default")) == [second.id]


async def test_one_that_was_the_newest_when_it_began_stays() -> None:
    """Another was trained while it ran, for hours: what it wrote first needs the one before."""
    clock = Clock()
    async with MemoryBackend(clock=clock) as store:
        layer, _, second = await two_trained(store, clock)
        third = None
        async for _ in layer.recompress():
            if third is None:
                third = await layer.train()
                clock.advance(2 * HOUR)
        assert third is not None
        assert {second.id, third.id} <= set(await layer.dictionaries.fetch("default"))
        for number in (0, 30, 59, 100):
            assert len(await ZstdLayer(store).load(f"s{number}")) == 40
        clock.advance(60)
        assert [len(one.forgotten) for one in await ran(layer) if one.forgotten] == [2]
        for number in (0, 30, 59, 100):
            assert len(await ZstdLayer(store).load(f"s{number}")) == 40


@pytest.mark.parametrize("passes", [100, 1])
async def test_one_that_a_session_needs_which_moved_meanwhile_stays_or_is_not_needed(
    monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    """It moved from where the pass was not yet to where it was already."""
    monkeypatch.setattr(_recompressing, "MAX_PAGE", 5)
    monkeypatch.setattr(_recompressing, "_PASSES", passes)
    clock = Clock()
    async with MemoryBackend(clock=clock) as store:
        layer, first, second = await two_trained(store, clock)
        await ran(layer)
        old = ZstdLayer(store, dictionary=True, seal=False)
        old.dictionaries._newest["default"] = (clock.now, old.dictionaries.at_hand("default").get(first.id))
        every = await old.dictionaries.fetch("default")
        old.dictionaries._newest["default"] = (clock.now, every[first.id])
        await filled(old, 1, start=200)
        for number in range(10):
            clock.advance(10)
            await filled(layer, 1, start=300 + number)
        clock.advance(HOUR)
        moved = False
        async for _ in layer.recompress():
            if not moved:
                moved = True
                clock.advance(10)
                await layer.append("s200", spoken(Random(7)))
        there = list(await ZstdLayer(store).dictionaries.fetch("default"))
        assert there == ([second.id] if passes > 1 else [first.id, second.id])
        assert len(await ZstdLayer(store).load("s200")) == 42


async def test_without_the_layers_care_a_forgotten_one_is_missed() -> None:
    """The naive way forgets when the pass has ended, whatever it has met."""
    clock = Clock()
    async with MemoryBackend(clock=clock) as store:
        layer, _, _ = await two_trained(store, clock)
        clock.advance(HOUR)
        await layer.dictionaries.forget("default")
        with pytest.raises(CorruptRecord, match="dictionary"):
            await ZstdLayer(store).load("s100")


async def test_the_dictionaries_themselves_are_read_once() -> None:
    """Not for every record that is opened."""
    async with MemoryBackend() as below:
        store = Watched(below)
        layer = ZstdLayer(store, dictionary=True, seal=False)
        await filled(layer)
        await layer.train()
        await filled(layer, 5, start=100)
        reader = ZstdLayer(store)
        store.reads.clear()
        for number in range(100, 105):
            await reader.load(f"s{number}")
        assert [key.namespace for key in store.reads].count("turnlog:dictionaries") == 1


async def test_one_that_others_sealed_with_behind_its_back_stays() -> None:
    """They may not have looked for the newest yet, and a seal moves no session to the front."""
    clock = Clock()
    async with MemoryBackend(clock=clock) as store:
        behind = ZstdLayer(store, dictionary=True, seal=False)
        await filled(behind)
        first = await behind.train()
        await behind.append("s0", spoken(Random(1)))  # by now it has looked
        layer = ZstdLayer(store, dictionary=True, seal=False)
        second = await layer.train()
        told = layer.recompress(idle=0)
        forgotten = [one.forgotten async for one in _meanwhile(told, behind, clock) if one.forgotten]
        assert forgotten == []
        assert set(await ZstdLayer(store).dictionaries.fetch("default")) == {first.id, second.id}
        for number in range(60):
            assert await ZstdLayer(store).load(f"s{number}")
        assert [one.forgotten for one in await ran(layer, idle=0) if one.forgotten] == [(first.id,)]
        for number in range(60):
            assert await ZstdLayer(store).load(f"s{number}")


async def _meanwhile(told: AsyncIterator[Recompressed], behind: ZstdLayer, clock: Clock) -> AsyncIterator[Recompressed]:
    """What is told, while another process seals with an older one, and the rest of the pass takes an hour."""
    async for one in told:
        yield one
        if one.session == "s1":
            await ran(behind, idle=0)
            clock.advance(HOUR + 60)


class Held(Layer):
    """Waits before it writes a session `target`."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()

    async def commit(self, key: Key, change: Change) -> Receipt:
        if key.session == "target":
            self.arrived.set()
            await self.go_on.wait()
        return await super().commit(key, change)


async def test_a_fork_that_is_under_way_does_not_need_one_that_is_forgotten() -> None:
    clock = Clock()
    held = Held(MemoryBackend(clock=clock))
    layer, first, _ = await two_trained(held, clock)
    clock.advance(HOUR)
    fork = asyncio.ensure_future(layer.fork("s100", "target"))
    await held.arrived.wait()
    assert [one.forgotten for one in await ran(layer, idle=0) if one.forgotten] == [(first.id,)]
    held.go_on.set()
    await fork
    assert await ZstdLayer(held).load("target") == await ZstdLayer(held).load("s100")

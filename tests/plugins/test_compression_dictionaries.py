"""Dictionaries: they make short turns smaller, appear in no listing, and are removed when no record needs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from compressed import PLAIN, WITH_DICTIONARY, ZSTD, Watched, codecs_of, stored
from turnlog import Backend, Change, InvalidInput, Key, Layer, Message, Query, Receipt, Record, Store, assistant, user
from turnlog.errors import CorruptRecord
from turnlog.testing import Clock
from turnlog_compression import CompressionLayer, GzipLayer, OffLayer, Recompressed, _recompressing
from turnlog_compression.zstd import Trained, ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend

HOUR = 3600.0

Make = Callable[..., Backend]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return a function that makes the backend."""
    if request.param == "memory":
        return MemoryBackend
    return lambda **options: SQLiteBackend(f"sqlite:///{tmp_path}/turnlog.db", synchronous="NORMAL", **options)


WORDS = "please cancel my reservation and refund the certificate to the payment card as the insurance policy says"


def exchange(dice: Random) -> list[Message]:
    """Return a turn with an agent; such turns have much text in common."""
    question = " ".join(dice.choice(WORDS.split()) for _ in range(25))
    answer = (
        f"I have found reservation {dice.randrange(10**6)}. The details are: origin {dice.choice('ABC')}, cabin "
        f"economy, payment method credit_card_{dice.randrange(10**7)}. Do you confirm (yes/no) that I shall proceed?"
    )
    return [user(question), assistant(answer)]


async def fill_sessions(backend: Backend, sessions: int = 60, *, start: int = 0, namespace: str = "default") -> None:
    """Write sessions `s0`, `s1` and so on, of 20 turns each and three owners."""
    store, dice = Store(backend, namespace=namespace), Random(start)
    for number in range(start, start + sessions):
        for _ in range(20):
            await store.append(f"s{number}", exchange(dice), owner=f"owner {number % 3}")


async def codecs(backend: Backend, session: str, namespace: str = "default") -> set[int]:
    """Return the codecs of a session's records."""
    return set(codecs_of(await stored(backend, Key(namespace, session))))


async def texts(backend: Backend, session: str, namespace: str = "default") -> list[str]:
    """Return the texts of a session."""
    return [message.text for message in await Store(backend, namespace=namespace).load(session)]


async def recompressed(layer: CompressionLayer, **options: Any) -> list[Recompressed]:
    """Recompress the namespace and return all results."""
    return [result async for result in layer.recompress("default", **options)]


async def removed(layer: CompressionLayer, **options: Any) -> list[tuple[int, ...]]:
    """Recompress the namespace and return the ids of the dictionaries that were removed."""
    return [result.forgotten for result in await recompressed(layer, **options) if result.forgotten]


async def ids(backend: Backend) -> list[int]:
    """Return the ids of the stored dictionaries."""
    return list(await ZstdLayer(backend).dictionaries.fetch("default"))


# ------------------------------------------------------------------------------------------------------ train and use


async def test_single_turns_shrink_two_to_three_times(shared_data: list[dict[str, Any]]) -> None:
    """Turns of an airline's agents, of conversations that the dictionary was not trained on."""
    split = 150
    async with MemoryBackend(max_bytes=1 << 30) as backend:
        layer = ZstdLayer(backend, seal=False)
        for conversation in shared_data[:split]:
            await Store(layer).save(conversation["session_id"], conversation["messages"])
        trained = await layer.train("default")
        assert trained.size <= 64 * 1024
        assert trained.sessions > 50
        sizes = {}
        for name, writer in (
            ("plain", OffLayer(backend)),
            ("zstd", ZstdLayer(backend, seal=False)),
            ("dictionary", ZstdLayer(backend, seal=False, dictionary=True)),
        ):
            total = 0
            for conversation in shared_data[split:]:
                session = f"{name} {conversation['session_id']}"
                await Store(writer).save(session, conversation["messages"])
                records = await stored(backend, Key("default", session))
                total += sum(len(record.payload) for record in records[1:])  # the first holds the policy, too
                messages = [message.to_dict() for message in await Store(layer).load(session)]
                assert messages == conversation["messages"]
            sizes[name] = total
        assert sizes["plain"] / sizes["dictionary"] >= 4.0
        assert sizes["zstd"] / sizes["dictionary"] >= 2.0


async def test_turns_are_written_with_it_and_read_by_every_layer(make: Make) -> None:
    async with make() as backend:
        layer = ZstdLayer(backend, dictionary=True)
        await fill_sessions(layer)
        assert await codecs(backend, "s1") <= {ZSTD, PLAIN}, "none is trained yet"
        trained = await layer.train("default")
        assert 32768 <= trained.id < 2**31
        assert trained.sessions == 60
        assert trained.rounds == 1200
        assert 256 < trained.size <= 64 * 1024
        await fill_sessions(layer, 1, start=100)
        assert await codecs(backend, "s100") == {WITH_DICTIONARY}
        await fill_sessions(ZstdLayer(backend), 1, start=101)
        assert WITH_DICTIONARY not in await codecs(backend, "s101"), "only layers with the option write with it"
        whole = await texts(layer, "s100")
        assert len(whole) == 40
        for reader in (ZstdLayer(backend), GzipLayer(backend), OffLayer(backend), ZstdLayer(backend, dictionary=True)):
            assert await texts(reader, "s100") == whole
        plain = Record.of(tuple(exchange(Random(1))), id="t", time=0.0)
        sizes = []
        for writer in (layer, ZstdLayer(backend)):
            (written,) = await writer.encode_records(Key("default", "x"), (plain,))
            sizes.append(written.size)
        assert plain.size / sizes[0] >= 2.0
        assert sizes[1] / sizes[0] >= 1.5


async def test_it_appears_in_no_listing(make: Make) -> None:
    """It belongs to no owner, and no application can name its namespace."""
    async with make() as backend:
        layer = ZstdLayer(backend, dictionary=True)
        store = Store(layer)
        await fill_sessions(layer)
        before = sorted([info.key.session async for info in store.sessions()])
        await layer.train("default")
        assert sorted([info.key.session async for info in store.sessions()]) == before
        page = await layer.page(Query(namespace="default", limit=1000))
        assert sorted(info.key.session for info in page.infos) == before
        for owner in ("owner 0", "default"):
            exported = [session.info.key.session async for session in store.export_owner(owner)]
            assert set(exported) <= set(before)
        with pytest.raises(InvalidInput, match="turnlog:"):
            store.within("turnlog:dictionaries")


async def test_it_belongs_to_its_namespace(make: Make) -> None:
    """A copy to another namespace is written without it, or with the dictionary of that namespace."""
    async with make() as backend:
        layer = ZstdLayer(backend, dictionary=True)
        await fill_sessions(layer)
        await layer.train("default")
        await fill_sessions(layer, 1, start=100)
        await fill_sessions(layer, 1, namespace="elsewhere")
        assert WITH_DICTIONARY not in await codecs(backend, "s0", "elsewhere")
        await layer.copy(Key("default", "s100"), Key("elsewhere", "copy"), at=None, change_id="c")
        assert WITH_DICTIONARY not in await codecs(backend, "copy", "elsewhere")
        whole = await texts(layer, "s100")
        assert await texts(layer, "copy", "elsewhere") == whole
        await Store(layer).fork("s100", "fork")
        assert await codecs(backend, "fork") == {WITH_DICTIONARY}
        assert await texts(layer, "fork") == whole


async def test_another_writer_uses_the_newest_after_ten_minutes() -> None:
    clock = Clock()
    async with MemoryBackend(clock=clock) as backend:
        writer, trainer = (ZstdLayer(backend, dictionary=True) for _ in range(2))
        await fill_sessions(writer)
        await trainer.train("default")
        clock.advance(599)
        await fill_sessions(writer, 1, start=100)
        assert WITH_DICTIONARY not in await codecs(backend, "s100")
        clock.advance(1)
        await fill_sessions(writer, 1, start=101)
        assert await codecs(backend, "s101") == {WITH_DICTIONARY}


async def test_too_little_to_train_on_is_an_error() -> None:
    async with ZstdLayer(MemoryBackend(), dictionary=True) as layer:
        store = Store(layer)
        with pytest.raises(InvalidInput, match="0 rounds of 0 sessions in 'default', 0 bytes, are too few"):
            await layer.train("default")
        await store.append("s", [user("hello")])
        with pytest.raises(InvalidInput, match="1 rounds of 1 sessions"):
            await layer.train("default")
        await store.append("s", exchange(Random(1)))
        assert WITH_DICTIONARY not in await codecs(layer.inner, "s")


async def test_damaged_records_are_not_trained_on() -> None:
    async with ZstdLayer(MemoryBackend(), dictionary=True) as layer:
        await fill_sessions(layer)
        record = Record.of(tuple(exchange(Random(1))), id="t", time=0.0)
        await layer.inner.commit(
            Key("default", "bad"), Change(append=(record.with_payload(b"\xc1\x54\x01\x02damaged"),))
        )
        trained = await layer.train("default")
        assert trained.rounds == 1200


async def test_dictionaries_are_read_once() -> None:
    """One read of the dictionaries serves all records of a namespace."""
    async with MemoryBackend() as backend:
        watched = Watched(backend)
        layer = ZstdLayer(watched, dictionary=True, seal=False)
        await fill_sessions(layer)
        await layer.train("default")
        await fill_sessions(layer, 5, start=100)
        reader = Store(ZstdLayer(watched))
        watched.reads.clear()
        for number in range(100, 105):
            await reader.load(f"s{number}")
        assert [key.namespace for key in watched.reads].count("turnlog:dictionaries") == 1


# ---------------------------------------------------------------------------------------------------- loss and traces


async def test_the_error_of_a_record_names_its_missing_dictionary(make: Make) -> None:
    """The other records stay readable."""
    async with make() as backend:
        layer = ZstdLayer(backend, dictionary=True)
        await fill_sessions(layer)
        trained = await layer.train("default")
        await fill_sessions(layer, 1, start=100)
        await Store(GzipLayer(backend)).append("s100", [user("after " + "it " * 200)])
        await backend.delete(Key("turnlog:dictionaries", "default"))
        for reader in map(Store, (ZstdLayer(backend), GzipLayer(backend), OffLayer(backend))):
            with pytest.raises(CorruptRecord, match=f"'s100'.*dictionary {trained.id}, which is not") as caught:
                await reader.load("s100")
            assert caught.value.turn == 0
            assert (await reader.load("s100", last=1))[0].text.startswith("after")
            assert len(await reader.load("s1")) == 40


async def test_erasing_an_owner_names_the_dictionaries_that_may_hold_their_words(make: Make) -> None:
    """Until another is trained without them and every record is compressed with it."""
    clock = Clock()
    async with make(clock=clock) as backend:
        layer = ZstdLayer(backend, dictionary=True)
        store = Store(layer)
        await fill_sessions(layer)
        first = await layer.train("default")
        (message,) = (await backend.read(Key("turnlog:dictionaries", "default"))).messages
        owners = message.get("owners")
        assert isinstance(owners, list)
        assert len(owners) == 3
        assert not any("owner" in str(owner) for owner in owners), "digests"
        erased = await store.erase_owner("owner 1")
        assert (erased.sessions, erased.traces) == (20, (f"dictionary {first.id} of 'default'",))
        assert (await store.erase_owner("somebody")).traces == ()
        assert (await store.within("elsewhere").erase_owner("owner 1")).traces == ()
        second = await layer.train("default")
        assert (await store.erase_owner("owner 1")).traces == (f"dictionary {first.id} of 'default'",)
        assert (await store.erase_owner("owner 0")).traces == tuple(
            f"dictionary {one.id} of 'default'" for one in (first, second)
        )
        clock.advance(HOUR)
        await recompressed(layer)
        assert (await store.erase_owner("owner 1")).traces == ()


async def test_traces_are_found_by_every_compression_layer_and_through_other_layers() -> None:
    async with MemoryBackend() as backend:
        layer = ZstdLayer(backend, dictionary=True)
        await fill_sessions(layer)
        trained = await layer.train("default")
        for outer in (Layer(layer), OffLayer(backend), GzipLayer(Layer(backend))):
            assert await outer.traces("default", "owner 1") == (f"dictionary {trained.id} of 'default'",)


# ------------------------------------------------------------------------------------------------------------- removal


async def two_trained(backend: Backend, clock: Clock) -> tuple[ZstdLayer, Trained, Trained]:
    """Write a session `s100` with the first of two dictionaries."""
    layer = ZstdLayer(backend, dictionary=True, seal=False)
    await fill_sessions(layer)
    first = await layer.train("default")
    await fill_sessions(layer, 1, start=100)
    second = await layer.train("default")
    clock.advance(60)
    return layer, first, second


async def test_an_old_one_is_removed_an_hour_after_no_record_needs_it(make: Make) -> None:
    """Not sooner, because other writers may still use it.  Every session stays readable."""
    clock = Clock()
    async with make(clock=clock) as backend:
        layer, first, second = await two_trained(backend, clock)
        whole = {f"s{number}": await texts(layer, f"s{number}") for number in (0, 7, 100)}
        for seconds, expected in ((0, []), (HOUR - 61, []), (1, [(first.id,)]), (HOUR, [])):
            clock.advance(seconds)
            assert await removed(layer) == expected
            for name, messages in whole.items():
                for reader in (ZstdLayer(backend), OffLayer(backend)):
                    assert await texts(reader, name) == messages
        assert await ids(backend) == [second.id]


async def test_one_that_a_damaged_record_may_need_stays(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run of the damaged record stays as it is, also if recompressing is stopped after it and continued later."""
    monkeypatch.setattr(_recompressing, "_SESSIONS", 1)
    clock = Clock()
    async with make(clock=clock) as backend:
        layer, first, second = await two_trained(backend, clock)
        sound = (await stored(backend, Key("default", "s100")))[-1]
        damaged = Record.of(tuple(exchange(Random(1))), id="bad", time=0.0)
        await backend.commit(Key("default", "s100"), Change(append=(damaged.with_payload(sound.payload[:-1] + b"\0"),)))
        for _ in range(3):
            await fill_sessions(OffLayer(backend), 1, start=100)  # so that the damaged turn is in a run
        clock.advance(HOUR)
        whole = await Store(layer).load("s100", before=20)
        results = layer.recompress("default")
        async for one in results:
            if one.session == "s100":
                assert one.damaged == 1
            if one.session == "s50":
                break
        await results.aclose()  # type: ignore[attr-defined]
        clock.advance(HOUR)
        rest = await recompressed(layer)
        assert "s100" not in {one.session for one in rest}
        assert not [one for one in rest if one.forgotten]
        assert set(await ids(backend)) == {first.id, second.id}
        assert await Store(ZstdLayer(backend)).load("s100", before=20) == whole


async def test_one_that_an_open_turn_needs_stays_until_the_turn_ends(make: Make) -> None:
    """A backend refuses to seal a turn that more rounds may follow."""
    clock = Clock()
    async with make(clock=clock) as backend:
        layer = ZstdLayer(backend, dictionary=True)
        store = Store(layer)
        await fill_sessions(layer)
        first = await layer.train("default")
        await store.append("open", exchange(Random(5)), turn_id="t", open=True)
        assert await codecs(backend, "open") == {WITH_DICTIONARY}
        second = await layer.train("default")
        clock.advance(HOUR)
        assert await removed(layer, idle=0) == []
        assert len(await texts(ZstdLayer(backend), "open")) == 2
        await store.append("open", exchange(Random(6)), turn_id="t", part=1)
        clock.advance(60)
        assert await removed(layer, idle=0) == [(first.id,)]
        assert len(await texts(ZstdLayer(backend), "open")) == 4
        assert await ids(backend) == [second.id]


async def test_one_that_was_the_newest_at_the_beginning_stays() -> None:
    """Another is trained while recompressing runs for hours: its first sessions were written with the one before."""
    clock = Clock()
    async with MemoryBackend(clock=clock) as backend:
        layer, _, second = await two_trained(backend, clock)
        third = None
        async for _ in layer.recompress("default"):
            if third is None:
                third = await layer.train("default")
                clock.advance(2 * HOUR)
        assert third is not None
        assert {second.id, third.id} <= set(await ids(backend))
        for number in (0, 30, 59, 100):
            assert len(await texts(ZstdLayer(backend), f"s{number}")) == 40
        clock.advance(60)
        assert [len(found) for found in await removed(layer)] == [2]
        for number in (0, 30, 59, 100):
            assert len(await texts(ZstdLayer(backend), f"s{number}")) == 40


@pytest.mark.parametrize("passes", [100, 1])
async def test_one_that_a_session_needs_which_moved_meanwhile_stays(
    monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    """The session moves from the part of the listing that is still to come to the part that is done.

    A further pass finds the session and compresses it anew; without further passes the dictionary stays.
    """
    monkeypatch.setattr(_recompressing, "MAX_PAGE", 5)
    monkeypatch.setattr(_recompressing, "_PASSES", passes)
    clock = Clock()
    async with MemoryBackend(clock=clock) as backend:
        layer, first, second = await two_trained(backend, clock)
        await recompressed(layer)
        old = ZstdLayer(backend, dictionary=True, seal=False)
        every = await old.dictionaries.fetch("default")
        old.dictionaries._newest["default"] = (clock.now, every[first.id])  # it has not looked for the newest yet
        await fill_sessions(old, 1, start=200)
        for number in range(10):
            clock.advance(10)
            await fill_sessions(layer, 1, start=300 + number)
        clock.advance(HOUR)
        moved = False
        async for _ in layer.recompress("default"):
            if not moved:
                moved = True
                clock.advance(10)
                await Store(layer).append("s200", exchange(Random(7)))
        assert await ids(backend) == ([second.id] if passes > 1 else [first.id, second.id])
        assert len(await texts(ZstdLayer(backend), "s200")) == 42


async def test_removing_one_without_recompressing_makes_records_unreadable() -> None:
    """The tests above would detect a layer that removes dictionaries too soon."""
    clock = Clock()
    async with MemoryBackend(clock=clock) as backend:
        layer, _, _ = await two_trained(backend, clock)
        clock.advance(HOUR)
        await layer.dictionaries.remove_old("default")
        with pytest.raises(CorruptRecord, match="dictionary"):
            await texts(ZstdLayer(backend), "s100")


async def test_one_that_another_process_still_seals_with_stays() -> None:
    """That process may not have looked for the newest yet, and a seal does not move a session to the front."""
    clock = Clock()
    async with MemoryBackend(clock=clock) as backend:
        other = ZstdLayer(backend, dictionary=True, seal=False)
        await fill_sessions(other)
        first = await other.train("default")
        await Store(other).append("s0", exchange(Random(1)))  # now it has looked
        layer = ZstdLayer(backend, dictionary=True, seal=False)
        second = await layer.train("default")
        results = _sealing_meanwhile(layer.recompress("default", idle=0), other, clock)
        assert [one.forgotten async for one in results if one.forgotten] == []
        assert set(await ids(backend)) == {first.id, second.id}
        for number in range(60):
            assert await texts(ZstdLayer(backend), f"s{number}")
        assert await removed(layer, idle=0) == [(first.id,)]
        for number in range(60):
            assert await texts(ZstdLayer(backend), f"s{number}")


async def _sealing_meanwhile(
    results: AsyncIterator[Recompressed], other: ZstdLayer, clock: Clock
) -> AsyncIterator[Recompressed]:
    """Yield results; after `s1` another process seals with an older dictionary, and the rest takes an hour."""
    async for one in results:
        yield one
        if one.session == "s1":
            await recompressed(other, idle=0)
            clock.advance(HOUR + 60)


class Held(Layer):
    """A backend that waits before it writes the session `target`."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()

    async def commit(self, key: Key, change: Change) -> Receipt:
        if key.session == "target":
            self.arrived.set()
            await self.go_on.wait()
        return await super().commit(key, change)


async def test_a_fork_that_is_being_written_does_not_need_a_removed_dictionary() -> None:
    clock = Clock()
    held = Held(MemoryBackend(clock=clock))
    layer, first, _ = await two_trained(held, clock)
    clock.advance(HOUR)
    fork = asyncio.ensure_future(Store(layer).fork("s100", "target"))
    await held.arrived.wait()
    assert await removed(layer, idle=0) == [(first.id,)]
    held.go_on.set()
    await fork
    assert await texts(ZstdLayer(held), "target") == await texts(ZstdLayer(held), "s100")

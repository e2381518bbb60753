"""Dictionaries: they make short turns smaller, appear in no listing, and are removed only on request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from compressed import PLAIN, WITH_DICTIONARY, ZSTD, Watched, codecs_of, stored
from turnlog import (
    ANY,
    Backend,
    Change,
    InvalidInput,
    Key,
    Layer,
    Message,
    Query,
    Record,
    Session,
    Store,
    assistant,
    user,
)
from turnlog.errors import Conflict, CorruptRecord
from turnlog.testing import Clock
from turnlog_compression import CompressionLayer, GzipLayer, OffLayer, Recompressed
from turnlog_compression._progress import Progress
from turnlog_compression.zstd import ZstdLayer
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
    """Return one turn with an agent. Such turns share much text."""
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


async def fill_at_once(backend: Backend, *, start: int = 0) -> None:
    """Write 30 sessions of 20 turns each, each in one commit."""
    dice = Random(start)
    for number in range(start, start + 30):
        history = [message for _ in range(20) for message in exchange(dice)]
        await Store(backend).save(f"s{number}", history, expect=ANY)


async def codecs(backend: Backend, session: str, namespace: str = "default") -> set[int]:
    """Return the codecs of a session's records."""
    return set(codecs_of(await stored(backend, Key(namespace, session))))


async def texts(backend: Backend, session: str, namespace: str = "default") -> list[str]:
    """Return the texts of a session."""
    return [message.text for message in await Store(backend, namespace=namespace).load(session)]


async def recompressed(layer: CompressionLayer, **options: Any) -> list[Recompressed]:
    """Recompress the namespace and return all results."""
    return [result async for result in layer.recompress("default", **options)]


async def ids(backend: Backend) -> list[int]:
    """Return the ids of the stored dictionaries."""
    return list(await ZstdLayer(backend).dictionaries.fetch("default"))


# ------------------------------------------------------------------------------------------------------ train and use


async def test_single_turns_shrink_two_to_three_times(shared_data: list[dict[str, Any]]) -> None:
    """The turns of airline agents come from conversations on which the dictionary was not trained."""
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
                total += sum(len(record.payload) for record in records[1:])  # the first record also holds the policy
                messages = [message.to_dict() for message in await Store(layer).load(session)]
                assert messages == conversation["messages"]
            sizes[name] = total
        assert sizes["plain"] / sizes["dictionary"] >= 4.0
        assert sizes["zstd"] / sizes["dictionary"] >= 2.0


async def test_turns_are_written_with_a_dictionary_and_read_by_every_layer(make: Make) -> None:
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
            sizes.append(len(written.payload))
            assert written.size == plain.size == len(plain.payload), "the size of the decoded record"
        assert plain.size / sizes[0] >= 2.0
        assert sizes[1] / sizes[0] >= 1.5


async def test_a_dictionary_appears_in_no_listing(make: Make) -> None:
    """The dictionary has no owner, and applications cannot use its namespace."""
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


async def test_a_dictionary_belongs_to_its_namespace(make: Make) -> None:
    """A copy to another namespace is written with the dictionary of that namespace, or without a dictionary."""
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
        with pytest.raises(InvalidInput, match="namespace 'default' has 0, with 0 bytes: store more turns"):
            await layer.train("default")
        await store.append("s", [user("hello")])
        with pytest.raises(InvalidInput, match="namespace 'default' has 1, with"):
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
    """It stays a trace until another is trained, all records are compressed with that one, and it is removed."""
    async with make() as backend:
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
        await recompressed(layer)
        await layer.remove_dictionary("default", first.id)
        assert (await store.erase_owner("owner 1")).traces == ()


async def test_traces_are_found_by_every_compression_layer_and_through_other_layers() -> None:
    async with MemoryBackend() as backend:
        layer = ZstdLayer(backend, dictionary=True)
        await fill_sessions(layer)
        trained = await layer.train("default")
        for outer in (Layer(layer), OffLayer(backend), GzipLayer(Layer(backend))):
            for owner in ("owner 1", None):  # None: the owner of the sessions is unknown
                assert await outer.traces("default", owner) == (f"dictionary {trained.id} of 'default'",)


async def test_a_damaged_dictionary_hides_only_the_records_that_need_it() -> None:
    """It counts as a dictionary that may hold text of any owner."""
    async with MemoryBackend() as backend:
        layer = ZstdLayer(backend, dictionary=True, seal=False)
        await fill_sessions(layer)
        trained = await layer.train("default")
        await fill_sessions(layer, 1, start=100)
        record = Record.of(tuple(exchange(Random(1))), id=f"{trained.id}", time=0.0).with_payload(b"damaged payload")
        await backend.commit(Key("turnlog:dictionaries", "default"), Change(keep=0, append=(record,)))
        reader = ZstdLayer(backend, dictionary=True, seal=False)
        with pytest.raises(CorruptRecord, match=f"'s100'.*dictionary {trained.id}, which is not"):
            await texts(reader, "s100")
        await fill_sessions(reader, 1, start=101)
        assert len(await texts(reader, "s101")) == len(await texts(reader, "s1")) == 40
        assert await reader.traces("default", "anybody") == (f"dictionary {trained.id} of 'default'",)


# ------------------------------------------------------------------------------------------------ dictionaries are kept


async def unreadable(backend: Backend, sessions: int = 60) -> int:
    """Return the number of sessions that a new process cannot read."""
    failed, reader = 0, ZstdLayer(backend)
    for number in range(sessions):
        try:
            assert await texts(reader, f"s{number}")
        except CorruptRecord:
            failed += 1
    return failed


class Elsewhere(Layer):
    """The same backend on a host whose clock is wrong."""

    def __init__(self, inner: Backend, clock: Clock) -> None:
        super().__init__(inner)
        self.clock = clock


@pytest.mark.parametrize(("ahead", "remembers", "writes"), [(0, True, False), (HOUR, False, True), (-HOUR, True, True)])
async def test_training_while_another_process_recompresses_loses_nothing(
    make: Make, ahead: float, *, remembers: bool, writes: bool
) -> None:
    """The other process may know only an older dictionary or have a wrong clock. A third process uses the older one."""
    clock, wrong = Clock(), Clock()
    async with make(clock=clock) as backend:
        trainer, other = (ZstdLayer(backend, dictionary=True, seal=False) for _ in range(2))
        recompresses = ZstdLayer(Elsewhere(backend, wrong), dictionary=True, seal=False)
        await fill_at_once(trainer)
        await trainer.train("default")
        await fill_at_once(other, start=30)
        for _ in range(2):
            clock.advance(2 * HOUR)
            wrong.now = clock.now + ahead
            for layer in (recompresses, other) if remembers else (other,):
                await layer.codec_for("default")
            trained = False
            async for result in recompresses.recompress("default", idle=0):
                if not trained:
                    trained = True
                    await trainer.train("default")
                if writes and result.session != "s0":
                    await Store(other).append("s0", exchange(Random(1)))
            await fill_at_once(other, start=60)
            assert await unreadable(backend) == 0
            await recompressed(trainer, idle=0)
            assert await unreadable(backend) == 0
        assert len(await ids(backend)) == 3


async def test_a_dictionary_that_is_not_in_memory_is_read_from_the_backend() -> None:
    """Another process may have stored it just before."""
    async with MemoryBackend(clock=Clock()) as backend:
        layer, reader = (ZstdLayer(backend, dictionary=True, seal=False) for _ in range(2))
        await fill_sessions(layer)
        for number in range(100, 103):
            await texts(reader, "s1")
            await layer.train("default")
            await fill_sessions(layer, 1, start=number)
            assert len(await texts(reader, f"s{number}")) == 40


async def test_a_bounded_memory_backend_keeps_a_dictionary() -> None:
    """The backend evicts the least recently used sessions, but a process reads a dictionary only once."""
    async with MemoryBackend(max_sessions=40) as backend:
        layer = ZstdLayer(backend, dictionary=True, seal=False)
        await fill_at_once(layer)
        await layer.train("default")
        for start in (100, 130):
            await fill_at_once(layer, start=start)
        assert len(await texts(ZstdLayer(backend), "s159")) == 40
        assert len(await ids(backend)) == 1


# ------------------------------------------------------------------------------------------------- removal on request


async def test_a_dictionary_that_no_record_needs_can_be_removed(make: Make) -> None:
    """Every session stays readable, also in the process that removes the dictionary."""
    async with make() as backend:
        layer = ZstdLayer(backend, dictionary=True, seal=False)
        await fill_at_once(layer)
        first = await layer.train("default")
        await fill_sessions(layer, 1, start=100)
        second = await layer.train("default")
        remover: CompressionLayer
        for remover in (layer, OffLayer(backend), GzipLayer(backend)):
            with pytest.raises(
                Conflict, match=rf"'s100' in namespace 'default' needs dictionary {first.id}, or is damaged"
            ):
                await remover.remove_dictionary("default", first.id)
        await recompressed(layer)
        with pytest.raises(InvalidInput, match="namespace 'elsewhere' has no dictionary"):
            await layer.remove_dictionary("elsewhere", first.id)
        await OffLayer(backend).remove_dictionary("default", first.id)
        assert await ids(backend) == [second.id]
        with pytest.raises(InvalidInput, match="no dictionary"):
            await layer.remove_dictionary("default", first.id)
        assert await unreadable(backend, 30) == 0
        with pytest.raises(Conflict, match=f"needs dictionary {second.id}"):
            await layer.remove_dictionary("default", second.id)
        await recompressed(ZstdLayer(backend, seal=False), idle=0)
        await layer.remove_dictionary("default", second.id)
        assert await ids(backend) == []
        assert await unreadable(backend, 30) == 0


async def test_a_dictionary_that_a_damaged_record_or_an_open_turn_may_need_stays(make: Make) -> None:
    async with make() as backend:
        layer = ZstdLayer(backend, dictionary=True, seal=False)
        await fill_at_once(layer)
        first = await layer.train("default")
        await Store(layer).append("open", exchange(Random(5)), turn_id="t", open=True)
        await layer.train("default")
        await recompressed(layer, idle=0)
        with pytest.raises(Conflict, match="turn 0 of session 'open' in namespace 'default' needs"):
            await layer.remove_dictionary("default", first.id)
        await Store(layer).append("open", exchange(Random(6)), turn_id="t", part=1)
        await recompressed(layer, idle=0)
        damaged = Record.of(tuple(exchange(Random(1))), id="bad", time=0.0)
        payload = b"\xc1\x54\x01\x03" + damaged.payload[4:]
        await backend.commit(Key("default", "bad"), Change(append=(damaged.with_payload(payload),)))
        with pytest.raises(Conflict, match=r"turn 0 of session 'bad' in namespace 'default' needs .* or is damaged"):
            await layer.remove_dictionary("default", first.id)
        await Store(layer).erase("bad")
        await layer.remove_dictionary("default", first.id)
        assert len(await texts(ZstdLayer(backend), "open")) == 4


class Busy(Layer):
    """A backend that runs another operation after a session was read."""

    then: Callable[[], Awaitable[object]] | None = None

    async def read(self, key: Key, **options: Any) -> Session:
        session = await super().read(key, **options)
        if self.then is not None and key == Key("default", "s0"):
            then, self.then = self.then, None
            await then()
        return session


async def test_a_removal_is_refused_while_others_write() -> None:
    """Signs are a changed or new session, another dictionary, and a running recompress, but not an expired session."""
    clock = Clock()
    busy = Busy(MemoryBackend(clock=clock))
    layer, other = (ZstdLayer(one, dictionary=True, seal=False) for one in (busy, busy.inner))
    await fill_at_once(layer)
    first, _ = await layer.train("default"), await layer.train("default")
    store = Store(other)
    for then, says in (
        (lambda: store.append("s7", [user("hi")]), "'s7' in namespace 'default' has changed .* stop all processes"),
        (lambda: store.append("new", [user("hi")]), "'new' in namespace 'default' has changed"),
        (lambda: Progress.begin(busy.inner, "default", "asked"), "a recompress is running in namespace 'default'"),
        (lambda: store.append("s7", [user("hi")]), "has changed"),
    ):
        busy.then = then
        with pytest.raises(Conflict, match=says):
            await layer.remove_dictionary("default", first.id)
    await busy.inner.delete(Key("turnlog:recompress", "default"))
    busy.then = lambda: other.train("default")
    with pytest.raises(Conflict, match="has changed since its version was read"):
        await layer.remove_dictionary("default", first.id)
    assert len(await ids(busy)) == 3
    await store.merge_metadata("s9", ttl=60)
    busy.then = lambda: wait(clock, 61)
    await layer.remove_dictionary("default", first.id)
    assert len(await ids(busy)) == 2


async def wait(clock: Clock, seconds: float) -> None:
    clock.advance(seconds)

"""Sealing: it runs in the background, is invisible to readers, and is refused if the records have changed."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import warnings
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from compressed import GZIP, KEY, Unsealing, Watched, codecs_of, fill, numbered, numbers, settled, shape, stored
from turnlog import (
    ABSENT,
    PRESENT,
    Backend,
    Change,
    Conflict,
    IdReused,
    Key,
    Layer,
    OutcomeUnknown,
    PayloadLayer,
    Receipt,
    Record,
    Session,
    SessionNotFound,
    Store,
    TurnlogError,
    Unavailable,
    Version,
    assistant,
    user,
)
from turnlog.errors import CorruptRecord, SplitsSealed
from turnlog.layers import Position
from turnlog.testing import Clock
from turnlog_compression import (
    CompressionLayer,
    GzipLayer,
    OffLayer,
    _layer,
    _recompressing,
    _records,
    _sealing,
)
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend

Make = Callable[..., Backend]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Return a function that makes the backend."""
    if request.param == "memory":
        return MemoryBackend
    return lambda **options: SQLiteBackend(f"sqlite:///{tmp_path}/turnlog.db", synchronous="NORMAL", **options)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal runs of two turns, and keep one turn unsealed at the end."""
    for name, value in (("RUN", 2), ("REST", 1), ("_MESSAGES", 3)):
        monkeypatch.setattr(_sealing, name, value)
    monkeypatch.setattr(_recompressing, "REST", 1)


async def listed(store: Store) -> list[str]:
    return [info.key.session async for info in store.sessions()]


# --------------------------------------------------------------------------------------------------- in the background


async def test_appends_return_before_any_seal() -> None:
    """An append waits only for its own commit, even if a seal never ends."""
    watched = Watched(MemoryBackend())
    watched.gate = asyncio.Event()
    layer = ZstdLayer(watched)
    async with Store(layer) as store:
        for number in range(130):
            seals, commits = len(watched.seals), len(watched.commits)
            await store.append("s", numbered(number))
            assert len(watched.commits) == commits + 1, "an append is one commit"
            assert len(watched.seals) == seals, "a seal began inside an append"
            await asyncio.sleep(0)
        assert len(watched.seals) == 1, "the first seal hangs, and the others wait for it"
        assert await shape(watched) == [1] * 130
        watched.gate.set()
        await settled(layer)
        assert await shape(watched) == [32, 32, 32] + [1] * 34


async def test_runs_of_32_are_sealed_when_32_turns_follow(make: Make) -> None:
    layer = ZstdLayer(make())
    async with Store(layer) as store:
        written = 0
        for count, expected in (
            (63, [1] * 63),
            (64, [32] + [1] * 32),
            (95, [32] + [1] * 63),
            (96, [32] * 2 + [1] * 32),
        ):
            await fill(store, "s", count - written, start=written)
            await settled(layer)
            assert await shape(layer.inner) == expected
            written = count
        assert numbers(await store.load("s")) == list(range(96))


async def test_many_turns_in_one_commit_are_sealed_like_single_ones(make: Make) -> None:
    """The same holds for a session that begins with a later turn, such as a fork or an import."""
    async with ZstdLayer(make()) as layer:
        await fill(Store(layer), "s", 10)
        records = tuple(Record.of(tuple(numbered(number)), id=f"t{number}", time=1.0) for number in range(10, 200))
        await layer.commit(KEY, Change(append=records))
        await settled(layer)
        assert await shape(layer.inner) == [32] * 5 + [1] * 40
        await layer.commit(Key("default", "later"), Change(append=records, first=50))
        await settled(layer)
        assert await shape(layer.inner, "later") == [14, *[32] * 4, *[1] * 48]


async def test_a_seal_changes_nothing_that_readers_see() -> None:
    clock = Clock()
    watched = Watched(MemoryBackend(clock=clock, ttl=1000.0))
    watched.gate = asyncio.Event()
    layer = ZstdLayer(watched)
    async with Store(layer) as store:
        await store.append("other", numbered(0))
        clock.advance(1)
        for number in range(70):
            await store.append("s", numbered(number), owner="ann", metadata={"title": "T"})
        clock.advance(1)
        await store.append("another", numbered(0))
        clock.advance(100)
        before = await store.session("s", touch=False)
        order = await listed(store)
        watched.gate.set()
        await settled(layer)
        assert await shape(watched) == [32] + [1] * 38
        after = await store.session("s", touch=False)
        assert after.turns == before.turns
        for name in set(after.info.__struct_fields__) - {"bytes"}:
            assert getattr(after.info, name) == getattr(before.info, name), name
        assert after.info.bytes == pytest.approx(before.info.bytes, rel=0.01)
        assert await listed(store) == order == ["another", "s", "other"]


@pytest.mark.parametrize("act", ["rewind", "erase", "erase and fill", "retain", "seal"])
async def test_a_seal_is_refused_if_the_records_have_changed(act: str, caplog: pytest.LogCaptureFixture) -> None:
    """The session stays as the other writer left it, and nothing is logged."""
    watched = Watched(MemoryBackend())
    watched.gate = asyncio.Event()
    layer = ZstdLayer(watched)
    async with Store(layer) as store:
        await fill(store, "s", 64)
        await watched.sealing.wait()
        if act == "rewind":
            await store.rewind("s", turns=40)
        elif act.startswith("erase"):
            await store.erase("s")
            if act == "erase and fill":
                await fill(store, "s", 40, start=100)
        elif act == "retain":
            await watched.inner.commit(KEY, Change(retain=40))
        else:
            records = (await watched.inner.read(KEY)).records
            assert await watched.inner.seal(KEY, Record.seal(await layer.decode_records(KEY, records[:48])))
        found = await shape(watched) if act != "erase" else []
        watched.gate.set()
        with caplog.at_level(logging.INFO, "turnlog.compression"):
            await settled(layer)
        assert (await shape(watched) if act != "erase" else []) == found
        assert not caplog.records


class Naive(Watched):
    """A backend that seals by cutting and appending the records that it read before."""

    async def seal(self, key: Key, record: Record) -> bool | None:
        rest = (await self.inner.read(key, touch=False)).records[record.turns :]
        self.seals.append(record)
        self.sealing.set()
        assert self.gate is not None
        await self.gate.wait()
        await self.inner.commit(key, Change(keep=record.number, append=(record, *rest)))
        return True


@pytest.mark.parametrize("kind", [Watched, Naive])
async def test_a_turn_that_is_written_during_a_seal_stays(kind: type[Watched]) -> None:
    """The naive seal removes it."""
    watched = kind(MemoryBackend())
    watched.gate = asyncio.Event()
    layer = ZstdLayer(watched)
    async with Store(layer) as store:
        await fill(store, "s", 64)
        await watched.sealing.wait()
        await fill(store, "s", 1, start=64)
        watched.gate.set()
        await settled(layer)
        assert (await shape(watched))[0] == 32
        assert (numbers(await store.load("s")) == list(range(65))) is (kind is Watched)


# ----------------------------------------------------------------------------------------------------- open and close


@pytest.mark.parametrize("hangs", [True, False])
async def test_closing_ends_the_sealer_and_the_layer_can_be_opened_again(
    make: Make, hangs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing emits no warning and removes no turn, whatever the sealer is doing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watched = Watched(make())
        layer = ZstdLayer(watched)
        store = Store(layer)
        async with store:
            watched.gate = asyncio.Event() if hangs else None
            await fill(store, "s", 64)
            if hangs:
                await watched.sealing.wait()
        assert layer._sealer is not None
        assert all(task.done() for task in layer._sealer._tasks.values())
        assert not layer._sealer._due
        watched.gate = None
        async with store:
            kept = isinstance(watched.inner, SQLiteBackend)
            await fill(store, "s", 64, start=64 * kept)
            await settled(layer)
            assert numbers(await store.load("s")) == list(range(64 + 64 * kept))
            assert 32 in await shape(watched)
        gc.collect()
    assert not caplog.records


def test_an_event_loop_that_ends_during_a_seal_warns_of_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(SQLiteBackend(f"sqlite:///{tmp_path}/turnlog.db", synchronous="NORMAL"))
    layer = ZstdLayer(watched)
    store = Store(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(store.open())
        for start in range(0, 200, 20):
            asyncio.run(fill(store, "s", 20, start=start))

        async def finish() -> None:
            await fill(store, "s", 56, start=200)
            await settled(layer)
            assert numbers(await store.load("s")) == list(range(256))
            assert sum(await shape(watched)) == 256

        asyncio.run(finish())
        asyncio.run(store.close())
        gc.collect()
    assert not caplog.records


def test_event_loops_in_several_threads_seal_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each thread writes to its own session and to a shared one. No turn is lost, and the runs are sealed."""
    layer = ZstdLayer(SQLiteBackend(f"sqlite:///{tmp_path}/turnlog.db", synchronous="NORMAL"))
    store = Store(layer)
    asyncio.run(store.open())
    failed: list[BaseException] = []

    async def write(name: str) -> None:
        for number in range(96):
            await store.append(name, numbered(number))
            await store.append("shared", numbered(number), turn_id=f"{name} {number}")
        await settled(layer)

    def run(name: str) -> None:
        try:
            asyncio.run(write(name))
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=run, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed

    async def check() -> None:
        for name in "abcd":
            assert numbers(await store.load(name)) == list(range(96))
        turns = (await store.session("shared")).turns
        for name in "abcd":
            own = [turn.id for turn in turns if turn.id.startswith(name)]
            assert own == [f"{name} {number}" for number in range(96)]
        assert (await shape(layer.inner, "shared")).count(32) >= 8
        await store.close()

    asyncio.run(check())
    assert not caplog.records


async def test_two_tasks_that_take_the_last_run_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """The task of another event loop takes the last run first. This task ends and logs nothing."""

    class Emptied(list[Any]):
        """A list that is not empty when it is checked, and empty when an element is taken."""

        def __bool__(self) -> bool:
            return True

        def popleft(self) -> Any:
            raise IndexError("pop from an empty deque")

    async with ZstdLayer(MemoryBackend()) as layer:
        assert layer._sealer is not None
        layer._sealer._due = Emptied()  # type: ignore[assignment]
        await layer._sealer._work()
    assert not caplog.records


# ----------------------------------------------------------------------------------------------- retention and damage


async def test_a_short_retention_never_seals(make: Make) -> None:
    """A sealed run is dropped as a whole, so it would keep many turns too long."""
    layer = ZstdLayer(make())
    async with Store(layer, retain=100) as store:
        await fill(store, "s", 200)
        await settled(layer)
        assert await shape(layer.inner) == [1] * 100


async def test_a_long_retention_drops_whole_runs(make: Make) -> None:
    """At least `retain` turns stay, and fewer than one run more."""
    layer = ZstdLayer(make())
    async with Store(layer, retain=256) as store:
        for number in range(0, 400, 50):
            await fill(store, "s", 50, start=number)
            await settled(layer)
            info, end = await store.info("s"), number + 50
            assert min(256, end) <= end - info.first < min(256, end) + 32
            assert numbers(await store.load("s")) == list(range(info.first, end))
        assert (await shape(layer.inner)).count(32) >= 6


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("retain", range(1, 12))
async def test_retention_inside_and_at_the_edges_of_runs(make: Make, retain: int) -> None:
    layer = ZstdLayer(make())
    async with Store(layer) as store:
        await fill(store, "s", 10)
        await settled(layer)
        assert await shape(layer.inner) == [2, 2, 2, 2, 1, 1]
        receipt = await layer.commit(KEY, Change(retain=retain))
        wanted = max(0, 10 - retain)
        first = wanted if wanted > 8 else wanted // 2 * 2
        assert receipt.first == first
        assert numbers(await store.load("s")) == list(range(first, 10))


async def test_a_damaged_turn_is_not_sealed(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The other turns of its run stay readable, and the log reports the damage once."""
    layer = ZstdLayer(make())
    async with Store(layer) as store:
        await fill(store, "s", 5)
        sound = Record.of(tuple(numbered(5)), id="turn 5", time=0.0)
        damaged = sound.with_payload(bytes([*sound.payload[:-1], sound.payload[-1] ^ 1]))
        await layer.inner.commit(KEY, Change(append=(damaged,)))
        with caplog.at_level(logging.INFO, "turnlog.compression"):
            await fill(store, "s", 91, start=6)
            await settled(layer)
        assert await shape(layer.inner) == [1] * 32 + [32] + [1] * 33
        (warned,) = caplog.records
        assert (warned.name, warned.levelname) == ("turnlog.compression", "WARNING")
        assert "checksum" in warned.getMessage()
        assert "turn 5" in warned.getMessage()
        assert numbers(await store.load("s", before=5)) == list(range(5))
        assert numbers((await layer.read(KEY, last=91 * 2)).messages) == list(range(6, 97))


async def test_a_backend_that_cannot_be_reached_is_logged_at_info(caplog: pytest.LogCaptureFixture) -> None:
    """The run stays unsealed, and the next one is sealed."""

    class Away(Watched):
        async def seal(self, key: Key, record: Record) -> bool | None:
            if not self.seals:
                self.seals.append(record)
                raise Unavailable("away")
            return await super().seal(key, record)

    layer = ZstdLayer(Away(MemoryBackend()))
    async with Store(layer) as store:
        with caplog.at_level(logging.INFO, "turnlog.compression"):
            await fill(store, "s", 96)
            await settled(layer)
        assert await shape(layer.inner) == [1] * 32 + [32] + [1] * 32
        (logged,) = caplog.records
        assert (logged.levelname, logged.getMessage()) == (
            "INFO",
            "not sealed: turns from 0 of session 's' in namespace 'default': away",
        )


# ------------------------------------------------------------------------------------------------- layers and backends


async def test_gzip_seals_and_a_layer_with_seal_false_does_not() -> None:
    layer = GzipLayer(MemoryBackend())
    async with Store(layer) as store:
        await fill(store, "s", 64)
        await settled(layer)
        assert await shape(layer.inner) == [32] + [1] * 32
    for unsealing in (OffLayer(MemoryBackend()), GzipLayer(MemoryBackend(), seal=False)):
        async with Store(unsealing) as store:
            await fill(store, "s", 64)
            await asyncio.sleep(0.01)
            assert await shape(unsealing.inner) == [1] * 64


@pytest.mark.parametrize("between", [lambda backend: backend, Layer])
async def test_the_sealer_stops_if_the_backend_does_not_support_seals(
    between: Callable[[Backend], Backend], caplog: pytest.LogCaptureFixture
) -> None:
    """It tries once. The other operations of the layer still work."""
    unsealing = Unsealing(MemoryBackend())
    layer = ZstdLayer(between(unsealing))
    async with Store(layer) as store:
        with caplog.at_level(logging.INFO, "turnlog.compression"):
            await fill(store, "s", 64)
            await settled(layer)
            assert len(unsealing.seals) == 1
            await fill(store, "s", 64, start=64)
            await fill(store, "other", 64)
            await settled(layer)
        assert len(unsealing.seals) == 1
        assert not caplog.records
        assert await shape(unsealing) == [1] * 128
        assert all(not record.plain for record in (await unsealing.read(KEY)).records)
        assert numbers(await store.load("s")) == list(range(128))
        await store.rewind("s", turns=100)
        await store.fork("s", "fork", at=20)
        assert numbers(await store.load("fork")) == list(range(20))
        session = await layer.read(KEY)
        assert await layer.seal(KEY, Record.seal(session.records[:10])) is None
        assert await shape(unsealing) == [1] * 28


class Encryption(PayloadLayer):
    """A layer that encrypts with a key that depends on the session and the record."""

    position: ClassVar[Position] = "encryption"
    codec: ClassVar[int] = 200

    def encode(self, key: Key, record_id: str, payload: bytes) -> bytes:
        secret = sha256(f"{key.session} {record_id}".encode()).digest()
        return bytes(byte ^ secret[place % 32] for place, byte in enumerate(payload))

    decode = encode


async def test_sealing_works_over_a_layer_that_encrypts() -> None:
    backend = MemoryBackend()
    layer = ZstdLayer(Encryption(backend))
    async with Store(layer) as store:
        await fill(store, "s", 64)
        await settled(layer)
        assert await shape(backend) == [32] + [1] * 32
        assert set(codecs_of(await stored(backend))) == {200}
        assert numbers(await store.load("s")) == list(range(64))
        await store.rewind("s", turns=44)
        assert await shape(backend) == [20]
        await store.fork("s", "fork", at=10)
        assert [result.damaged async for result in GzipLayer(layer.inner).recompress("default", idle=0)] == [0, 0]
        for name, count in (("s", 20), ("fork", 10)):
            assert set(codecs_of(await stored(layer.inner, Key("default", name)))) == {GZIP}
            assert numbers(await store.load(name)) == list(range(count))


async def test_a_run_that_would_not_become_smaller_is_not_sealed() -> None:
    """The body of a sealed record includes the header of each turn, which costs more than a few words can save."""
    watched = Watched(MemoryBackend())
    layer = ZstdLayer(watched)
    async with Store(layer) as store:
        for number in range(3):
            await store.append("s", [user(f"{number * 7919}"), assistant("ok")])
        before = (await store.info("s")).bytes
        results = [one async for one in layer.recompress("default", idle=0)]
        assert [(one.before, one.after) for one in results] == [(before, before)]
        await _sealing.seal(layer, KEY, 0, 3)
        assert not watched.seals
        for number in range(40):
            await store.append("s", numbered(number))
        assert [one.after < one.before async for one in layer.recompress("default", idle=0)] == [True]
        assert watched.seals


# --------------------------------------------------------------------------------------- cuts inside a sealed record


async def sealed(backend: Backend, count: int = 96) -> tuple[ZstdLayer, Store]:
    """Return an open layer and a store with a sealed session."""
    layer = ZstdLayer(backend)
    store = Store(layer)
    await store.open()
    await fill(store, "s", count)
    await settled(layer)
    assert await shape(layer.inner) == [32] * (count // 32 - 1) + [1] * 32
    return layer, store


async def test_ids_that_are_sent_again_after_a_cut_are_remembered(make: Make) -> None:
    """A repeat stores nothing, and other contents under the same id are refused."""
    layer, store = await sealed(make())
    async with store:
        receipt = await store.rewind("s", turns=80)
        assert (receipt.turns, await shape(layer.inner)) == (16, [16])
        for number in range(60, 96):
            again = await store.append("s", numbered(number), turn_id=f"turn {number}")
            assert (again.number, again.turns) == (number, 16)
            with pytest.raises(IdReused):
                await store.append("s", numbered(1000), turn_id=f"turn {number}")
        assert numbers(await store.load("s")) == list(range(16))


class Versions(NamedTuple):
    """Versions of one session, the first of an earlier session."""

    gone: Version  # of a deleted session under the same key
    before_append: Version
    before_metadata: Version
    now: Version


async def prepared(backend: Backend) -> Versions:
    """Write a session of 11 turns and return its versions. A compression layer seals ten of the turns."""
    store = Store(backend)
    await store.append("s", numbered(0))
    gone = (await store.session("s")).version
    await store.erase("s")
    for number in range(10):
        await store.append("s", numbered(number), turn_id=f"turn {number}", owner="ann")
    before_append = (await store.info("s")).version
    await store.append("s", numbered(10))
    before_metadata = (await store.info("s")).version
    await store.merge_metadata("s", {"title": "T"})
    if isinstance(backend, CompressionLayer):
        await settled(backend)
        assert await shape(backend.inner) == [2, 2, 2, 2, 2, 1]
    return Versions(gone, before_append, before_metadata, (await store.info("s")).version)


CONDITIONS: Mapping[str, Callable[[Versions], dict[str, Any]]] = {
    "none": lambda versions: {},
    "ABSENT": lambda versions: {"expect": ABSENT},
    "PRESENT": lambda versions: {"expect": PRESENT},
    "version.session": lambda versions: {"expect": versions.now.session},
    "version.session of an older version": lambda versions: {"expect": versions.before_append.session},
    "version.session of a deleted session": lambda versions: {"expect": versions.gone.session},
    "version": lambda versions: {"expect": versions.now},
    "version before the metadata": lambda versions: {"expect": versions.before_metadata},
    "version before the append": lambda versions: {"expect": versions.before_append},
    "version.exact": lambda versions: {"expect": versions.now.exact},
    "version.exact before the metadata": lambda versions: {"expect": versions.before_metadata.exact},
    "for_owner": lambda versions: {"for_owner": "ann"},
    "for_owner of another": lambda versions: {"for_owner": "bob"},
    "for_owner and version": lambda versions: {"for_owner": "ann", "expect": versions.now},
    "for_owner and PRESENT": lambda versions: {"for_owner": "ann", "expect": PRESENT},
}
"""Conditions of a change. Some are met, others are not."""

UNMET: Mapping[str, type[TurnlogError]] = {
    "ABSENT": Conflict,
    "version.session of a deleted session": Conflict,
    "version before the append": Conflict,
    "version.exact before the metadata": Conflict,
    "for_owner of another": SessionNotFound,
}


def new_turn() -> Record:
    return Record.of(tuple(numbered(1000)), id="new", time=0.0)


async def outcome(backend: Backend, change: Change) -> tuple[Any, ...]:
    """Commit a change; return the receipt or the type of the error, and the session afterwards."""
    store = Store(backend)
    answer: tuple[Any, ...]
    try:
        receipt = await backend.commit(KEY, change)
    except TurnlogError as error:
        answer = (type(error),)
    else:
        answer = (receipt.number, receipt.first, receipt.turns, receipt.messages)
        assert receipt.version == (await store.info("s")).version
    try:
        session = await store.session("s")
    except SessionNotFound:
        return answer, None
    turns = [(turn.number, turn.messages) for turn in session.turns]
    return answer, turns, session.info.owner, dict(session.info.metadata)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("appends", [True, False])
@pytest.mark.parametrize("condition", CONDITIONS)
async def test_a_cut_keeps_its_condition(make: Make, condition: str, appends: bool) -> None:
    layer = ZstdLayer(make())
    async with layer:
        versions = await prepared(layer)
        append = (new_turn(),) if appends else ()
        change = Change(keep=5, append=append, **CONDITIONS[condition](versions))
        answer, turns, *_ = await outcome(layer, change)
        if condition in UNMET:
            assert answer == (UNMET[condition],)
            assert [number for number, _ in turns] == list(range(11))
            assert await shape(layer.inner) == [2, 2, 2, 2, 2, 1]
            assert (await Store(layer).info("s")).version == versions.now
        else:
            assert answer == ((5, 0, 6, 12) if appends else (None, 0, 5, 10))
            assert [number for number, _ in turns] == list(range(5 + appends))


async def append_one(backend: Backend) -> None:
    await backend.commit(KEY, Change(append=(Record.of((user("turn 50"),), id="m", time=0.0),)))


async def make_anew(backend: Backend) -> None:
    await backend.delete(KEY)
    await backend.commit(KEY, Change(append=(Record.of((user("turn 60"),), id="m", time=0.0),), owner="ann"))


async def seal_wider(backend: Backend) -> None:
    layer = OffLayer(backend)
    records = (await layer.read(KEY)).records
    assert await layer.seal(KEY, Record.seal(records[1:4]))


MEANWHILE: Mapping[str, Callable[[Backend], Awaitable[object]]] = {
    "append": append_one,
    "metadata": lambda backend: backend.commit(KEY, Change(metadata={"title": "other"})),
    "another owner": lambda backend: backend.commit(KEY, Change(owner="bob")),
    "delete": lambda backend: backend.delete(KEY),
    "delete and make anew": make_anew,
    "empty": lambda backend: backend.commit(KEY, Change(keep=0)),
    "cut before": lambda backend: backend.commit(KEY, Change(keep=2)),
    "cut inside": lambda backend: OffLayer(backend).commit(KEY, Change(keep=3)),
    "cut inside the same run": lambda backend: OffLayer(backend).commit(KEY, Change(keep=5)),
    "cut after": lambda backend: backend.commit(KEY, Change(keep=8)),
    "seal": seal_wider,
}
"""Actions of another writer between the refusal of the cut and the commit of the layer."""


class Between(Layer):
    """Lets another writer act once, before or after the read that follows the refusal of a cut."""

    def __init__(self, inner: Backend, act: Callable[[Backend], Awaitable[object]], *, before_read: bool) -> None:
        super().__init__(inner)
        self.act: Callable[[Backend], Awaitable[object]] | None = act
        self.before_read = before_read
        self.refused = False

    async def _act(self) -> None:
        if self.act is not None:
            act, self.act = self.act, None
            await act(self.inner)

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except SplitsSealed:
            self.refused = True
            if self.before_read:
                await self._act()
            raise

    async def read(self, key: Key, **options: Any) -> Session:
        session = await super().read(key, **options)
        if self.refused and not self.before_read:
            await self._act()
        return session


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("make", ["memory"], indirect=True)  # the layer decides, in the same way over each backend
@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("condition", [name for name in CONDITIONS if name not in UNMET])
async def test_a_cut_keeps_its_condition_when_another_writer_comes_between(
    make: Make, condition: str, meanwhile: str
) -> None:
    """The outcome equals that of a backend without seals on which the other writer came first."""
    for before_read in (True, False):
        for append in ((new_turn(),), ()):
            async with MemoryBackend() as plain:
                versions = await prepared(plain)
                if meanwhile != "seal":
                    await MEANWHILE[meanwhile](plain)
                expected = await outcome(plain, Change(keep=5, append=append, **CONDITIONS[condition](versions)))
            between = Between(make(), MEANWHILE[meanwhile], before_read=before_read)
            async with ZstdLayer(between) as layer:
                versions = await prepared(layer)
                found = await outcome(layer, Change(keep=5, append=append, **CONDITIONS[condition](versions)))
                assert between.act is None, "the other writer did not run"
                assert found == expected
                await layer.delete(KEY)  # the next iteration writes to the same file


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("condition", "meanwhile"),
    [("none", "cut before"), ("PRESENT", "cut inside"), ("version.session", "delete and make anew")],
)
def test_the_test_above_detects_a_cut_that_ignores_other_writers(
    condition: str, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = _layer.CompressionLayer._around

    async def careless(layer: CompressionLayer, key: Key, change: Change) -> Change:
        return msgspec.structs.replace(await around(layer, key, change), expect=None)

    monkeypatch.setattr(_layer.CompressionLayer, "_around", careless)
    with pytest.raises(AssertionError):
        asyncio.run(
            test_a_cut_keeps_its_condition_when_another_writer_comes_between(MemoryBackend, condition, meanwhile)
        )


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("condition", ["none", "PRESENT", "version.session"])
async def test_a_cut_gives_up_if_other_writers_come_between_every_time(
    condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_layer, "_TRIES", 3)

    class Always(Between):
        times = 0

        async def _act(self) -> None:
            self.times += 1
            await append_one(self.inner)

    between = Always(MemoryBackend(), append_one, before_read=False)
    async with ZstdLayer(between) as layer:
        versions = await prepared(layer)
        with pytest.raises(Conflict):
            await layer.commit(KEY, Change(keep=5, **CONDITIONS[condition](versions)))
        assert between.times == 3
        assert len(await Store(layer).load("s")) == 2 * 11 + 3


def round_of(id: str, part: int, *, open: bool) -> Record:
    return Record.of((user(f"{id} {part}"), assistant("ok")), id=id, time=0.0, part=part, open=open)


async def test_a_cut_after_which_another_writer_has_written_rounds(make: Make) -> None:
    """The layer reads the session again and finds one turn of two rounds."""

    async def act(backend: Backend) -> None:
        rounds = (round_of("r", 0, open=True), round_of("r", 1, open=False))
        await backend.commit(KEY, Change(keep=0, append=rounds))

    between = Between(make(), act, before_read=True)
    layer, store = await sealed(between)
    async with store:
        receipt = await layer.commit(KEY, Change(keep=40, append=(new_turn(),)))
        assert numbers(await store.load("s")) == [0, 1, 1000]
        assert (receipt.number, receipt.turns) == (1, 2)


@pytest.mark.usefixtures("small")
async def test_a_cut_inside_a_damaged_record_names_it(make: Make) -> None:
    """Nothing is cut. A cut at the beginning of the record is possible."""
    async with ZstdLayer(make()) as layer:
        records = [Record.of(tuple(numbered(number)), id=f"t{number}", time=0.0) for number in range(4)]
        await layer.inner.commit(KEY, Change(append=tuple(records)))
        run = Record.seal((await layer.inner.read(KEY)).records[1:3])
        assert await layer.inner.seal(KEY, run.with_payload(run.payload[:-1] + b"\0"))
        with pytest.raises(CorruptRecord, match="session 's' in namespace 'default', turn 1: ") as caught:
            await layer.commit(KEY, Change(keep=2))
        assert (caught.value.key, caught.value.turn) == (KEY, 1)
        assert await shape(layer.inner) == [1, 2, 1]
        await layer.commit(KEY, Change(keep=1))
        assert await shape(layer.inner) == [1]


# ----------------------------------------------------------------------------------------------------- unknown outcome


class Losing(Layer):
    """Loses the answer to one commit, before or after the commit was stored."""

    lose_next = False
    lose_after_refusal = False
    stores = True

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self.lose_next:
            self.lose_next = False
            if self.stores:
                await super().commit(key, change)
            raise OutcomeUnknown("the answer was lost", key=key, change=change)
        try:
            return await super().commit(key, change)
        except SplitsSealed:
            self.lose_next, self.lose_after_refusal = self.lose_after_refusal, False
            raise


@pytest.mark.parametrize("stores", [True, False])
async def test_an_unknown_outcome_carries_the_change_of_the_caller(make: Make, stores: bool) -> None:
    """The change is uncompressed, and sending it again stores it once."""
    losing = Losing(make())
    layer = ZstdLayer(losing)
    async with Store(layer) as store:
        await fill(store, "s", 3)
        change = Change(append=(new_turn(),))
        for send_again in (lambda error: layer.commit(KEY, error.change), store.resend):
            losing.lose_next, losing.stores = True, stores
            with pytest.raises(OutcomeUnknown) as caught:
                await layer.commit(KEY, change)
            assert caught.value.key == KEY
            assert caught.value.change is change
            assert all(record.plain for record in change.append)
            receipt = await send_again(caught.value)
            assert (receipt.number, receipt.turns) == (3, 4)
        losing.lose_next = True
        with pytest.raises(OutcomeUnknown) as caught:
            await store.append("s", numbered(4), turn_id="turn 4")
        (record,) = caught.value.change.append
        assert record.plain
        assert list(record.messages) == numbered(4)
        assert (await store.resend(caught.value)).turns == 5
        assert (await store.append("s", numbered(4), turn_id="turn 4")).turns == 5
        assert numbers(await store.load("s")) == [0, 1, 2, 1000, 4]
        assert not (await losing.read(KEY, last=1)).records[-1].plain


@pytest.mark.parametrize("stores", [True, False])
@pytest.mark.parametrize("meanwhile", ["nothing", "sealed whole"])
async def test_a_cut_with_an_unknown_outcome_can_be_sent_again(make: Make, stores: bool, meanwhile: str) -> None:
    """The backend first refuses the caller's cut. Then the answer to the second commit of the layer is lost."""
    losing = Losing(make())
    layer, store = await sealed(losing)
    async with store:
        version = (await store.info("s")).version
        change = Change(keep=40, append=(new_turn(),), expect=version)
        losing.lose_after_refusal, losing.stores = True, stores
        with pytest.raises(OutcomeUnknown) as caught:
            await layer.commit(KEY, change)
        assert not losing.lose_after_refusal
        assert caught.value.change is change
        if meanwhile == "sealed whole":
            async for _ in layer.recompress("default", idle=0):
                pass
        for _ in range(2):
            receipt = await store.resend(caught.value)
            assert (receipt.number, receipt.turns) == (40, 41)
        assert numbers(await store.load("s")) == [*range(40), 1000]
        assert receipt.version == (await store.info("s")).version


# --------------------------------------------------------------------------- the same answers as without compression

NAMES: Final = st.sampled_from(["a", "b"])
OWNERS: Final = st.sampled_from(["owner 0", "owner 1", "owner 2"])


class LikePlain(RuleBasedStateMachine):
    """Sends every call to a layer that seals runs of two turns and to a plain backend, and compares the answers."""

    below: Callable[..., Backend] = MemoryBackend

    @initialize()
    def begin(self) -> None:
        self.clock, self.loop = Clock(), asyncio.Runner()
        self.plain = Store(MemoryBackend(clock=self.clock, ttl=1e6))
        self.layer: CompressionLayer = ZstdLayer(type(self).below(clock=self.clock, ttl=1e6))
        self.sealed = Store(self.layer)
        self.sent: list[tuple[str, str, int]] = []
        self.seen: dict[str, tuple[tuple[Version, Version], tuple[list[Any], list[Any]]]] = {}
        self.texts = 0
        self.loop.run(self.sealed.open())

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run(self.sealed.close())
            self.loop.close()

    def both(self, ask: Callable[[Store], Any]) -> tuple[Any, Any]:
        async def answer(store: Store) -> Any:
            try:
                return await ask(store)
            except TurnlogError as error:
                return type(error)

        self.clock.advance(1)
        return self.loop.run(answer(self.plain)), self.loop.run(answer(self.sealed))

    def same(self, ask: Callable[[Store], Any]) -> Any:
        plain, sealed = map(self.comparable, self.both(ask))
        assert sealed == plain
        return plain

    @staticmethod
    def comparable(answer: Any) -> Any:
        """Return an answer without versions and generated ids, which differ between the stores."""
        if isinstance(answer, Receipt):
            return answer.number, answer.first, answer.turns, answer.messages, answer.expires_in
        if isinstance(answer, Session):
            info = answer.info
            head = (info.first, info.turns, info.messages, info.created, info.updated, info.owner, info.expires_in)
            return head, dict(info.metadata), [LikePlain.turn(turn) for turn in answer.turns]
        return LikePlain.turn(answer) if hasattr(answer, "interrupted") else answer

    @staticmethod
    def turn(turn: Any) -> tuple[Any, ...]:
        id = turn.id if turn.id.startswith("own ") else "generated"
        return turn.number, id, turn.time, turn.messages, turn.open, turn.interrupted

    def text(self) -> list[Any]:
        self.texts += 1
        return [user(f"{self.texts} " + "padding " * 60), assistant(f"{self.texts}")]

    @rule(name=NAMES, count=st.integers(1, 5))
    def append(self, name: str, count: int) -> None:
        for _ in range(count):
            messages = self.text()
            id = f"own {self.texts}"
            self.sent.append((name, id, self.texts))
            self.append_one(name, messages, turn_id=id)

    def append_one(self, name: str, messages: list[Any], **options: Any) -> None:
        self.same(lambda store: store.append(name, messages, **options))

    @rule(name=NAMES, rounds=st.integers(1, 3), left_open=st.booleans())
    def append_in_rounds(self, name: str, rounds: int, left_open: bool) -> None:
        id = f"own rounds {self.texts}"
        for part in range(rounds):
            self.append_one(name, self.text(), turn_id=id, part=part, open=left_open or part < rounds - 1)

    @rule(place=st.integers(1, 40), other=st.booleans())
    def send_again(self, place: int, other: bool) -> None:
        if place <= len(self.sent):
            name, id, number = self.sent[-place]
            number += other
            messages = [user(f"{number} " + "padding " * 60), assistant(f"{number}")]
            self.append_one(name, messages, turn_id=id)

    @rule(name=NAMES, turns=st.integers(1, 6))
    def rewind_turns(self, name: str, turns: int) -> None:
        self.same(lambda store: store.rewind(name, turns=turns))

    @rule(name=NAMES, messages=st.integers(1, 9))
    def rewind_messages(self, name: str, messages: int) -> None:
        self.same(lambda store: store.rewind(name, messages=messages))

    @rule(name=NAMES)
    def pop(self, name: str) -> None:
        self.same(lambda store: store.pop(name))

    @rule(name=NAMES, keep=st.integers(0, 12), more=st.booleans(), owner=st.none() | OWNERS)
    def cut(self, name: str, keep: int, more: bool, owner: str | None) -> None:
        messages = tuple(self.text())
        append = (Record.of(messages, id=f"own {self.texts}", time=5.0),) if more else ()
        change = Change(id=f"cut {self.texts}", keep=keep, append=append, for_owner=owner)
        self.same(lambda store: store.backend.commit(Key("default", name), change))

    @rule(name=NAMES, at=st.none() | st.integers(0, 12))
    def fork(self, name: str, at: int | None) -> None:
        other = "b" if name == "a" else "a"
        self.same(lambda store: store.erase(other))
        self.seen.pop(other, None)
        self.same(lambda store: store.fork(name, other, at=at))

    @rule(name=NAMES, kept=st.integers(0, 20), more=st.integers(0, 3), known=st.booleans())
    def save(self, name: str, kept: int, more: int, known: bool) -> None:
        added = [message for _ in range(more) for message in self.text()]

        async def ask(store: Store) -> Any:
            session = await store.session(name)
            messages = session.messages[:kept] + added
            return await store.save(name, messages, expect=session.version if known else None)

        self.same(ask)

    @rule(name=NAMES)
    def describe(self, name: str) -> None:
        self.texts += 1
        self.same(lambda store: store.merge_metadata(name, {"text": self.texts}, owner=f"owner {self.texts % 3}"))

    @rule(name=NAMES, owner=OWNERS, turns=st.integers(1, 4))
    def in_a_view(self, name: str, owner: str, turns: int) -> None:
        self.same(lambda store: store.for_owner(owner).session(name))
        self.same(lambda store: store.for_owner(owner).rewind(name, turns=turns))

    @rule(name=NAMES)
    def remember(self, name: str) -> None:
        """Keep the versions and messages of a session for later rules."""
        plain, sealed = self.both(lambda store: store.session(name))
        if isinstance(plain, Session):
            versions = plain.version, sealed.version
            self.seen[name] = versions, (list(plain.messages), list(sealed.messages))

    @rule(name=NAMES)
    def read_since(self, name: str) -> None:
        """The messages at a version plus those that follow it equal the whole session."""
        if name not in self.seen:
            return
        versions, before = self.seen[name]

        async def since(store: Store) -> Any:
            sealed = store is self.sealed
            session = await store.backend.read(Key("default", name), since=versions[sealed])
            return (before[sealed] if session.continues else []) + session.messages

        whole = self.same(lambda store: store.load(name))
        assert self.same(since) == whole

    @rule(name=NAMES, strength=st.sampled_from(["session", "turns", "exact"]), turns=st.integers(1, 6))
    def write_with_a_condition(self, name: str, strength: str, turns: int) -> None:
        if name not in self.seen:
            return
        versions, _ = self.seen[name]

        def expect(store: Store) -> Any:
            version = versions[store is self.sealed]
            return version if strength == "turns" else getattr(version, strength)

        messages = self.text()
        self.same(lambda store: store.append(name, messages, expect=expect(store)))
        self.same(lambda store: store.rewind(name, turns=turns, expect=expect(store)))

    @rule(name=NAMES, last=st.none() | st.integers(0, 20), before=st.none() | st.integers(0, 12))
    def load(self, name: str, last: int | None, before: int | None) -> None:
        self.same(lambda store: store.load(name, last=last, before=before))
        self.same(lambda store: store.session(name, last=last, before=before))

    @rule()
    def seal(self) -> None:
        self.loop.run(settled(self.layer))

    @rule(idle=st.sampled_from([None, 0]))
    def recompress(self, idle: float | None) -> None:
        async def run() -> None:
            async for _ in self.layer.recompress("default", idle=idle):
                pass

        self.loop.run(run())

    @invariant()
    def is_the_same(self) -> None:
        if hasattr(self, "loop"):
            self.same(lambda store: store.session("a", touch=False))
            self.same(lambda store: store.session("b", touch=False))
            self.same(listed)


BRIEFLY: Final = settings(max_examples=40, stateful_step_count=40)


@pytest.mark.usefixtures("small")
def test_a_layer_that_seals_answers_like_a_plain_backend() -> None:
    run_state_machine_as_test(LikePlain, settings=BRIEFLY)


@pytest.mark.usefixtures("small")
def test_a_layer_over_sqlite_answers_like_a_plain_backend(tmp_path: Path) -> None:
    made = iter(range(1_000_000))

    class OverSQLite(LikePlain):
        @staticmethod
        def below(**options: Any) -> Backend:
            return SQLiteBackend(f"sqlite:///{tmp_path}/{next(made)}.db", synchronous="NORMAL", **options)

    run_state_machine_as_test(OverSQLite, settings=settings(BRIEFLY, max_examples=10))


@pytest.fixture(params=["cut at the edge", "shifted", "last one missing"])
def planted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the layer in one way."""
    if request.param == "cut at the edge":

        async def inside(layer: CompressionLayer, key: Key, change: Change) -> Receipt:
            session = await layer.inner.read(key, last=1, before=change.keep, touch=False)
            return await layer.inner.commit(key, change.rewrite(keep=session.records[-1].number))

        monkeypatch.setattr(_layer.CompressionLayer, "_cut_inside", inside)
    elif request.param == "shifted":

        def until(record: Record, number: int) -> Record:
            return Record.seal(record.split()[: number - record.number + 1])

        monkeypatch.setattr(Record, "until", until)
    else:
        decompressed = _records._decompressed

        def shortened(records: Any, *rest: Any, **more: Any) -> Any:
            found = decompressed(records, *rest, **more)
            return found[:-1] if len(found) > 3 else found

        monkeypatch.setattr(_records, "_decompressed", shortened)


@pytest.mark.usefixtures("small", "planted")
def test_the_comparison_detects_a_planted_bug() -> None:
    with pytest.raises(Exception, match=r"."):
        run_state_machine_as_test(
            LikePlain, settings=settings(BRIEFLY, phases=[Phase.generate], report_multiple_bugs=False)
        )

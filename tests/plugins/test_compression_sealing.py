"""Sealing: behind the reply, seen by nobody, and quiet where it comes too late."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from turnlog import (
    Change,
    Conflict,
    IdReused,
    Key,
    Layer,
    OutcomeUnknown,
    Receipt,
    Record,
    Session,
    Store,
    TurnlogError,
    Unavailable,
    Version,
    assistant,
    user,
)
from turnlog.errors import SplitsSealed
from turnlog.testing import Clock
from turnlog_compression import CompressionLayer, GzipLayer, OffLayer, _layer, _recompressing, _sealing
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend
from watched import KEY, Watched, fill, numbers, said, settled, shape

Make = Callable[..., Store]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes the store below."""
    if request.param == "memory":
        return MemoryBackend
    return lambda **options: SQLiteBackend(f"sqlite:///{tmp_path}/turnlog.db", synchronous="NORMAL", **options)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of two turns, and one that stays at the end."""
    make_small(monkeypatch)


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RUN", 2), ("REST", 1), ("_MESSAGES", 3)):
        monkeypatch.setattr(_sealing, name, value)
    monkeypatch.setattr(_recompressing, "REST", 1)


# ----------------------------------------------------------------------------------------------------- behind the reply


async def test_appends_return_before_any_seal() -> None:
    """Also while a seal hangs: what a writer waits for is its own commit alone."""
    store = Watched(MemoryBackend())
    store.gate = asyncio.Event()
    async with ZstdLayer(store) as layer:
        for number in range(130):
            begun, asked = len(store.seals), len(store.commits)
            await layer.append("s", said(number))
            assert len(store.commits) == asked + 1, "an append is one commit"
            assert len(store.seals) == begun, "a seal was begun inside an append"
            await asyncio.sleep(0)
        assert len(store.seals) == 1, "the first seal hangs, and the others wait behind it"
        assert await shape(store) == [1] * 130
        store.gate.set()
        await settled(layer)
        assert await shape(store) == [32, 32, 32] + [1] * 34


async def test_runs_of_32_are_sealed_when_32_turns_follow(make: Make) -> None:
    async with ZstdLayer(make()) as layer:
        there = 0
        for count, expected in (
            (63, [1] * 63),
            (64, [32] + [1] * 32),
            (95, [32] + [1] * 63),
            (96, [32] * 2 + [1] * 32),
        ):
            await fill(layer, "s", count - there, start=there)
            await settled(layer)
            assert await shape(layer.inner) == expected
            there = count
        assert numbers(await layer.load("s")) == list(range(96))


async def test_many_turns_in_one_commit_are_sealed_as_if_one_by_one(make: Make) -> None:
    """So is what was forked or imported, from where the session begins."""
    async with ZstdLayer(make()) as layer:
        await fill(layer, "s", 10)
        records = tuple(Record.of(tuple(said(number)), id=f"t{number}", time=1.0) for number in range(10, 200))
        await layer.commit(KEY, Change(append=records))
        await settled(layer)
        assert await shape(layer.inner) == [32] * 5 + [1] * 40
        await layer.commit(Key("default", "later"), Change(append=records, first=50))
        await settled(layer)
        assert await shape(layer.inner, "later") == [14, *[32] * 4, *[1] * 48]


async def test_a_seal_changes_nothing_that_is_told_of_a_session() -> None:
    clock = Clock()
    store = Watched(MemoryBackend(clock=clock, ttl=1000.0))
    store.gate = asyncio.Event()
    async with ZstdLayer(store) as layer:
        await layer.append("other", said(0))
        clock.advance(1)
        for number in range(70):
            await layer.append("s", said(number), owner="ann", metadata={"title": "T"})
        clock.advance(1)
        await layer.append("another", said(0))
        clock.advance(100)
        before = await layer.session("s", touch=False)
        order = await listed(layer)
        store.gate.set()
        await settled(layer)
        assert await shape(store) == [32] + [1] * 38
        after = await layer.session("s", touch=False)
        assert after.turns == before.turns
        for name in set(after.info.__struct_fields__) - {"bytes"}:
            assert getattr(after.info, name) == getattr(before.info, name), name
        assert after.info.bytes < before.info.bytes
        assert await listed(layer) == order == ["another", "s", "other"]


@pytest.mark.parametrize("act", ["rewind", "erase", "erase and fill", "retain", "seal"])
async def test_a_seal_loses_quietly_to_what_came_first(act: str, caplog: pytest.LogCaptureFixture) -> None:
    store = Watched(MemoryBackend())
    store.gate = asyncio.Event()
    async with ZstdLayer(store) as layer:
        await fill(layer, "s", 64)
        await store.sealing.wait()
        if act == "rewind":
            await layer.rewind("s", turns=40)
        elif act.startswith("erase"):
            await layer.erase("s")
            if act == "erase and fill":
                await fill(layer, "s", 40, start=100)
        elif act == "retain":
            await store.inner.commit(KEY, Change(retain=40))
        else:
            records = (await store.inner.read(KEY)).records
            await store.inner.commit(KEY, Change(seal=Record.seal(records[:48])))
        found = await shape(store) if act != "erase" else []
        store.gate.set()
        with caplog.at_level(logging.WARNING, "turnlog.compression"):
            await settled(layer)
        assert (await shape(store) if act != "erase" else []) == found
        assert not caplog.records


class Naive(Watched):
    """Puts a run together by cutting and appending what it read, as if nobody had written since."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.seal is None:
            return await super().commit(key, change)
        rest = (await self.inner.read(key, touch=False)).records[change.seal.turns :]
        self.commits.append(change)
        self.sealing.set()
        assert self.gate is not None
        await self.gate.wait()
        return await self.inner.commit(key, Change(keep=change.seal.number, append=(change.seal, *rest)))


@pytest.mark.parametrize("kind", [Watched, Naive])
async def test_a_turn_that_comes_in_the_midst_of_a_seal_stays(kind: type[Watched]) -> None:
    """The naive seal loses it."""
    store = kind(MemoryBackend())
    store.gate = asyncio.Event()
    async with ZstdLayer(store) as layer:
        await fill(layer, "s", 64)
        await store.sealing.wait()
        await fill(layer, "s", 1, start=64)
        store.gate.set()
        await settled(layer)
        assert (await shape(store))[0] == 32
        assert (numbers(await layer.load("s")) == list(range(65))) is (kind is Watched)


# ----------------------------------------------------------------------------------------------------- opening, closing


@pytest.mark.parametrize("hangs", [True, False])
async def test_closing_ends_the_sealer_and_the_layer_can_be_opened_again(
    make: Make, hangs: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever its task stands, nothing is warned of, and no turn is lost."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = Watched(make())
        layer = ZstdLayer(store)
        async with layer:
            store.gate = asyncio.Event() if hangs else None
            await fill(layer, "s", 64)
            if hangs:
                await store.sealing.wait()
        assert layer._sealer is not None
        assert all(task.done() for task in layer._sealer._tasks.values())
        assert not layer._sealer._due
        store.gate = None
        async with layer:
            kept = isinstance(store.inner, SQLiteBackend)
            await fill(layer, "s", 64, start=64 * kept)
            await settled(layer)
            assert numbers(await layer.load("s")) == list(range(64 + 64 * kept))
            assert 32 in await shape(store)
        gc.collect()
    assert not caplog.records


def test_an_event_loop_that_ends_with_a_seal_under_way_warns_of_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Watched(SQLiteBackend(f"sqlite:///{tmp_path}/turnlog.db", synchronous="NORMAL"))
    layer = ZstdLayer(store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(layer.open())
        for start in range(0, 200, 20):
            asyncio.run(fill(layer, "s", 20, start=start))

        async def finish() -> None:
            await fill(layer, "s", 56, start=200)
            await settled(layer)
            assert numbers(await layer.load("s")) == list(range(256))
            assert sum(await shape(store)) == 256

        asyncio.run(finish())
        asyncio.run(layer.close())
        gc.collect()
    assert not caplog.records


def test_event_loops_in_several_threads_seal_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each writes sessions of its own and one that all write; nothing is lost, and the runs are sealed."""
    layer = ZstdLayer(SQLiteBackend(f"sqlite:///{tmp_path}/turnlog.db", synchronous="NORMAL"))
    asyncio.run(layer.open())
    failed: list[BaseException] = []

    async def write(name: str) -> None:
        for number in range(96):
            await layer.append(name, said(number))
            await layer.append("shared", said(number), turn_id=f"{name} {number}")
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

    async def look() -> None:
        for name in "abcd":
            assert numbers(await layer.load(name)) == list(range(96))
        turns = (await layer.session("shared")).turns
        for name in "abcd":
            own = [turn.id for turn in turns if turn.id.startswith(name)]
            assert own == [f"{name} {number}" for number in range(96)]
        assert (await shape(layer.inner, "shared")).count(32) >= 8
        await layer.close()

    asyncio.run(look())
    assert not caplog.records


async def test_two_tasks_that_reach_for_the_last_run_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """One finds that the other loop's was quicker; it ends without a word."""

    class Snatched(list[Any]):
        """There is something in it when it is asked, and nothing when it is taken."""

        def __bool__(self) -> bool:
            return True

        def popleft(self) -> Any:
            raise IndexError("pop from an empty deque")

    async with ZstdLayer(MemoryBackend()) as layer:
        assert layer._sealer is not None
        layer._sealer._due = Snatched()  # type: ignore[assignment]
        await layer._sealer._work()
    assert not caplog.records


# ---------------------------------------------------------------------------------------------- retention and damage


async def test_little_retention_never_seals(make: Make) -> None:
    """A sealed run is retained whole, which would keep too much for too long."""
    async with ZstdLayer(make(retain=100)) as layer:
        await fill(layer, "s", 200)
        await settled(layer)
        assert await shape(layer.inner) == [1] * 100


async def test_much_retention_drops_run_by_run(make: Make) -> None:
    """At least as many turns as asked for stay, and fewer than a run more."""
    async with ZstdLayer(make(retain=256)) as layer:
        for number in range(0, 400, 50):
            await fill(layer, "s", 50, start=number)
            await settled(layer)
            info, end = await layer.info("s"), number + 50
            assert min(256, end) <= end - info.first < min(256, end) + 32
            assert numbers(await layer.load("s")) == list(range(info.first, end))
        assert (await shape(layer.inner)).count(32) >= 6


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("retain", range(1, 12))
async def test_retaining_inside_and_at_the_edges_of_runs(make: Make, retain: int) -> None:
    async with ZstdLayer(make()) as layer:
        await fill(layer, "s", 10)
        await settled(layer)
        assert await shape(layer.inner) == [2, 2, 2, 2, 1, 1]
        receipt = await layer.commit(KEY, Change(retain=retain))
        wanted = max(0, 10 - retain)
        first = wanted if wanted > 8 else wanted // 2 * 2
        assert receipt.first == first
        assert numbers(await layer.load("s")) == list(range(first, 10))


async def test_a_damaged_turn_is_not_sealed_over(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The others of its run stay readable beside it, and the log says so once."""
    async with ZstdLayer(make()) as layer:
        await fill(layer, "s", 5)
        sound = Record.of(tuple(said(5)), id="turn 5", time=0.0)
        damaged = sound.with_payload(bytes([*sound.payload[:-1], sound.payload[-1] ^ 1]))
        await layer.inner.commit(KEY, Change(append=(damaged,)))
        with caplog.at_level(logging.INFO, "turnlog.compression"):
            await fill(layer, "s", 91, start=6)
            await settled(layer)
        assert await shape(layer.inner) == [1] * 32 + [32] + [1] * 33
        (warned,) = caplog.records
        assert (warned.name, warned.levelname) == ("turnlog.compression", "WARNING")
        assert "digest" in warned.getMessage()
        assert "turn 5" in warned.getMessage()
        assert numbers(await layer.load("s", before=5)) == list(range(5))
        assert numbers((await layer.read(KEY, last=91 * 2)).messages) == list(range(6, 97))


async def test_a_store_that_cannot_be_reached_is_told_at_info(caplog: pytest.LogCaptureFixture) -> None:
    """It is no fault: the run stays as it is, and the next is sealed."""

    class Away(Watched):
        async def commit(self, key: Key, change: Change) -> Receipt:
            if change.seal is not None and not self.seals:
                self.commits.append(change)
                raise Unavailable("away")
            return await super().commit(key, change)

    async with ZstdLayer(Away(MemoryBackend())) as layer:
        with caplog.at_level(logging.INFO, "turnlog.compression"):
            await fill(layer, "s", 96)
            await settled(layer)
        assert await shape(layer.inner) == [1] * 32 + [32] + [1] * 32
        (told,) = caplog.records
        assert (told.levelname, told.getMessage()) == (
            "INFO",
            "not sealed: turns from 0 of session 's' in 'default': away",
        )


# -------------------------------------------------------------------------------------------------- cuts inside a run


async def sealed_store(make: Make, count: int = 96) -> ZstdLayer:
    layer = ZstdLayer(make())
    await layer.open()
    await fill(layer, "s", count)
    await settled(layer)
    assert await shape(layer.inner) == [32] * (count // 32 - 1) + [1] * 32
    return layer


async def test_ids_sent_again_after_a_cut_inside_a_run_are_known(make: Make) -> None:
    """Nothing is brought back, and other contents under the same id are refused."""
    async with await sealed_store(make) as layer:
        receipt = await layer.rewind("s", turns=80)
        assert (receipt.turns, await shape(layer.inner)) == (16, [16])
        for number in range(60, 96):
            again = await layer.append("s", said(number), turn_id=f"turn {number}")
            assert (again.number, again.turns) == (number, 16)
            with pytest.raises(IdReused):
                await layer.append("s", said(1000), turn_id=f"turn {number}")
        assert numbers(await layer.load("s")) == list(range(16))


async def test_a_stale_expectation_inside_a_run_is_a_conflict(make: Make) -> None:
    async with await sealed_store(make) as layer:
        stale = (await layer.info("s")).version
        await fill(layer, "s", 1, start=96)
        with pytest.raises(Conflict) as caught:
            await layer.rewind("s", turns=80, expect=stale)
        assert caught.value.expected == stale
        record = Record.of(tuple(said(7)), id="x", time=0.0)
        with pytest.raises(Conflict):
            await layer.commit(KEY, Change(keep=40, append=(record,), expect=stale))
        assert numbers(await layer.load("s")) == list(range(97))
        now = (await layer.info("s")).version
        assert (await layer.rewind("s", turns=90, expect=now)).turns == 7


class Losing(Watched):
    """Loses the answer to one change, before or after it was stored."""

    lost: Change | None = None
    stores = True
    armed = False

    async def commit(self, key: Key, change: Change) -> Receipt:
        if not self.armed or change.keep is None:
            return await super().commit(key, change)
        if self.stores:
            await super().commit(key, change)
        self.armed, self.lost = False, change
        raise OutcomeUnknown("the answer was lost", key=key, change=change)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("meanwhile", ["nothing", "sealed whole"])
async def test_a_cut_inside_a_run_is_sent_again_after_an_unknown_outcome(
    make: Make, stored: bool, meanwhile: str
) -> None:
    """It is done once, whether the caller sends its own change or the one that the error carries."""
    for own in (True, False):
        store = Losing(make(namespace=f"{own}"))
        async with ZstdLayer(store) as layer:
            key = Key(layer.namespace, "s")
            await fill(layer, "s", 96)
            await settled(layer)
            version = (await layer.info("s")).version
            record = Record.of(tuple(said(1000)), id="new", time=0.0)
            change = Change(keep=40, append=(record,), expect=version)
            store.armed, store.stores = True, False
            with pytest.raises(OutcomeUnknown) as caught:
                # the first answer is that it splits a run: only what is sent then can be lost
                store.armed = False
                await self_armed(layer, store, key, change, stored)
            if meanwhile == "sealed whole":
                async for _ in layer.recompress(idle=0):
                    pass
            assert caught.value.change is not None
            for _ in range(2):
                receipt = await layer.commit(key, change if own else caught.value.change)
                assert (receipt.number, receipt.turns) == (40, 41)
            assert numbers(await layer.load("s")) == [*range(40), 1000]
            assert receipt.version == (await layer.info("s")).version


async def self_armed(layer: ZstdLayer, store: Losing, key: Key, change: Change, stored: bool) -> None:
    commit = store.inner.commit

    async def arming(key: Key, change: Change) -> Receipt:
        try:
            return await commit(key, change)
        except SplitsSealed:
            store.armed, store.stores = True, stored
            raise

    store.inner.commit = arming  # type: ignore[method-assign]
    try:
        await layer.commit(key, change)
    finally:
        store.inner.commit = commit  # type: ignore[method-assign]


class Between(Watched):
    """Lets another writer in between the refusal of a cut inside a run and the read that follows it."""

    act: Callable[[Store], Any] | None = None

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except SplitsSealed:
            if self.act is not None:
                act, self.act = self.act, None
                await act(self.inner)
            raise


def round_of(id: str, part: int, *, open: bool) -> Record:
    return Record.of((user(f"{id} {part}"), assistant("ok")), id=id, time=0.0, part=part, open=open)


@pytest.mark.parametrize("meanwhile", ["emptied", "erased", "rounds", "sealed wider", "one more"])
async def test_a_cut_inside_a_run_beside_another_writer(make: Make, meanwhile: str) -> None:
    """Whatever it finds when it comes to read, the change is what the caller asked for."""

    async def act(store: Store) -> None:
        if meanwhile == "emptied":
            await store.commit(KEY, Change(keep=0))
        elif meanwhile == "erased":
            await store.delete(KEY)
        elif meanwhile == "rounds":
            rounds = (round_of("r", 0, open=True), round_of("r", 1, open=False))
            await store.commit(KEY, Change(keep=0, append=rounds))
        elif meanwhile == "sealed wider":
            records = (await OffLayer(store).read(KEY)).records
            await store.commit(KEY, Change(seal=Record.seal(records[:3])))
        else:
            await store.commit(KEY, Change(append=(round_of("m", 0, open=False),)))

    store = Between(make())
    async with ZstdLayer(store) as layer:
        await fill(layer, "s", 96)
        await settled(layer)
        store.act = act
        record = Record.of(tuple(said(1000)), id="new", time=0.0)
        receipt = await layer.commit(KEY, Change(keep=40, append=(record,)))
        expected = {"emptied": [1000], "erased": [1000], "rounds": [0, 1, 1000]}.get(meanwhile, [*range(40), 1000])
        assert numbers(await layer.load("s")) == expected
        assert receipt.number == receipt.turns - 1 == (await layer.info("s")).turns - 1


# ----------------------------------------------------------------------------------------- beside a store without seals

NAMES: Final = st.sampled_from(["a", "b"])
TEXTS: Final = st.integers(0, 10_000)


class BesidePlain(RuleBasedStateMachine):
    """The same is asked of a layer that seals, in runs of two, and of a plain store: the answers are the same."""

    below: Callable[..., Store] = MemoryBackend

    @initialize()
    def begin(self) -> None:
        self.clock, self.loop = Clock(), asyncio.Runner()
        self.plain: Store = MemoryBackend(clock=self.clock, ttl=1e6)
        self.layer: CompressionLayer = ZstdLayer(type(self).below(clock=self.clock, ttl=1e6))
        self.sent: list[tuple[str, str, int]] = []
        self.seen: dict[str, tuple[tuple[Version, Version], tuple[list[Any], list[Any]]]] = {}
        self.texts = 0
        self.loop.run(self.layer.open())

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run(self.layer.close())
            self.loop.close()

    def both(self, ask: Callable[[Store], Any]) -> tuple[Any, Any]:
        async def answer(store: Store) -> Any:
            try:
                return await ask(store)
            except TurnlogError as error:
                return type(error)

        self.clock.advance(1)
        return self.loop.run(answer(self.plain)), self.loop.run(answer(self.layer))

    def same(self, ask: Callable[[Store], Any]) -> Any:
        plain, sealed = map(self.told, self.both(ask))
        assert sealed == plain
        return plain

    @staticmethod
    def told(answer: Any) -> Any:
        """What two stores must agree on; versions and ids that they made are each store's own."""
        if isinstance(answer, Receipt):
            return answer.number, answer.first, answer.turns, answer.messages, answer.expires_in
        if isinstance(answer, Session):
            info = answer.info
            head = (info.first, info.turns, info.messages, info.created, info.updated, info.owner, info.expires_in)
            return head, dict(info.metadata), [BesidePlain.turn(turn) for turn in answer.turns]
        return BesidePlain.turn(answer) if hasattr(answer, "interrupted") else answer

    @staticmethod
    def turn(turn: Any) -> tuple[Any, ...]:
        id = turn.id if turn.id.startswith("own ") else "made"
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

    @rule(name=NAMES, keep=st.integers(0, 12), more=st.booleans())
    def cut(self, name: str, keep: int, more: bool) -> None:
        messages = tuple(self.text())
        append = (Record.of(messages, id=f"own {self.texts}", time=5.0),) if more else ()
        id = f"cut {self.texts}"
        self.same(lambda store: store.commit(Key("default", name), Change(id=id, keep=keep, append=append)))

    @rule(name=NAMES, at=st.none() | st.integers(0, 12))
    def fork(self, name: str, at: int | None) -> None:
        other = "b" if name == "a" else "a"
        self.same(lambda store: store.erase(other))
        self.seen.pop(other, None)
        self.same(lambda store: store.fork(name, other, at=at))

    @rule(name=NAMES, kept=st.integers(0, 20), more=st.integers(0, 3), known=st.booleans())
    def save(self, name: str, kept: int, more: int, known: bool) -> None:
        def messages_of(found: list[Any]) -> list[Any]:
            return found[:kept] + added

        added = [message for _ in range(more) for message in self.text()]

        async def ask(store: Store) -> Any:
            session = await store.session(name)
            return await store.save(name, messages_of(session.messages), expect=session.version if known else None)

        self.same(ask)

    @rule(name=NAMES)
    def describe(self, name: str) -> None:
        self.texts += 1
        self.same(lambda store: store.merge_metadata(name, {"text": self.texts}, owner=f"owner {self.texts % 3}"))

    @rule(name=NAMES)
    def look_closer_later(self, name: str) -> None:
        """Remember what is there, and the version that it has."""
        plain, sealed = self.both(lambda store: store.session(name))
        if isinstance(plain, Session):
            versions = plain.version, sealed.version
            self.seen[name] = versions, (list(plain.messages), list(sealed.messages))

    @rule(name=NAMES)
    def look_closer(self, name: str) -> None:
        """What follows a version, behind what was there at it, is what is there now."""
        if name not in self.seen:
            return
        versions, before = self.seen[name]

        async def since(store: Store) -> Any:
            sealed = store is self.layer
            session = await store.read(Key("default", name), since=versions[sealed])
            return (before[sealed] if session.continues else []) + session.messages

        whole = self.same(lambda store: store.load(name))
        assert self.same(since) == whole

    @rule(name=NAMES)
    def write_at_a_stale_version(self, name: str) -> None:
        if name in self.seen:
            versions, _ = self.seen[name]
            messages = self.text()
            self.same(lambda store: store.append(name, messages, expect=versions[store is self.layer]))
            self.same(lambda store: store.rewind(name, turns=3, expect=versions[store is self.layer]))

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
            async for _ in self.layer.recompress(idle=idle):
                pass

        self.loop.run(run())

    @invariant()
    def is_the_same(self) -> None:
        if hasattr(self, "loop"):
            self.same(lambda store: store.session("a", touch=False))
            self.same(lambda store: store.session("b", touch=False))
            self.same(listed)


async def listed(store: Store) -> list[str]:
    return [info.key.session async for info in store.sessions()]


BRIEFLY: Final = settings(max_examples=40, stateful_step_count=40)


@pytest.mark.usefixtures("small")
def test_a_sealed_store_answers_as_a_plain_one() -> None:
    run_state_machine_as_test(BesidePlain, settings=BRIEFLY)


@pytest.mark.usefixtures("small")
def test_a_sealed_sqlite_answers_as_a_plain_store(tmp_path: Path) -> None:
    made = iter(range(1_000_000))

    class OverSQLite(BesidePlain):
        @staticmethod
        def below(**options: Any) -> Store:
            return SQLiteBackend(f"sqlite:///{tmp_path}/{next(made)}.db", synchronous="NORMAL", **options)

    run_state_machine_as_test(OverSQLite, settings=settings(BRIEFLY, max_examples=10))


@pytest.fixture(params=["cut at the edge", "shifted", "last left out"])
def planted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that is not as it should be."""
    if request.param == "cut at the edge":

        async def inside(layer: CompressionLayer, key: Key, change: Change) -> Receipt:
            session = await layer.inner.read(key, last=1, before=change.keep, touch=False)
            return await layer.inner.commit(key, change.rewrite(keep=session.records[-1].number))

        monkeypatch.setattr(_layer.CompressionLayer, "_commit_inside", inside)
    elif request.param == "shifted":

        def until(record: Record, number: int) -> Record:
            return Record.seal(record.split()[: number - record.number + 1])

        monkeypatch.setattr(Record, "until", until)
    else:
        opened = _layer._opened

        def shortened(records: Any, *rest: Any, **more: Any) -> Any:
            found = opened(records, *rest, **more)
            return found[:-1] if len(found) > 3 else found

        monkeypatch.setattr(_layer, "_opened", shortened)


@pytest.mark.usefixtures("small", "planted")
def test_a_naive_layer_is_found_out() -> None:
    with pytest.raises(Exception, match=r"."):
        run_state_machine_as_test(
            BesidePlain, settings=settings(BRIEFLY, phases=[Phase.generate], report_multiple_bugs=False)
        )


# ------------------------------------------------------------------------------------------------------- every codec


async def test_gzip_seals_too_and_a_layer_that_shall_not_does_not() -> None:
    async with GzipLayer(MemoryBackend()) as layer:
        await fill(layer, "s", 64)
        await settled(layer)
        assert await shape(layer.inner) == [32] + [1] * 32
    async with GzipLayer(MemoryBackend(), seal=False) as layer:
        await fill(layer, "s", 64)
        assert layer._sealer is None
        assert await shape(layer.inner) == [1] * 64


async def test_no_store_that_cannot_seal_is_asked_to() -> None:
    class Unsealing(Watched):
        def __init__(self, inner: Store) -> None:
            super().__init__(inner)
            self.can_seal = False

    store = Unsealing(MemoryBackend())
    async with ZstdLayer(Layer(store)) as layer:
        await fill(layer, "s", 64)
        assert layer._sealer is None
        await asyncio.sleep(0)
        assert not store.seals


async def test_what_would_save_nothing_is_not_sealed() -> None:
    """In a run a turn brings its head along, which is more than a few words can make good."""
    store = Watched(MemoryBackend())
    async with ZstdLayer(store) as layer:
        for number in range(3):
            await layer.append("s", [user(f"{number * 7919}"), assistant("ok")])
        before = (await layer.info("s")).bytes
        told = [one async for one in layer.recompress(idle=0)]
        assert [(one.before, one.after) for one in told] == [(before, before)]
        await _sealing.seal(layer, KEY, 0, 3)
        assert not store.seals
        for number in range(40):
            await layer.append("s", said(number))
        assert [one.after < one.before for one in [one async for one in layer.recompress(idle=0)]] == [True]
        assert store.seals

"""Compressing and opening: codecs side by side, never more bytes than plain, and what is done off the event loop."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from compressed import LAYERS, MIB, WRITTEN, compressed, talk, with_dictionary, words
from turnlog import Change, Key, Layer, Message, Record, Store, open_store, user
from turnlog.errors import ConfigError, InvalidInput
from turnlog.payload import PLAIN, codec_of, wrap
from turnlog_compression import CompressionLayer, GzipLayer, OffLayer, _layer
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend

KEY = Key("default", "s")


def codecs_of(records: Iterable[Record]) -> list[int]:
    return [codec_of(record.payload) for record in records]


async def seal(store: Store, first: int, after: int) -> None:
    """Seal these turns, written as the store writes."""
    records = (await store.read(KEY)).records
    await store.commit(KEY, Change(seal=Record.seal([record for record in records if first <= record.number < after])))


# ------------------------------------------------------------------------------------------------------- side by side

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda folder: MemoryBackend(),
    "sqlite": lambda folder: SQLiteBackend(f"sqlite:///{folder}/turnlog.db"),
}


@pytest.mark.parametrize("kind", STORES)
async def test_every_layer_reads_what_all_of_them_wrote_in_one_session(kind: str, tmp_path: Path) -> None:
    """Turns, rounds of a turn, and sealed runs, of each codec."""
    async with STORES[kind](tmp_path) as store:
        layers = {name: make(store) for name, make in LAYERS.items()}
        await with_dictionary(layers["dictionary"])
        said: list[Message] = []
        written: list[int] = []
        for name, layer in layers.items():
            first = len(said) // 2
            for turn in range(first, first + 4):
                await layer.append("s", list(talk(5_000, turn)))
                said += talk(5_000, turn)
            assert set(codecs_of((await store.read(KEY, last=8)).records)) == {WRITTEN[name]}
            await seal(layer, first, first + 2)
            written += [WRITTEN[name]] * 3
        for part in range(4):  # a turn whose rounds are written by one each
            layer = layers[[*LAYERS][part]]
            await layer.append("s", list(talk(5_000, 100 + part)), turn_id="rounds", part=part, open=part < 3)
            said += talk(5_000, 100 + part)
            written.append([*WRITTEN.values()][part])

        records = (await store.read(KEY)).records
        assert codecs_of(records) == written
        assert [record.rounds for record in records] == [2, 1, 1] * 4 + [1] * 4
        for layer in layers.values():
            session = await layer.session("s")
            assert session.messages == said
            assert [len(turn.messages) for turn in session.turns] == [2] * 16 + [8]
            assert all(record.plain for record in session.records)
            for turn in range(16):
                assert tuple(await layer.load("s", last=1, before=turn + 1)) == talk(5_000, turn)
            assert await layer.load("s", last=8) == said[-8:]


@pytest.mark.parametrize("kind", STORES)
async def test_off_reads_all_and_writes_plain(kind: str, tmp_path: Path) -> None:
    async with STORES[kind](tmp_path) as store:
        await with_dictionary(ZstdLayer(store))
        for name, make in LAYERS.items():
            await make(store).append("s", list(talk(5_000)), turn_id=name)
        off = OffLayer(store)
        said = await off.load("s")
        assert said == list(talk(5_000)) * 4
        await off.append("s", list(talk(90_000)))
        assert codecs_of((await store.read(KEY)).records) == [0, 1, 2, 3, PLAIN]
        await seal(off, 0, 4)
        (run, _) = (await store.read(KEY)).records
        assert (run.rounds, codec_of(run.payload)) == (4, PLAIN)
        assert list(run.messages) == said  # without a layer


@pytest.mark.parametrize("name", ["gzip", "zstd", "dictionary"])
async def test_what_was_written_before_the_layer_was_there_is_read(name: str) -> None:
    async with MemoryBackend() as store:
        await store.append("s", list(talk(5_000)))
        layer = LAYERS[name](store)
        await layer.append("s", list(talk(5_000, 1)))
        assert tuple(await layer.load("s")) == talk(5_000) + talk(5_000, 1)
        if name == "dictionary":  # there is none yet
            assert codecs_of((await store.read(KEY)).records) == [PLAIN, 2]


# -------------------------------------------------------------------------------------------------------------- floor


@pytest.mark.parametrize("name", ["gzip", "zstd", "dictionary"])
@pytest.mark.parametrize("messages", [1, 2, 3])
async def test_what_is_small_stays_plain(name: str, messages: int) -> None:
    """However well it would compress; with a dictionary there is less that is small."""
    floor = 128 if name == "dictionary" else 1024 if messages > 2 else 4096
    async with LAYERS[name](MemoryBackend()) as store:
        await with_dictionary(store)
        head = len(Record.of((user("a" * 300),) * messages, id="t", time=0.0).payload) - 300 * messages
        for size in (floor // 2, floor - 1, floor, floor + 1, 2 * floor):
            content = "a" * ((size - head) // messages)
            said = [*(user(content),) * (messages - 1), user(content + "a" * ((size - head) % messages))]
            record = Record.of(tuple(said), id=f"t{size}", time=0.0)
            await store.commit(KEY, Change(append=(record,)))
            stored = (await store.inner.read(KEY, last=1)).records[-1]
            assert abs(len(record.payload) - size) <= 2 * messages  # a short text has a shorter head
            assert codec_of(stored.payload) == (PLAIN if len(record.payload) < floor else WRITTEN[name])


def noise(size: int, seed: int = 0) -> Record:
    """A record that no codec makes smaller: no JSON is like it, so its body is none."""
    record = Record.of((user("x"),), id=f"t{seed}", time=0.0)
    return record.with_payload(wrap(random.Random(seed).randbytes(size)))


@pytest.mark.parametrize("name", ["gzip", "zstd", "dictionary"])
@pytest.mark.parametrize("size", [300, 4_000, 200_000])
async def test_what_would_not_become_smaller_is_stored_as_it_is(name: str, size: int) -> None:
    async with LAYERS[name](MemoryBackend()) as store:
        await with_dictionary(store)
        record = noise(size)
        assert len(compressed(record, name).payload) > len(record.payload)
        await store.commit(KEY, Change(append=(record, noise(size, 1))))
        stored = (await store.inner.read(KEY)).records
        assert [one.payload for one in stored] == [record.payload, noise(size, 1).payload]
        for run in await store.written(KEY, (msgspec.structs.replace(record, rounds=2, turns=2),)):
            assert run.payload == record.payload  # nor as a sealed run


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_base64_becomes_a_little_smaller_which_a_turn_is_not_opened_for_but_a_sealed_run_is(name: str) -> None:
    async with LAYERS[name](MemoryBackend()) as store:
        said = [user(base64.b64encode(random.Random(turn).randbytes(3_000)).decode()) for turn in range(2)]
        for message in said:
            await store.append("s", [message])
        plain = (await store.inner.read(KEY)).records
        assert codecs_of(plain) == [PLAIN, PLAIN]
        await seal(store, 0, 2)
        (run,) = (await store.inner.read(KEY)).records
        assert codec_of(run.payload) == WRITTEN[name]
        assert len(run.payload) < 0.8 * sum(len(record.payload) for record in plain)
        assert await store.load("s") == said


def test_a_layer_that_compressed_everything_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(record: Record, codec: Any) -> Record:
        return compressed(record, "gzip")

    monkeypatch.setattr(_layer, "_compressed", everything)
    with pytest.raises(AssertionError):
        asyncio.run(test_what_is_small_stays_plain("gzip", 2))
    with pytest.raises(AssertionError):
        asyncio.run(test_what_would_not_become_smaller_is_stored_as_it_is("gzip", 300))
    with pytest.raises(AssertionError):
        asyncio.run(Through().check([{"role": "user", "content": "hello"}]))


# ------------------------------------------------------------------------------------------------------------ any text

MARKS = ["\xc1T\x01\x02", "\xc1\x54", "\x1f\x8b\x08\x00", "(\xb5/\xfd", "\x50\x2a\x4d\x18", "7\xa40\xec", "\x00" * 40]
MARKS += [base64.b64encode(compressed(Record.of(talk(300), id="t", time=0.0), name).payload).decode() for name in
          ("gzip", "zstd", "dictionary")]  # fmt: skip
pieces = st.sampled_from(MARKS) | st.text(st.characters(codec="utf-8"), max_size=5)
long = st.builds(lambda parts, times: "".join(parts) * times, st.lists(pieces, max_size=3), st.integers(1, 80))
leaves: st.SearchStrategy[Any] = (
    long
    | st.sampled_from([None, True, False, -(2**63), 2**64 - 1, 0, -0.0, 1.0, 1e300, [], {}])
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = (
    leaves | st.lists(leaves, max_size=3) | st.dictionaries(pieces, leaves | st.lists(leaves, max_size=2), max_size=2)
)
said = st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]) | pieces, values, min_size=1, max_size=3)


class Through:
    """Each layer, over a store of its own."""

    def __init__(self) -> None:
        self.layers = {name: make(MemoryBackend()) for name, make in LAYERS.items()}
        self.sessions = 0
        self.used: Counter[int] = Counter()

    async def check(self, messages: list[dict[str, Any]]) -> None:
        """They come back, as two turns and as a sealed run, and take no more bytes than plain."""
        self.sessions += 1
        key = Key("default", f"s{self.sessions}")
        plain = [Record.of(tuple(map(Message.from_dict, messages)), id=id, time=0.0) for id in "ab"]
        wanted = json.dumps(messages * 2, sort_keys=True)
        for layer in self.layers.values():
            await layer.commit(key, Change(append=tuple(plain)))
            records = (await layer.inner.read(key)).records
            assert [len(record.payload) <= len(plain[0].payload) for record in records] == [True, True]
            session = await layer.read(key)
            assert json.dumps([message.to_dict() for message in session.messages], sort_keys=True) == wanted
            whole = Record.seal(session.records)
            await layer.commit(key, Change(seal=whole))
            (run,) = (await layer.inner.read(key)).records
            assert len(run.payload) <= len(whole.payload)
            session = await layer.read(key)
            assert json.dumps([message.to_dict() for message in session.messages], sort_keys=True) == wanted
            await layer.delete(key)
            self.used.update(codecs_of((*records, run)))


def test_any_messages_come_back_as_they_were_and_never_take_more_bytes_than_plain() -> None:
    with asyncio.Runner() as runner:
        through = Through()
        runner.run(with_dictionary(through.layers["dictionary"]))

        @settings(max_examples=7 * settings().max_examples)
        @given(st.lists(said, min_size=1, max_size=2))
        def check(messages: list[dict[str, Any]]) -> None:
            runner.run(through.check(messages))

        check()
    assert all(through.used[codec] > 100 for codec in (0, 1, 2, 3)), through.used


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_535, 65_536, 262_143, 262_144, 262_145, 3 * MIB])
@pytest.mark.parametrize("name", ["gzip", "zstd", "dictionary"])
async def test_bodies_of_every_size_are_opened_as_they_were(name: str, size: int) -> None:
    """Around the sizes at which a codec, or the opener, does something else."""
    for body in (
        bytes(size),
        (words(60_000).encode() * (size // 60_000 + 1))[:size],
        random.Random(size).randbytes(size),
    ):
        record = Record.of((user("x"),), id="t", time=0.0).with_payload(wrap(body))
        layer = LAYERS[name](MemoryBackend())
        await with_dictionary(layer)
        await layer.dictionaries.fetch("default")
        (opened,) = await layer.opened(KEY, (compressed(record, name),))
        assert opened.payload == record.payload


# ------------------------------------------------------------------------------------------------- making of a layer


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory, and no variable of ours."""
    for name in [name for name in os.environ if name.startswith("TURNLOG_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Between(Layer):
    """Any other layer."""


@pytest.mark.parametrize("inner", LAYERS)
@pytest.mark.parametrize("outer", LAYERS)
def test_a_stack_takes_one_compression_layer(outer: str, inner: str) -> None:
    for between in (lambda store: store, Between, lambda store: Between(Between(store)), lambda s: s.within("shop")):
        with pytest.raises(InvalidInput, match="a stack takes one of them, leave the other out"):
            LAYERS[outer](between(LAYERS[inner](MemoryBackend())))
    assert isinstance(LAYERS[outer](Between(MemoryBackend())), CompressionLayer)


@pytest.mark.parametrize("layers", ["zstd,gzip", "gzip,zstd", "off,zstd", "gzip,off"])
def test_two_of_them_in_the_configuration_are_an_error_that_explains(layers: str, alone: Path) -> None:
    with pytest.raises(ConfigError, match=r"layers\[0\]: \w+ over \w+: a stack takes one of them"):
        open_store(f"memory://?layers={layers}")


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    *((GzipLayer, {"level": level}, "level must be from 1 to 9") for level in (0, 10, -1, 3.0, "3", True, None)),
    *((ZstdLayer, {"level": level}, "level must be from 1 to 19") for level in (0, 20, -5, 3.0, "3", True, None)),
    *((GzipLayer, {"seal": value}, "seal must be True or False") for value in (1, "yes", None)),
    *((ZstdLayer, {"seal": value}, "seal must be True or False") for value in (1, "yes", None)),
    *((ZstdLayer, {"dictionary": value}, "dictionary must be True or False") for value in (1, "yes", None)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "options", "says"), WRONG)
def test_a_bad_option_is_refused(make: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        make(MemoryBackend(), **options)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ({"name": "zstd", "level": 20}, r"layers\[0\]\.level: level must be from 1 to 19, not 20"),
        ({"name": "zstd", "level": "3"}, r"layers\[0\]\.level: "),
        ({"name": "gzip", "level": 0}, r"layers\[0\]\.level: level must be from 1 to 9, not 0"),
        ({"name": "gzip", "dictionary": True}, r"layers\[0\]\.dictionary: GzipLayer has no such option"),
        ({"name": "zstd", "dictionary": "yes"}, r"layers\[0\]\.dictionary: "),
        ({"name": "zstd", "seal": 1}, r"layers\[0\]\.seal: "),
        ({"name": "zstd", "levle": 3}, r"levle: ZstdLayer has no such option; .*; did you mean 'level'\?"),
        ({"name": "off", "level": 3}, r"layers\[0\]\.level: OffLayer has no such option; there are name"),
        ({"name": "off", "seal": True}, r"layers\[0\]\.seal: OffLayer has no such option"),
    ],
)
def test_a_bad_option_in_the_configuration_is_named(layer: dict[str, Any], says: str, alone: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        open_store("memory://", layers=[layer])


CONFIGURED = [
    ("gzip", 'layers = ["gzip"]', "gzip 6"),
    ("zstd", 'layers = ["zstd"]', "zstd 3"),
    ("off", 'layers = ["off"]', "plain"),
    ("zstd", 'layers = [{ name = "zstd", level = 9 }]', "zstd 9"),
    ("gzip", 'layers = [{ name = "gzip", level = 1, seal = false }]', "gzip 1"),
    ("dictionary", 'layers = [{ name = "zstd", level = 19, dictionary = true }]', "zstd 19 40000"),
]


@pytest.mark.parametrize(("name", "line", "writes"), CONFIGURED)
async def test_it_is_turned_on_by_one_line(name: str, line: str, writes: str, alone: Path) -> None:
    alone.joinpath("turnlog.toml").write_text(f'[store]\nurl = "memory://"\n{line}\n', encoding="utf-8")
    async with open_store() as store:
        assert isinstance(store, CompressionLayer)
        if name == "dictionary":
            await with_dictionary(store)
        assert str(await store.codec("default")) == writes
        await store.append("s", list(talk(5_000)))
        assert codecs_of((await store.inner.read(KEY)).records) == [WRITTEN[name]]
        assert tuple(await store.load("s")) == talk(5_000)


@pytest.mark.parametrize("name", ["gzip", "zstd", "off"])
def test_it_is_turned_on_by_one_word(name: str, alone: Path) -> None:
    assert type(open_store(f"memory://?layers={name}")) is type(LAYERS[name](MemoryBackend()))


async def test_a_higher_level_needs_no_migration() -> None:
    async with MemoryBackend() as store:
        for level in (1, 19):
            await ZstdLayer(store, level=level).append("s", [user(words(60_000))], turn_id=f"{level}")
        fast, small = (await store.read(KEY)).records
        assert len(small.payload) < len(fast.payload)
        assert await ZstdLayer(store, level=3).load("s") == [user(words(60_000))] * 2


# --------------------------------------------------------------------------------------------------- the event loop


class Where:
    """In which threads records are written and opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here = threading.get_ident()
        self.threads: list[int] = []
        for name in ("_written", "_opened"):
            monkeypatch.setattr(_layer, name, self._watched(getattr(_layer, name)))

    def _watched(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.threads.append(threading.get_ident())
            return work(*arguments, **options)

        return watched

    def off_the_loop(self) -> list[bool]:
        """Of each time since this was asked: whether it was in another thread."""
        threads, self.threads = self.threads, []
        return [thread != self.here for thread in threads]


@pytest.mark.parametrize("name", ["gzip", "zstd", "dictionary"])
async def test_large_work_is_done_off_the_event_loop_and_small_work_on_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LAYERS[name](MemoryBackend()) as store:
        await with_dictionary(store)
        await store.append("small", list(talk(20_000)))
        await store.append("large", list(talk(400_000)), turn_id="0")
        await store.load("small")
        slow = (await store.codec("default")).slow
        where = Where(monkeypatch)
        await store.append("small", list(talk(20_000)))
        assert where.off_the_loop() == [False]
        await store.append("large", list(talk(400_000)))
        assert where.off_the_loop() == [True]
        for size, off in ((slow - 2_000, False), (slow + 2_000, True)):
            await store.append(f"{size}", [user("a" * size)])
            assert where.off_the_loop() == [off]
        await store.load("small")
        assert where.off_the_loop() == [False]
        assert len(await store.load("large")) == 4
        assert where.off_the_loop() == [True]
        await store.load("large", last=1)  # 400,000 bytes
        assert where.off_the_loop() == [False]


async def test_many_small_records_are_large_work_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ZstdLayer(MemoryBackend(), seal=False) as store:
        for turn in range(40):
            await store.append("s", [user(words(16_000, turn))])
        where = Where(monkeypatch)
        assert len(await store.load("s")) == 40
        assert where.off_the_loop() == [True]
        assert len(await store.load("s", last=10)) == 10
        assert where.off_the_loop() == [False]
        records = tuple(Record.of(talk(16_000, turn), id=f"t{turn}", time=0.0) for turn in range(40))
        await store.commit(KEY, Change(append=records))
        assert where.off_the_loop() == [True]


async def test_the_loop_turns_meanwhile() -> None:
    async with GzipLayer(MemoryBackend(), level=9, seal=False) as store:
        large = asyncio.ensure_future(store.append("s", [user(words(64_000) * 64)]))
        turns = 0
        while not large.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 10


async def test_what_is_plain_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    async with OffLayer(MemoryBackend()) as store:
        await store.append("s", list(talk(2 * MIB)))
        where = Where(monkeypatch)
        assert len(await store.load("s")) == 2
        await store.append("s", list(talk(2 * MIB)))
        assert where.off_the_loop() == [False]  # written, which for this layer is no work; nothing was opened


class Counted:
    """How often a context is made, by kind and thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: Counter[tuple[str, int]] = Counter()
        for kind in ("ZstdCompressor", "ZstdDecompressor"):
            monkeypatch.setattr(zstandard, kind, self._counting(kind, getattr(zstandard, kind)))

    def _counting(self, kind: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **options: Any) -> Any:
            self.made[kind, threading.get_ident()] += 1
            return make(*arguments, **options)

        return made


@pytest.mark.parametrize("name", ["zstd", "dictionary"])
async def test_contexts_are_made_once_a_thread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with LAYERS[name](MemoryBackend()) as store:
        await with_dictionary(store)
        counted = Counted(monkeypatch)
        for turn in range(50):
            await store.append("s", list(talk(5_000, turn)))
            await store.load("s", last=1)
        here = threading.get_ident()
        assert counted.made["ZstdCompressor", here] == 1
        assert counted.made["ZstdDecompressor", here] <= 1  # this thread may have had one
        large = list(talk(600_000))
        for turn in range(20):
            await store.append("large", large, turn_id=f"{turn}")
            await store.load("large", last=1)
        assert len({thread for _, thread in counted.made}) > 1
        made = {kind for kind, thread in counted.made if thread != here}
        assert made == {"ZstdCompressor", "ZstdDecompressor"}
        for (kind, thread), times in counted.made.items():  # with a dictionary a thread also has one without
            assert times <= (2 if kind == "ZstdDecompressor" and name == "dictionary" else 1), (kind, thread)


async def test_a_context_for_each_record_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    for _ in range(2):
        await ZstdLayer(MemoryBackend()).append("s", list(talk(5_000)))  # a new layer has one of its own
    assert counted.made["ZstdCompressor", threading.get_ident()] == 2


def test_many_threads_and_many_loops_at_once() -> None:
    """Each with a layer of its own, over a store of its own, and contexts of its own."""
    failed: list[BaseException] = []

    async def work(seed: int) -> None:
        async with LAYERS["dictionary" if seed % 2 else "zstd"](MemoryBackend()) as store:
            await with_dictionary(store)
            for turn in range(40):
                await store.append("s", list(talk(5_000, seed + turn)))
            wanted = [message for turn in range(40) for message in talk(5_000, seed + turn)]
            assert await store.load("s") == wanted

    def run(seed: int) -> None:
        try:
            asyncio.run(work(seed))
        except BaseException as error:  # noqa: BLE001 - an assertion, too
            failed.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []

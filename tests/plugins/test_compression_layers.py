"""Compression layers: they read every codec, never store more bytes than plain, and do large work in threads."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from compressed import (
    KEY,
    LAYERS,
    MIB,
    PLAIN,
    WRITTEN,
    Watched,
    codecs_of,
    compressed,
    fill,
    settled,
    store_dictionary,
    stored,
    talk,
    words,
)
from turnlog import Backend, Change, Key, Layer, Message, MessageLayer, PayloadLayer, Record, Store, open_store, user
from turnlog.errors import ConfigError, InvalidInput
from turnlog.layers import Position
from turnlog.payload import codec_of, wrap
from turnlog_cache import CacheLayer
from turnlog_compression import CompressionLayer, GzipLayer, OffLayer, _records
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend


async def seal(layer: CompressionLayer, first: int, after: int) -> None:
    """Seal the turns from `first` up to `after`, through the layer."""
    records = (await layer.read(KEY)).records
    done = await layer.seal(KEY, Record.seal([record for record in records if first <= record.number < after]))
    assert done is True


# ------------------------------------------------------------------------------------------------ many codecs together

BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "memory": lambda folder: MemoryBackend(),
    "sqlite": lambda folder: SQLiteBackend(f"sqlite:///{folder}/turnlog.db"),
}


@pytest.mark.parametrize("kind", BACKENDS)
async def test_every_layer_reads_what_all_of_them_wrote_in_one_session(kind: str, tmp_path: Path) -> None:
    """One session holds turns, rounds of a turn and sealed runs of each codec."""
    async with BACKENDS[kind](tmp_path) as backend:
        layers = {name: make(backend) for name, make in LAYERS.items()}
        await store_dictionary(layers["dictionary"])
        messages: list[Message] = []
        written: list[int] = []
        for name, layer in layers.items():
            first = len(messages) // 2
            for turn in range(first, first + 4):
                await Store(layer).append("s", list(talk(5_000, turn)))
                messages += talk(5_000, turn)
            assert set(codecs_of((await backend.read(KEY, last=8)).records)) == {WRITTEN[name]}
            await seal(layer, first, first + 2)
            written += [WRITTEN[name]] * 3
        for part in range(4):  # one turn, with each round written by another layer
            store = Store(layers[[*LAYERS][part]])
            await store.append("s", list(talk(5_000, 100 + part)), turn_id="rounds", part=part, open=part < 3)
            messages += talk(5_000, 100 + part)
            written.append([*WRITTEN.values()][part])

        records = await stored(backend)
        assert codecs_of(records) == written
        assert [record.rounds for record in records] == [2, 1, 1] * 4 + [1] * 4
        for layer in layers.values():
            store = Store(layer)
            assert all(record.plain for record in (await layer.read(KEY)).records)
            session = await store.session("s")
            assert session.messages == messages
            assert [len(turn.messages) for turn in session.turns] == [2] * 16 + [8]
            for turn in range(16):
                assert tuple(await store.load("s", last=1, before=turn + 1)) == talk(5_000, turn)
            assert await store.load("s", last=8) == messages[-8:]


@pytest.mark.parametrize("kind", BACKENDS)
async def test_off_reads_every_codec_and_writes_plain(kind: str, tmp_path: Path) -> None:
    async with BACKENDS[kind](tmp_path) as backend:
        await store_dictionary(ZstdLayer(backend))
        for name, make in LAYERS.items():
            await Store(make(backend)).append("s", list(talk(5_000)), turn_id=name)
        off = OffLayer(backend)
        messages = await Store(off).load("s")
        assert messages == list(talk(5_000)) * 4
        await Store(off).append("s", list(talk(90_000)))
        assert codecs_of(await stored(backend)) == [0, 1, 2, 3, PLAIN]
        await seal(off, 0, 4)
        (run, _) = await stored(backend)
        assert (run.rounds, codec_of(run.payload)) == (4, PLAIN)
        assert list(run.messages) == messages  # readable without a layer


@pytest.mark.parametrize("name", ["gzip", "zstd", "dictionary"])
async def test_a_layer_that_is_added_later_reads_plain_records(name: str) -> None:
    async with MemoryBackend() as backend:
        await Store(backend).append("s", list(talk(5_000)))
        store = Store(LAYERS[name](backend))
        await store.append("s", list(talk(5_000, 1)))
        assert tuple(await store.load("s")) == talk(5_000) + talk(5_000, 1)
        if name == "dictionary":  # no dictionary was stored at the first append
            assert codecs_of(await stored(backend)) == [PLAIN, 2]


@pytest.mark.parametrize("name", LAYERS)
async def test_a_copy_is_encoded_again(name: str) -> None:
    """The layer that copies chooses the codec, whichever layer wrote the source. A copy may end in a sealed record."""
    async with MemoryBackend() as backend:
        layer = LAYERS[name](backend)
        await store_dictionary(layer)
        gzip = GzipLayer(backend, seal=False)
        for turn in range(4):
            await Store(gzip).append("s", list(talk(5_000, turn)))
        await seal(gzip, 0, 3)
        for at, shape in ((None, [3, 1]), (3, [3]), (2, [2])):
            target = Key("default", f"copy {at}")
            await layer.copy(KEY, target, at=at, change_id=f"c{at}")
            records = await stored(backend, target)
            assert [record.turns for record in records] == shape
            assert set(codecs_of(records)) == {WRITTEN[name]}
            whole = [message for turn in range(sum(shape)) for message in talk(5_000, turn)]
            assert await Store(layer).load(target.session) == whole


# -------------------------------------------------------------------------------------------------------- small records


@pytest.mark.parametrize("name", ["gzip", "zstd", "dictionary"])
@pytest.mark.parametrize("messages", [1, 2, 3])
async def test_small_records_stay_plain(name: str, messages: int) -> None:
    """This holds even for records that compress well. A dictionary lowers the limit."""
    floor = 128 if name == "dictionary" else 1024 if messages > 2 else 4096
    async with LAYERS[name](MemoryBackend()) as layer:
        await store_dictionary(layer)
        head = len(Record.of((user("a" * 300),) * messages, id="t", time=0.0).payload) - 300 * messages
        for size in (floor // 2, floor - 1, floor, floor + 1, 2 * floor):
            content = "a" * ((size - head) // messages)
            texts = [content] * (messages - 1) + [content + "a" * ((size - head) % messages)]
            record = Record.of(tuple(map(user, texts)), id=f"t{size}", time=0.0)
            await layer.commit(KEY, Change(append=(record,)))
            written = (await stored(layer.inner))[-1]
            assert abs(len(record.payload) - size) <= 2 * messages  # a short text has a shorter header
            assert codec_of(written.payload) == (PLAIN if len(record.payload) < floor else WRITTEN[name])


def noise(size: int, seed: int = 0) -> Record:
    """Return a record of random bytes that no codec makes smaller. Its body cannot be read."""
    record = Record.of((user("x"),), id=f"t{seed}", time=0.0)
    return record.with_payload(wrap(random.Random(seed).randbytes(size)))


@pytest.mark.parametrize("name", ["gzip", "zstd", "dictionary"])
@pytest.mark.parametrize("size", [300, 4_000, 200_000])
async def test_records_that_would_not_become_smaller_stay_plain(name: str, size: int) -> None:
    async with LAYERS[name](MemoryBackend()) as layer:
        await store_dictionary(layer)
        record = noise(size)
        assert len(compressed(record, name).payload) > len(record.payload)
        await layer.commit(KEY, Change(append=(record, noise(size, 1))))
        assert [one.payload for one in await stored(layer.inner)] == [record.payload, noise(size, 1).payload]
        (run,) = await layer.encode_records(KEY, (msgspec.structs.replace(record, rounds=2, turns=2),))
        assert run.payload == record.payload, "the same for a sealed run"


@pytest.mark.parametrize("name", ["gzip", "zstd"])
async def test_a_turn_that_shrinks_little_stays_plain_but_a_sealed_record_is_compressed(name: str) -> None:
    """Base64 shrinks by about a quarter."""
    async with LAYERS[name](MemoryBackend()) as layer:
        messages = [user(base64.b64encode(random.Random(turn).randbytes(3_000)).decode()) for turn in range(2)]
        for message in messages:
            await Store(layer).append("s", [message])
        plain = await stored(layer.inner)
        assert codecs_of(plain) == [PLAIN, PLAIN]
        await seal(layer, 0, 2)
        (run,) = await stored(layer.inner)
        assert codec_of(run.payload) == WRITTEN[name]
        assert len(run.payload) < 0.8 * sum(len(record.payload) for record in plain)
        assert await Store(layer).load("s") == messages


def test_the_tests_detect_a_layer_that_compresses_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(record: Record, codec: Any) -> Record:
        return compressed(record, "gzip")

    monkeypatch.setattr(_records, "_compress", everything)
    with pytest.raises(AssertionError):
        asyncio.run(test_small_records_stay_plain("gzip", 2))
    with pytest.raises(AssertionError):
        asyncio.run(test_records_that_would_not_become_smaller_stay_plain("gzip", 300))
    with pytest.raises(AssertionError):
        asyncio.run(RoundTrips().check([{"role": "user", "content": "hello"}]))


# -------------------------------------------------------------------------------------------------------- any messages

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
message = st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]) | pieces, values, min_size=1, max_size=3)


class RoundTrips:
    """Writes to each layer, over a backend of its own."""

    def __init__(self) -> None:
        self.layers = {name: make(MemoryBackend()) for name, make in LAYERS.items()}
        self.sessions = 0
        self.used: Counter[int] = Counter()

    async def check(self, messages: list[dict[str, Any]]) -> None:
        """Write messages as two turns and as a sealed record, and compare the messages and the bytes."""
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
            assert await layer.seal(key, whole) is True
            (run,) = (await layer.inner.read(key)).records
            assert len(run.payload) <= len(whole.payload)
            session = await layer.read(key)
            assert json.dumps([message.to_dict() for message in session.messages], sort_keys=True) == wanted
            await layer.delete(key)
            self.used.update(codecs_of((*records, run)))


def test_any_messages_are_read_as_they_were_written_and_never_take_more_bytes_than_plain() -> None:
    with asyncio.Runner() as runner:
        trips = RoundTrips()
        runner.run(store_dictionary(trips.layers["dictionary"]))

        @settings(max_examples=4 * settings().max_examples)
        @given(st.lists(message, min_size=1, max_size=2))
        def check(messages: list[dict[str, Any]]) -> None:
            runner.run(trips.check(messages))

        check()
    assert all(trips.used[codec] > 50 for codec in (0, 1, 2, 3)), trips.used


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_535, 65_536, 262_143, 262_144, 262_145, 3 * MIB])
@pytest.mark.parametrize("name", ["gzip", "zstd", "dictionary"])
async def test_bodies_of_every_size_are_decompressed(name: str, size: int) -> None:
    """The sizes are near the limits at which a codec or its decompressor switches to another method."""
    for body in (
        bytes(size),
        (words(60_000).encode() * (size // 60_000 + 1))[:size],
        random.Random(size).randbytes(size),
    ):
        record = Record.of((user("x"),), id="t", time=0.0).with_payload(wrap(body))
        layer = LAYERS[name](MemoryBackend())
        await store_dictionary(layer)
        (read,) = await layer.decode_records(KEY, (compressed(record, name),))
        assert read.payload == record.payload


# ------------------------------------------------------------------------------------------------------ configuration


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty working directory, and remove the environment variables of turnlog."""
    for name in [name for name in os.environ if name.startswith("TURNLOG_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Anywhere(Layer):
    """A layer without a position."""


class Messages(MessageLayer):
    """A layer that reads messages."""


class Encryption(PayloadLayer):
    """A layer with the position of encryption."""

    position: ClassVar[Position] = "encryption"


@pytest.mark.parametrize("inner", LAYERS)
@pytest.mark.parametrize("outer", LAYERS)
def test_a_stack_takes_one_compression_layer(outer: str, inner: str) -> None:
    betweens: list[Callable[[Backend], Backend]] = [lambda layer: layer, Anywhere, lambda one: Anywhere(Anywhere(one))]
    for between in betweens:
        with pytest.raises(InvalidInput, match="a stack has at most one layer for compression"):
            LAYERS[outer](between(LAYERS[inner](MemoryBackend())))
    assert isinstance(LAYERS[outer](Anywhere(MemoryBackend())), CompressionLayer)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda layer: layer(Messages(MemoryBackend())), r"Messages \(messages\): write Messages\("),
        (lambda layer: layer(CacheLayer(MemoryBackend())), r"CacheLayer \(cache\): write CacheLayer\("),
        (
            lambda layer: layer(Anywhere(CacheLayer(Encryption(MemoryBackend())))),
            r"CacheLayer \(cache\): write CacheLayer\(",
        ),
        (
            lambda layer: Encryption(layer(MemoryBackend())),
            r"Encryption \(encryption\) cannot wrap \w+ \(compression\)",
        ),
    ],
)
def test_a_stack_in_the_wrong_order_is_refused(name: str, wrong: Callable[[Any], Backend], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        wrong(LAYERS[name])


@pytest.mark.parametrize("name", LAYERS)
def test_a_stack_in_the_right_order_is_accepted(name: str) -> None:
    layer = LAYERS[name](Anywhere(Encryption(MemoryBackend())))
    assert layer.position == "compression"
    stack = Messages(Messages(CacheLayer(Anywhere(layer))))
    assert Store(stack).find(CompressionLayer) is layer


def test_a_layer_takes_a_backend_and_no_store() -> None:
    with pytest.raises(InvalidInput, match="needs a Backend, not Store"):
        ZstdLayer(Store(MemoryBackend()))  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", ["zstd,gzip", "gzip,zstd", "off,zstd", "gzip,off"])
def test_two_compression_layers_in_the_configuration_are_an_error(layers: str, alone: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"layers\[0\]: \w+ cannot wrap \w+: a stack has at most one layer for compression"
    ):
        open_store(f"memory://?layers={layers}")


def test_a_wrong_order_in_the_configuration_is_an_error(alone: Path) -> None:
    with pytest.raises(ConfigError, match=r"wrong order: write layers=cache,zstd"):
        open_store("memory://?layers=zstd,cache")
    assert isinstance(open_store("memory://?layers=cache,zstd").backend, CacheLayer)


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    *((GzipLayer, {"level": level}, "whole number from 1 to 9") for level in (0, 10, -1, 3.0, "3", True, None)),
    *((ZstdLayer, {"level": level}, "whole number from 1 to 19") for level in (0, 20, -5, 3.0, "3", True, None)),
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
        ({"name": "zstd", "level": 20}, r"layers\[0\]\.level must be a whole number from 1 to 19, not 20"),
        ({"name": "zstd", "level": "3"}, r"layers\[0\]\.level: "),
        ({"name": "gzip", "level": 0}, r"layers\[0\]\.level must be a whole number from 1 to 9, not 0"),
        ({"name": "gzip", "dictionary": True}, r"layers\[0\]\.dictionary: gzip has no option dictionary"),
        ({"name": "zstd", "dictionary": "yes"}, r"layers\[0\]\.dictionary: "),
        ({"name": "zstd", "seal": 1}, r"layers\[0\]\.seal: "),
        ({"name": "zstd", "levle": 3}, r"levle: zstd has no option levle; .*; did you mean 'level'\?"),
        ({"name": "off", "level": 3}, r"layers\[0\]\.level: off has no option level; it has none"),
        ({"name": "off", "seal": True}, r"layers\[0\]\.seal: off has no option seal"),
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
async def test_one_line_turns_it_on(name: str, line: str, writes: str, alone: Path) -> None:
    alone.joinpath("turnlog.toml").write_text(f'[store]\nurl = "memory://"\n{line}\n', encoding="utf-8")
    async with open_store() as store:
        layer = store.find(CompressionLayer)
        if name == "dictionary":
            await store_dictionary(layer)
        assert str(await layer.codec_for("default")) == writes
        await store.append("s", list(talk(5_000)))
        assert codecs_of(await stored(layer.inner)) == [WRITTEN[name]]
        assert tuple(await store.load("s")) == talk(5_000)


@pytest.mark.parametrize("name", ["gzip", "zstd", "off"])
def test_one_word_turns_it_on(name: str, alone: Path) -> None:
    assert type(open_store(f"memory://?layers={name}").backend) is type(LAYERS[name](MemoryBackend()))


async def test_a_higher_level_needs_no_migration() -> None:
    async with MemoryBackend() as backend:
        for level in (1, 19):
            await Store(ZstdLayer(backend, level=level)).append("s", [user(words(60_000))], turn_id=f"{level}")
        fast, small = await stored(backend)
        assert len(small.payload) < len(fast.payload)
        assert await Store(ZstdLayer(backend, level=3)).load("s") == [user(words(60_000))] * 2


# ---------------------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize("name", LAYERS)
async def test_stats_count_the_bytes_of_compressed_records(name: str) -> None:
    layer = LAYERS[name](MemoryBackend())
    await store_dictionary(layer)
    store = Store(layer)
    assert layer.stats() == {"compressed": 0, "bytes_before": 0, "bytes_after": 0}
    records = tuple(Record.of(talk(5_000, turn), id=f"t{turn}", time=0.0) for turn in range(3))
    small = Record.of((user("hi"),), id="small", time=0.0)  # stays plain
    await layer.commit(KEY, Change(append=(records[0], small)))
    await layer.commit(KEY, Change(append=records[1:]))
    expected = {"compressed": 0, "bytes_before": 0, "bytes_after": 0}
    if name != "off":
        written = [record for record in await stored(layer.inner) if not record.plain]
        expected = {
            "compressed": 3,
            "bytes_before": sum(len(record.payload) for record in records),
            "bytes_after": sum(len(record.payload) for record in written),
        }
        assert 0 < expected["bytes_after"] < 0.6 * expected["bytes_before"]
    assert layer.stats() == expected
    await store.load("s")
    await store.merge_metadata("s", {"title": "T"})
    await store.find(CompressionLayer).read(KEY)
    assert layer.stats() == expected, "reads and metadata count nothing"


async def test_stats_count_sealed_records() -> None:
    watched = Watched(MemoryBackend())
    watched.gate = asyncio.Event()
    layer = ZstdLayer(watched)
    async with Store(layer) as store:
        await fill(store, "s", 64)
        turns = await stored(watched)
        expected = {"compressed": 64, "bytes_after": sum(len(record.payload) for record in turns)}
        assert layer.stats().items() >= expected.items()
        watched.gate.set()
        await settled(layer)
        sealed = (await stored(watched))[0]
        assert sealed.turns == 32
        expected = {"compressed": 65, "bytes_after": expected["bytes_after"] + len(sealed.payload)}
        assert layer.stats().items() >= expected.items()


def test_stats_are_right_when_several_threads_write() -> None:
    layer = ZstdLayer(MemoryBackend(), seal=False)
    record = Record.of(talk(5_000), id="t", time=0.0)

    async def write() -> None:
        for _ in range(200):
            await layer.encode_records(KEY, (record,) * 5)

    threads = [threading.Thread(target=lambda: asyncio.run(write())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (written,) = asyncio.run(layer.encode_records(KEY, (record,)))
    assert layer.stats() == {
        "compressed": 4001,
        "bytes_before": 4001 * len(record.payload),
        "bytes_after": 4001 * len(written.payload),
    }


# --------------------------------------------------------------------------------------------------- the event loop


class Where:
    """Records the threads in which records are compressed and decompressed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here = threading.get_ident()
        self.threads: list[int] = []
        for name in ("_compressed", "_decompressed"):
            monkeypatch.setattr(_records, name, self._watched(getattr(_records, name)))

    def _watched(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.threads.append(threading.get_ident())
            return work(*arguments, **options)

        return watched

    def off_the_loop(self) -> list[bool]:
        """Return for each call since the last time whether it ran in another thread."""
        threads, self.threads = self.threads, []
        return [thread != self.here for thread in threads]


@pytest.mark.parametrize("name", ["gzip", "zstd", "dictionary"])
async def test_large_work_is_done_in_a_thread_and_small_work_in_the_event_loop(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = LAYERS[name](MemoryBackend())
    async with Store(layer) as store:
        await store_dictionary(layer)
        await store.append("small", list(talk(20_000)))
        await store.append("large", list(talk(400_000)), turn_id="0")
        await store.load("small")
        slow = (await layer.codec_for("default")).slow
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
    async with Store(ZstdLayer(MemoryBackend(), seal=False)) as store:
        for turn in range(40):
            await store.append("s", [user(words(16_000, turn))])
        where = Where(monkeypatch)
        assert len(await store.load("s")) == 40
        assert where.off_the_loop() == [True]
        assert len(await store.load("s", last=10)) == 10
        assert where.off_the_loop() == [False]
        records = tuple(Record.of(talk(16_000, turn), id=f"t{turn}", time=0.0) for turn in range(40))
        await store.backend.commit(KEY, Change(append=records))
        assert where.off_the_loop() == [True]


async def test_the_event_loop_runs_meanwhile() -> None:
    async with Store(GzipLayer(MemoryBackend(), level=9, seal=False)) as store:
        large = asyncio.ensure_future(store.append("s", [user(words(64_000) * 64)]))
        turns = 0
        while not large.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 10


async def test_plain_records_are_not_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Store(OffLayer(MemoryBackend())) as store:
        await store.append("s", list(talk(2 * MIB)))
        where = Where(monkeypatch)
        assert len(await store.load("s")) == 2
        await store.append("s", list(talk(2 * MIB)))
        assert where.off_the_loop() == [False]  # one call for the write, and none for the read


class Counted:
    """Counts the contexts that are created, by kind and thread."""

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
    layer = LAYERS[name](MemoryBackend())
    async with Store(layer) as store:
        await store_dictionary(layer)
        counted = Counted(monkeypatch)
        for turn in range(50):
            await store.append("s", list(talk(5_000, turn)))
            await store.load("s", last=1)
        here = threading.get_ident()
        checked = 1 if name == "dictionary" else 0  # a dictionary is tested when it is fetched
        assert counted.made["ZstdCompressor", here] == 1 + checked
        assert counted.made["ZstdDecompressor", here] <= 1  # this thread may have one already
        large = list(talk(600_000))
        for turn in range(20):
            await store.append("large", large, turn_id=f"{turn}")
            await store.load("large", last=1)
        assert len({thread for _, thread in counted.made}) > 1
        made = {kind for kind, thread in counted.made if thread != here}
        assert made == {"ZstdCompressor", "ZstdDecompressor"}
        for (kind, thread), times in counted.made.items():  # a thread has a context with the dictionary and one without
            assert times <= 1 + checked, (kind, thread)


async def test_the_count_detects_new_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    for _ in range(2):
        await Store(ZstdLayer(MemoryBackend())).append("s", list(talk(5_000)))  # a new layer creates its own
    assert counted.made["ZstdCompressor", threading.get_ident()] == 2


def test_many_threads_and_many_loops_at_once() -> None:
    """Each thread has a layer, a backend and contexts of its own."""
    failed: list[BaseException] = []

    async def work(seed: int) -> None:
        layer = LAYERS["dictionary" if seed % 2 else "zstd"](MemoryBackend())
        async with Store(layer) as store:
            await store_dictionary(layer)
            for turn in range(40):
                await store.append("s", list(talk(5_000, seed + turn)))
            wanted = [message for turn in range(40) for message in talk(5_000, seed + turn)]
            assert await store.load("s") == wanted

    def run(seed: int) -> None:
        try:
            asyncio.run(work(seed))
        except BaseException as error:  # noqa: BLE001 - also catches failed assertions
            failed.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []

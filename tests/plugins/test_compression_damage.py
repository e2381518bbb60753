"""Whatever is stored in a compressed record's place: an error that names it, in bounds, or still what was said."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from compressed import GIB, LAYERS, MIB, compressed, dictionary, envelope, talk
from turnlog import Change, CorruptRecord, Key, Message, Record, Store, user
from turnlog.errors import FormatTooNew, PluginError
from turnlog.payload import HEAD
from turnlog_compression import _decompress
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend

# --------------------------------------------------------------------------------------------------------------- bombs

SECONDS, BYTES = 0.1, 32_000_000


@cache
def gzip_of_zeros(size: int) -> bytes:
    """A sound gzip: one mebibyte is compressed, and repeated."""
    zeros = bytes(MIB)
    piece = zlib.compressobj(9, zlib.DEFLATED, -15)
    blocks = (piece.compress(zeros) + piece.flush(zlib.Z_FULL_FLUSH)) * (size // MIB)
    digest = 0
    for _ in range(size // MIB):
        digest = zlib.crc32(zeros, digest)
    trailer = digest.to_bytes(4, "little") + size.to_bytes(4, "little")
    return b"\x1f\x8b\x08" + bytes(7) + blocks + b"\x03\x00" + trailer


@cache
def zstd_of_zeros(size: int, *, says: bool = True) -> bytes:
    """A sound frame that says how much it holds, or does not."""
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True, write_content_size=says)
    frame = compressor.compressobj(size=size) if says else compressor.compressobj()
    zeros = bytes(MIB)
    return b"".join([frame.compress(zeros) for _ in range(size // MIB)]) + frame.flush()


def gzip_saying(body: bytes, size: int) -> bytes:
    """A gzip whose trailer says something else (RFC 1952, section 2.3)."""
    return body[:-4] + size.to_bytes(4, "little")


def zstd_saying(body: bytes, size: int) -> bytes:
    """A frame whose header says something else: a Frame_Content_Size of 4 bytes, behind 6 (RFC 8878, section 3.1.1)."""
    assert body[4] >> 6 == 2 and not body[4] & 0x23
    return body[:6] + size.to_bytes(4, "little") + body[10:]


def zstd_with_window(body: bytes, exponent: int) -> bytes:
    """A frame that asks for another window, of 2**(10 + exponent) bytes."""
    assert not body[4] & 0x20
    return body[:5] + bytes([exponent << 3]) + body[6:]


@cache
def sound(size: int = 70_000) -> bytes:
    """An encoded body."""
    return Record.of(talk(size), id="t", time=0.0).payload[HEAD:]


@cache
def sound_zstd() -> bytes:
    """A frame with a window, and a Frame_Content_Size of 4 bytes."""
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(sound(2 * MIB))


def nested(*, deep: int) -> bytes:
    """A gzip of a gzip of ... of 1 GiB."""
    body = gzip_of_zeros(GIB)
    for _ in range(deep):
        body = gzip.compress(body, mtime=0)
    return body


def around(codec: int, body: bytes) -> bytes:
    """A payload that is right in all that can be said of it but that its body is something else."""
    squeezed = gzip.compress(body, mtime=0) if codec == 1 else zstd_framed(body)
    return envelope(codec, len(body), squeezed, plain=body)


def zstd_framed(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(body)


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip of 1 GiB": lambda: envelope(1, GIB, gzip_of_zeros(GIB)),
    "gzip of 1 GiB, 16 MiB on the envelope": lambda: envelope(1, 16 * MIB, gzip_of_zeros(GIB)),
    "gzip of 1 GiB, 16 MiB on both": lambda: envelope(1, 16 * MIB, gzip_saying(gzip_of_zeros(GIB), 16 * MIB)),
    "gzip of 1 GiB, 1,000 bytes on both": lambda: envelope(1, 1000, gzip_saying(gzip_of_zeros(GIB), 1000)),
    "gzip of 1 GiB behind a sound one": lambda: envelope(
        1, len(sound()), gzip_saying(gzip.compress(sound()) + gzip_of_zeros(GIB), len(sound())), plain=sound()
    ),
    "zstd of 1 GiB": lambda: envelope(2, GIB, zstd_of_zeros(GIB)),
    "zstd of 1 GiB, 16 MiB on the envelope": lambda: envelope(2, 16 * MIB, zstd_of_zeros(GIB)),
    "zstd of 1 GiB, 16 MiB on both": lambda: envelope(2, 16 * MIB, zstd_saying(zstd_of_zeros(GIB), 16 * MIB)),
    "zstd of 1 GiB, 1,000 bytes on both": lambda: envelope(2, 1000, zstd_saying(zstd_of_zeros(GIB), 1000)),
    "zstd of 1 GiB, which it does not say": lambda: envelope(2, 16 * MIB, zstd_of_zeros(GIB, says=False)),
    "zstd of 1 GiB behind a sound one": lambda: envelope(
        2, len(sound()), zstd_framed(sound()) + zstd_of_zeros(GIB), plain=sound()
    ),
    "a frame that lies": lambda: envelope(2, len(sound(2 * MIB)), zstd_saying(sound_zstd(), GIB), sound(2 * MIB)),
    "a frame and an envelope that lie": lambda: envelope(2, GIB, zstd_saying(sound_zstd(), GIB), sound(2 * MIB)),
    "a frame and an envelope that lie within the limit": lambda: envelope(
        2, 16 * MIB, zstd_saying(sound_zstd(), 16 * MIB), sound(2 * MIB)
    ),
    "a window of 1 GiB": lambda: envelope(
        2, len(sound(2 * MIB)), zstd_with_window(sound_zstd(), 20), plain=sound(2 * MIB)
    ),
    "a payload in a payload": lambda: around(2, envelope(2, GIB, zstd_of_zeros(GIB))),
    "a payload in a payload, 16 MiB on the inner one": lambda: around(1, envelope(1, 16 * MIB, gzip_of_zeros(GIB))),
    "a frame in a frame": lambda: around(2, zstd_of_zeros(GIB)),
    "gzip in gzip, ten times": lambda: envelope(
        1, len(nested(deep=9)), nested(deep=10), plain=nested(deep=9)
    ),
}  # fmt: skip


def opened_by_another_process(payload: bytes, folder: Path, layer: str, *how: str) -> dict[str, Any]:
    """What a caller hears who asks for it, and what it costs."""
    if not Path("/proc/self/status").exists():
        pytest.skip("what a process needs is measured where there is /proc: not measured here")
    folder.joinpath("bomb").write_bytes(payload)
    command = [sys.executable, str(Path(__file__).with_name("open_bomb.py")), str(folder / "bomb"), layer, *how]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return found


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_an_error_and_costs_nothing(name: str, tmp_path: Path) -> None:
    payload = BOMBS[name]()
    assert len(payload) < 2_000_000
    found = opened_by_another_process(payload, tmp_path, "off" if payload[3] == 1 else "zstd")
    assert found["place"] == ["bomb", 1], found
    assert found["beside"] == [2, 2], "the turns beside it are hidden"
    assert found["seconds"] <= SECONDS, found
    assert found["bytes"] <= BYTES, found


def test_the_bombs_are_what_they_are_said_to_be() -> None:
    assert 1_000_000 < len(gzip_of_zeros(GIB)) < 1_100_000
    assert 30_000 < len(zstd_of_zeros(GIB)) < 40_000
    for body in (zstd_of_zeros(GIB), zstd_saying(sound_zstd(), GIB)):
        assert zstandard.frame_content_size(body) == GIB
    assert zstandard.frame_content_size(zstd_of_zeros(GIB, says=False)) == -1
    assert zstandard.get_frame_parameters(zstd_with_window(sound_zstd(), 20)).window_size == GIB
    size = 4 * MIB  # those of 1 GiB are made in the same way
    assert zlib.decompress(gzip_of_zeros(size), 31) == zstandard.decompress(zstd_of_zeros(size)) == bytes(size)


@pytest.mark.parametrize(("codec", "zeros"), [(1, gzip_of_zeros), (2, zstd_of_zeros)])
def test_who_opens_it_as_it_comes_is_found_out(codec: int, zeros: Callable[[int], bytes], tmp_path: Path) -> None:
    """64 MiB, on the word of an envelope that says 1,000 bytes."""
    payload = envelope(codec, 1000, zeros(64 * MIB))
    assert opened_by_another_process(payload, tmp_path, "zstd")["bytes"] <= BYTES
    assert opened_by_another_process(payload, tmp_path, "zstd", "naive")["bytes"] > BYTES


# ------------------------------------------------------------------------------------------------------ bits and cuts

CODECS = ["plain", "gzip", "zstd", "dictionary"]
Reader = Callable[[Record], object]


def hundred(codec: str) -> Iterator[Record]:
    """100 records, from 80 bytes to 4 KB: half of them are below 120, six are above 2 KB."""
    for place in range(100):
        record = Record.of(talk(int(40 * 100 ** (place / 99) ** 3), place), id="t", time=0.0)
        yield record if codec == "plain" else compressed(record, codec)


def read(record: Record) -> object:
    """Its messages, as a layer opens it."""
    if not record.plain:
        record = _decompress.opened(record, {dictionary().id: dictionary()}, fetched=True)
    return record.messages


def damaged(payload: bytes) -> Iterator[bytes]:
    """With each bit flipped, and cut at each place."""
    data = bytearray(payload)
    for place in range(len(payload)):
        for bit in range(8):
            data[place] ^= 1 << bit
            yield bytes(data)
            data[place] ^= 1 << bit
        yield payload[:place]


def outcomes(records: Iterator[Record], reader: Reader) -> dict[str, int]:
    """How often it is an error, still what was said, and something else: every other exception is a failure."""
    found = {"error": 0, "right": 0, "wrong": 0}
    for record in records:
        said = read(record)
        for payload in damaged(record.payload):
            try:
                outcome = "right" if reader(record.with_payload(payload)) == said else "wrong"
            except CorruptRecord as error:
                assert isinstance(error, FormatTooNew) == (payload[2:3] > b"\1" and payload[:2] == b"\xc1T")
                outcome = "error"
            found[outcome] += 1
    return found


@pytest.mark.parametrize("codec", CODECS)
def test_no_flipped_bit_and_no_cut_is_silently_wrong(codec: str) -> None:
    found = outcomes(hundred(codec), read)
    assert found["wrong"] == 0
    assert found["right"] < found["error"] / 10  # such as a flipped bit of gzip's time
    assert found["error"] > 100_000


def test_the_hundred_are_of_all_sizes_up_to_4_kb() -> None:
    sizes = [len(record.payload) for record in hundred("plain")]
    assert len(sizes) == 100
    assert min(sizes) < 100 and 4_000 <= max(sizes) < 4_200
    for codec in CODECS[1:]:
        assert {record.plain for record in hundred(codec)} == {False}


def naive(record: Record) -> object:
    """Without a digest: who takes what comes out, and what MessagePack makes of it."""
    codec, body = record.payload[3], record.payload[HEAD:]
    try:
        if codec == 1:
            body = zlib.decompressobj(-15).decompress(body[10:])
        return msgspec.msgpack.decode(body, type=tuple[Message, ...])
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptRecord(str(error)) from error


@pytest.mark.parametrize("codec", ["plain", "gzip"])
def test_who_looks_at_no_digest_is_found_out(codec: str) -> None:
    record = next(hundred(codec))
    assert naive(record) == read(record)
    said = read(record)
    wrong = 0
    for payload in damaged(record.payload):
        try:
            wrong += naive(record.with_payload(payload)) != said
        except (CorruptRecord, IndexError):
            continue
    assert wrong > 0


# ------------------------------------------------------------------------------------------------------- who is told

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda folder: MemoryBackend(),
    "sqlite": lambda folder: SQLiteBackend(f"sqlite:///{folder}/turnlog.db"),
}
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a bit in the envelope": lambda payload: payload[:8] + bytes([payload[8] ^ 1]) + payload[9:],
    "a bit in the body": lambda payload: payload[:60] + bytes([payload[60] ^ 4]) + payload[61:],
    "cut": lambda payload: payload[:-5],
    "cut in the envelope": lambda payload: payload[:7],
    "nothing": lambda payload: b"",
    "a length of nothing": lambda payload: payload[:4] + bytes(4) + payload[8:],
    "more": lambda payload: payload + b"\0",
    "a private codec": lambda payload: payload[:3] + b"\xff" + payload[4:],
}


async def _with_damage(store: Store, payload: Callable[[bytes], bytes], codec: str, turns: int = 5) -> None:
    """A session whose turn 2 is damaged."""
    for number in range(turns):
        record = compressed(Record.of(talk(600, number), id=f"t{number}", time=0.0), codec)
        if number == 2:
            record = record.with_payload(payload(record.payload))
        await store.commit(Key("default", "alice"), Change(append=(record,)))


@pytest.mark.parametrize("stored", STORES)
@pytest.mark.parametrize("codec", CODECS[1:])
@pytest.mark.parametrize("damage", DAMAGE)
async def test_the_error_names_session_and_turn_and_the_turns_beside_it_stay_readable(
    damage: str, codec: str, stored: str, tmp_path: Path
) -> None:
    async with LAYERS["dictionary"](STORES[stored](tmp_path)) as store:
        await store.dictionaries.add("default", dictionary(), [])
        await _with_damage(store.inner, DAMAGE[damage], codec)
        for last in (None, 10, 5):
            with pytest.raises(CorruptRecord, match="session 'alice' in 'default', turn 2: ") as caught:
                await store.load("alice", last=last)
            assert (caught.value.key, caught.value.turn) == (Key("default", "alice"), 2)
        for turn in (0, 1, 3, 4):
            assert tuple(await store.load("alice", last=1, before=turn + 1)) == talk(600, turn)
        records = (await store.read(Key("default", "alice"))).records
        assert [record.messages for record in (*records[:2], *records[3:])] == [talk(600, n) for n in (0, 1, 3, 4)]
        await store.append("alice", [user("and on")])
        assert [message.text for message in await store.load("alice", last=1)] == ["and on"]
        await store.rewind("alice", turns=4)
        assert tuple(await store.load("alice")) == talk(600, 0) + talk(600, 1)


@pytest.mark.parametrize(("codec", "layer"), [("gzip", "gzip"), ("zstd", "zstd"), ("dictionary", "zstd")])
async def test_without_a_layer_the_error_names_the_one_to_add(codec: str, layer: str) -> None:
    async with MemoryBackend() as store:
        await _with_damage(store, bytes, codec)
        with pytest.raises(CorruptRecord, match=f"turn 0: .* compressed with {layer}: add the layer '{layer}'"):
            await store.load("alice")


@pytest.mark.parametrize("layer", LAYERS)
async def test_a_dictionary_that_is_not_there_is_named(layer: str) -> None:
    async with LAYERS[layer](MemoryBackend()) as store:
        await _with_damage(store.inner, bytes, "dictionary")
        with pytest.raises(CorruptRecord, match=r"'alice' in 'default', turn 0: .* dictionary 40000, which is not"):
            await store.load("alice")
        await store.append("alice", [user("and on")])
        assert [message.text for message in await store.load("alice", last=1)] == ["and on"]
        await store.dictionaries.add("default", dictionary(), [])  # as if it came late
        assert len(await store.load("alice")) == 11


@pytest.mark.parametrize("codec", ["zstd", "dictionary"])
@pytest.mark.parametrize("layer", ["off", "gzip"])
async def test_without_zstandard_a_zstd_record_says_what_to_install(
    layer: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LAYERS[layer](MemoryBackend()) as store:
        await _with_damage(store.inner, bytes, "gzip", turns=2)
        await store.inner.commit(
            Key("default", "bob"), Change(append=(compressed(Record.of(talk(600), id="t", time=0.0), codec),))
        )
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "zstandard", None)
            patch.delitem(sys.modules, "turnlog_compression._zstd")
            _decompress._zstd.cache_clear()
            with pytest.raises(PluginError, match=r"zstd: pip install 'turnlog\[zstd\]' to read it"):
                await store.load("bob")
            assert len(await store.load("alice")) == 4  # gzip needs nothing
            await store.append("bob", list(talk(600, 1)))
            assert tuple(await store.load("bob", last=1)) == talk(600, 1)
        _decompress._zstd.cache_clear()
        if codec == "zstd":
            assert tuple(await store.load("bob")) == talk(600) + talk(600, 1)

"""Damaged compressed records: reading raises an error that names the record, in bounded memory and time."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

import servers
from compressed import GIB, LAYERS, MIB, compressed, dictionary, envelope, talk
from turnlog import Backend, Change, CorruptRecord, Key, Message, Record, Store, user
from turnlog.errors import FormatTooNew, PluginError
from turnlog.payload import HEAD
from turnlog_compression import _decompress
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend

# --------------------------------------------------------------------------------------------------------------- bombs

SECONDS, BYTES = 0.1, 32_000_000


@cache
def gzip_of_zeros(size: int) -> bytes:
    """Return a valid gzip of zeros: one mebibyte is compressed, and its deflate blocks are repeated."""
    zeros = bytes(MIB)
    piece = zlib.compressobj(9, zlib.DEFLATED, -15)
    blocks = (piece.compress(zeros) + piece.flush(zlib.Z_FULL_FLUSH)) * (size // MIB)
    digest = 0
    for _ in range(size // MIB):
        digest = zlib.crc32(zeros, digest)
    trailer = digest.to_bytes(4, "little") + size.to_bytes(4, "little")
    return b"\x1f\x8b\x08" + bytes(7) + blocks + b"\x03\x00" + trailer


@cache
def zstd_of_zeros(size: int, *, states_size: bool = True) -> bytes:
    """Return a valid frame of zeros that states its size or not."""
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True, write_content_size=states_size)
    frame = compressor.compressobj(size=size) if states_size else compressor.compressobj()
    zeros = bytes(MIB)
    return b"".join([frame.compress(zeros) for _ in range(size // MIB)]) + frame.flush()


def gzip_stating(body: bytes, size: int) -> bytes:
    """Return a gzip whose trailer states a different size (RFC 1952, section 2.3)."""
    return body[:-4] + size.to_bytes(4, "little")


def zstd_stating(body: bytes, size: int) -> bytes:
    """Return a frame whose header states a different size: 4 bytes at offset 6 (RFC 8878, section 3.1.1)."""
    assert body[4] >> 6 == 2 and not body[4] & 0x23
    return body[:6] + size.to_bytes(4, "little") + body[10:]


def zstd_with_window(body: bytes, exponent: int) -> bytes:
    """Return a frame that needs a different window, of 2**(10 + exponent) bytes."""
    assert not body[4] & 0x20
    return body[:5] + bytes([exponent << 3]) + body[6:]


@cache
def sound(size: int = 70_000) -> bytes:
    """Return an encoded body that is not damaged."""
    return Record.of(talk(size), id="t", time=0.0).payload[HEAD:]


@cache
def sound_zstd() -> bytes:
    """Return a frame with a window, and with a size of 4 bytes."""
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(sound(2 * MIB))


def nested(*, deep: int) -> bytes:
    """Return 1 GiB of zeros, compressed repeatedly with gzip."""
    body = gzip_of_zeros(GIB)
    for _ in range(deep):
        body = gzip.compress(body, mtime=0)
    return body


def around(codec: int, body: bytes) -> bytes:
    """Return a valid payload whose body is not the body of a record."""
    squeezed = gzip.compress(body, mtime=0) if codec == 1 else zstd_framed(body)
    return envelope(codec, len(body), squeezed, plain=body)


def zstd_framed(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(body)


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip of 1 GiB": lambda: envelope(1, GIB, gzip_of_zeros(GIB)),
    "gzip of 1 GiB, 16 MiB on the envelope": lambda: envelope(1, 16 * MIB, gzip_of_zeros(GIB)),
    "gzip of 1 GiB, 16 MiB on both": lambda: envelope(1, 16 * MIB, gzip_stating(gzip_of_zeros(GIB), 16 * MIB)),
    "gzip of 1 GiB, 1,000 bytes on both": lambda: envelope(1, 1000, gzip_stating(gzip_of_zeros(GIB), 1000)),
    "gzip of 1 GiB after a valid one": lambda: envelope(
        1, len(sound()), gzip_stating(gzip.compress(sound()) + gzip_of_zeros(GIB), len(sound())), plain=sound()
    ),
    "zstd of 1 GiB": lambda: envelope(2, GIB, zstd_of_zeros(GIB)),
    "zstd of 1 GiB, 16 MiB on the envelope": lambda: envelope(2, 16 * MIB, zstd_of_zeros(GIB)),
    "zstd of 1 GiB, 16 MiB on both": lambda: envelope(2, 16 * MIB, zstd_stating(zstd_of_zeros(GIB), 16 * MIB)),
    "zstd of 1 GiB, 1,000 bytes on both": lambda: envelope(2, 1000, zstd_stating(zstd_of_zeros(GIB), 1000)),
    "zstd of 1 GiB that does not state its size": lambda: envelope(2, 16 * MIB, zstd_of_zeros(GIB, states_size=False)),
    "zstd of 1 GiB after a valid one": lambda: envelope(
        2, len(sound()), zstd_framed(sound()) + zstd_of_zeros(GIB), plain=sound()
    ),
    "a frame with a wrong size": lambda: envelope(
        2, len(sound(2 * MIB)), zstd_stating(sound_zstd(), GIB), sound(2 * MIB)
    ),
    "a frame and an envelope with a wrong size": lambda: envelope(
        2, GIB, zstd_stating(sound_zstd(), GIB), sound(2 * MIB)
    ),
    "a frame and an envelope with a wrong size within the limit": lambda: envelope(
        2, 16 * MIB, zstd_stating(sound_zstd(), 16 * MIB), sound(2 * MIB)
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


def read_by_another_process(payload: bytes, folder: Path, layer: str, *how: str) -> dict[str, Any]:
    """Return the error, the CPU time and the memory of a read of the payload in another process."""
    if not Path("/proc/self/status").exists():
        servers.leave_out("memory of a process", "this system has no /proc")
    folder.joinpath("bomb").write_bytes(payload)
    command = [sys.executable, str(Path(__file__).with_name("open_bomb.py")), str(folder / "bomb"), layer, *how]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return found


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_an_error_and_takes_little_time_and_memory(name: str, tmp_path: Path) -> None:
    payload = BOMBS[name]()
    assert len(payload) < 2_000_000
    found = read_by_another_process(payload, tmp_path, "off" if payload[3] == 1 else "zstd")
    assert found["place"] == ["bomb", 1], found
    assert found["neighbours"] == [2, 2], "the error hides the turns before and after it"
    assert found["seconds"] <= SECONDS, found
    assert found["bytes"] <= BYTES, found


def test_the_bombs_are_what_their_names_say() -> None:
    assert 1_000_000 < len(gzip_of_zeros(GIB)) < 1_100_000
    assert 30_000 < len(zstd_of_zeros(GIB)) < 40_000
    for body in (zstd_of_zeros(GIB), zstd_stating(sound_zstd(), GIB)):
        assert zstandard.frame_content_size(body) == GIB
    assert zstandard.frame_content_size(zstd_of_zeros(GIB, states_size=False)) == -1
    assert zstandard.get_frame_parameters(zstd_with_window(sound_zstd(), 20)).window_size == GIB
    size = 4 * MIB  # the bodies of 1 GiB are built in the same way
    assert zlib.decompress(gzip_of_zeros(size), 31) == zstandard.decompress(zstd_of_zeros(size)) == bytes(size)


@pytest.mark.parametrize(("codec", "zeros"), [(1, gzip_of_zeros), (2, zstd_of_zeros)])
def test_the_bombs_detect_unbounded_decompression(codec: int, zeros: Callable[[int], bytes], tmp_path: Path) -> None:
    """The payload expands to 64 MiB, and its envelope states 1,000 bytes."""
    payload = envelope(codec, 1000, zeros(64 * MIB))
    assert read_by_another_process(payload, tmp_path, "zstd")["bytes"] <= BYTES
    assert read_by_another_process(payload, tmp_path, "zstd", "naive")["bytes"] > BYTES


# ------------------------------------------------------------------------------------------------------ bits and cuts

CODECS = ["plain", "gzip", "zstd", "dictionary"]
Reader = Callable[[Record], object]


def hundred(codec: str) -> Iterator[Record]:
    """Yield 100 records from 80 bytes to 4 KB. Half of them are below 120 bytes, and six are above 2 KB."""
    for place in range(100):
        record = Record.of(talk(int(40 * 100 ** (place / 99) ** 3), place), id="t", time=0.0)
        yield record if codec == "plain" else compressed(record, codec)


def read(record: Record) -> object:
    """Return the messages of a record, decompressed as in a layer."""
    if not record.plain:
        record = _decompress.decompressed(record, {dictionary().id: dictionary()}, fetched=True)
    return record.messages


def damaged(payload: bytes) -> Iterator[bytes]:
    """Yield the payload with each bit flipped, and truncated at each byte."""
    data = bytearray(payload)
    for place in range(len(payload)):
        for bit in range(8):
            data[place] ^= 1 << bit
            yield bytes(data)
            data[place] ^= 1 << bit
        yield payload[:place]


def outcomes(records: Iterator[Record], reader: Reader) -> dict[str, int]:
    """Count the reads that raise `CorruptRecord`, return the right messages, and return wrong messages."""
    found = {"error": 0, "right": 0, "wrong": 0}
    for record in records:
        messages = read(record)
        for payload in damaged(record.payload):
            try:
                outcome = "right" if reader(record.with_payload(payload)) == messages else "wrong"
            except CorruptRecord as error:
                assert isinstance(error, FormatTooNew) == (payload[2:3] > b"\1" and payload[:2] == b"\xc1T")
                outcome = "error"
            found[outcome] += 1
    return found


@pytest.mark.parametrize("codec", CODECS)
def test_no_flipped_bit_and_no_cut_returns_wrong_messages(codec: str) -> None:
    found = outcomes(islice(hundred(codec), 0, None, 6), read)
    assert found["wrong"] == 0
    assert found["right"] < found["error"] / 10  # for example, a flipped bit in the time field of gzip
    assert found["error"] > 20_000


def test_the_hundred_records_have_all_sizes_up_to_4_kb() -> None:
    sizes = [len(record.payload) for record in hundred("plain")]
    assert len(sizes) == 100
    assert min(sizes) < 100 and 4_000 <= max(sizes) < 4_200
    for codec in CODECS[1:]:
        assert {record.plain for record in hundred(codec)} == {False}


def naive(record: Record) -> object:
    """Return the messages of a record without comparing its checksum."""
    codec, body = record.payload[3], record.payload[HEAD:]
    try:
        if codec == 1:
            body = zlib.decompressobj(-15).decompress(body[10:])
        return msgspec.msgpack.decode(body, type=tuple[Message, ...])
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptRecord(str(error)) from error


@pytest.mark.parametrize("codec", ["plain", "gzip"])
def test_reading_without_the_checksum_is_detected(codec: str) -> None:
    record = next(hundred(codec))
    assert naive(record) == read(record)
    messages = read(record)
    wrong = 0
    for payload in damaged(record.payload):
        try:
            wrong += naive(record.with_payload(payload)) != messages
        except (CorruptRecord, IndexError):
            continue
    assert wrong > 0


# ---------------------------------------------------------------------------------------------------- errors of readers

BACKENDS: dict[str, Callable[[Path], Backend]] = {
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


async def with_damage(backend: Backend, payload: Callable[[bytes], bytes], codec: str, turns: int = 5) -> None:
    """Write a session whose turn 2 is damaged."""
    for number in range(turns):
        record = compressed(Record.of(talk(600, number), id=f"t{number}", time=0.0), codec)
        if number == 2:
            record = record.with_payload(payload(record.payload))
        await backend.commit(Key("default", "alice"), Change(append=(record,)))


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("codec", CODECS[1:])
@pytest.mark.parametrize("damage", DAMAGE)
async def test_the_error_names_session_and_turn_and_the_other_turns_stay_readable(
    damage: str, codec: str, kind: str, tmp_path: Path
) -> None:
    layer = LAYERS["dictionary"](BACKENDS[kind](tmp_path))
    async with Store(layer) as store:
        await layer.dictionaries.add("default", dictionary(), [])
        await with_damage(layer.inner, DAMAGE[damage], codec)
        for last in (None, 10, 5):
            with pytest.raises(CorruptRecord, match="session 'alice' in namespace 'default', turn 2: ") as caught:
                await store.load("alice", last=last)
            assert (caught.value.key, caught.value.turn) == (Key("default", "alice"), 2)
        for turn in (0, 1, 3, 4):
            assert tuple(await store.load("alice", last=1, before=turn + 1)) == talk(600, turn)
        records = (await layer.read(Key("default", "alice"))).records
        assert [record.messages for record in (*records[:2], *records[3:])] == [talk(600, n) for n in (0, 1, 3, 4)]
        await store.append("alice", [user("and on")])
        assert [message.text for message in await store.load("alice", last=1)] == ["and on"]
        await store.rewind("alice", turns=4)
        assert tuple(await store.load("alice")) == talk(600, 0) + talk(600, 1)


@pytest.mark.parametrize(("codec", "layer"), [("gzip", "gzip"), ("zstd", "zstd"), ("dictionary", "zstd")])
async def test_without_a_layer_the_error_names_the_one_to_add(codec: str, layer: str) -> None:
    async with Store(MemoryBackend()) as store:
        await with_damage(store.backend, bytes, codec)
        with pytest.raises(CorruptRecord, match=f"turn 0: .* compressed with {layer}: .*layers={layer}$"):
            await store.load("alice")


@pytest.mark.parametrize("name", LAYERS)
async def test_the_error_names_a_missing_dictionary(name: str) -> None:
    layer = LAYERS[name](MemoryBackend())
    async with Store(layer) as store:
        await with_damage(layer.inner, bytes, "dictionary")
        with pytest.raises(
            CorruptRecord, match=r"'alice' in namespace 'default', turn 0: .* dictionary 40000, which is not"
        ):
            await store.load("alice")
        await store.append("alice", [user("and on")])
        assert [message.text for message in await store.load("alice", last=1)] == ["and on"]
        await layer.dictionaries.add("default", dictionary(), [])  # as after a restore from a backup
        assert len(await store.load("alice")) == 11


GOOD = dictionary().data
FORGED_DICTIONARIES: dict[str, tuple[str, object]] = {
    "no id": ("x", b64encode(GOOD).decode()),
    "an empty id": ("", b64encode(GOOD).decode()),
    "a long id": ("9" * 5_000, b64encode(GOOD).decode()),
    "another id": ("41000", b64encode(GOOD).decode()),
    "not ASCII": ("40000", "é"),
    "not text": ("40000", [1]),
    "empty": ("40000", ""),
    "cut": ("40000", b64encode(GOOD[:100]).decode()),
    "damaged": ("40000", b64encode(GOOD[:8] + b"\xff" * 200).decode()),
}


@pytest.mark.parametrize("which", FORGED_DICTIONARIES)
async def test_a_forged_dictionary_is_corrupt_for_records_that_need_it(which: str) -> None:
    """Readers get no error of a driver, and writers do not use the dictionary. Other turns stay usable."""
    id, content = FORGED_DICTIONARIES[which]
    async with Store(MemoryBackend()) as plain:
        await with_damage(plain.backend, bytes, "dictionary", turns=1)
        await plain.append("bob", [user("plain")])
        message = Message.from_dict({"role": "dictionary", "content": content, "owners": [1]})
        record = Record(id, 0, False, 0.0, 1).with_payload(Record.of((message,), id="t", time=0.0).payload)
        await plain.backend.commit(Key("turnlog:dictionaries", "default"), Change(append=(record,)))
        store = Store(LAYERS["dictionary"](plain.backend))
        with pytest.raises(CorruptRecord):
            await store.load("alice")
        await store.append("carol", talk(9_000))
        assert await store.load("carol") == list(talk(9_000))
        assert [message.text for message in await store.load("bob")] == ["plain"]


@pytest.mark.parametrize("codec", ["zstd", "dictionary"])
@pytest.mark.parametrize("name", ["off", "gzip"])
async def test_without_zstandard_the_error_for_a_zstd_record_names_the_extra(
    name: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = LAYERS[name](MemoryBackend())
    async with Store(layer) as store:
        await with_damage(layer.inner, bytes, "gzip", turns=2)
        await layer.inner.commit(
            Key("default", "bob"), Change(append=(compressed(Record.of(talk(600), id="t", time=0.0), codec),))
        )
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "zstandard", None)
            patch.delitem(sys.modules, "turnlog_compression._zstd")
            _decompress._zstd.cache_clear()
            with pytest.raises(PluginError, match=r"zstd: pip install 'turnlog\[zstd\]' to read it"):
                await store.load("bob")
            assert len(await store.load("alice")) == 4  # gzip records need no zstandard
            await store.append("bob", list(talk(600, 1)))
            assert tuple(await store.load("bob", last=1)) == talk(600, 1)
        _decompress._zstd.cache_clear()
        if codec == "zstd":
            assert tuple(await store.load("bob")) == talk(600) + talk(600, 1)

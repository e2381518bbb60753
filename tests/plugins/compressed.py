"""What the tests of compression say, and what they compress it with."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cache
from zlib import crc32

import zstandard

from turnlog import Message, Record, Store, assistant, user
from turnlog.payload import HEAD, rewrap
from turnlog_compression import CompressionLayer, GzipLayer, OffLayer
from turnlog_compression._codec import Codec
from turnlog_compression._gzip import _Gzip
from turnlog_compression._zstd import Dictionary, Zstd
from turnlog_compression.zstd import ZstdLayer

MIB = 1024**2
GIB = 1024**3

_dice = random.Random(7)
_WORDS = ["".join(_dice.choices("abcdefghijklmnopqrstuvwxyzé日", k=_dice.randint(2, 9))) for _ in range(120)]

LAYERS: Mapping[str, Callable[[Store], CompressionLayer]] = {
    "off": OffLayer,
    "gzip": lambda inner: GzipLayer(inner, seal=False),
    "zstd": lambda inner: ZstdLayer(inner, seal=False),
    "dictionary": lambda inner: ZstdLayer(inner, seal=False, dictionary=True),
}
"""Each of the layers, none of which seals by itself; `dictionary` wants one in the store (`with_dictionary`)."""

WRITTEN = {"off": 0, "gzip": 1, "zstd": 2, "dictionary": 3}
"""The codec that each of them writes with."""


def words(size: int, seed: int = 0) -> str:
    """About so many bytes of text."""
    dice, said, length = random.Random(seed), [], 0
    while length < size:
        said.append(dice.choice(_WORDS))
        length += len(said[-1].encode()) + 1
    return " ".join(said)


def talk(size: int, seed: int = 0) -> tuple[Message, ...]:
    """A question and an answer, about so many bytes."""
    return user(words(size // 2, seed)), assistant(words(size // 2, seed + 1))


@cache
def dictionary() -> Dictionary:
    """What such turns have in common."""
    samples = [Record.of(talk(500, seed), id="t", time=0.0).payload[HEAD:] for seed in range(100, 300)]
    return Dictionary(zstandard.train_dictionary(4096, [*samples], dict_id=40_000, level=3).as_bytes())


async def with_dictionary(store: CompressionLayer) -> None:
    """Keep it in the store, for its namespace."""
    await store.dictionaries.add(store.namespace, dictionary(), ["ann"])


@cache
def codecs() -> dict[str, Codec]:
    """Each that writes anything but plain."""
    return {"gzip": _Gzip(6), "zstd": Zstd(3), "dictionary": Zstd(3, dictionary())}


def compressed(record: Record, codec: str) -> Record:
    """A record written so, however little that saves."""
    payload, by = record.payload, codecs()[codec]
    return record.with_payload(rewrap(payload, by.id, by.compress(payload[HEAD:])))


def envelope(codec: int, size: int, body: bytes, plain: bytes = b"") -> bytes:
    """A payload, from the specification, that says what it is told to; the digest is that of `plain`."""
    length = size.to_bytes(4)
    return b"\xc1\x54\x01" + bytes([codec]) + length + crc32(plain, crc32(length)).to_bytes(4) + body

"""Helpers for the tests of compression: messages, records of every codec, a watched backend and the end of sealing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from zlib import crc32

import zstandard

from turnlog import Backend, Change, Key, Layer, Message, Receipt, Record, Session, Store, Version, assistant, user
from turnlog.payload import HEAD, codec_of, rewrap
from turnlog_compression import CompressionLayer, GzipLayer, OffLayer
from turnlog_compression._codec import Codec
from turnlog_compression._gzip import _Gzip
from turnlog_compression._zstd import Dictionary, Zstd
from turnlog_compression.zstd import ZstdLayer

MIB = 1024**2
GIB = 1024**3

PLAIN, GZIP, ZSTD, WITH_DICTIONARY = 0, 1, 2, 3
"""The codec ids in envelopes."""

KEY = Key("default", "s")
"""The session of most tests."""

LAYERS: Mapping[str, Callable[[Backend], CompressionLayer]] = {
    "off": OffLayer,
    "gzip": lambda inner: GzipLayer(inner, seal=False),
    "zstd": lambda inner: ZstdLayer(inner, seal=False),
    "dictionary": lambda inner: ZstdLayer(inner, seal=False, dictionary=True),
}
"""The layers, without sealing. `dictionary` needs a stored dictionary (`store_dictionary`)."""

WRITTEN = {"off": PLAIN, "gzip": GZIP, "zstd": ZSTD, "dictionary": WITH_DICTIONARY}
"""The codec that each layer writes."""


# ------------------------------------------------------------------------------------------------------------ messages

_dice = random.Random(7)
_WORDS = ["".join(_dice.choices("abcdefghijklmnopqrstuvwxyzé日", k=_dice.randint(2, 9))) for _ in range(120)]


def words(size: int, seed: int = 0) -> str:
    """Return a text of about `size` bytes."""
    dice, chosen, length = random.Random(seed), [], 0
    while length < size:
        chosen.append(dice.choice(_WORDS))
        length += len(chosen[-1].encode()) + 1
    return " ".join(chosen)


def talk(size: int, seed: int = 0) -> tuple[Message, ...]:
    """Return a question and an answer, together about `size` bytes."""
    return user(words(size // 2, seed)), assistant(words(size // 2, seed + 1))


def numbered(number: int) -> list[Message]:
    """Return a turn that states its number and is long enough to be compressed."""
    return [user(f"turn {number}"), assistant(f"Answer {number}: " + "so it is, " * 420)]


def numbers(messages: Sequence[Message]) -> list[int]:
    """Return the numbers that the turns of these messages state."""
    return [int(message.text.split()[1]) for message in messages if message.role == "user"]


async def fill(store: Store, session: str, count: int, *, start: int = 0) -> None:
    """Append numbered turns one by one."""
    for number in range(start, start + count):
        await store.append(session, numbered(number), turn_id=f"turn {number}")


# ------------------------------------------------------------------------------------------------------------- records


@cache
def dictionary() -> Dictionary:
    """Return a dictionary that was trained on numbered turns."""
    samples = [Record.of(talk(500, seed), id="t", time=0.0).payload[HEAD:] for seed in range(100, 300)]
    return Dictionary(zstandard.train_dictionary(4096, [*samples], dict_id=40_000, level=3).as_bytes())


async def store_dictionary(layer: CompressionLayer, namespace: str = "default") -> None:
    """Store the dictionary for a namespace."""
    await layer.dictionaries.add(namespace, dictionary(), ["ann"])


@cache
def codecs() -> dict[str, Codec]:
    """Return the compressing codecs by the name of their layer."""
    return {"gzip": _Gzip(6), "zstd": Zstd(3), "dictionary": Zstd(3, dictionary())}


def compressed(record: Record, codec: str) -> Record:
    """Return a record compressed, even if compression saves nothing."""
    payload, by = record.payload, codecs()[codec]
    return record.with_payload(rewrap(payload, by.id, by.compress(payload[HEAD:])))


def envelope(codec: int, size: int, body: bytes, plain: bytes = b"") -> bytes:
    """Build a payload by hand from the specification, with the checksum of `plain`."""
    length = size.to_bytes(4)
    return b"\xc1\x54\x01" + bytes([codec]) + length + crc32(plain, crc32(length)).to_bytes(4) + body


def codecs_of(records: Iterable[Record]) -> list[int]:
    """Return the codec ids of records."""
    return [codec_of(record.payload) for record in records]


async def stored(backend: Backend, key: Key = KEY) -> tuple[Record, ...]:
    """Return the records of a session as the backend stores them."""
    return (await backend.read(key, touch=False)).records


async def shape(backend: Backend, session: str = KEY.session) -> list[int]:
    """Return the number of turns in each stored record of a session."""
    return [record.turns for record in await stored(backend, Key("default", session))]


# ------------------------------------------------------------------------------------------------------------- sealing


class Watched(Layer):
    """A layer that records the calls to the backend below, and delays seals on demand.

    Args:
        inner: The backend below.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.commits: list[Change] = []
        self.reads: list[Key] = []
        self.seals: list[Record] = []
        self.sealing = asyncio.Event()
        """Set when a seal begins."""
        self.gate: asyncio.Event | None = None
        """Every seal waits for this event."""

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        self.reads.append(key)
        return await super().read(key, last=last, before=before, since=since, touch=touch)

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.commits.append(change)
        return await super().commit(key, change)

    async def seal(self, key: Key, record: Record) -> bool | None:
        self.seals.append(record)
        self.sealing.set()
        if self.gate is not None:
            await self.gate.wait()
        return await super().seal(key, record)


class Unsealing(Watched):
    """A backend that does not support seals."""

    async def seal(self, key: Key, record: Record) -> bool | None:
        self.seals.append(record)
        return None


async def settled(layer: CompressionLayer) -> None:
    """Wait until the sealer of this event loop is idle."""
    assert layer._sealer is not None
    task = layer._sealer._tasks.get(asyncio.get_running_loop())
    if task is not None:
        await task

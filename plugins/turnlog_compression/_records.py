"""Records through codecs: compress what is written, decompress what any compression layer wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from turnlog import Backend, Key, PayloadLayer, Record
from turnlog.layers import Position
from turnlog.payload import HEAD, PLAIN, codec_of, rewrap

from ._codec import Codec, DictionaryMissing
from ._decompress import decompressed
from ._dictionaries import Dictionaries

if TYPE_CHECKING:
    from ._zstd import Dictionary

_WORTH: Final = 0.6
"""The largest share of a turn's size at which it is stored compressed: every window that holds the turn decompresses
it.  Sealed records are stored compressed whenever that saves a byte."""

_SLOW_TO_DECOMPRESS: Final = 512 * 1024
"""Plain bytes that take about 0.5 ms of zstd, as long as five hops to a thread: more is done off the event loop."""


class CompressedRecords(PayloadLayer):
    """A payload layer that reads records of every codec and writes with one of them.

    Work that would hold up the event loop for about a millisecond is done in a thread.

    Args:
        inner: The backend to wrap.
        writes: The codec for what is written.
    """

    position: ClassVar[Position] = "compression"

    def __init__(self, inner: Backend, writes: Codec) -> None:
        super().__init__(inner)
        self._codec = writes
        self.dictionaries = Dictionaries(inner)

    async def codec_for(self, namespace: str) -> Codec:  # noqa: ARG002 - dictionaries belong to a namespace
        """Return the codec for what is written in a namespace now."""
        return self._codec

    async def encode_records(self, key: Key, records: tuple[Record, ...]) -> tuple[Record, ...]:
        codec = await self.codec_for(key.namespace)
        if sum([len(record.payload) for record in records]) > codec.slow:
            return await asyncio.to_thread(_compressed, records, codec)
        return _compressed(records, codec)

    async def decode_records(self, key: Key, records: tuple[Record, ...]) -> tuple[Record, ...]:
        sizes = [plain_bytes(record) for record in records if not record.plain]
        if not sizes:
            return records
        dictionaries = self.dictionaries.at_hand(key.namespace)
        try:
            if sum(sizes) > _SLOW_TO_DECOMPRESS:
                return await asyncio.to_thread(_decompressed, records, dictionaries)
            return _decompressed(records, dictionaries)
        except DictionaryMissing:
            every = await self.dictionaries.fetch(key.namespace)
            return await asyncio.to_thread(_decompressed, records, every, fetched=True)


def plain_bytes(record: Record) -> int:
    """Return the bytes of a record's plain body, as its envelope says."""
    return int.from_bytes(record.payload[4:8])


def _compressed(records: Sequence[Record], codec: Codec) -> tuple[Record, ...]:
    return tuple([_compress(record, codec) for record in records])


def _compress(record: Record, codec: Codec) -> Record:
    payload = record.payload
    if codec.id == PLAIN or len(payload) < codec.floors[record.count > 2] or codec_of(payload) != PLAIN:
        return record
    body, plain = codec.compress(payload[HEAD:]), len(payload) - HEAD
    if len(body) >= plain or (record.rounds == 1 and len(body) > plain * _WORTH):
        return record
    return record.with_payload(rewrap(payload, codec.id, body))


def _decompressed(
    records: Sequence[Record], dictionaries: Mapping[int, Dictionary], *, fetched: bool = False
) -> tuple[Record, ...]:
    return tuple([one if one.plain else decompressed(one, dictionaries, fetched=fetched) for one in records])

"""Compress new records, and decompress the records of every compression layer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
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
"""The largest ratio of compressed to plain size for a turn.  A turn that shrinks less stays plain, because every window
with this turn would decompress it.  A sealed record is stored compressed if this saves at least one byte."""

_SLOW_TO_DECOMPRESS: Final = 512 * 1024
"""Number of plain bytes that zstd decompresses in about 0.5 ms, the time of five switches to a thread; more bytes are
decompressed in a thread."""


class CompressedRecords(PayloadLayer):
    """A payload layer that reads records of every codec and writes with one of them.

    Work that would block the event loop for about a millisecond runs in a thread.

    Args:
        inner: The backend to wrap.
        writes: The codec for new records.
        trained: Returns the codec for a dictionary; new records then use the namespace's newest dictionary.  None: new
            records use no dictionary.
    """

    position: ClassVar[Position] = "compression"

    def __init__(self, inner: Backend, writes: Codec, *, trained: Callable[..., Codec] | None = None) -> None:
        super().__init__(inner)
        self._codec = writes
        self._trained = trained
        self.dictionaries: Dictionaries = Dictionaries(inner)
        self._compressed = self._bytes_before = self._bytes_after = 0
        self._counting = threading.Lock()

    def stats(self) -> Mapping[str, float]:
        """Return counters since the creation of this layer; they include sealing and recompressing.

        Returns:
            `compressed`: the number of compressed records; `bytes_before` and `bytes_after`: the plain and the
            compressed size of their payloads.  Records that stay plain are not counted.
        """
        with self._counting:
            return {
                "compressed": self._compressed,
                "bytes_before": self._bytes_before,
                "bytes_after": self._bytes_after,
            }

    async def codec_for(self, namespace: str, *, fresh: bool = False) -> Codec:
        """Return the present codec for new records in a namespace.

        Args:
            namespace: The namespace.
            fresh: Look for a newer dictionary in the backend, not only in memory.
        """
        if self._trained is None:
            return self._codec
        dictionary = await self.dictionaries.newest(namespace, fresh=fresh)
        return self._codec if dictionary is None else self._trained(dictionary)

    async def encode_records(self, key: Key, records: tuple[Record, ...]) -> tuple[Record, ...]:
        codec = await self.codec_for(key.namespace)
        if sum([len(record.payload) for record in records]) > codec.slow:
            written = await asyncio.to_thread(_compressed, records, codec)
        else:
            written = _compressed(records, codec)
        self._count(records, written)
        return written

    async def decode_records(self, key: Key, records: tuple[Record, ...]) -> tuple[Record, ...]:
        sizes = [plain_bytes(record) for record in records if not record.plain]
        if not sizes:
            return records
        dictionaries = self.dictionaries.in_memory(key.namespace)
        try:
            if sum(sizes) > _SLOW_TO_DECOMPRESS:
                return await asyncio.to_thread(_decompressed, records, dictionaries)
            return _decompressed(records, dictionaries)
        except DictionaryMissing:
            every = await self.dictionaries.fetch(key.namespace)
            return await asyncio.to_thread(_decompressed, records, every, fetched=True)

    def _count(self, records: Sequence[Record], written: Sequence[Record]) -> None:
        for before, after in zip(records, written, strict=True):
            if after is not before:
                with self._counting:  # the event loops of several threads may use the layer
                    self._compressed += 1
                    self._bytes_before += len(before.payload)
                    self._bytes_after += len(after.payload)


def plain_bytes(record: Record) -> int:
    """Return the size of a record's plain body, from its envelope."""
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

"""`ZstdLayer`: writes Zstandard (RFC 8878)."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import zstandard

from turnlog import Backend, Store
from turnlog.errors import CorruptRecord, InvalidInput, SessionNotFound
from turnlog.payload import plain_body

from ._codec import Codec
from ._layer import CompressionLayer
from ._zstd import Dictionary, Zstd

__all__ = ["Trained", "ZstdLayer"]

_DICTIONARY_BYTES: Final = 64 * 1024
_SAMPLED_BYTES: Final = 100 * _DICTIONARY_BYTES  # zstd's manual recommends this factor
_SAMPLED_MESSAGES: Final = 40  # messages of each session, so that the samples come from many sessions
_FREE_IDS: Final = 32768, 2**31  # ids outside of this range are reserved for a registry (RFC 8878, section 5)


class Trained(NamedTuple):
    """A new dictionary.

    Attributes:
        id: The id by which frames name the dictionary.
        size: The size in bytes.
        sessions: The number of sessions in the training.
        rounds: The number of rounds in the training.
    """

    id: int
    size: int
    sessions: int
    rounds: int


class ZstdLayer(CompressionLayer):
    """A layer that writes Zstandard.

    Args:
        inner: The backend to wrap.
        level: The compression level, 1 (fastest) to 19 (smallest).
        seal: Seal old turns in the background, 32 in a record.
        dictionary: Use the newest dictionary of the namespace, if one was trained (`turnlog train-dictionary`).

    Raises:
        InvalidInput: An argument breaks a rule, or a layer in `inner` must be outside of this one.
    """

    def __init__(self, inner: Backend, *, level: int = 3, seal: bool = True, dictionary: bool = False) -> None:
        if type(level) is not int or not 1 <= level <= 19:
            raise InvalidInput(f"level must be a whole number from 1 to 19, not {level!r}")
        if dictionary is not True and dictionary is not False:
            raise InvalidInput(f"dictionary must be True or False, not {dictionary!r}")
        super().__init__(inner, Zstd(level), seal=seal, trained=self._codec_with if dictionary else None)
        self._level = level
        self._codecs: WeakKeyDictionary[Dictionary, Zstd] = WeakKeyDictionary()

    def _codec_with(self, dictionary: Dictionary) -> Codec:
        codec = self._codecs.get(dictionary)
        if codec is None:
            codec = self._codecs[dictionary] = Zstd(self._level, dictionary)
        return codec

    async def train(self, namespace: str) -> Trained:
        """Train a dictionary on the most recently updated sessions of a namespace, and store it.

        Args:
            namespace: The namespace.

        Raises:
            InvalidInput: The namespace has too few rounds for a training.
        """
        samples: list[bytes | bytearray | memoryview] = []
        owners: set[str] = set()
        sessions = size = 0
        with suppress(CorruptRecord):  # `sessions` raises it at its end: train without damaged sessions
            async for info in Store(self, namespace=namespace).sessions():
                if size >= _SAMPLED_BYTES:
                    break
                try:
                    session = await self.read(info.key, last=_SAMPLED_MESSAGES, touch=False)
                except (SessionNotFound, CorruptRecord):
                    continue
                found = []
                for record in session.records:
                    with suppress(CorruptRecord):  # train without damaged records
                        found += [plain_body(one.payload) for one in record.split()]
                samples += found
                size += sum(map(len, found))
                sessions += 1
                owners.add(info.owner)
        id = _FREE_IDS[0] + secrets.randbelow(_FREE_IDS[1] - _FREE_IDS[0])
        try:
            trained = await asyncio.to_thread(
                zstandard.train_dictionary, _DICTIONARY_BYTES, samples, dict_id=id, level=self._level
            )
        except (zstandard.ZstdError, ValueError):
            raise InvalidInput(
                "training a dictionary needs at least about ten rounds of turns, better some hundreds, but namespace "
                f"{namespace!r} has {len(samples)}, with {size} bytes: store more turns, and try again"
            ) from None
        dictionary = Dictionary(trained.as_bytes())
        await self.dictionaries.add(namespace, dictionary, owners - {""})
        return Trained(id, len(dictionary.data), sessions, len(samples))

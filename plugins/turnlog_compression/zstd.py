"""The layer that writes Zstandard (RFC 8878)."""

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
_SAMPLED_BYTES: Final = 100 * _DICTIONARY_BYTES  # what zstd's manual advises
_SAMPLED_MESSAGES: Final = 40  # of each session, so that many are heard
_FREE_IDS: Final = 32768, 2**31  # below and above are for a register of dictionaries (RFC 8878, section 5)


class Trained(NamedTuple):
    """A new dictionary.

    Attributes:
        id: As the frames that it compresses name it.
        size: Its bytes.
        sessions: How many it was trained on.
        rounds: How many rounds of turns.
    """

    id: int
    size: int
    sessions: int
    rounds: int


class ZstdLayer(CompressionLayer):
    """Compresses with Zstandard.

    Args:
        inner: The backend to wrap.
        level: 1, fast, to 19, small.
        seal: Put old turns together in the background, 32 in a record.
        dictionary: Write with the newest dictionary of the namespace, if there is one (`turnlog train-dictionary`).

    Raises:
        InvalidInput: An argument breaks a rule, or a cache or another compression layer is below.
    """

    def __init__(self, inner: Backend, *, level: int = 3, seal: bool = True, dictionary: bool = False) -> None:
        if type(level) is not int or not 1 <= level <= 19:
            raise InvalidInput(f"level must be from 1 to 19, not {level!r}")
        if dictionary is not True and dictionary is not False:
            raise InvalidInput(f"dictionary must be True or False, not {dictionary!r}")
        super().__init__(inner, Zstd(level), seal=seal)
        self._level = level
        self._with_dictionary = dictionary
        self._codecs: WeakKeyDictionary[Dictionary, Zstd] = WeakKeyDictionary()

    async def codec_for(self, namespace: str) -> Codec:
        dictionary = await self.dictionaries.newest(namespace) if self._with_dictionary else None
        if dictionary is None:
            return self._codec
        codec = self._codecs.get(dictionary)
        if codec is None:
            codec = self._codecs[dictionary] = Zstd(self._level, dictionary)
        return codec

    async def train(self, namespace: str) -> Trained:
        """Train a dictionary on the sessions of a namespace, the last updated first, and store it.

        Args:
            namespace: The namespace.

        Raises:
            InvalidInput: There is too little to train on.
        """
        samples: list[bytes | bytearray | memoryview] = []
        owners: set[str] = set()
        sessions = size = 0
        async for info in Store(self, namespace=namespace).sessions():
            if size >= _SAMPLED_BYTES:
                break
            try:
                session = await self.read(info.key, last=_SAMPLED_MESSAGES, touch=False)
            except SessionNotFound:
                continue
            found = []
            for record in session.records:
                with suppress(CorruptRecord):  # whatever is damaged is not heard
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
        except (zstandard.ZstdError, ValueError) as error:
            raise InvalidInput(
                f"{len(samples)} rounds of {sessions} sessions in {namespace!r}, {size} bytes, are too few to "
                f"train a dictionary on ({error}): it takes ten or so, and some hundreds to be worth it"
            ) from None
        dictionary = Dictionary(trained.as_bytes())
        await self.dictionaries.add(namespace, dictionary, owners - {""})
        return Trained(id, len(dictionary.data), sessions, len(samples))

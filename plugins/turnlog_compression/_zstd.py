"""Zstandard (RFC 8878), with or without a dictionary, in frames with their content size and a checksum."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

import zstandard

from turnlog.errors import CorruptRecord
from turnlog.limits import MAX_PAYLOAD_BYTES
from turnlog.payload import HEAD

from ._codec import ZSTD, ZSTD_WITH_DICTIONARY, Codec, DictionaryMissing, Unreadable

_WINDOW: Final = 8 * 1024 * 1024
"""Largest supported window in bytes.  Level 19 does not write larger ones, and every decoder should support it (RFC
8878, section 3.1.1.1.2)."""


class Dictionary:
    """A trained dictionary.

    Args:
        data: The result of the training; it contains the id.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._trained = zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_FULLDICT)
        self.id: Final = self._trained.dict_id()

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        return zstandard.ZstdCompressor(level=level, dict_data=self._trained, write_checksum=True)

    def decompressor(self) -> zstandard.ZstdDecompressor:
        return zstandard.ZstdDecompressor(dict_data=self._trained, max_window_size=_WINDOW)


class _Contexts(threading.local):
    """Compressors and decompressors, created once per thread: creation takes longer than one use."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self.compressors: WeakKeyDictionary[Zstd, zstandard.ZstdCompressor] = WeakKeyDictionary()
        self.with_dictionary: WeakKeyDictionary[Dictionary, zstandard.ZstdDecompressor] = WeakKeyDictionary()


_contexts = _Contexts()
_frame_of = zstandard.get_frame_parameters


class Zstd(Codec):
    """Zstandard with one level and an optional dictionary.

    Args:
        level: 1 to 19.
        dictionary: The dictionary to compress with.
    """

    slow: ClassVar[int] = 256 * 1024

    def __init__(self, level: int, dictionary: Dictionary | None = None) -> None:
        self.id = ZSTD if dictionary is None else ZSTD_WITH_DICTIONARY
        if dictionary is not None:
            self.floors = 128, 128
        self._level = level
        self._dictionary = dictionary

    def compress(self, body: bytes) -> bytes:
        compressor = _contexts.compressors.get(self)
        if compressor is None:
            compressor = _contexts.compressors[self] = (
                zstandard.ZstdCompressor(level=self._level, write_checksum=True)
                if self._dictionary is None
                else self._dictionary.compressor(self._level)
            )
        try:
            return compressor.compress(body)
        except zstandard.ZstdError as error:
            raise CorruptRecord(f"{self} cannot compress because the dictionary is damaged: {error}") from None

    def wrote(self, payload: bytes) -> bool:
        if not super().wrote(payload) or self._dictionary is None:
            return super().wrote(payload)
        return dictionary_of(payload) == self._dictionary.id

    def __str__(self) -> str:
        return f"zstd {self._level}" if self._dictionary is None else f"zstd {self._level} {self._dictionary.id}"


def dictionary_of(payload: bytes) -> int | None:
    """Return the id of the dictionary that a compressed payload needs; 0: none; None: the payload is damaged."""
    try:
        return _frame_of(payload[HEAD:]).dict_id
    except zstandard.ZstdError:
        return None


def expand(body: bytes, size: int, dictionaries: Mapping[int, Dictionary]) -> bytes:
    """Return the decompressed content of a frame.

    Args:
        body: The frame.
        size: The decompressed size that the envelope states.
        dictionaries: The dictionaries in memory, by id.

    Raises:
        Unreadable: The frame is damaged, or states another size than the envelope.
        DictionaryMissing: The frame needs a dictionary that is not in memory.
    """
    try:
        frame = _frame_of(body)
        if frame.content_size == size <= MAX_PAYLOAD_BYTES and frame.has_checksum and frame.window_size <= _WINDOW:
            id = frame.dict_id
            decompressor = _contexts.decompressor if not id else _with_dictionary(id, dictionaries)
            return decompressor.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Unreadable(str(error)) from None
    if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN:
        raise Unreadable("its frame does not state its size")
    if frame.content_size != size:
        raise Unreadable(f"its frame states {frame.content_size} bytes, the envelope states {size}")
    if not frame.has_checksum:
        raise Unreadable("its frame has no checksum")
    raise Unreadable(f"its frame needs a window of {frame.window_size} bytes, but the limit is {_WINDOW}")


def _with_dictionary(id: int, dictionaries: Mapping[int, Dictionary]) -> zstandard.ZstdDecompressor:
    dictionary = dictionaries.get(id)
    if dictionary is None:
        raise DictionaryMissing(id)
    decompressor = _contexts.with_dictionary.get(dictionary)
    if decompressor is None:
        decompressor = _contexts.with_dictionary[dictionary] = dictionary.decompressor()
    return decompressor

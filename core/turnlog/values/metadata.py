"""Metadata: named values that an application stores with a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from ..errors import CorruptRecord, InvalidInput, TooLarge
from ..limits import MAX_METADATA_BYTES, MAX_VALUES
from .checks import check_mapping, shown
from .json_value import JSON, check_text, count, decode, encode, recoded
from .key import CHECKSUM_BYTES, Key
from .stored import UNREADABLE

_NIL = msgspec.msgpack.encode(None)
_encode_encoded = msgspec.msgpack.Encoder().encode
_decode_encoded = msgspec.msgpack.Decoder(dict[str, bytes]).decode


class Metadata(Mapping[str, JSON]):
    """An immutable mapping of names to values, merged name by name.

    Values are kept in MessagePack, and each access decodes a value again.  In a change, None removes a name.
    """

    __slots__ = ("encoded",)

    encoded: Mapping[str, bytes]
    """The values, each encoded."""

    def __init__(self, encoded: Mapping[str, bytes]) -> None:
        self.encoded = encoded

    @classmethod
    def of(cls, values: Mapping[str, JSON]) -> Metadata:
        """Return the values, checked and encoded.

        Raises:
            InvalidInput: A name is not a string, is empty or has lone surrogates, or a value is neither JSON nor bytes.
            TooLarge: The values take more than 1 MiB in total, or there are more than 100,000 of them.
        """
        if type(values) is Metadata:
            return values
        check_mapping(values, "metadata")
        metadata = cls({_name(name): encode(value, "metadata", name) for name, value in values.items()})
        metadata._check_size()
        return metadata

    def merge(self, patch: Metadata) -> Metadata:
        """Return these values, updated by the values of a patch.

        Raises:
            TooLarge: The values take more than 1 MiB in total, or there are more than 100,000 of them.
        """
        merged = Metadata({name: value for name, value in {**self.encoded, **patch.encoded}.items() if value != _NIL})
        merged._check_size()
        return merged

    def canonical(self) -> dict[str, bytes]:
        """Return the encoded values for digests: equal values have the same bytes."""
        return {name: recoded(value) for name, value in self.encoded.items()}

    def pack(self, key: Key) -> bytes:
        """Return the bytes that a backend stores: MessagePack, and a checksum that covers the key.

        Args:
            key: The session that the metadata belong to.
        """
        data = _encode_encoded(self.encoded)
        return data + key.checksum(data)

    def checksum(self, key: Key) -> bytes:
        """Return the checksum at the end of `pack`."""
        return key.checksum(_encode_encoded(self.encoded))

    @classmethod
    def unpack(cls, key: Key, data: bytes | None) -> Metadata:
        """Return the metadata from stored bytes.

        Args:
            key: The session that the metadata must belong to.
            data: The result of `pack`; None: no metadata.

        Raises:
            CorruptRecord: The bytes are damaged, or belong to another session.
        """
        if data is None:
            return EMPTY
        try:
            if not key.is_sound(data):
                raise CorruptRecord("its metadata is damaged", key=key)
            return cls(_decode_encoded(memoryview(data)[:-CHECKSUM_BYTES]))  # not a copy of up to a megabyte
        except UNREADABLE as error:
            raise CorruptRecord(f"its metadata cannot be read: {error}", key=key) from None

    def _check_size(self) -> None:
        size = sum([len(name) * 4 + len(value) for name, value in self.encoded.items()])
        if size > MAX_METADATA_BYTES:
            size = sum([len(name.encode()) + len(value) for name, value in self.encoded.items()])
            if size > MAX_METADATA_BYTES:
                raise TooLarge(
                    f"metadata takes {size} bytes, the limit is {MAX_METADATA_BYTES}: keep large values in turns"
                )
        if size > MAX_VALUES and sum([2 + count(value) for value in self.encoded.values()]) > MAX_VALUES:
            raise TooLarge(
                f"metadata holds more than {MAX_VALUES} values and names of values, the limit: store large data as "
                "JSON in a string"
            )

    def __getitem__(self, name: str) -> JSON:
        return decode(self.encoded[name])

    def __contains__(self, name: object) -> bool:
        return name in self.encoded  # that of `Mapping` would decode the value

    def __iter__(self) -> Iterator[str]:
        return iter(self.encoded)

    def __len__(self) -> int:
        return len(self.encoded)

    def __repr__(self) -> str:
        return f"Metadata({dict(self)!r})"


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidInput(f"metadata has a name of type {type(name).__name__}: names are strings")
    text = str.__str__(name)
    if not text:
        raise InvalidInput("metadata has an empty name")
    check_text(text, f"the metadata name {shown(text)}")
    return text


EMPTY = Metadata({})

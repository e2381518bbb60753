"""What the application keeps beside the turns of a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from ..errors import InvalidInput, TooLarge
from ..limits import MAX_METADATA_BYTES
from .json_value import JSON, canonical, check, check_mapping, encode
from .json_value import decode as _decode

Value: TypeAlias = "JSON | bytes"
"""A metadata value: JSON from applications, bytes from layers."""

_NIL = encode(None)


class Metadata(Mapping[str, Value]):
    """An immutable mapping of names to values, merged name by name.

    Values are kept encoded (MessagePack) and decoded anew at each access.  As part of a change, None removes a name.
    """

    __slots__ = ("encoded",)

    encoded: Mapping[str, bytes]
    """The values, encoded: what a backend stores."""

    def __init__(self, encoded: Mapping[str, bytes]) -> None:
        self.encoded = encoded

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> Metadata:
        """Checked and encoded.

        Raises:
            InvalidInput: A name is no string or empty, or a value is neither JSON nor bytes.
            TooLarge: Over 64 KiB in all.
        """
        if type(values) is Metadata:
            return values
        check_mapping(values, "metadata")
        check(dict(values), "metadata", binary=True)
        if "" in values:
            raise InvalidInput("metadata has an empty name")
        metadata = cls({name: encode(value) for name, value in values.items()})
        metadata._check_size()
        return metadata

    def merge(self, patch: Metadata) -> Metadata:
        """These values with the patch's over them.

        Raises:
            TooLarge: Over 64 KiB in all.
        """
        merged = Metadata({name: value for name, value in {**self.encoded, **patch.encoded}.items() if value != _NIL})
        merged._check_size()
        return merged

    def canonical(self) -> dict[str, bytes]:
        """The encoded values, the same for equal ones: what digests are made of."""
        return {name: canonical(_decode(value)) for name, value in self.encoded.items()}

    def _check_size(self) -> None:
        size = sum(len(name) * 4 + len(value) for name, value in self.encoded.items()) if self.encoded else 0
        if size > MAX_METADATA_BYTES:
            size = sum(len(name.encode()) + len(value) for name, value in self.encoded.items())
            if size > MAX_METADATA_BYTES:
                raise TooLarge(
                    f"metadata takes {size} bytes, the limit is {MAX_METADATA_BYTES}: keep large values in turns"
                )

    def __getitem__(self, name: str) -> Value:
        return _decode(self.encoded[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.encoded)

    def __len__(self) -> int:
        return len(self.encoded)

    def __repr__(self) -> str:
        return f"Metadata({dict(self)!r})"


EMPTY = Metadata({})

"""The name of a session, and the checksum of what a database stores under it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from zlib import crc32

import msgspec

from ..errors import InvalidInput
from .ids import OWN, check_id
from .json_value import shown

CHECKSUM_BYTES: Final = 4
"""Bytes of `Key.checksum`."""

SOUND: Final = 0x2144DF1C
"""The CRC-32 of any data with its own checksum appended, whatever it was started with (ITU-T V.42, 8.1.1.6.2)."""


class Key(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """The name of a session: a namespace (the tenant) and a session id.

    Both are 1 to 255 bytes of UTF-8 without control characters, and are compared as bytes: no case, accent or normal
    form is folded, and a trailing space counts.  An id is a name, not a secret: who may use it is for the application
    to decide.

    Raises:
        InvalidInput: One of them is not such a string.
    """

    namespace: str
    session: str

    def __post_init__(self) -> None:
        check_id(self.namespace, "namespace")
        check_id(self.session, "session id")

    @property
    def is_internal(self) -> bool:
        """Whether a layer keeps something of its own here, in a namespace that no application can name."""
        return self.namespace.startswith(OWN)

    def checksum(self, data: bytes) -> bytes:
        """Return the 4 bytes to append to data that is stored under this key.

        They are zlib's CRC-32, started with the key, so that data of another session is not sound here; the low byte is
        first, so that the CRC-32 of sound data with its checksum is always the same number.
        """
        return crc32(data, start_of(self)).to_bytes(CHECKSUM_BYTES, "little")

    def is_sound(self, data: bytes) -> bool:
        """Return whether data ends with its checksum under this key."""
        return crc32(data, start_of(self)) == SOUND

    def __str__(self) -> str:
        return f"{self.session!r} in {self.namespace!r}"


def check_key(value: object) -> None:
    """Refuse what is no key, such as the session id alone: a store would only find nothing under it."""
    if type(value) is not Key:
        raise InvalidInput(f"key must be a Key, not {shown(value)}: the methods of an application take a session id")


cached_key = lru_cache(4_096)(Key)
"""`Key(namespace, session)`, without checking again what was checked a moment ago; at most 2 MiB of names."""


@lru_cache(4_096)
def start_of(key: Key) -> int:
    """Return what the checksums under a key start with."""
    namespace = key.namespace.encode()
    return crc32(b"%d:%b:%b" % (len(namespace), namespace, key.session.encode()))

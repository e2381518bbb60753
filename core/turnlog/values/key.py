"""`Key`: the name of a session, and the checksum of data that a database stores under it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final
from zlib import crc32

import msgspec

from ..errors import InvalidInput
from .checks import shown
from .ids import check_id
from .namespaces import OWN

CHECKSUM_BYTES: Final = 4
"""Number of bytes of `Key.checksum`."""

SOUND: Final = 0x2144DF1C
"""The CRC-32 of any data with its checksum appended, for every start value (ITU-T V.42, 8.1.1.6.2)."""


class Key(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """The name of a session: a namespace (the tenant) and a session id.

    Both are 1 to 255 bytes of UTF-8 without control characters.  They are compared as bytes: case, accents, normal
    forms and trailing spaces count.  An id is a name, not a secret: the application must check who may use it.

    Raises:
        InvalidInput: The namespace or the session id is not such a string.
    """

    namespace: str
    session: str

    def __post_init__(self) -> None:
        check_id(self.namespace, "namespace")
        check_id(self.session, "session id")

    @property
    def is_internal(self) -> bool:
        """Whether the key belongs to internal data of a layer, in a namespace that applications cannot use."""
        return self.namespace.startswith(OWN)

    def checksum(self, data: bytes) -> bytes:
        """Return the 4 bytes to append to data that is stored under this key.

        They are zlib's CRC-32.  Its start value depends on the key, so data of another session does not pass the check.
        The low byte is first, so the CRC-32 of valid data with its checksum is always the same number.
        """
        return crc32(data, start_of(self)).to_bytes(CHECKSUM_BYTES, "little")

    def is_sound(self, data: bytes) -> bool:
        """Return whether data ends with its valid checksum under this key."""
        return crc32(data, start_of(self)) == SOUND

    def __str__(self) -> str:
        return f"{self.session!r} in namespace {self.namespace!r}"


def check_key(value: object) -> None:
    """Refuse a value that is not a key, such as a session id: a store would report a missing session for it."""
    if type(value) is not Key:
        raise InvalidInput(f"key must be a Key, not {shown(value)}: the methods of an application take a session id")


cached_key: Callable[[str, str], Key] = lru_cache(4_096)(Key)
"""`Key(namespace, session)` with a cache, which avoids repeated checks; it holds at most 2 MiB of names."""


@lru_cache(4_096)
def start_of(key: Key) -> int:
    """Return the start value of the checksums under a key."""
    namespace = key.namespace.encode()
    return crc32(b"%d:%b:%b" % (len(namespace), namespace, key.session.encode()))

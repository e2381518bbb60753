"""The changes that a session remembers, so that one that is sent again is stored once."""

from __future__ import annotations

import msgspec

from ..errors import CorruptRecord, IdReused
from ..values.change import Change, Receipt
from ..values.key import CHECKSUM_BYTES, Key
from ..values.version import Version
from .header import Header


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """A change that was stored: what a repeat is compared with, and what it is answered.

    Attributes:
        change: The change, or its digest.
        version: The version that it made.
        number: The receipt's `number`.
    """

    change: Change | bytes
    version: Version
    number: int | None

    @property
    def digest(self) -> bytes:
        """The digest of the change."""
        return self.change if isinstance(self.change, bytes) else self.change.digest

    def receipt(self, header: Header, change: Change, now: float) -> Receipt:
        """Return the answer to a change that is sent again under the same id.

        Args:
            header: The session's, with its expiry moved.
            change: The change that is sent again.
            now: Seconds since 1970, by the backend's clock.

        Raises:
            SessionNotFound: The session belongs to another owner than the change is for.
            IdReused: The id stands for another change.
        """
        header.check_owner(change.for_owner)
        if change is not self.change and change.digest != self.digest:
            raise IdReused(
                f"change id {change.id!r} stands for another change of session {header.key}: "
                "make a new id for new contents"
            )
        return header.receipt(now, self.version, self.number, self.version)

    def pack(self, key: Key) -> bytes:
        """Return the bytes that a database stores, with a checksum that covers the key.

        Args:
            key: The session.
        """
        v = self.version
        data = _encode((self.digest, (v.epoch, v.generation, v.rounds, v.tip, v.stamp), self.number))
        return data + key.checksum(data)

    @classmethod
    def unpack(cls, key: Key, data: bytes) -> Remembered:
        """Return the remembered change behind stored bytes.

        Args:
            key: The session that it must belong to.
            data: The result of `pack`.

        Raises:
            CorruptRecord: The bytes are damaged, or belong to another session.
        """
        try:
            if not key.is_sound(data):
                raise CorruptRecord("a change that it remembers is damaged", key=key)
            digest, version, number = _decode(data[:-CHECKSUM_BYTES])
        except (msgspec.DecodeError, TypeError, ValueError) as error:
            raise CorruptRecord(f"a change that it remembers cannot be read: {error}", key=key) from None
        return cls(digest, Version(*version), number)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, tuple[bytes, int, int, bytes, bytes], int | None]).decode

"""The effect of a change on a session.  `Remembered`, `needs` and `plan` do no I/O, and every backend can use them.

A backend reads the header, and looks up the change id.  If it finds the id, `Remembered.receipt` returns the answer.
Otherwise the backend calls `needs`, reads the few records that `needs` names, calls `plan`, and writes the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from ..errors import Conflict, CorruptRecord, IdReused
from ..values.change import Change, Receipt
from ..values.key import CHECKSUM_BYTES, Key, check_key
from ..values.record import Record
from ..values.stored import UNREADABLE, Count, Token
from ..values.version import Version
from .conditions import check_absent, missing
from .header import Header, gap


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """A stored change, to recognise a repeat and to answer it.

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
        """Return the receipt for a change that is sent again under the same id.

        Args:
            header: The header of the session, with its expiry moved.
            change: The change that is sent again.
            now: Seconds since 1970, by the backend's clock.

        Raises:
            SessionNotFound: The session does not belong to the owner in `change.for_owner`.
            IdReused: The id was used for another change.
        """
        header.check_owner(change.for_owner)
        if change is not self.change and change.digest != self.digest:
            raise IdReused(_reused(header.key, change))
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
        """Return the remembered change from stored bytes.

        Args:
            key: The session that the change must belong to.
            data: The result of `pack`.

        Raises:
            CorruptRecord: The bytes are damaged, or belong to another session.
        """
        try:
            if not key.is_sound(data):
                raise CorruptRecord("a change that it remembers is damaged", key=key)
            digest, version, number = _decode(data[:-CHECKSUM_BYTES])
        except UNREADABLE as error:
            raise CorruptRecord(f"a change that it remembers cannot be read: {error}", key=key) from None
        return cls(digest, Version(*version), number)


class Near(msgspec.Struct, frozen=True, gc=False):
    """The stored records that a change touches.

    `needs` sets `keep` and `drop`; the backend fills in the rest.

    Attributes:
        keep: The first turn that the change cuts; None: the change cuts nothing.
        drop: Retention drops the turns before this turn; None: it drops nothing.
        below: The last stored record that begins below `keep`; None if there is none.
        cut: Size in bytes of the stored records from `keep` on.
        first: The first stored record, below `keep`, that ends after turn `drop`; None if there is none.
        dropped: Size in bytes of the stored records before `first`; if `first` is None, of all records below `keep`.
        deferred: Whether the backend itself drops turns, compares the size and moves the expiry, in the same step as
            the write.  `plan` then does none of the three.
    """

    keep: int | None = None
    drop: int | None = None
    below: Record | None = None
    cut: int = 0
    first: Record | None = None
    dropped: int = 0
    deferred: bool = False


NOTHING: Final = Near()
"""A change that touches no stored record, such as an append."""


class Plan(msgspec.Struct, frozen=True, gc=False):
    """The writes that a change needs.

    Attributes:
        header: The next header.
        append: The records to add, in order.
        number: The receipt's `number`.
        previous: The receipt's `previous`.
        keep: Remove the stored records numbered this and above; None: none.
        drop: Remove the stored records numbered below this; None: none.  With `Near.deferred`: those that end before
            this turn, or with it.
    """

    header: Header
    append: list[Record]
    number: int | None
    previous: Version | None
    keep: int | None
    drop: int | None


def needs(key: Key, header: Header | None, change: Change) -> Near:
    """Check a change that the session does not remember, and return the stored records that it touches.

    Args:
        key: The session.
        header: The stored header; None: the session does not exist, or has expired.
        change: The change.

    Returns:
        `NOTHING`, or a `Near` for the backend to fill in.

    Raises:
        Conflict: The session does not meet `change.expect`, or a round does not continue the turn that is open.
        HistoryRegressed: The session is older than `change.expect`, or has diverged from it.
        SessionNotFound: The session does not exist and the change does not create it, or it has another owner.
        InvalidInput: `key` is not a key.
    """
    if header is None:
        _check_new(key, change)
        if change.keep is None and change.retain is None:
            return NOTHING
        turns, first = change.first, change.first
    else:
        if change.for_owner is not None:
            header.check_owner(change.for_owner)
        if change.expect is not None:
            header.check(change.expect)
        if change.keep is None and change.retain is None:
            return NOTHING
        turns, first = header.turns, header.first
    keep, retain = change.keep, change.retain
    if keep is not None:
        if keep < turns:
            turns = keep
            first = min(first, keep)
        else:
            keep = None
    if retain is not None:
        drop = turns + sum([record.turns for record in change.append]) - retain
        if drop > first:
            return Near(keep, drop)
    return NOTHING if keep is None else Near(keep)


def _check_new(key: Key, change: Change) -> None:
    """Refuse a change that cannot create a session."""
    check_key(key)
    check_absent(key, change.expect, change.for_owner)
    if change.append and not change.append[0].turns:
        record = change.append[0]
        raise Conflict(
            f"part {record.part} of turn {record.id!r} cannot be stored: there is no session {key}, or it has expired; "
            "begin the turn with part 0"
        )
    if not change.append and not change.describes:
        raise missing(key, change.for_owner)


def _reused(key: Key, change: Change) -> str:
    """Return the text of `IdReused`, with the name that the application gave: `Store.append` makes the id from it."""
    if change.append and change.id == f"{change.append[0].part}:{change.append[0].id}":
        record = change.append[0]
        part = f", part {record.part}," if record.part else ""
        return (
            f"turn id {record.id!r}{part} is used for other messages in session {key}: give new messages a new turn id"
        )
    return f"change id {change.id!r} is used for another change of session {key}: give a new change a new id"


def plan(
    key: Key,
    header: Header | None,
    change: Change,
    near: Near,
    now: float,
    *,
    ttl: float | None,
    nonce: Callable[[int], bytes],
) -> Plan:
    """Return the writes that apply a change to a session.

    Args:
        key: The session.
        header: The stored header, with its metadata if the change sets metadata; None: the session does not exist, or
            has expired.
        change: The change, which `needs` has checked.
        near: The stored records that `needs` named.
        now: Seconds since 1970; 0.0 if a server sets the time.
        ttl: The backend's time to live in seconds; None: sessions never expire.
        nonce: Makes random bytes.

    Raises:
        Conflict: A round does not continue the turn that is open.
        SplitsSealed: The cut falls inside a sealed record.
        TooLarge: The change would exceed a limit.
    """
    previous, taken = None, 0
    if header is None:
        header = Header.new(key, nonce(16), now, first=change.first, owner=change.for_owner or "")
    else:
        previous, taken = header.version, header.bytes
    keep, drop = near.keep, near.drop
    if keep is not None:
        header = header.cut(keep, near.below, near.cut, now)
    placed: list[Record] = []
    number = None
    if change.append:
        header, placed = header.extend(change, now)
        if len(placed) > change.restored:
            number = placed[change.restored].number
    if change.describes:
        header = header.describe(change)
    if not change.append:
        header = msgspec.structs.replace(header, changes=header.changes + 1)
    times = change.times
    if times is not None:
        header = header.with_times(times)
    if near.deferred:
        return Plan(header, placed, number, previous, keep, drop)
    if drop is not None:
        header, placed, drop = _drop(header, placed, near, drop)
    if change.max_bytes is not None:
        header.check_bytes(change.max_bytes, taken)
    if header.expiry_may_move(ttl) and (times is None or times.expires is None):
        header = header.slide(now, ttl)
    return Plan(header, placed, number, previous, keep, drop)


def _drop(header: Header, placed: list[Record], near: Near, drop: int) -> tuple[Header, list[Record], int | None]:
    """Drop the turns before `drop` from the stored records and from the records to append."""
    first, dropped, skip = near.first, near.dropped, 0
    if first is None:
        while skip < len(placed) and placed[skip].next_turn <= drop:
            dropped += placed[skip].size
            skip += 1
        first = placed[skip] if skip < len(placed) else None
    if first is None or first.number > drop:  # otherwise retained turns would count as dropped
        raise gap(header, drop)
    if first.number <= header.first and not skip and not dropped:
        return header, placed, None
    return header.drop(first, dropped), placed[skip:], first.number


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, tuple[Token, Count, Count, Token, Token], Count | None]).decode

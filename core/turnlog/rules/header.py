"""The header of a session: all of its data except the records, and the rules that need only the header."""

from __future__ import annotations

import builtins
from hashlib import blake2b
from math import isfinite
from typing import Final

import msgspec

from ..errors import (
    Conflict,
    CorruptRecord,
    SplitsSealed,
    TooLarge,
)
from ..limits import MAX_NUMBER, MAX_PAYLOAD_BYTES
from ..values.change import Change, Expect, Receipt, check_expect
from ..values.ids import check_id
from ..values.key import CHECKSUM_BYTES, Key, check_key
from ..values.metadata import EMPTY, Metadata
from ..values.record import Record
from ..values.session import SessionInfo
from ..values.stored import UNREADABLE, Count, Finite, Moment, OwnTTL, Token, Whole
from ..values.times import Times
from ..values.version import Version
from .conditions import check_absent, check_condition, check_not_ahead, missing
from .expiry import expiry_is_due

SURE_TO_FIT: Final = MAX_PAYLOAD_BYTES // 2
"""Estimated size in bytes up to which a record is surely under the limit.

An estimate is up to 14 bytes too small for each message.
"""


class Header(msgspec.Struct, frozen=True, gc=False):
    """The part of a session that a backend stores in addition to the records.

    A header is a value: every rule returns a new header, or raises.  A database stores the header as a row (`pack`),
    reads it under a lock (`unpack`), and computes the next header with `needs` and `plan`.

    Attributes:
        key: The session.
        version: The version of the session.
        first: The number of the first stored turn.
        turns: One more than the number of the last turn.
        start: Number of messages before the first stored record.
        messages_until: Number of messages up to the end, counted from the same place as `start`.
        tail: The turn id and the part of the last round, and whether it is open; None if there is no round.
        bytes: Sum of the sizes of the records (`Record.size`), without compression or encryption.
        created: Time of creation, in seconds since 1970, by the backend's clock.
        updated: Time of the last write or cut of turns, by the same clock; `created` if there was none.
        owner: The owner; empty if the session has none.
        metadata: The metadata of the application.
        ttl: The session's own time to live in seconds (0: never expires); None: the time to live of the backend.
        expires: Time of the expiry, by the same clock; None if the session does not expire.
        changes: Number of changes that were applied, which is the place of the next remembered change.
        expiry_ttl: The time to live in seconds that `expires` was computed with; None if unknown.
        metadata_sum: The checksum at the end of `Metadata.pack`, to detect metadata that are missing or older than the
            header; empty if the session has no metadata.
    """

    key: Key
    version: Version
    first: Count
    turns: Count
    start: Count
    messages_until: Count
    tail: tuple[str, Count, bool] | None
    bytes: Whole
    created: Finite
    updated: Moment
    owner: str = ""
    metadata: Metadata = EMPTY
    ttl: OwnTTL | None = None
    expires: Finite | None = None
    changes: Count = 0
    expiry_ttl: OwnTTL | None = None
    metadata_sum: Token = b""

    @classmethod
    def new(cls, key: Key, epoch: builtins.bytes, now: float, *, first: int = 0, owner: str = "") -> Header:
        """Return the header of a new session.

        Args:
            key: The session.
            epoch: 16 random bytes, never used before.
            now: Seconds since 1970, by the backend's clock.
            first: The number of the first turn.
            owner: The owner.
        """
        return cls(key, Version(epoch, 0, 0, epoch, epoch), first, first, 0, 0, None, 0, now, now, owner)

    # ------------------------------------------------------------------------------------------------------- encoding

    def pack(self) -> builtins.bytes:
        """Return the bytes that a database stores, with a checksum that covers the key.

        The bytes do not contain `updated` and `expires`, because a server sets these by its clock.  They do not contain
        the metadata, which `Metadata.pack` encodes, but only its checksum.
        """
        v = self.version
        data = _encode(
            (
                (v.epoch, v.generation, v.rounds, v.tip, v.stamp),
                self.first,
                self.turns,
                self.start,
                self.messages_until,
                self.tail,
                self.bytes,
                self.created,
                self.owner,
                self.ttl,
                self.changes,
                self.expiry_ttl,
                self.metadata_sum,
            )
        )
        return data + self.key.checksum(data)

    @classmethod
    def unpack(
        cls,
        key: Key,
        data: builtins.bytes,
        *,
        updated: float,
        expires: float | None,
    ) -> Header:
        """Return the header from stored bytes, without the metadata (see `with_metadata`).

        Args:
            key: The session that the header must belong to.
            data: The result of `pack`.
            updated: As in `Header`.
            expires: As in `Header`.

        Raises:
            CorruptRecord: The bytes are damaged, or belong to another session.
        """
        try:
            if not key.is_sound(data):
                raise CorruptRecord("its header is damaged", key=key)
            version, first, turns, start, until, tail, size, created, owner, ttl, changes, expiry_ttl, total = _decode(
                data[:-CHECKSUM_BYTES]
            )
            updated, expires = float(updated), None if expires is None else float(expires)
            if not 0 <= updated <= MAX_NUMBER or not (expires is None or isfinite(expires)):
                raise CorruptRecord(f"it was updated at {updated}, and expires at {expires}", key=key)
        except UNREADABLE as error:
            raise CorruptRecord(f"its header cannot be read: {error}", key=key) from None
        return cls(
            key,
            Version(*version),
            first,
            turns,
            start,
            until,
            tail,
            size,
            created,
            updated,
            owner,
            EMPTY,
            ttl,
            expires,
            changes,
            expiry_ttl,
            total,
        )

    def with_metadata(self, data: builtins.bytes | None) -> Header:
        """Return the header with its metadata.

        Args:
            data: The result of `Metadata.pack`; None: no metadata are stored.

        Raises:
            CorruptRecord: The metadata are damaged, belong to another session, are missing, or are older than the
                header.
        """
        if data is None and not self.metadata_sum:
            return self
        metadata = Metadata.unpack(self.key, data)
        if self.metadata_sum != (data[-CHECKSUM_BYTES:] if data and metadata else b""):
            raise CorruptRecord("its metadata are missing, or older than its header", key=self.key)
        return msgspec.structs.replace(self, metadata=metadata)

    # -------------------------------------------------------------------------------------------------------- answers

    def alive(self, now: float) -> bool:
        """Return whether the session has not expired."""
        return self.expires is None or now < self.expires

    def info(self, now: float) -> SessionInfo:
        """Return the info of the session for readers."""
        return SessionInfo(
            self.key,
            self.version,
            self.first,
            self.turns,
            self.messages_until - self.start,
            self.bytes,
            self.created,
            self.updated,
            self.owner,
            self.metadata,
            self.ttl,
            None if self.expires is None else self.expires - now,
        )

    def receipt(self, now: float, version: Version, number: int | None, previous: Version | None) -> Receipt:
        """Return the receipt of a commit, with the counts of this header."""
        expires_in = None if self.expires is None else self.expires - now
        return Receipt(version, number, self.first, self.turns, self.messages_until - self.start, previous, expires_in)

    # --------------------------------------------------------------------------------------------------------- checks

    def check(self, expect: Expect) -> None:
        """Refuse a write if the session does not meet its condition.

        Raises:
            Conflict: The session does not meet `expect`.
            HistoryRegressed: The session is older than the version in `expect`, or has diverged from it.
        """
        if expect is not None:
            check_condition(self.key, self.version, expect)

    def check_owner(self, owner: str | None) -> None:
        """Refuse a call for one owner if the session belongs to another owner.

        Args:
            owner: The owner of the call; None: any owner.

        Raises:
            SessionNotFound: The session belongs to another owner.
        """
        if owner is not None and self.owner != owner:
            raise missing(self.key, owner)

    def may_continue(self, since: Version) -> bool:
        """Return whether the records after `since` can be read alone, if a stored record still ends there.

        Raises:
            HistoryRegressed: The session is older than `since`, or has diverged from it.
        """
        check_not_ahead(self.key, self.version, since)
        return since.epoch == self.version.epoch and since.generation == self.version.generation

    def _refusal(self, record: Record) -> str:
        """Return the reason that a later round of a turn cannot be stored, and the next step."""
        what = f"part {record.part} of turn {record.id!r} cannot be stored in session {self.key}"
        if self.tail is None:
            return f"{what}: the session has no turn; begin the turn with part 0"
        id, part, open = self.tail
        if id != record.id:
            return (
                f"{what}: another turn was stored after it, or the turn was never begun; load the session, and write "
                "the remaining messages as a new turn with a new turn id"
            )
        if not open:
            return f"{what}: the turn is closed; write further messages as a new turn with a new turn id"
        return f"{what}: its last part is {part}; store part {part + 1} next"

    def check_bytes(self, limit: int | None, before: int) -> None:
        """Refuse a change that makes the session larger than before, and larger than the limit.

        Args:
            limit: `Change.max_bytes`.
            before: The size of the session before the change, in bytes.

        Raises:
            TooLarge: The session would be too large.
        """
        if limit is not None and limit < self.bytes > before:
            raise TooLarge(
                f"session {self.key} would take {self.bytes} bytes, and the limit is {limit} (max_session_bytes): "
                "write shorter messages, retain fewer turns, begin a new session, or raise the limit"
            )

    # -------------------------------------------------------------------------------------------------------- changes

    def cut(self, keep: int, last: Record | None, size: int, now: float) -> Header:
        """Return the header without the turns numbered `keep` and above; there must be such turns.

        Args:
            keep: The number of a turn, below `self.turns`.
            last: The last record that begins below `keep`; None if there is none.
            size: Size in bytes of the records after `last`.
            now: Seconds since 1970, by the backend's clock.

        Raises:
            SplitsSealed: `keep` falls inside `last`.
            CorruptRecord: The turns before `keep` are not stored.
        """
        version = self.version
        if keep > (self.first if last is None else last.next_turn):
            raise gap(self, keep - 1)  # otherwise the rest would pass for the whole history
        if last is None:
            rounds, start, until, tip, tail = 0, 0, 0, version.epoch, None
        elif last.next_turn > keep:
            raise SplitsSealed(
                f"turns {last.number} to {last.next_turn - 1} of session {self.key} are sealed in one record: "
                f"a cut at turn {keep} would split it",
                boundary=last.number,
            )
        else:
            rounds, start, until, tip = last.rounds_until, self.start, last.messages_until, last.tip
            tail = (last.id, last.part, last.open)
        return msgspec.structs.replace(
            self,
            version=Version(version.epoch, version.generation + 1, rounds, tip, version.stamp),
            first=min(self.first, keep),
            turns=keep,
            start=start,
            messages_until=until,
            tail=tail,
            bytes=self.bytes - size,
            updated=now,
        )

    def extend(self, change: Change, now: float) -> tuple[Header, list[Record]]:
        """Return the header after an append, and the records to store.

        Raises:
            Conflict: The change begins with a later round of a turn that is not the last turn, or is not open.
            TooLarge: A record would be larger than 16 MiB encoded.
        """
        version = self.version
        turns, rounds, until, tip, size = self.turns, version.rounds, self.messages_until, version.tip, self.bytes
        id = change.id.encode()
        record = change.append[0]
        if not record.turns and self.tail != (record.id, record.part - 1, True):
            raise Conflict(self._refusal(record), actual=version)
        placed = []
        for record in change.append:
            number = turns if record.turns else turns - 1
            turns += record.turns
            rounds += record.rounds
            until += record.count
            tip = chain(tip, id)
            stored = record.placed(number=number, rounds_until=rounds, messages_until=until, tip=tip)
            more = stored.size
            if more > SURE_TO_FIT:
                _ = stored.payload  # encodes it, which raises TooLarge over the limit
            size += more
            placed.append(stored)
        header = Header(
            self.key,
            Version(version.epoch, version.generation, rounds, tip, version.stamp),
            self.first,
            turns,
            self.start,
            until,
            (record.id, record.part, record.open),
            size,
            self.created,
            now,
            self.owner,
            self.metadata,
            self.ttl,
            self.expires,
            self.changes + 1,
            self.expiry_ttl,
            self.metadata_sum,
        )
        return header, placed

    def drop(self, first: Record, size: int) -> Header:
        """Return the header without the records before `first`.  The version does not change.

        Args:
            first: The first record that stays.
            size: Size in bytes of the records before it.
        """
        return msgspec.structs.replace(
            self, first=first.number, start=first.messages_until - first.count, bytes=self.bytes - size
        )

    def describe(self, change: Change) -> Header:
        """Return the header with the change's metadata, owner and time to live.

        Raises:
            TooLarge: The metadata would be larger than 1 MiB.
        """
        owner, ttl = change.owner, change.ttl
        version, metadata, total = self.version, self.metadata, self.metadata_sum
        if change.metadata is not None:
            metadata = metadata.merge(Metadata.of(change.metadata))
            total = metadata.checksum(self.key) if metadata else b""
        return msgspec.structs.replace(
            self,
            version=msgspec.structs.replace(version, stamp=chain(version.stamp, change.id.encode())),
            metadata=metadata,
            metadata_sum=total,
            owner=self.owner if owner is None else owner,
            ttl=self.ttl if ttl is None else ttl,
            expires=self.expires if ttl is None else None,  # `slide` sets it again
            expiry_ttl=self.expiry_ttl if ttl is None else None,
        )

    def with_times(self, times: Times) -> Header:
        """Return the header with the times of the session in another store."""
        header = msgspec.structs.replace(self, created=times.created, updated=times.updated)
        if times.expires is None:
            return header
        # another store computed the expiry, from a time to live that is unknown here
        return msgspec.structs.replace(header, expires=times.expires, expiry_ttl=None)

    def expiry_may_move(self, ttl: float | None) -> bool:
        """Return whether `slide` may change the header: whether the session, or sessions of the backend, may expire."""
        return ttl is not None or self.ttl is not None or self.expires is not None

    def slide(self, now: float, ttl: float | None) -> Header:
        """Return the header with its expiry moved; the header itself if `expiry_is_due` is False.

        Args:
            now: Seconds since 1970, by the backend's clock.
            ttl: The backend's time to live in seconds, for sessions without their own; None: they never expire.
        """
        if self.ttl is not None:
            ttl = self.ttl
        if not expiry_is_due(ttl, None if self.expires is None else self.expires - now, self.expiry_ttl):
            return self
        if not ttl:
            return msgspec.structs.replace(self, expires=None, expiry_ttl=None)
        return msgspec.structs.replace(self, expires=now + ttl, expiry_ttl=ttl)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(
    tuple[
        tuple[Token, Count, Count, Token, Token],
        Count,
        Count,
        Count,
        Count,
        tuple[str, Count, bool] | None,
        Whole,
        Finite,
        str,
        OwnTTL | None,
        Count,
        OwnTTL | None,
        Token,
    ]
).decode


def chain(tip: bytes, change_id: bytes) -> bytes:
    """Return the next chain value: 8 bytes of BLAKE2b (RFC 7693) over the last chain value and the change id."""
    return blake2b(tip + change_id, digest_size=8).digest()


def gap(header: Header, turn: int) -> CorruptRecord:
    """Return the error for a session that lacks a record.

    Args:
        header: The header of the session.
        turn: The turn before the gap.
    """
    return CorruptRecord("a stored record is missing, or out of order", key=header.key, turn=turn)


def check_delete(key: Key, header: Header | None, expect: Expect, for_owner: str | None, now: float) -> bool:
    """Return whether the session exists and can be deleted.

    Args:
        key: The session.
        header: The stored header; None: the session is not stored.
        expect: The condition.
        for_owner: Delete only a session of this owner; None: of any owner.
        now: Seconds since 1970, by the backend's clock.

    Raises:
        Conflict: The session does not meet `expect`.
        SessionNotFound: The session does not exist, and `expect` is `PRESENT`.
        HistoryRegressed: The session is older than the version in `expect`, or has diverged from it.
        InvalidInput: `key` is not a key, or `expect` is not a condition.
    """
    check_key(key)
    check_expect(expect)
    if for_owner is not None:
        check_id(for_owner, "for_owner")
    if header is None or not header.alive(now) or (for_owner is not None and header.owner != for_owner):
        check_absent(key, expect, for_owner)
        return False
    header.check(expect)
    return True

"""The header of a session: everything about it but its records, and the rules that need no more than that."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from hashlib import blake2b
from math import isfinite
from typing import Final, Literal

import msgspec

from ..errors import (
    Conflict,
    CorruptRecord,
    HistoryRegressed,
    InvalidInput,
    SessionNotFound,
    SplitsSealed,
    TooLarge,
)
from ..limits import MAX_NUMBER, MAX_PAYLOAD_BYTES, SLIDE
from ..values.change import ABSENT, PRESENT, Change, Expect, Mark, Receipt, check_expect
from ..values.ids import check_id
from ..values.key import CHECKSUM_BYTES, Key, check_key
from ..values.metadata import EMPTY, Metadata
from ..values.record import Record
from ..values.session import SessionInfo
from ..values.stored import UNREADABLE, Count, Finite, Moment, OwnTTL, Token, Whole
from ..values.times import Times
from ..values.version import ExactVersion, Version, version_of

SURE_TO_FIT: Final = MAX_PAYLOAD_BYTES // 2
"""Bytes: a record whose size was estimated below this is under the limit.  An estimate leaves out up to 14 bytes of
each message."""


_AGREE: Final = 1.0
"""Seconds: clocks that differ by less count as one, as do two results that differ by the rounding of a double."""


class Header(msgspec.Struct, frozen=True, gc=False):
    """The part of a session that a backend stores beside the records.

    It is a value: every rule returns a new one, or raises.  A database stores it as a row (`pack`), reads it under a
    lock (`unpack`), and computes the next one with `needs` and `plan`.

    Attributes:
        key: The session.
        version: The session's version.
        first: The number of the first turn that is still stored.
        turns: One more than the number of the last turn.
        start: How many messages precede the first record that is still stored.
        messages_until: How many messages precede the end, counted from the same place as `start`.
        tail: The last round's turn id, part, and whether it is open; None if there is no round.
        bytes: The sum of its records' sizes (`Record.size`): what they take without compression or encryption.
        created: When it was made, in seconds since 1970, by the backend's clock.
        updated: When turns were last written or cut, by the same clock; otherwise `created`.
        owner: Its owner; empty if it has none.
        metadata: What the application keeps with it.
        ttl: Its own time to live in seconds (0: never expires); None: the backend's.
        expires: When it expires, by the same clock; None if it does not.
        changes: How many changes were applied to it: the place of the next one among those that are remembered.
        expiry_ttl: The time to live in seconds that `expires` was computed with; None if it is not known.
        metadata_sum: The checksum at the end of `Metadata.pack`, so that metadata that are missing, or older than the
            header, are noticed; empty if there are none.
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
            first: The number of its first turn.
            owner: Its owner.
        """
        return cls(key, Version(epoch, 0, 0, epoch, epoch), first, first, 0, 0, None, 0, now, now, owner)

    # ------------------------------------------------------------------------------------------------------- encoding

    def pack(self) -> builtins.bytes:
        """Return the bytes that a database stores, with a checksum that covers the key.

        `updated` and `expires` are left out, because a server sets them by its own clock; so are the metadata, which
        have a `pack` of their own, but for its checksum.
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
        """Return the header behind stored bytes, without the metadata: see `with_metadata`.

        Args:
            key: The session that the header must belong to.
            data: The result of `pack`.
            updated: As in `Header`.
            expires: When it expires; None if it does not.

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
            data: The result of `Metadata.pack`; None: none are stored.

        Raises:
            CorruptRecord: They are damaged, belong to another session, or are missing or older than the header.
        """
        if data is None and not self.metadata_sum:
            return self
        metadata = Metadata.unpack(self.key, data)
        if self.metadata_sum != (data[-CHECKSUM_BYTES:] if data and metadata else b""):
            raise CorruptRecord("its metadata are missing, or are not the last ones that were stored", key=self.key)
        return msgspec.structs.replace(self, metadata=metadata)

    # -------------------------------------------------------------------------------------------------------- answers

    def alive(self, now: float) -> bool:
        """Return whether the session has not expired."""
        return self.expires is None or now < self.expires

    def info(self, now: float) -> SessionInfo:
        """Return what readers see of the session."""
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
        """Return the answer to a commit; the counts are this header's."""
        expires_in = None if self.expires is None else self.expires - now
        return Receipt(version, number, self.first, self.turns, self.messages_until - self.start, previous, expires_in)

    # --------------------------------------------------------------------------------------------------------- checks

    def check(self, expect: Expect) -> None:
        """Refuse a write whose condition the session does not meet.

        Raises:
            Conflict: It does not meet `expect`.
            HistoryRegressed: It is older than the version in `expect`, or has diverged from it.
        """
        if expect is not None:
            check_condition(self.key, self.version, expect)

    def check_owner(self, owner: str | None) -> None:
        """Refuse what is meant for the sessions of one owner.

        Args:
            owner: That owner; None: any.

        Raises:
            SessionNotFound: The session belongs to another owner.
        """
        if owner is not None and self.owner != owner:
            raise missing(self.key)

    def may_continue(self, since: Version) -> bool:
        """Return whether what follows `since` can be read alone, if the record that ends there is still stored.

        Raises:
            HistoryRegressed: The session is older than `since`, or has diverged from it.
        """
        _check_not_ahead(self.key, self.version, since)
        return since.epoch == self.version.epoch and since.generation == self.version.generation

    def _refusal(self, record: Record) -> str:
        """Return the reason that a later round of a turn cannot be stored, and the next step."""
        what = f"part {record.part} of turn {record.id!r} cannot be stored in session {self.key}"
        if self.tail is None:
            return f"{what}: the session has no turn; begin the turn with part 0"
        id, part, open = self.tail
        if id != record.id:
            return (
                f"{what}: the last turn is another one, {id!r}; load the session, and write the other messages as "
                "a new turn with a new turn id"
            )
        if not open:
            return f"{what}: the turn is closed; write further messages as a new turn with a new turn id"
        return f"{what}: its last part is {part}; store part {part + 1} next"

    def check_bytes(self, limit: int | None, before: int) -> None:
        """Refuse what would take more than the limit, and more than the session takes already.

        Args:
            limit: `Change.max_bytes`.
            before: What the session took before the change.

        Raises:
            TooLarge: It would.
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
            keep: Below `self.turns`.
            last: The last record that begins below `keep`; None if there is none.
            size: Bytes of the records behind it.
            now: Seconds since 1970, by the backend's clock.

        Raises:
            SplitsSealed: `keep` falls inside `last`.
            CorruptRecord: The turns before `keep` are not stored.
        """
        version = self.version
        if keep > (self.first if last is None else last.next_turn):
            raise gap(self, keep - 1)  # or what is left would be taken for all that there was
        if last is None:
            rounds, start, until, tip, tail = 0, 0, 0, version.epoch, None
        elif last.next_turn > keep:
            raise SplitsSealed(
                f"turns {last.number} to {last.next_turn - 1} of session {self.key} are sealed in one record, "
                f"{keep} is inside",
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
        """Return the header with the change and its records at the end, and the records as they are to be stored.

        Raises:
            Conflict: The change begins with a later round of a turn that is not the last, or not open.
            TooLarge: A record would take more than 16 MiB encoded.
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
            if stored.size > SURE_TO_FIT:
                _ = stored.payload  # encodes it, which raises TooLarge over the limit
            size += stored.size
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
        """Return the header without the records before `first`.  The version stays.

        Args:
            first: The first record that stays.
            size: Bytes of the records before it.
        """
        return msgspec.structs.replace(
            self, first=first.number, start=first.messages_until - first.count, bytes=self.bytes - size
        )

    def describe(self, change: Change) -> Header:
        """Return the header with the change's metadata, owner and time to live.

        Raises:
            TooLarge: The metadata would be over 64 KiB.
        """
        owner, ttl = change.owner, change.ttl
        version, metadata, total = self.version, self.metadata, self.metadata_sum
        if change.metadata is not None:
            metadata = metadata.merge(Metadata.of(change.metadata))
            total = metadata.pack(self.key)[-CHECKSUM_BYTES:] if metadata else b""
        return msgspec.structs.replace(
            self,
            version=msgspec.structs.replace(version, stamp=chain(version.stamp, change.id.encode())),
            metadata=metadata,
            metadata_sum=total,
            owner=self.owner if owner is None else owner,
            ttl=self.ttl if ttl is None else ttl,
            expires=self.expires if ttl is None else None,  # `slide` sets it anew
            expiry_ttl=self.expiry_ttl if ttl is None else None,
        )

    def with_times(self, times: Times) -> Header:
        """Return the header with the times of a session that comes from another store."""
        header = msgspec.structs.replace(self, created=times.created, updated=times.updated)
        if times.expires is None:
            return header
        # another store computed the expiry, so it is not known with which time to live
        return msgspec.structs.replace(header, expires=times.expires, expiry_ttl=None)

    def expiry_may_move(self, ttl: float | None) -> bool:
        """Return whether `slide` may change anything: whether the session expires, or the backend's sessions do."""
        return ttl is not None or self.ttl is not None or self.expires is not None

    def slide(self, now: float, ttl: float | None) -> Header:
        """Return the header with its expiry moved; itself if `expiry_is_due` says that it must stay.

        Args:
            now: Seconds since 1970, by the backend's clock.
            ttl: The backend's time to live in seconds, for sessions that have none of their own; None: never expires.
        """
        if self.ttl is not None:
            ttl = self.ttl
        if not expiry_is_due(ttl, None if self.expires is None else self.expires - now, self.expiry_ttl):
            return self
        if not ttl:
            return msgspec.structs.replace(self, expires=None, expiry_ttl=None)
        return msgspec.structs.replace(self, expires=now + ttl, expiry_ttl=ttl)


def expiry_is_due(ttl: float | None, expires_in: float | None, expiry_ttl: float | None = None) -> bool:
    """Return whether using a session has to move its expiry: more than 1/8 of its time to live has passed.

    Using a session moves its expiry backwards only if its time to live has become shorter.  A clock that shows more
    time until the expiry than the time to live that it was computed with is behind the clock that moved it last, and
    moves nothing: the session would end early for all others.

    Args:
        ttl: The session's time to live in seconds, its own or the backend's; None or 0: it never expires.
        expires_in: Seconds until it expires now; None: it does not.
        expiry_ttl: The time to live in seconds that the expiry was computed with; None: not known.  Then one clock is
            assumed, so an expiry that is further away than `ttl` means a shorter time to live.
    """
    if not ttl:
        return expires_in is not None
    if expires_in is None:
        return True
    if expiry_ttl is None:
        return not ttl * SLIDE < expires_in <= ttl
    return expires_in <= latest_due(ttl, expiry_ttl)


def latest_due(ttl: float, expiry_ttl: float) -> float:
    """Return how many seconds before an expiry a use begins to move it.

    Args:
        ttl: The session's time to live in seconds.
        expiry_ttl: The one that the expiry was computed with.
    """
    return ttl * SLIDE if expiry_ttl <= ttl else expiry_ttl + _AGREE


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
    """Return the next chain value: 8 bytes of BLAKE2b (RFC 7693) over the last one and the change id."""
    return blake2b(tip + change_id, digest_size=8).digest()


def fits(seal: Record, run: Sequence[Record], *, last: bool) -> bool:
    """Return whether a sealed record may take the place of others.

    Args:
        seal: The sealed record.
        run: The records whose numbers it covers, as they are stored now.
        last: Whether nothing follows them.
    """
    return (
        bool(run)
        and run[0].number == seal.number
        and run[0].turns > 0
        and run[0].rounds_until - run[0].rounds == seal.rounds_until - seal.rounds
        and run[-1].rounds_until == seal.rounds_until
        and run[-1].tip == seal.tip
        and sum(record.turns for record in run) == seal.turns
        and sum(record.count for record in run) == seal.count
        and not (last and run[-1].open)
    )


def check_seal(key: Key, record: Record) -> None:
    """Refuse what cannot be sealed, before any I/O.

    Raises:
        InvalidInput: `key` is not a key, or `record` is not a record that begins a turn.
        TooLarge: The record takes more than 16 MiB encoded.
    """
    check_key(key)
    if type(record) is not Record or not record.turns:
        raise InvalidInput("seal needs a record that begins a turn, as Record.seal makes one")
    _ = record.payload


def is_met(version: Version, expect: Expect | Literal[Mark.ANY]) -> bool:
    """Return whether an existing session at a version meets a condition."""
    if expect is None or isinstance(expect, Mark):
        return expect is not ABSENT
    return expect.met_by(version)


def unchanged_since(version: Version, expect: Expect | Literal[Mark.ANY]) -> Expect:
    """Return the condition that nobody has written since a read that met `expect`."""
    return version.exact if isinstance(expect, ExactVersion) else version


def check_condition(key: Key, version: Version, expect: Expect) -> None:
    """Refuse a write whose condition an existing session does not meet.

    Args:
        key: The session.
        version: The session's version.
        expect: The condition.

    Raises:
        Conflict: The session does not meet it.
        HistoryRegressed: It is older than the version in `expect`, or has diverged from it.
    """
    if is_met(version, expect):
        return
    if expect is None or isinstance(expect, Mark):
        raise Conflict(
            f"session {key} already exists, and expect=ABSENT or a copy needs a new one: "
            "choose another session id, or append to it without expect=ABSENT",
            actual=version,
        )
    _check_not_ahead(key, version, version_of(expect))
    raise Conflict(
        f"session {key} has changed since its version was read: load it again, and write with the new version",
        expected=expect,
        actual=version,
    )


def _check_not_ahead(key: Key, version: Version, seen: Version) -> None:
    if seen.epoch != version.epoch or seen.generation < version.generation:
        return
    diverged = seen.rounds == version.rounds and seen.tip != version.tip
    if seen.generation > version.generation or seen.rounds > version.rounds or diverged:
        raise regressed(key, version, seen)


def regressed(key: Key, version: Version, seen: Version) -> HistoryRegressed:
    """Return the error for a reader who saw what is no longer stored.

    Args:
        key: The session.
        version: The session's version.
        seen: The version that the reader saw.
    """
    return HistoryRegressed(
        f"session {key} is at {version!r}, older than {seen!r} or diverged from it: the store has lost acknowledged "
        "writes, for example in a fail-over; to go on from the stored turns, load the session again",
        seen=seen,
        actual=version,
    )


def gap(header: Header, turn: int) -> CorruptRecord:
    """Return the error for a session that lacks a record.

    Args:
        header: The session's.
        turn: The turn before the place.
    """
    return CorruptRecord("a stored record is missing, or out of order", key=header.key, turn=turn)


def missing(key: Key) -> SessionNotFound:
    """Return the error for a session that is not stored.

    Raises:
        InvalidInput: `key` is not a key.
    """
    check_key(key)
    error = SessionNotFound(f"there is no session {key}, or it has expired", key=key)
    error.add_note("Store.append creates a session, and Store.sessions lists the sessions.")
    return error


def check_absent(key: Key, expect: Expect) -> None:
    """Refuse a write to a session that is not stored, if its condition needs one.

    Raises:
        Conflict: `expect` names a version.
        SessionNotFound: `expect` is `PRESENT`.
    """
    if expect is None or expect is ABSENT:
        return
    if expect is PRESENT:
        raise missing(key)
    raise Conflict(
        f"session {key} was erased or has expired since its version was read: to begin it again, write without expect",
        expected=expect,
    )


def check_delete(key: Key, header: Header | None, expect: Expect, for_owner: str | None, now: float) -> bool:
    """Return whether there is a session to delete.

    Args:
        key: The session.
        header: What is stored; None: nothing.
        expect: The condition.
        for_owner: Only a session of this owner; None: of any.
        now: Seconds since 1970, by the backend's clock.

    Raises:
        Conflict: It does not meet `expect`.
        SessionNotFound: There is none, and `expect` is `PRESENT`.
        HistoryRegressed: It is older than the version in `expect`, or has diverged from it.
        InvalidInput: `key` is not a key, or `expect` is not a condition.
    """
    check_key(key)
    check_expect(expect)
    if for_owner is not None:
        check_id(for_owner, "for_owner")
    if header is None or not header.alive(now) or (for_owner is not None and header.owner != for_owner):
        check_absent(key, expect)
        return False
    header.check(expect)
    return True

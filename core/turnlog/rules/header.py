"""The header of a session: everything about it but its records, and the rules that need no more than that."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from ..errors import Conflict, CorruptRecord, HistoryRegressed, IdReused, SessionNotFound, SplitsSealed, TooLarge
from ..limits import MAX_PAYLOAD_BYTES, SLIDE
from ..values.change import ABSENT, Change, Expect, Receipt
from ..values.key import Key, check_key
from ..values.metadata import EMPTY, Metadata
from ..values.record import Record
from ..values.session import SessionInfo
from ..values.version import Version, check_version

SURE_TO_FIT = (
    MAX_PAYLOAD_BYTES // 8
)  # a size that was not measured counts characters, of at most 4 bytes, and leaves a little out


class Header(msgspec.Struct, frozen=True, gc=False):
    """What a backend keeps of a session beside its records.  It is a value: every rule makes a new one, or raises.

    A backend that is a database stores it as a row, reads it under a lock, and applies a change in the order of
    `SessionState.apply`; it never needs the history for that, at most the record next to a cut.

    Attributes:
        key: Whose header this is.
        version: Where the session is.
        first: The number of the first turn that is still there.
        turns: One more than the number of the last turn.
        start: How many messages lie before the first record that is still there.
        messages_until: How many messages lie before the end, counted from the same place as `start`.
        tail: The last round's turn id, part, and whether it is open; None if there is no round.
        bytes: What its records take.
        created: When it was made.
        updated: When it last changed.
        owner: Whose it is, or empty.
        metadata: What the application keeps beside the turns.
        ttl: Its own time to live in seconds (0: never expires); None: the store's.
        expires: When it expires, by the same clock as `created`; None if it does not.
    """

    key: Key
    version: Version
    first: int
    turns: int
    start: int
    messages_until: int
    tail: tuple[str, int, bool] | None
    bytes: int
    created: float
    updated: float
    owner: str = ""
    metadata: Metadata = EMPTY
    ttl: float | None = None
    expires: float | None = None

    @classmethod
    def new(cls, key: Key, epoch: builtins.bytes, now: float, first: int = 0) -> Header:
        """The header of a session that is made now.

        Args:
            key: Which session.
            epoch: 16 random bytes, never used before.
            now: Seconds since 1970, by the store's clock.
            first: The number of its first turn.
        """
        return cls(key, Version(epoch, 0, 0, epoch, epoch), first, first, 0, 0, None, 0, now, now)

    # ------------------------------------------------------------------------------------------------ what it answers

    def alive(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.expires is None or now < self.expires

    def info(self, now: float) -> SessionInfo:
        """What readers are told."""
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
        """What a commit answers: the counts are this header's."""
        expires_in = None if self.expires is None else self.expires - now
        return Receipt(version, number, self.first, self.turns, self.messages_until - self.start, previous, expires_in)

    # ---------------------------------------------------------------------------------------- what it holds a caller to

    def check(self, expect: Expect, *, turns: bool) -> None:
        """Refuse a change that expects the session elsewhere.

        Args:
            expect: What the change names.
            turns: Compare turns only, not metadata, owner and time to live.

        Raises:
            Conflict: It has moved on.
            HistoryRegressed: It is behind, or beside, what the caller saw.
        """
        if expect is None:
            return
        version = self.version
        if expect is ABSENT:
            raise Conflict(f"session {self.key} exists, the change expected that it does not", actual=version)
        if expect.same_turns(version) if turns else expect == version:
            return
        self._check_not_ahead(expect)
        raise Conflict(
            f"session {self.key} is at {version!r}, the change expected {expect!r}: read it again and decide anew",
            expected=expect,
            actual=version,
        )

    def _check_not_ahead(self, seen: Version) -> None:
        version = self.version
        if seen.epoch != version.epoch or seen.generation < version.generation:
            return
        beside = seen.rounds == version.rounds and seen.tip != version.tip
        if seen.generation > version.generation or seen.rounds > version.rounds or beside:
            raise self.regressed(seen)

    def regressed(self, seen: Version) -> HistoryRegressed:
        """The error for a reader who saw what is no longer there."""
        return HistoryRegressed(
            f"session {self.key} is at {self.version!r}, this caller saw {seen!r}: "
            "the store has lost writes that it acknowledged",
            seen=seen,
            actual=self.version,
        )

    def may_continue(self, since: Version) -> bool:
        """Whether a reader at `since` can be sent only what follows, if the record that ends there is still at hand.

        Raises:
            HistoryRegressed: The session is behind, or beside, what the reader saw.
        """
        self._check_not_ahead(since)
        return since.epoch == self.version.epoch and since.generation == self.version.generation

    # ------------------------------------------------------------------------------------------------- what changes it

    def cut(self, keep: int, last: Record | None, size: int, now: float) -> Header:
        """Without the turns numbered `keep` and above; only where there are such turns.

        Args:
            keep: Below `self.turns`.
            last: The last record that begins below `keep`; None if there is none.
            size: Bytes of the records behind it.
            now: Seconds since 1970, by the store's clock.

        Raises:
            SplitsSealed: `keep` falls inside `last`.
        """
        version = self.version
        if last is None:
            end, start, upto, tip, tail = 0, 0, 0, version.epoch, None
        elif last.next_turn > keep:
            raise SplitsSealed(
                f"turns {last.number} to {last.next_turn - 1} of session {self.key} are sealed in one record, "
                f"{keep} is inside",
                boundary=last.number,
            )
        else:
            end, start, upto, tip, tail = (
                last.rounds_until,
                self.start,
                last.messages_until,
                last.tip,
                (last.id, last.part, last.open),
            )
        return msgspec.structs.replace(
            self,
            version=Version(version.epoch, version.generation + 1, end, tip, version.stamp),
            first=min(self.first, keep),
            turns=keep,
            start=start,
            messages_until=upto,
            tail=tail,
            bytes=self.bytes - size,
            updated=now,
        )

    def extend(self, change: Change, now: float) -> tuple[Header, list[Record]]:
        """With the change's records at the end; also the records as they are to be stored.

        Raises:
            Conflict: It begins with a later round of a turn that is not the last, or not open.
            TooLarge: A record would take more than 16 MiB encoded.
        """
        version = self.version
        turns, end, upto, tip, size = self.turns, version.rounds, self.messages_until, version.tip, self.bytes
        id = change.id.encode()
        record = change.append[0]
        if not record.turns and self.tail != (record.id, record.part - 1, True):
            raise Conflict(
                f"part {record.part} of turn {record.id!r} must follow its part {record.part - 1}, still open, "
                f"at the end of session {self.key}; there is {self._tail_text()}",
                actual=version,
            )
        placed = []
        for record in change.append:
            taken = record.size
            if taken > SURE_TO_FIT:
                _ = record.payload  # which raises what is too large
            size += taken
            number = turns if record.turns else turns - 1
            turns += record.turns
            end += record.rounds
            upto += record.count
            tip = chain(tip, id)
            stored = Record(
                record.id,
                record.part,
                record.open,
                record.time,
                record.count,
                record.rounds,
                record.turns,
                number,
                end,
                upto,
                tip,
                record._payload,
                record._messages,
                record._inner,
                taken,
            )
            placed.append(stored)
        header = Header(
            self.key,
            Version(version.epoch, version.generation, end, tip, version.stamp),
            self.first,
            turns,
            self.start,
            upto,
            (record.id, record.part, record.open),
            size,
            self.created,
            now,
            self.owner,
            self.metadata,
            self.ttl,
            self.expires,
        )
        return header, placed

    def _tail_text(self) -> str:
        if self.tail is None:
            return "no turn"
        id, part, open = self.tail
        return f"part {part} of turn {id!r}, {'open' if open else 'not open'}"

    def drop(self, first: Record, size: int) -> Header:
        """Without the records before `first`.  No version changes by it.

        Args:
            first: The first record that stays.
            size: Bytes of the records before it.
        """
        return msgspec.structs.replace(
            self, first=first.number, start=first.messages_until - first.count, bytes=self.bytes - size
        )

    def describe(self, change: Change, now: float) -> Header:
        """With the change's metadata, owner and time to live.

        Raises:
            TooLarge: The metadata would be over 64 KiB.
        """
        metadata, owner, ttl = change.metadata, change.owner, change.ttl
        version = self.version
        return msgspec.structs.replace(
            self,
            version=msgspec.structs.replace(version, stamp=chain(version.stamp, change.id.encode())),
            metadata=self.metadata if metadata is None else self.metadata.merge(Metadata.of(metadata)),
            owner=self.owner if owner is None else owner,
            ttl=self.ttl if ttl is None else ttl,
            updated=now,
            expires=self.expires if ttl is None else None,  # `slide` sets it anew
        )

    def check_bytes(self, limit: int | None, before: int) -> None:
        """Refuse what would take more than the change allows, and more than the session takes already.

        Args:
            limit: `Change.max_bytes`.
            before: What it took before the change.

        Raises:
            TooLarge: It would.
        """
        if limit is not None and limit < self.bytes > before:
            raise TooLarge(
                f"session {self.key} would take {self.bytes} bytes, the limit is {limit}: "
                "retain fewer turns, or begin anew"
            )

    def slide(self, now: float, ttl: float | None) -> Header:
        """With the expiry moved, where it is due: itself, if less than 1/8 of the time to live has passed since then.

        Args:
            now: Seconds since 1970, by the store's clock.
            ttl: The store's time to live in seconds, for sessions that have none of their own; None: never expires.
        """
        own = self.ttl
        if own is not None:
            ttl = own
        if not ttl:
            return self if self.expires is None else msgspec.structs.replace(self, expires=None)
        if self.expires is not None and ttl * SLIDE < self.expires - now <= ttl:
            return self
        return msgspec.structs.replace(self, expires=now + ttl)


def chain(tip: bytes, change_id: bytes) -> bytes:
    """The next chain value: 8 bytes of BLAKE2b (RFC 7693) over the last one and the change id."""
    return blake2b(tip + change_id, digest_size=8).digest()


def fits(seal: Record, run: Sequence[Record], *, last: bool) -> bool:
    """Whether a sealed record may take the place of others.

    Args:
        seal: What was sealed.
        run: The records whose numbers it covers, as they are now.
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


def check_whole(
    header: Header, records: Sequence[Record], last: int | None, before: int | None, since: Version | None
) -> None:
    """Refuse to take what is left of a damaged session for what there was.

    Args:
        header: The session's.
        records: What was found.
        last: As it was asked for.
        before: As it was asked for.
        since: As it was asked for, if `records` are what follows it; otherwise None.

    Raises:
        CorruptRecord: A record is missing, or stands where it does not belong.
    """
    if last == 0 and since is None:
        return
    if not records:
        if since is not None:
            there = since.rounds < header.version.rounds
        else:
            there = header.messages_until > header.start and (before is None or before > header.first)
        if there:
            raise _gap(header, header.first)
        return
    first, end = records[0], records[0].rounds_until - records[0].rounds
    if since is not None:
        begins = end == since.rounds
    elif last is None or first.number <= header.first:
        begins = first.number == header.first and first.messages_until - first.count == header.start
    else:
        begins = first.turns > 0 and records[-1].messages_until - first.messages_until + first.count >= last
    if not begins:
        raise _gap(header, header.first if since is None else first.number - 1)
    for record in records:
        end += record.rounds
        if record.rounds_until != end:
            raise _gap(header, record.number - 1)
    final = records[-1]
    if before is None or final.next_turn >= header.turns:
        if (
            end != header.version.rounds
            or final.messages_until != header.messages_until
            or final.tip != header.version.tip
        ):
            raise _gap(header, final.next_turn)
    elif not final.number < before <= final.next_turn:
        raise _gap(header, final.next_turn)


def _gap(header: Header, turn: int) -> CorruptRecord:
    return CorruptRecord("a record is missing, or is not where it belongs", key=header.key, turn=turn)


def missing(key: Key) -> SessionNotFound:
    """The error for a session that is not there.

    Raises:
        InvalidInput: It is no key.
    """
    check_key(key)
    return SessionNotFound(f"there is no session {key}, or it has expired", key=key)


def created_by(key: Key, change: Change, epoch: bytes, now: float) -> Header:
    """The header that a change begins with where there is no session.

    Raises:
        Conflict: It expects one, or begins with a later round of a turn.
        SessionNotFound: It has nothing to put into one.
        InvalidInput: It is no key.
    """
    check_key(key)
    if change.expect is not None and change.expect is not ABSENT:
        raise Conflict(
            f"there is no session {key}, or it has expired; the change expected {change.expect!r}",
            expected=change.expect,
        )
    if change.append and not change.append[0].turns:
        record = change.append[0]
        raise Conflict(
            f"part {record.part} of turn {record.id!r} must follow its part {record.part - 1}, still open; "
            f"there is no session {key}, or it has expired"
        )
    if not change.append and change.metadata is None and change.owner is None and change.ttl is None:
        raise missing(key)
    return Header.new(key, epoch, now, change.first)


def reused(key: Key, change_id: str) -> IdReused:
    """The error for a change id that stands for another change."""
    return IdReused(
        f"change id {change_id!r} stands for another change of session {key}: make a new id for new contents"
    )


def check_delete(key: Key, header: Header | None, expect: Version | None, now: float) -> bool:
    """Whether there is a session to delete.

    Raises:
        Conflict: It is not at `expect`, or there is none.
        HistoryRegressed: It is behind, or beside, `expect`.
        InvalidInput: `key` is no key, or `expect` no version.
    """
    check_key(key)
    if expect is not None:
        check_version(expect, "expect")
    if header is None or not header.alive(now):
        if expect is not None:
            raise Conflict(f"there is no session {key}, or it has expired; expected was {expect!r}", expected=expect)
        return False
    header.check(expect, turns=False)
    return True

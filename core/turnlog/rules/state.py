"""`SessionState`: a whole session as a value that applies changes and answers reads by the rules of the contract.

The memory backend uses it, and any other backend that reads and writes whole sessions can use it:
`docs/examples/turnlog-jsonl` is an example.  A backend that stores records separately, such as a database, calls
`needs` and `plan` itself.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Final, NoReturn

import msgspec

from ..errors import CorruptRecord
from ..limits import REMEMBERED_CHANGES
from ..values.change import Change, Expect, Receipt
from ..values.key import Key
from ..values.record import Record
from ..values.session import Session, check_read
from ..values.version import Version
from . import lines as _lines
from .conditions import missing, regressed
from .header import Header, check_delete
from .plan import NOTHING, Near, Remembered, needs, plan
from .sealing import check_seal, fits
from .window import window

_rounds_until, _number = attrgetter("rounds_until"), attrgetter("number")

_KEEP_WHOLE: Final = 4_096
"""Maximum size in bytes of a change that is remembered whole.

A larger change, or a change that drops turns, is remembered by its digest, so that its turns can be freed.
"""


class _Ring:
    """The changes that a session remembers, shared by its states: each state sees the last 64 before its own place.

    Only the state that sees all entries adds an entry in place.  Other states make a new ring, and a full ring is also
    replaced by a new one.
    """

    __slots__ = ("entries", "until")

    def __init__(self, entries: Iterable[tuple[str, int, Remembered]] = ()) -> None:
        self.entries = {id: (place, one) for id, place, one in entries}
        self.until = 0 if not self.entries else next(reversed(self.entries.values()))[0] + 1

    def seen(self, until: int) -> list[tuple[str, int, Remembered]]:
        """Return the changes that a state at this place remembers, the oldest first."""
        first = until - REMEMBERED_CHANGES
        return [(id, place, one) for id, (place, one) in self.entries.items() if first <= place < until]

    def find(self, id: str, until: int) -> Remembered | None:
        """Return the change with this id, if a state at this place remembers it."""
        found = self.entries.get(id)
        return found[1] if found is not None and until - REMEMBERED_CHANGES <= found[0] < until else None

    def add(self, id: str, place: int, one: Remembered) -> _Ring:
        """Return a ring with one more change: the same ring, or a new ring if other states would see the change."""
        entries = self.entries
        if self.until == place and len(entries) < 2 * REMEMBERED_CHANGES and id not in entries:
            entries[id] = place, one
            self.until += 1
            return self
        return _Ring([*self.seen(place)[1 - REMEMBERED_CHANGES :], (id, place, one)])


class SessionState(msgspec.Struct, eq=False, gc=False, weakref=False):
    """One session: its header, its records and the changes that it remembers.

    It is a value: `apply`, `seal` and `read` return the next state, or the same object if nothing has to be stored.
    The states of a session share an append-only list of records and a dictionary of changes, and each state sees a part
    of both.  An append therefore takes the same time for every length of the history.  Threads with their own event
    loops need a lock around the read of a state and its replacement.
    """

    key: Key
    """The session."""
    header: Header | None
    """The header; None: the session does not exist."""
    _log: list[Record]
    _start: int  # this state's records are _log[_start:_stop]
    _stop: int
    _ring: _Ring
    _ttl: float | None

    @classmethod
    def absent(cls, key: Key, *, ttl: float | None = None) -> SessionState:
        """Return the state of a session that is not stored.

        Args:
            key: The session.
            ttl: The backend's time to live in seconds, for sessions without their own.
        """
        return cls(key, None, [], 0, 0, _Ring(), ttl)

    @property
    def records(self) -> tuple[Record, ...]:
        """The records, in order."""
        return tuple(self._log[self._start : self._stop])

    # -------------------------------------------------------------------------------------------------------- writing

    def apply(
        self, change: Change, now: float, *, nonce: Callable[[int], bytes] = os.urandom
    ) -> tuple[SessionState, Receipt]:
        """Return the state after a change, and the receipt of the commit.

        Args:
            change: The change.
            now: Seconds since 1970, by the backend's clock.
            nonce: Makes random bytes.

        Returns:
            The next state, which is the same object if nothing has to be stored, and the receipt.

        Raises:
            Conflict: The session does not meet `change.expect`, or a round does not continue the turn that is open.
            IdReused: The id of the change was used for another change.
            SplitsSealed: The cut falls inside a sealed record.
            HistoryRegressed: The session is older than `change.expect`, or has diverged from it.
            TooLarge: There is too much metadata, the session is larger than the change allows, or a record is larger
                than 16 MiB encoded.
            SessionNotFound: The session does not exist and the change does not create it, or it has another owner.
        """
        base, header = self, self.header
        if header is None or (header.expires is not None and not header.alive(now)):
            base, header = SessionState.absent(self.key, ttl=self._ttl), None
        elif change.id in self._ring.entries:
            known = self._ring.find(change.id, header.changes)
            if known is not None:
                slid = header.slide(now, self._ttl)
                receipt = known.receipt(slid, change, now)
                return (self if slid is header else self._with(slid)), receipt
        near, start, stop = needs(self.key, header, change), base._start, base._stop
        if near is not NOTHING:
            near, start, stop = base._near(near)
        done = plan(self.key, header, change, near, now, ttl=self._ttl, nonce=nonce)
        log, after, placed = base._log, done.header, done.append
        if len(log) != stop:  # another state uses the records after `stop`: copy the list
            log, start, stop = log[start:stop], 0, stop - start
        log += placed
        stop += len(placed)
        if start > 64 and start * 2 > stop:
            log, start, stop = log[start:stop], 0, stop - start
        whole = change.retain is None and after.bytes - (header.bytes if header is not None else 0) < _KEEP_WHOLE
        known = Remembered(change if whole else change.digest, after.version, done.number)
        ring = base._ring.add(change.id, after.changes - 1, known)
        state = SessionState(self.key, after, log, start, stop, ring, self._ttl)
        return state, after.receipt(now, after.version, done.number, done.previous)

    def _near(self, near: Near) -> tuple[Near, int, int]:
        """Return the records that `needs` named, and the bounds of the records that stay."""
        log, start, stop = self._log, self._start, self._stop
        below, cut = None, 0
        if near.keep is not None:
            place = bisect_left(log, near.keep, start, stop, key=_number)
            below, cut, stop = log[place - 1] if place > start else None, _size(log[place:stop]), place
        if near.drop is None:
            return Near(near.keep, None, below, cut), start, stop
        place = start
        while place < stop and log[place].next_turn <= near.drop:
            place += 1
        first = log[place] if place < stop else None
        return Near(near.keep, near.drop, below, cut, first, _size(log[start:place])), place, stop

    def seal(self, record: Record, now: float) -> tuple[SessionState, bool]:
        """Return the state with a sealed record in place of the records with the same rounds, and whether it is new.

        Args:
            record: The sealed record (`Record.seal`).
            now: Seconds since 1970, by the backend's clock.

        Returns:
            The next state and True; this state and False, if the records have changed since they were read.

        Raises:
            SessionNotFound: The session does not exist.
            TooLarge: The record takes more than 16 MiB encoded.
        """
        check_seal(self.key, record)
        header = self.header
        if header is None or not header.alive(now):
            raise missing(self.key)
        log, start, stop = self._log, self._start, self._stop
        first = bisect_left(log, record.number, start, stop, key=_number)
        behind = bisect_left(log, record.next_turn, first, stop, key=_number)
        run = log[first:behind]
        if not fits(record, run, last=behind == stop):
            return self, False
        sealed = record.sealed_at(run[-1], record.size)
        header = msgspec.structs.replace(header, bytes=header.bytes - _size(run) + sealed.size)
        log = [*log[start:first], sealed, *log[behind:stop]]
        return SessionState(self.key, header, log, 0, len(log), self._ring, self._ttl), True

    def check_delete(self, expect: Expect, for_owner: str | None, now: float) -> bool:
        """Return whether the session exists and can be deleted.

        Args:
            expect: The condition.
            for_owner: Delete only a session of this owner; None: of any owner.
            now: Seconds since 1970, by the backend's clock.

        Raises:
            Conflict: The session does not meet `expect`.
            SessionNotFound: The session does not exist, and `expect` is `PRESENT`.
            HistoryRegressed: The session is older than `expect`, or has diverged from it.
        """
        return check_delete(self.key, self.header, expect, for_owner, now)

    def _with(self, header: Header) -> SessionState:
        return SessionState(self.key, header, self._log, self._start, self._stop, self._ring, self._ttl)

    # -------------------------------------------------------------------------------------------------------- reading

    def read(
        self,
        now: float,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> tuple[SessionState, Session]:
        """Return the next state, and the answer of `Backend.read`.

        Args:
            now: Seconds since 1970, by the backend's clock.
            last: As in `Backend.read`.
            before: As in `Backend.read`.
            since: As in `Backend.read`.
            touch: As in `Backend.read`.

        Returns:
            The next state, which is the same object if the expiry need not be moved, and the session.

        Raises:
            SessionNotFound: The session does not exist, or has expired.
            HistoryRegressed: The session is older than `since`, or has diverged from it.
        """
        check_read(last, before, since)
        header = self.header
        if header is None or (header.expires is not None and not header.alive(now)):
            raise missing(self.key)
        state = self
        if touch and header.expiry_may_move(self._ttl):
            header = header.slide(now, self._ttl)
            state = self if header is self.header else self._with(header)
        log, start, stop = self._log, self._start, self._stop
        if since is not None and header.may_continue(since):
            place = self._place_after(since, header)
            if place is not None:
                return state, Session(header.info(now), tuple(log[place:stop]), continues=True)
        if before is not None:
            stop = bisect_left(log, before, start, stop, key=_number)
        if last is not None:
            start = window(log, last, start, stop)
        return state, Session(header.info(now), tuple(log[start:stop]))

    def _place_after(self, since: Version, header: Header) -> int | None:
        """Return the index of the first record after `since`; None if a seal or a drop has removed that boundary."""
        log, start, stop = self._log, self._start, self._stop
        if since.rounds == header.version.rounds:
            return stop
        place = bisect_left(log, since.rounds, start, stop, key=_rounds_until)  # not `stop`: the last record ends later
        record = log[place]
        if record.rounds_until == since.rounds:
            if record.tip != since.tip:
                raise regressed(self.key, header.version, since)
            return place + 1
        return place if since.rounds == 0 and record.rounds_until == record.rounds else None

    # -------------------------------------------------------------------------------------------------------- storing

    def lines(self) -> list[bytes]:
        """Return the state as lines of JSON without line ends: the header, the remembered changes, then the records.

        The list is empty for a session that is not stored.
        """
        if self.header is None:
            return []
        key, changes = self.key, [(id, one) for id, _, one in self._ring.seen(self.header.changes)]
        records = [_lines.record(key, record) for record in self.records]
        return [_lines.header(self.header), _lines.changes(key, changes), *records]

    @classmethod
    def from_lines(cls, lines: Sequence[bytes], key: Key, *, ttl: float | None = None) -> SessionState:
        """Return the state from its lines.

        If a line is damaged or missing, or the lines belong to another session, every method of the state except
        `check_delete` raises `CorruptRecord`.

        Args:
            lines: The result of `lines`; empty for a session that is not stored.
            key: The session that the lines must belong to.
            ttl: The backend's time to live in seconds, for sessions without their own.
        """
        if not lines:
            return cls.absent(key, ttl=ttl)
        header: Header | None = None
        try:
            header = _lines.parse_header(key, lines)
            changes, records = _lines.parse(header, lines)
        except CorruptRecord as damage:
            return _Damaged(key, header, [], 0, 0, _Ring(), ttl, damage)
        first = header.changes - len(changes)
        ring = _Ring((id, place, one) for place, (id, one) in enumerate(changes, first))
        return cls(header.key, header, records, 0, len(records), ring, ttl)


class _Damaged(SessionState):
    """A session that cannot be read.  It can be deleted without a condition, or if its header can be read."""

    _damage: CorruptRecord

    @property
    def records(self) -> tuple[Record, ...]:
        raise self._damage

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise self._damage

    apply = seal = read = lines = _refuse

    def check_delete(self, expect: Expect, for_owner: str | None, now: float) -> bool:
        if self.header is not None:
            return super().check_delete(expect, for_owner, now)
        if expect is not None or for_owner is not None:
            raise self._damage
        return True


def _size(records: Iterable[Record]) -> int:
    return sum(record.size for record in records)

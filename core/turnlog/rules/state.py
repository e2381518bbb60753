"""The rules of the contract, executable: a session as a value that applies a change and answers a read.

The memory store stands on it, and so does any store that can read and write a session as a whole;
`docs/examples/turnlog-jsonl` is one.  A store that keeps records apart, as a database does, holds the same rules with
`Header` and statements of its own, in the order of `SessionState.apply`.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from operator import attrgetter

import msgspec

from ..limits import REMEMBERED_CHANGES
from ..values.change import Change, Receipt, copy_digest
from ..values.key import Key
from ..values.record import Record
from ..values.session import Page, Query, Session, SessionInfo, check_read
from ..values.version import Version
from . import lines as _lines
from .header import SURE_TO_FIT, Header, check_delete, check_whole, created_by, fits, missing, reused

__all__ = [
    "Header",
    "SessionState",
    "check_delete",
    "check_read",
    "check_whole",
    "copy_digest",
    "created_by",
    "file_key",
    "fits",
    "missing",
    "page",
    "reused",
]

_upto, _end, _number = attrgetter("messages_until"), attrgetter("rounds_until"), attrgetter("number")
_KEEP_WHOLE = (
    4_096  # a change of more bytes, or that drops turns, is remembered by its digest, so that turns can be freed
)


class _Remembered(msgspec.Struct, frozen=True, gc=False):
    """A change that was applied: what a repeat is compared with, and what it is answered."""

    id: str
    place: int
    asked: Change | bytes
    version: Version
    number: int | None

    @property
    def digest(self) -> bytes:
        """The change's digest."""
        return self.asked if isinstance(self.asked, bytes) else self.asked.digest


class _Ring:
    """The changes that a session remembers, shared by its states: each sees the last 64 before an end of its own.

    Entries are added in place only by the state that sees all of them; otherwise, and before it grows, it is made anew.
    """

    __slots__ = ("end", "entries")

    def __init__(self, entries: Iterable[_Remembered] = ()) -> None:
        self.entries = {entry.id: entry for entry in entries}
        self.end = 0 if not self.entries else next(reversed(self.entries.values())).place + 1

    def seen(self, end: int) -> list[_Remembered]:
        """What a state with this end remembers, oldest first."""
        return [entry for entry in self.entries.values() if end - REMEMBERED_CHANGES <= entry.place < end]

    def find(self, id: str, end: int) -> _Remembered | None:
        """The change with this id, if a state with this end remembers it."""
        entry = self.entries.get(id)
        return entry if entry is not None and end - REMEMBERED_CHANGES <= entry.place < end else None

    def add(self, entry: _Remembered) -> _Ring:
        """With one more at its place: the same ring, or a new one that leaves this to the states that see it."""
        entries = self.entries
        if self.end == entry.place and len(entries) < 2 * REMEMBERED_CHANGES and entry.id not in entries:
            entries[entry.id] = entry
            self.end += 1
            return self
        return _Ring([*self.seen(entry.place)[1 - REMEMBERED_CHANGES :], entry])


class SessionState(msgspec.Struct, eq=False, gc=False, weakref=False):
    """One session: its header, its records and the changes that it remembers.

    It is a value: `apply` and `read` answer with the next state, and with the same object when nothing must be stored.
    States share what they have in common, an append-only list of records and a dictionary of changes, each of which a
    state sees up to a place of its own; so an append costs the same whatever the length.  States of one session must be
    made one at a time.
    """

    key: Key
    """Which session."""
    header: Header | None
    """Everything but the records; None: there is no session."""
    _log: list[Record]
    _start: int  # this state's records are _log[_start:_stop]
    _stop: int
    _ring: _Ring
    _end: int  # this state remembers what stands before it
    _ttl: float | None

    @classmethod
    def absent(cls, key: Key, *, ttl: float | None = None) -> SessionState:
        """The state of a session that is not there.

        Args:
            key: Which session.
            ttl: The store's time to live in seconds, for sessions that have none of their own.
        """
        return cls(key, None, [], 0, 0, _Ring(), 0, ttl)

    @property
    def records(self) -> tuple[Record, ...]:
        """Its records, in order."""
        return tuple(self._log[self._start : self._stop])

    # ---------------------------------------------------------------------------------------------------------- writing

    def apply(
        self, change: Change, now: float, *, nonce: Callable[[int], bytes] = os.urandom
    ) -> tuple[SessionState, Receipt]:
        """The state after a change, and what to answer.

        Args:
            change: What is asked.
            now: Seconds since 1970, by the store's clock.
            nonce: Makes so many random bytes.

        Returns:
            The next state, the same object if nothing must be stored, and the receipt.

        Raises:
            Conflict: The session is not where the change expects it.
            IdReused: Its id stands for another change.
            SplitsSealed: It would cut inside a sealed record.
            HistoryRegressed: The session is behind, or beside, what the change expects.
            TooLarge: Too much metadata, more bytes than it allows, or a record of more than 16 MiB encoded.
            SessionNotFound: There is no session, and it does not make one.
        """
        base, header = self, self.header
        if header is None or (header.expires is not None and not header.alive(now)):
            base = SessionState.absent(self.key, ttl=self._ttl)
            header, previous = created_by(self.key, change, nonce(16), now), None
        else:
            previous = header.version
            if change.id in self._ring.entries:
                known = self._ring.find(change.id, self._end)
                if known is not None:
                    return self._repeat(change, known, now)
            if change.seal is not None:
                return self._seal(change.seal, header), header.receipt(now, previous, None, previous)
            if change.expect is not None:
                header.check(change.expect, turns=bool(change.append) or change.keep is not None)

        log, start, stop, number = base._log, base._start, base._stop, None
        if change.keep is not None and change.keep < header.turns:
            place = bisect_left(log, change.keep, start, stop, key=_number)
            last = log[place - 1] if place > start else None
            header = header.cut(change.keep, last, _size(log[place:stop]), now)
            stop = place
        placed: list[Record] = []
        if change.append:
            header, placed = header.extend(change, now)
            number = change.number_in(placed)
        if change.metadata is not None or change.owner is not None or change.ttl is not None:
            header = header.describe(change, now)
        if len(log) != stop:  # other states see what lies behind: leave it to them
            log, start, stop = log[start:stop], 0, stop - start
        log += placed
        stop += len(placed)
        if change.retain is not None and header.turns - change.retain > header.first:
            place = bisect_left(log, header.turns - change.retain + 1, start, stop, key=_after)
            if place > start:
                header = header.drop(log[place], _size(log[start:place]))
                start = place
        if change.max_bytes is not None:
            header.check_bytes(change.max_bytes, base.header.bytes if base.header is not None else 0)
        if start > 64 and start * 2 > stop:
            log, start, stop = log[start:stop], 0, stop - start
        if self._ttl is not None or header.ttl is not None or header.expires is not None:
            header = header.slide(now, self._ttl)
        whole = change.retain is None and header.bytes - (self.header.bytes if self.header else 0) < _KEEP_WHOLE
        asked = change if whole else change.digest
        ring = base._ring.add(_Remembered(change.id, base._end, asked, header.version, number))
        state = SessionState(self.key, header, log, start, stop, ring, base._end + 1, self._ttl)
        return state, header.receipt(now, header.version, number, previous)

    def check(self, expect: Version | None, now: float) -> bool:
        """Whether there is a session to delete.

        Raises:
            Conflict: It is not at `expect`, or there is none.
            HistoryRegressed: It is behind, or beside, `expect`.
        """
        return check_delete(self.key, self.header, expect, now)

    def _repeat(self, change: Change, known: _Remembered, now: float) -> tuple[SessionState, Receipt]:
        if change is not known.asked and change.digest != known.digest:
            raise reused(self.key, change.id)
        assert self.header is not None
        header = self.header.slide(now, self._ttl)
        state = self if header is self.header else self._with(header)
        return state, header.receipt(now, known.version, known.number, known.version)

    def _seal(self, seal: Record, header: Header) -> SessionState:
        """With one record in place of those that hold the same rounds; itself, where they are no longer as read."""
        log, start, stop = self._log, self._start, self._stop
        first = bisect_left(log, seal.number, start, stop, key=_number)
        after = bisect_left(log, seal.next_turn, first, stop, key=_number)
        run = log[first:after]
        if not fits(seal, run, last=after == stop):
            return self
        if seal.size > SURE_TO_FIT:
            _ = seal.payload  # which raises what is too large
        header = msgspec.structs.replace(header, bytes=header.bytes - _size(run) + seal.size)
        log = [
            *log[start:first],
            msgspec.structs.replace(seal, messages_until=run[-1].messages_until, _size=seal.size),
            *log[after:stop],
        ]
        return SessionState(self.key, header, log, 0, len(log), self._ring, self._end, self._ttl)

    def _with(self, header: Header) -> SessionState:
        return SessionState(self.key, header, self._log, self._start, self._stop, self._ring, self._end, self._ttl)

    # ---------------------------------------------------------------------------------------------------------- reading

    def read(
        self,
        now: float,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> tuple[SessionState, Session]:
        """What `Store.read` answers.

        Args:
            now: Seconds since 1970, by the store's clock.
            last: As in `Store.read`.
            before: As in `Store.read`.
            since: As in `Store.read`.
            touch: As in `Store.read`.

        Returns:
            The next state, the same object if the expiry need not be moved, and the session.

        Raises:
            SessionNotFound: There is none, or it has expired.
            HistoryRegressed: The session is behind, or beside, `since`.
        """
        check_read(last, before, since)
        header = self.header
        if header is None or (header.expires is not None and not header.alive(now)):
            raise missing(self.key)
        state = self
        if touch and (self._ttl is not None or header.ttl is not None or header.expires is not None):
            header = header.slide(now, self._ttl)
            state = self if header is self.header else self._with(header)
        log, start, stop = self._log, self._start, self._stop
        if since is not None and header.may_continue(since):
            place = self._behind(since, header)
            if place is not None:
                return state, Session(header.info(now), tuple(log[place:stop]), continues=True)
        if before is not None:
            stop = bisect_left(log, before, start, stop, key=_number)
        if last is not None:
            start = self._window(last, stop)
        return state, Session(header.info(now), tuple(log[start:stop]))

    def _behind(self, since: Version, header: Header) -> int | None:
        """Where what follows `since` begins; None, if the place is not at hand: sealed over, or dropped."""
        log, start, stop = self._log, self._start, self._stop
        if since.rounds == header.version.rounds:
            return stop
        place = bisect_left(log, since.rounds, start, stop, key=_end)
        if place == stop:
            return None
        record = log[place]
        if record.rounds_until == since.rounds:
            if record.tip != since.tip:
                raise header.regressed(since)
            return place + 1
        return place if since.rounds == 0 and record.rounds_until == record.rounds else None

    def _window(self, last: int, stop: int) -> int:
        """Where the fewest whole turns begin that end at `stop` and hold at least `last` messages."""
        log, start = self._log, self._start
        if last == 0 or start == stop:
            return stop
        end = log[stop - 1].messages_until
        if end - last <= log[start].messages_until - log[start].count:
            return start
        place = stop - (last + 1) // 2  # as a rule a turn is a question and an answer: look there first
        if place <= start or not log[place - 1].messages_until <= end - last < log[place].messages_until:
            place = bisect_right(log, end - last, max(start, stop - last), stop, key=_upto)
        while not log[place].turns:
            place -= 1
        return place

    # ---------------------------------------------------------------------------------------------------------- keeping

    def lines(self) -> list[bytes]:
        """The state as lines of JSON without line ends: the header, the remembered changes, then a line a record.

        None of them for a session that is not there.
        """
        if self.header is None:
            return []
        changes = [(e.id, e.digest, e.version, e.number) for e in self._ring.seen(self._end)]
        return [_lines.header(self.header), _lines.changes(changes), *map(_lines.record, self.records)]

    @classmethod
    def from_lines(cls, lines: Sequence[bytes], key: Key | None, *, ttl: float | None = None) -> SessionState:
        """The state behind its lines.

        Args:
            lines: What `lines` gave; none for a session that is not there.
            key: Which session they must be of; None: of whichever they say.
            ttl: The store's time to live in seconds, for sessions that have none of their own.

        Raises:
            CorruptRecord: A line is damaged or missing, or they belong to another session.
        """
        if not lines and key is not None:
            return cls.absent(key, ttl=ttl)
        header, changes, records = _lines.parse(key, lines)
        ring = _Ring(
            _Remembered(id, place, digest, version, number)
            for place, (id, digest, version, number) in enumerate(changes)
        )
        return cls(header.key, header, records, 0, len(records), ring, ring.end, ttl)


def _after(record: Record) -> int:
    return record.next_turn


def _size(records: Iterable[Record]) -> int:
    return sum(record.size for record in records)


def page(infos: Iterable[SessionInfo], query: Query) -> Page:
    """The page that a query asks for.

    Args:
        infos: The infos of all sessions that have not expired, in any order, of any namespace.
        query: Which of them.
    """
    found = [i for i in infos if i.key.namespace == query.namespace and (query.owner is None or i.owner == query.owner)]
    found.sort(key=_place)
    if query.after is not None:
        updated, session = query.after
        found = found[bisect_right(found, (-updated, session.encode()), key=_place) :]
    shown = tuple(found[: query.limit])
    return Page(shown, query.cursor_behind(shown[-1]) if len(found) > query.limit else None)


def _place(info: SessionInfo) -> tuple[float, bytes]:
    return -info.updated, info.key.session.encode()


def file_key(key: Key) -> str:
    """A file name for a session: no two keys share one, on any file system, whatever characters they hold.

    32 hexadecimal digits of the SHA-256 of the namespace, and as many of namespace and session id: names keep no case,
    may not hold every character and are at most 255 bytes, so they are digested; sessions of one namespace begin alike.
    """
    namespace = key.namespace.encode()
    whole = b"%d:%b%b" % (len(namespace), namespace, key.session.encode())
    return f"{sha256(namespace).hexdigest()[:32]}-{sha256(whole).hexdigest()[:32]}"

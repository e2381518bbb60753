"""`Entry`: the last turns of one session at one version."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import inf
from operator import attrgetter
from os import urandom
from typing import Final

import msgspec

from turnlog import Change, Key, Receipt, Record, Session, SessionInfo
from turnlog.errors import CorruptRecord, TurnlogError
from turnlog.rules import Header, Near, plan, window

_number = attrgetter("number")
_DEFERRED: Final = Near(deferred=True)  # the receipt has the number of the first kept turn

_ENTRY: Final = 1_900
_RECORD: Final = 496
_MESSAGE: Final = 64
_VALUE: Final = 100
"""Bytes that an entry, a round, a message and a value of metadata take in addition to their text, as measured with
tracemalloc on CPython 3.11."""


class Entry:
    """A session at one version: immutable, except for the time of its last use.

    The entries of one session share a list of records that only grows.  Each entry is a range of it, so that new
    records are added without copying the earlier ones.

    Args:
        info: The info that the backend returned; its `expires_in` counts from `seen`.
        log: The list of records, in order.
        start: Index of the first record of this entry, which begins a turn.
        stop: Index after the last record of this entry.
        seen: Time of the request to the backend, by the cache's timer.
        held: Estimated memory of the list up to `stop`, in bytes.
        whole: Whether the entry has all turns of the session.
    """

    __slots__ = ("expires", "held", "info", "log", "seen", "size", "start", "stop", "used", "whole")

    def __init__(
        self, info: SessionInfo, log: list[Record], start: int, stop: int, seen: float, held: int, *, whole: bool
    ) -> None:
        self.info = info
        self.log = log
        self.start = start
        self.stop = stop
        self.seen = seen
        self.held = held
        self.size = _ENTRY + held
        if values := info.metadata.encoded:
            self.size += sum(_VALUE + len(name) + len(value) for name, value in values.items())
        self.used = seen
        self.whole = whole
        self.expires = inf if info.expires_in is None else seen + info.expires_in

    @classmethod
    def of(cls, session: Session, seen: float) -> Entry:
        """Return an entry of a decoded session."""
        log = [record.unencoded() for record in session.records]
        return cls(session.info, log, 0, len(log), seen, _size(log), whole=_whole(session.info, log, 0, len(log)))

    @classmethod
    def made(cls, key: Key, change: Change, receipt: Receipt, now: float, seen: float) -> Entry | None:
        """Return an entry of a session that a change has created; None if the receipt differs from the prediction.

        Args:
            key: The session.
            change: The change.
            receipt: The answer of the backend.
            now: Seconds since 1970, by the backend's clock.
            seen: Time at which the change was sent, by the cache's timer.
        """
        try:
            done = plan(key, None, change, _DEFERRED, now, ttl=None, nonce=lambda _: receipt.version.epoch)
        except TurnlogError:
            return None
        header, log = done.header, [record.unencoded() for record in done.append]
        if (header.version, header.first) != (receipt.version, receipt.first):
            return None
        info = msgspec.structs.replace(header.info(now), expires_in=receipt.expires_in)
        return cls(info, log, 0, len(log), seen, _size(log), whole=True)

    # ------------------------------------------------------------------------------------------------------- answering

    def session(self, info: SessionInfo, last: int | None, before: int | None) -> Session | None:
        """Return the answer to a read; None if the entry does not have all its records.

        Args:
            info: The info of the answer.
            last: As in `Backend.read`.
            before: As in `Backend.read`.
        """
        records = self.records(last, before)
        return None if records is None else Session(info, records)

    def records(self, last: int | None, before: int | None) -> tuple[Record, ...] | None:
        """Return the records of the answer to a read; None if the entry does not have all of them."""
        log, start, stop, whole = self.log, self.start, self.stop, self.whole
        if start == stop:
            return () if whole else None
        begin = log[start].messages_until - log[start].count
        if before is not None:
            stop = bisect_left(log, before, start, stop, key=_number)
        if last is None or start == stop:
            return tuple(log[start:stop]) if whole else None
        if log[stop - 1].messages_until - last < begin and not whole:
            return None
        return tuple(log[window(log, last, start, stop) : stop])

    def info_at(self, now: float) -> SessionInfo:
        """Return the info of a session that expires, with the seconds left at a time."""
        return msgspec.structs.replace(self.info, expires_in=self.expires - now)

    # -------------------------------------------------------------------------------------------------- later entries
    # Callers hold the cache's lock, because these methods change the shared list.

    def grown(self, info: SessionInfo, records: Sequence[Record], seen: float) -> Entry | None:
        """Return the entry with new records and without dropped turns; None if the records do not follow it."""
        log, start, stop, held = self.log, self.start, self.stop, self.held
        if records:
            new = [record.unencoded() for record in records]
            if start < stop and new[0].rounds_until - new[0].rounds != log[stop - 1].rounds_until:
                return None
            if len(log) != stop:  # another entry has added other records
                log, start, stop = log[start:stop], 0, stop - start
                held = _size(log)
            log += new
            stop += len(new)
            held += _size(new)
        while start < stop and log[start].next_turn <= info.first:
            start += 1
        if start * 2 > stop:
            log, start, stop = log[start:stop], 0, stop - start
            held = _size(log)
        return Entry(info, log, start, stop, seen, held, whole=_whole(info, log, start, stop))

    def led_by(self, session: Session) -> Entry | None:
        """Return the entry with earlier records in front; None if the entry does not follow them."""
        log, start, stop = self.log, self.start, self.stop
        first = log[start]
        begin = first.rounds_until - first.rounds
        found = list(session.records)
        if found and found[-1].rounds_until > begin:  # sealed since, across the entry's beginning
            try:
                found[-1:] = found[-1].split()
            except CorruptRecord:
                return None
        found = [record.unencoded() for record in found if record.rounds_until <= begin]
        if (
            not found
            or found[-1].rounds_until != begin
            or found[-1].messages_until != first.messages_until - first.count
        ):
            return None
        log = found + log[start:stop]
        return Entry(self.info, log, 0, len(log), self.seen, _size(log), whole=_whole(self.info, log, 0, len(log)))

    def after(self, change: Change, receipt: Receipt, now: float, seen: float) -> Entry | None:
        """Return the entry after a change; None if the entry does not determine the new state.

        Args:
            change: The change that was stored.
            receipt: The answer of the backend.
            now: Seconds since 1970, by the backend's clock.
            seen: Time at which the change was sent, by the cache's timer.
        """
        info = self.info
        if info.version == receipt.previous and receipt.version != receipt.previous:  # not a repeat
            found = self._applied(change, now)
            if found is not None and found[0].version == receipt.version:
                header, new = found
                return self.grown(self._counted(header.info(now), receipt, new), new, seen)
        if info.version != receipt.version or change.times is not None:  # times make no other version
            return None
        if (receipt.first, receipt.turns, receipt.messages) == (info.first, info.turns, info.messages):
            return self  # an earlier read returned this state, or the change is a repeat
        if change.append or change.describes:
            return None  # the receipt of a repeat has the version of the first commit and the present counts
        kept = self.grown(self._counted(info, receipt, ()), (), seen)  # the change only dropped turns
        return kept if kept is not None and kept.whole else None

    def _applied(self, change: Change, now: float) -> tuple[Header, list[Record]] | None:
        """Apply a change by the rules of the core; return None if they need more than the entry has."""
        info, log, start, stop = self.info, self.log, self.start, self.stop
        if change.keep is not None or not (change.append or change.describes) or (start == stop and info.messages):
            return None
        until, tail = 0, None
        if start < stop:
            last = log[stop - 1]
            until, tail = last.messages_until, (last.id, last.part, last.open)
        header = Header(
            info.key,
            info.version,
            info.first,
            info.turns,
            until - info.messages,
            until,
            tail,
            info.bytes,
            info.created,
            info.updated,
            info.owner,
            info.metadata,
            info.ttl,
        )
        try:
            done = plan(info.key, header, change, _DEFERRED, now, ttl=None, nonce=urandom)
        except TurnlogError:
            return None
        return done.header, [record.unencoded() for record in done.append]

    def _counted(self, info: SessionInfo, receipt: Receipt, new: Sequence[Record]) -> SessionInfo:
        """Return an info with the counts and the expiry of a receipt, less the bytes of dropped records."""
        place, dropped = self.start, sum(record.size for record in new if record.next_turn <= receipt.first)
        while place < self.stop and self.log[place].next_turn <= receipt.first:
            dropped += self.log[place].size
            place += 1
        return msgspec.structs.replace(
            info,
            first=receipt.first,
            messages=receipt.messages,
            bytes=max(0, info.bytes - dropped),
            expires_in=receipt.expires_in,
        )


def _whole(info: SessionInfo, log: list[Record], start: int, stop: int) -> bool:
    """Return whether a range of records has all messages of a session."""
    return info.messages == (
        log[stop - 1].messages_until - log[start].messages_until + log[start].count if start < stop else 0
    )


def _size(records: Sequence[Record]) -> int:
    """Return the estimated memory of records in bytes: 1 byte for each ASCII character, up to 4 for others.

    Encoding a string that is not ASCII caches its UTF-8 form, which takes more memory.  The size of a part may change.
    Sums are therefore computed again, and the size of a dropped part is not subtracted.
    """
    size = 0
    for record in records:
        size += _RECORD * record.rounds
        try:
            messages = record.messages if record.decoded else None
        except CorruptRecord:  # a damaged record of a sealed run
            messages = None
        if messages is None:  # kept in its encoded form
            size += record.size
            continue
        size += sum([_MESSAGE + message.memory for message in messages])
    return size

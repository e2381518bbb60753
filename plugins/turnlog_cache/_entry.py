"""What is kept of one session: its last turns, as they were at one version."""

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
_DEFERRED: Final = Near(deferred=True)  # the receipt says what was dropped

_ENTRY: Final = 1_900
_RECORD: Final = 496
_MESSAGE: Final = 64
_VALUE: Final = 100
"""Bytes that an entry, a round, a message and a value of metadata take beside their text, as measured with tracemalloc
on CPython 3.11."""


class Entry:
    """A session as it was at one version: immutable, but for when it was last used.

    Entries of one session share a list that only grows, of which each sees a part of its own; so what follows a version
    is added without copying what was before.

    Args:
        info: What the store told; its `expires_in` counts from `seen`.
        log: The list of records, in order.
        start: Where this entry's part begins, with a record that begins a turn.
        stop: Where it ends.
        seen: When the store was asked that told so, by the cache's timer.
        held: About how many bytes the list takes in memory up to there.
        whole: Whether that is all of the session, and not the end alone.
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
        """What a store answered, decoded."""
        log = [record.unencoded() for record in session.records]
        return cls(session.info, log, 0, len(log), seen, _size(log), whole=_whole(session.info, log, 0, len(log)))

    @classmethod
    def made(cls, key: Key, change: Change, receipt: Receipt, now: float, seen: float) -> Entry | None:
        """What a change made where there was no session; None, if that cannot be told from here.

        Args:
            key: Which session.
            change: What was asked.
            receipt: What was answered.
            now: Seconds since 1970, by the store's clock.
            seen: When the change was sent, by the cache's timer.
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
        """What is asked for; None, if it does not hold all of it.

        Args:
            info: What is told of the session.
            last: As in `Backend.read`.
            before: As in `Backend.read`.
        """
        records = self.records(last, before)
        return None if records is None else Session(info, records)

    def records(self, last: int | None, before: int | None) -> tuple[Record, ...] | None:
        """The records that are asked for; None, if it does not hold them all."""
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
        """What the store told, with what is left of its life, where that has an end."""
        return msgspec.structs.replace(self.info, expires_in=self.expires - now)

    # ----------------------------------------------------------------------------------------------------- what is next
    # Whoever calls these holds the cache's lock, because of the list.

    def grown(self, info: SessionInfo, records: Sequence[Record], seen: float) -> Entry | None:
        """With what follows it, and without what is no longer retained; None, if that does not fit together."""
        log, start, stop, held = self.log, self.start, self.stop, self.held
        if records:
            new = [record.unencoded() for record in records]
            if start < stop and new[0].rounds_until - new[0].rounds != log[stop - 1].rounds_until:
                return None
            if len(log) != stop:  # another entry has added something else
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
        """With what the store told of the time before it; None, if that does not fit together."""
        log, start, stop = self.log, self.start, self.stop
        first = log[start]
        begin = first.rounds_until - first.rounds
        found = list(session.records)
        if found and found[-1].rounds_until > begin:  # sealed since, over the place
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
        """Return the entry as a change left it; None if that cannot be told from here.

        Args:
            change: The change that was stored.
            receipt: What the store answered.
            now: Seconds since 1970, by the store's clock.
            seen: When the change was sent, by the cache's timer.
        """
        info = self.info
        if info.version == receipt.previous and receipt.version != receipt.previous:  # it is no repeat
            found = self._applied(change, now)
            if found is not None and found[0].version == receipt.version:
                header, new = found
                return self.grown(self._counted(header.info(now), receipt, new), new, seen)
        if info.version != receipt.version or change.times is not None:  # times make no other version
            return None
        if (receipt.first, receipt.turns, receipt.messages) == (info.first, info.turns, info.messages):
            return self  # a read saw it before, or it is a repeat
        if change.append or change.describes:
            return None  # a repeat is answered with the version of the first time, and with the counts of now
        kept = self.grown(self._counted(info, receipt, ()), (), seen)  # it only dropped turns
        return kept if kept is not None and kept.whole else None

    def _applied(self, change: Change, now: float) -> tuple[Header, list[Record]] | None:
        """Apply a change by the rules of the core; return None if that takes more than what is here."""
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
        """An info with what only the store can tell: what was dropped, as far as it is here, and when it expires."""
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
    """Whether a part of a list of records is all that a session has."""
    return info.messages == (
        log[stop - 1].messages_until - log[start].messages_until + log[start].count if start < stop else 0
    )


def _size(records: Sequence[Record]) -> int:
    """About how many bytes records take in memory: a string of ASCII takes one a character, of anything up to four.

    A string that is not of ASCII takes more once it has been encoded; so what goes is never subtracted.
    """
    size = 0
    for record in records:
        size += _RECORD * record.rounds
        try:
            messages = record.messages if record.decoded else None
        except CorruptRecord:  # in a sealed run
            messages = None
        if messages is None:  # it is kept as it is, because it cannot be
            size += record.size
            continue
        size += sum([_MESSAGE + message.memory for message in messages])
    return size

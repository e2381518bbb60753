"""What is kept of one session: its last turns, as they were at one version."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import inf
from operator import attrgetter
from sys import getsizeof
from typing import Final

import msgspec

from turnlog import Change, Metadata, Receipt, Record, Session, SessionInfo
from turnlog.errors import CorruptRecord

_number, _upto = attrgetter("number"), attrgetter("upto")

_ENTRY: Final = 1_300
_RECORD: Final = 480
_MESSAGE: Final = 48
_VALUE: Final = 100
"""Bytes that an entry, a round, a message and a value of metadata take beside their text, as measured with tracemalloc
on CPython 3.11."""


class Entry:
    """A session as it was at one version: immutable, but for when it was last used, and what was made on first need.

    Entries of one session share a list that only grows, of which each sees a part of its own; so what follows a version
    is added without copying what was before.

    Args:
        info: What the store told; its `expires_in` counts from `seen`.
        log: The list of records, in order.
        start: Where this entry's part begins, with a record that begins a turn.
        stop: Where it ends.
        seen: When the store was asked that told so, by the cache's timer.
        held: About how many bytes the list takes in memory up to there.
    """

    __slots__ = ("everything", "expires", "held", "info", "log", "seen", "size", "start", "stop", "used", "whole")

    def __init__(self, info: SessionInfo, log: list[Record], start: int, stop: int, seen: float, held: int) -> None:
        self.info = info
        self.log = log
        self.start = start
        self.stop = stop
        self.seen = seen
        self.held = held
        self.size = _ENTRY + held
        if info.metadata:
            values = Metadata.of(info.metadata).encoded
            self.size += sum(_VALUE + len(name) + len(value) for name, value in values.items())
        self.used = seen
        messages = log[stop - 1].upto - log[start].upto + log[start].count if start < stop else 0
        self.whole = messages == info.messages  # and not the end alone
        self.expires = inf if info.expires_in is None else seen + info.expires_in
        self.everything: tuple[Record, ...] | None = None  # all records, once they were asked for

    @classmethod
    def of(cls, session: Session, seen: float) -> Entry:
        """What a store answered, decoded."""
        log = [record.unencoded() for record in session.records]
        return cls(session.info, log, 0, len(log), seen, _size(log))

    # ------------------------------------------------------------------------------------------------------- answering

    def records(self, last: int | None, before: int | None) -> tuple[Record, ...] | None:
        """The records that are asked for; None, if it does not hold them all."""
        log, start, stop, whole = self.log, self.start, self.stop, self.whole
        if last is None and before is None:
            if whole and self.everything is None:
                self.everything = tuple(log[start:stop])
            return self.everything
        if start == stop:
            return () if whole else None
        begin = log[start].upto - log[start].count
        if before is not None:
            stop = bisect_left(log, before, start, stop, key=_number)
        if last is None or start == stop:
            return tuple(log[start:stop]) if whole else None
        from_here = log[stop - 1].upto - last
        if from_here <= begin:
            return tuple(log[start:stop]) if whole or from_here == begin else None
        place = stop - (last + 1) // 2  # as a rule a turn is a question and an answer: look there first
        if place <= start or not log[place - 1].upto <= from_here < log[place].upto:
            place = bisect_right(log, from_here, start, stop, key=_upto)
        while not log[place].turns:
            place -= 1
        return tuple(log[place:stop])

    def info_at(self, now: float) -> SessionInfo:
        """What the store told, with what is left of its life."""
        if self.expires == inf:
            return self.info
        return msgspec.structs.replace(self.info, expires_in=self.expires - now)

    # --------------------------------------------------------------------------------------------------------- what is
    # next; whoever calls these holds the cache's lock, because of the list

    def grown(self, info: SessionInfo, records: Sequence[Record], seen: float) -> Entry | None:
        """With what follows it, and without what is no longer retained; None, if that does not fit together."""
        log, start, stop, held = self.log, self.start, self.stop, self.held
        if records:
            new = [record.unencoded() for record in records]
            if start < stop and new[0].end - new[0].rounds != log[stop - 1].end:
                return None
            if len(log) != stop:  # another entry has added something else
                held -= _size(log[:start])
                log, start, stop = log[start:stop], 0, stop - start
            log += new
            stop += len(new)
            held += _size(new)
        while start < stop and log[start].after <= info.first:
            start += 1
        if start * 2 > stop:
            held -= _size(log[:start])
            log, start, stop = log[start:stop], 0, stop - start
        entry = Entry(info, log, start, stop, seen, held)
        if entry.whole and not records and info.first == self.info.first:
            entry.everything = self.everything
        return entry

    def led_by(self, session: Session) -> Entry | None:
        """With what the store told of the time before it; None, if that does not fit together."""
        log, start, stop = self.log, self.start, self.stop
        first = log[start]
        begin = first.end - first.rounds
        found = list(session.records)
        if found and found[-1].end > begin:  # sealed since, over the place
            try:
                found[-1:] = found[-1].split()
            except CorruptRecord:
                return None
        found = [record.unencoded() for record in found if record.end <= begin]
        if not found or found[-1].end != begin or found[-1].upto != first.upto - first.count:
            return None
        held = self.held - _size(log[:start]) + _size(found)
        log = found + log[start:stop]
        return Entry(self.info, log, 0, len(log), self.seen, held)

    def after(self, change: Change, receipt: Receipt, now: float, seen: float) -> Entry | None:
        """As a change left it; None, if that cannot be told from here.

        Args:
            change: What was asked.
            receipt: What was answered.
            now: Seconds since 1970, by the store's clock.
            seen: When the change was sent, by the cache's timer.
        """
        info, log, start, stop = self.info, self.log, self.start, self.stop
        if change.seal is not None:
            return None
        dropped, place = 0, start
        while place < stop and log[place].after <= receipt.first:
            dropped += log[place].size
            place += 1
        if info.version == receipt.version:  # it only dropped turns, or a read saw it before, or it is a repeat
            if (receipt.first, receipt.turns, receipt.messages) == (info.first, info.turns, info.messages):
                return self
            told = msgspec.structs.replace(
                info,
                first=receipt.first,
                turns=receipt.turns,
                messages=receipt.messages,
                bytes=max(0, info.bytes - dropped),
            )
            kept = self.grown(told, (), self.seen)
            # a repeat is answered with the version of the first time, and with the counts of now
            return kept if kept is not None and kept.whole and receipt.turns == info.turns else None
        if info.version != receipt.previous or change.keep is not None or len(change.append) > 1:
            return None  # of several records the chain values between them are not told
        turns, end, size = info.turns, info.version.rounds, info.bytes - dropped
        placed: tuple[Record, ...] = ()
        if change.append:  # its place follows from its head
            (record,) = change.append
            number = turns if record.turns else turns - 1
            turns, end, size = turns + record.turns, end + record.rounds, size + record.size
            upto = (log[stop - 1].upto if start < stop else 0) + record.count
            placed = (msgspec.structs.replace(record, number=number, end=end, upto=upto, tip=receipt.version.tip),)
        if (turns, end) != (receipt.turns, receipt.version.rounds):
            return None
        metadata = info.metadata
        if change.metadata is not None:
            metadata = Metadata.of(metadata).merge(Metadata.of(change.metadata))
        told = SessionInfo(
            info.key,
            receipt.version,
            receipt.first,
            turns,
            receipt.messages,
            max(0, size),
            info.created,
            now,
            info.owner if change.owner is None else change.owner,
            metadata,
            info.ttl if change.ttl is None else change.ttl,
            receipt.expires_in,
        )
        return self.grown(told, placed, seen)


def _size(records: Sequence[Record]) -> int:
    """About how many bytes records take in memory: a string of ASCII takes one a character, of anything up to four."""
    size = 0
    for record in records:
        size += _RECORD * record.rounds
        if not record.decoded:  # it is kept as it is, because it cannot be
            size += record.size
            continue
        for message in record.messages:
            size += _MESSAGE + getsizeof(message._role) + getsizeof(message._content)  # noqa: SLF001 - as it is kept
            if message._rest is not None:  # noqa: SLF001
                size += len(message._rest)  # noqa: SLF001
    return size

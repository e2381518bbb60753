"""The layer: what it answers by itself, what it asks the store, and what each answer makes of what it keeps."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Final, Literal, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from turnlog import Change, Key, Layer, Receipt, Session, Store, Version
from turnlog.errors import Conflict, HistoryRegressed, InvalidInput, SessionNotFound
from turnlog.state import check_read, missing

from ._entry import Entry

Mode: TypeAlias = Literal["validate", "trust"]

_MISSING: Final = 1.0
"""Seconds at most that `trust` remembers that a session is not there."""

_Asked: TypeAlias = tuple[Key, int | None, bool]


@dataclass
class CacheStats:
    """What a cache has done since it was made, and what it holds.

    Attributes:
        hits: Reads that were answered from here, for a question that was answered "unchanged", or for none.
        misses: Reads of sessions, or of parts of them, that were not here.
        stale: How often the store was further than what was here, because somebody else had written.  In `trust` that
            may have been served for up to `max_age`: if it keeps rising, affinity leaks.
        conflicts: Changes that were refused.
        evictions: Sessions that went to make room, or that nobody used for `idle` seconds.
        sessions: How many are here.
        bytes: About how many bytes they take.
    """

    hits: int = 0
    misses: int = 0
    stale: int = 0
    conflicts: int = 0
    evictions: int = 0
    sessions: int = 0
    bytes: int = 0


class CacheLayer(Layer):
    """Keeps the turns of recent sessions in this process, decoded.

    A change is stored first and kept then.  One that expects a version is compared by the store in either mode, so what
    was made of a stale read is refused; one that expects none is never refused because of the cache.

    Args:
        inner: The store to wrap; any number of processes may have caches over it.
        mode: `validate`: each read asks the store whether what is here is current, in the smallest of questions, and
            gets what is new.  `trust`: what was current `max_age` seconds ago, or less, is served without asking; such
            a read extends nobody's life, and may miss what another process has written since.
        max_age: Seconds, for `trust`.
        max_bytes: About how many bytes all that is kept takes in memory.
        max_sessions: How many sessions are kept.
        idle: Seconds after which a session that nobody used is dropped.
        timer: Seconds from anywhere, never backwards: it tells ages.

    Raises:
        InvalidInput: An argument breaks a rule, or a layer below belongs outside of this one.
    """

    depth = 20

    def __init__(
        self,
        inner: Store,
        *,
        mode: Mode = "validate",
        max_age: float = 30.0,
        max_bytes: int = 256 * 1024 * 1024,
        max_sessions: int = 10_000,
        idle: float = 3600.0,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        if mode not in ("validate", "trust"):
            raise InvalidInput(f"mode must be validate or trust, not {mode!r}")
        for name, value in (("max_age", max_age), ("idle", idle)):
            if type(value) not in (int, float) or not isfinite(value) or value <= 0:
                raise InvalidInput(f"{name} must be a number of seconds over 0, not {value!r}")
        for name, value in (("max_bytes", max_bytes), ("max_sessions", max_sessions)):
            if type(value) is not int or value < 1:
                raise InvalidInput(f"{name} must be an int from 1, not {value!r}")
        self.mode = mode
        self.max_age = max_age
        self.max_bytes = max_bytes
        self.max_sessions = max_sessions
        self.idle = idle
        self._timer = timer
        self._trusted = max_age if mode == "trust" else -1.0
        self._entries: OrderedDict[Key, Entry] = OrderedDict()  # the least recently used first
        self._missing: dict[Key, float] = {}  # when it was asked for
        self._fills: dict[Key, set[_Fill]] = {}
        self._flights: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Asked, _Flight]] = WeakKeyDictionary()
        self._stats = CacheStats()
        self._lock = threading.Lock()  # held to change what is kept, never to look at it
        _layers.add(self)

    @property
    def stats(self) -> CacheStats:
        """What it has done, and what it holds now."""
        stats = self._stats
        return CacheStats(
            stats.hits, stats.misses, stats.stale, stats.conflicts, stats.evictions, len(self._entries), stats.bytes
        )

    # ----------------------------------------------------------------------------------------------------- the methods

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        if since is not None or last == 0:
            return await self.inner.read(key, last=last, before=before, since=since, touch=touch)
        check_read(last, before, None)
        entry = self._entries.get(key)
        if entry is None:
            if before is None:
                return await self._fetched(key, last, touch=touch)
            self._stats.misses += 1
            return await self.inner.read(key, last=last, before=before, touch=touch)
        now = self._timer()
        if now - entry.seen <= self._trusted and now < entry.expires:
            records = entry.records(last, before)
            if records is not None:
                self._stats.hits += 1
                entry.used = now
                try:  # noqa: SIM105 - contextlib.suppress takes longer than what it would be about
                    self._entries.move_to_end(key)
                except KeyError:  # another thread has dropped it
                    pass
                return Session(entry.info_at(now), records)
        return await self._validated(key, entry, last, before, touch=touch)

    async def commit(self, key: Key, change: Change) -> Receipt:
        sent = self._timer()
        try:
            receipt = await self.inner.commit(key, change)
        except BaseException as error:  # cancelled, or its outcome is unknown: it may have been stored
            self._drop(key)
            self._stats.conflicts += isinstance(error, Conflict)
            raise
        self._wrote(key, change, receipt, sent)
        return receipt

    async def delete(self, key: Key, *, expect: Version | None = None) -> bool:
        try:
            return await self.inner.delete(key, expect=expect)
        finally:
            self._drop(key)

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str) -> Receipt:
        try:
            return await self.inner.copy(source, target, at=at, change_id=change_id)
        finally:
            self._drop(target)

    async def open(self) -> None:
        self._clear()
        await super().open()

    async def close(self) -> None:
        await super().close()
        self._clear()

    # --------------------------------------------------------------------------------------------------------- reading

    async def _validated(self, key: Key, entry: Entry, last: int | None, before: int | None, *, touch: bool) -> Session:
        """Ask whether an entry is current, and answer from it and from what is new."""
        if before is not None and entry.records(last, before) is None:
            self._stats.misses += 1
            return await self.inner.read(key, last=last, before=before, touch=touch)
        asked, version = self._timer(), entry.info.version
        try:
            session = await self.inner.read(key, last=last if before is None else 0, since=version, touch=touch)
        except (SessionNotFound, HistoryRegressed):  # gone, or behind what was seen here: the caller is told that once
            self._drop(key)
            raise
        self._stats.stale += session.info.version != version
        if session.continues:
            with self._lock:
                now = entry.grown(session.info, session.records, asked)
            records = None if now is None else now.records(last, before)
            if now is not None and records is None:
                self._stats.misses += 1
                now = await self._led(key, now, last)
                records = None if now is None else now.records(last, before)
            elif now is not None:
                self._stats.hits += 1
            if now is not None and records is not None:
                self._put(key, entry, now)
                return Session(session.info, records)
        elif before is None:
            self._put(key, entry, Entry.of(session, asked))
            return session
        self._drop(key)
        return await self.inner.read(key, last=last, before=before, touch=touch)

    async def _led(self, key: Key, entry: Entry, last: int | None) -> Entry | None:
        """An entry with what is missing before it; None, if somebody has cut or made anew what is in between."""
        if entry.start == entry.stop:
            return None
        first = entry.log[entry.start]
        if last is not None:
            last -= entry.log[entry.stop - 1].upto - (first.upto - first.count)
        rest = await self.inner.read(key, last=last, before=first.number, touch=False)
        was, now = entry.info.version, rest.info.version
        if (was.epoch, was.generation) != (now.epoch, now.generation):
            return None
        with self._lock:
            return entry.led_by(rest)

    async def _fetched(self, key: Key, last: int | None, *, touch: bool) -> Session:
        """What is not here: one of those who ask for it at the same moment reads it for all of them.

        A read that has been sent already may have passed a change that was acknowledged before somebody asked.  So in
        `validate` whoever comes later waits for it, and is answered by the next one.
        """
        self._check_missing(key)
        loop = asyncio.get_running_loop()
        flights = self._flights.get(loop)
        if flights is None:
            flights = self._flights.setdefault(loop, {})
        asked = key, last, touch
        flight = flights.get(asked)
        if flight is None or (flight.sent and self.mode == "validate"):
            ahead = flight
            flight = flights[asked] = _Flight()
            flight.task = loop.create_task(self._fly(flight, ahead, flights, asked))
            flight.task.add_done_callback(_looked_at)
        assert flight.task is not None
        return await asyncio.shield(flight.task)

    async def _fly(
        self, flight: _Flight, ahead: _Flight | None, flights: dict[_Asked, _Flight], asked: _Asked
    ) -> Session:
        key, last, touch = asked
        try:
            if ahead is not None and ahead.task is not None:
                await asyncio.wait([ahead.task])
            flight.sent = True
            entry = self._entries.get(key)
            if entry is not None:  # it came with the flight ahead
                return await self._validated(key, entry, last, None, touch=touch)
            self._stats.misses += 1
            return await self._filled(key, last, touch=touch)
        finally:
            if flights.get(asked) is flight:
                del flights[asked]

    async def _filled(self, key: Key, last: int | None, *, touch: bool) -> Session:
        fill = _Fill()
        with self._lock:
            self._fills.setdefault(key, set()).add(fill)
        asked = self._timer()
        try:
            session = await self.inner.read(key, last=last, touch=touch)
        except SessionNotFound:
            if self.mode == "trust" and not fill.void:
                self._remember_missing(key, asked)
            raise
        else:
            if not fill.void:
                self._put(key, None, Entry.of(session, asked))
            return session
        finally:
            with self._lock:
                fills = self._fills.get(key)
                if fills is not None:
                    fills.discard(fill)
                    if not fills:
                        del self._fills[key]

    def _check_missing(self, key: Key) -> None:
        since = self._missing.get(key)
        if since is not None:
            if self._timer() - since <= min(_MISSING, self.max_age):
                self._stats.hits += 1
                raise missing(key)
            self._missing.pop(key, None)

    def _remember_missing(self, key: Key, asked: float) -> None:
        with self._lock:
            if len(self._missing) >= self.max_sessions:
                self._missing.clear()
            self._missing[key] = asked

    # --------------------------------------------------------------------------------------------------- what is kept

    def _wrote(self, key: Key, change: Change, receipt: Receipt, sent: float) -> None:
        """Keep a change that was acknowledged: it tells whether anybody has written in between."""
        entry, after = self._entries.get(key), None
        if entry is not None:
            with self._lock:
                after = entry.after(change, receipt, self.clock(), sent)
            if after is None and entry.info.version not in (receipt.previous, receipt.version):
                self._stats.stale += receipt.previous != receipt.version  # they are equal in a repeat
        if after is None:
            self._drop(key)
        elif after is not entry:
            self._void(key)
            self._put(key, entry, after)

    def _put(self, key: Key, base: Entry | None, entry: Entry) -> None:
        """Keep an entry that was made of `base`, unless something else has come, or gone, meanwhile."""
        if entry.size > self.max_bytes:
            self._drop(key)
            return
        with self._lock:
            found = self._entries.get(key)
            if found is not base:
                # a read and a write, or two reads, came back in another order than they were sent
                if found is None or _newer(found, entry):
                    return
                if not _newer(entry, found):  # of another epoch: nobody here can tell which came first
                    self._forget(key)
                    return
            if found is not None:
                self._stats.bytes -= found.size
            self._missing.pop(key, None)
            self._entries[key] = entry
            self._entries.move_to_end(key)
            self._stats.bytes += entry.size
            while len(self._entries) > self.max_sessions or self._stats.bytes > self.max_bytes:
                self._evict()
            while self._entries and next(iter(self._entries.values())).used + self.idle < entry.used:
                self._evict()

    def _drop(self, key: Key) -> None:
        """Forget a session, and whatever was read of it by those who have not come back yet."""
        self._void(key)
        with self._lock:
            self._missing.pop(key, None)
            self._forget(key)

    def _void(self, key: Key) -> None:
        for fill in tuple(self._fills.get(key, ())):
            fill.void = True

    def _evict(self) -> None:
        self._stats.evictions += 1
        self._forget(next(iter(self._entries)))

    def _forget(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._stats.bytes -= entry.size

    def _clear(self) -> None:
        for key in tuple(self._fills):
            self._void(key)
        with self._lock:
            self._entries.clear()
            self._missing.clear()
            self._stats.bytes = 0


class _Fill:
    """A read of a session that was not here; `void` once something has happened that it may not have seen."""

    __slots__ = ("void",)

    def __init__(self) -> None:
        self.void = False


class _Flight:
    """A read for all who asked before it was sent."""

    __slots__ = ("sent", "task")

    def __init__(self) -> None:
        self.sent = False
        self.task: asyncio.Task[Session] | None = None


def _newer(one: Entry, other: Entry) -> bool:
    """Whether an entry is of a later state than another, or of the same one and asked for no earlier."""
    a, b = one.info.version, other.info.version
    if a == b:
        return one.seen >= other.seen
    return a.epoch == b.epoch and (a.generation, a.rounds) > (b.generation, b.rounds)


def _looked_at(task: asyncio.Task[Session]) -> None:
    if not task.cancelled():
        task.exception()  # those who waited may all have been cancelled, and nobody need be told of it then


# A child that is forked while another thread holds a lock would wait for it for ever.
_layers: WeakSet[CacheLayer] = WeakSet()


def _in_the_child() -> None:
    for layer in _layers:
        layer._lock = threading.Lock()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child)

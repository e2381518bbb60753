"""The layer: what it answers by itself, what it asks the store, and what each answer makes of what it keeps."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import inf, isfinite
from typing import ClassVar, Final, Literal, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from turnlog import Backend, Change, Expect, Key, Layer, Receipt, Record, Session, Version
from turnlog.errors import Conflict, HistoryRegressed, InvalidInput, SessionNotFound
from turnlog.layers import Position
from turnlog.rules import missing
from turnlog.values import check_read, decoded

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

    position: ClassVar[Position] = "cache"
    portable: ClassVar[bool] = True

    def __init__(
        self,
        inner: Backend,
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
        self._sent: dict[Key, set[_Flight]] = {}  # those that may have passed the store already
        self._flights: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Asked, _Flight]] = WeakKeyDictionary()
        self._stats = CacheStats()
        self._lock = threading.Lock()  # held to change what is kept, never to look at it
        _layers.add(self)

    @property
    def counters(self) -> CacheStats:
        """What the cache has done, and what it holds now."""
        return replace(self._stats, sessions=len(self._entries))

    def stats(self) -> Mapping[str, float]:
        return asdict(self.counters)

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
            return await self._passed(key, last, before, since, touch=touch)
        check_read(last, before, None)
        entry = self._entries.get(key)
        if entry is None:
            if before is None:
                return await self._fetched(key, last, touch=touch)
            self._stats.misses += 1
            return await self._passed(key, last, before, None, touch=touch)
        now = self._timer()
        if now - entry.seen <= self._trusted and now < entry.expires:
            info = entry.info if entry.expires == inf else entry.info_at(now)
            session = entry.session(info, last, before)
            if session is not None:
                self._stats.hits += 1
                entry.used = now
                try:  # noqa: SIM105 - contextlib.suppress takes longer than what it would be about
                    self._entries.move_to_end(key)
                except KeyError:  # another thread has dropped it
                    pass
                return session
        return await self._validated(key, entry, last, before, touch=touch)

    async def commit(self, key: Key, change: Change) -> Receipt:
        sent = self._timer()
        flight = None if key in self._entries else self._set_out(key)
        try:
            receipt = await self.inner.commit(key, change)
        except BaseException as error:  # cancelled, or its outcome is unknown: it may have been stored
            with self._lock:
                self._came_back(key, flight)
                self._forget(key)
            self._stats.conflicts += isinstance(error, Conflict)
            raise
        self._wrote(key, change, receipt, sent, flight)
        return receipt

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        try:
            return await self.inner.delete(key, expect=expect, for_owner=for_owner)
        finally:
            self._drop(key)

    async def seal(self, key: Key, record: Record) -> bool | None:
        try:
            return await self.inner.seal(key, record)
        finally:
            self._drop(key)

    async def copy(
        self,
        source: Key,
        target: Key,
        *,
        at: int | None,
        change_id: str,
        expect: Expect = None,
        for_owner: str | None = None,
    ) -> Receipt:
        try:
            return await super().copy(source, target, at=at, change_id=change_id, expect=expect, for_owner=for_owner)
        except BaseException:  # the source may not be what the entry shows: the caller reads it again
            self._drop(source)
            raise
        finally:
            self._drop(target)

    async def open(self) -> None:
        self._clear()
        await super().open()

    async def close(self) -> None:
        await super().close()
        self._clear()

    # --------------------------------------------------------------------------------------------------------- reading

    async def _passed(
        self, key: Key, last: int | None, before: int | None, since: Version | None, *, touch: bool
    ) -> Session:
        """What the store answers, and is not kept.  Nothing that is behind it is served afterwards."""
        try:
            session = await self.inner.read(key, last=last, before=before, since=since, touch=touch)
        except (SessionNotFound, HistoryRegressed):
            self._drop(key)
            raise
        if self.mode == "trust":
            with self._lock:
                entry, version = self._entries.get(key), session.info.version
                if entry is None:
                    self._forget(key)
                elif (entry.info.version, entry.info.first) != (
                    version,
                    session.info.first,
                ) and not entry.info.version.is_later_than(version):
                    self._stats.stale += 1
                    self._forget(key)
        return session

    async def _validated(self, key: Key, entry: Entry, last: int | None, before: int | None, *, touch: bool) -> Session:
        """Ask whether an entry is current, and answer from it and from what is new."""
        if before is not None and entry.records(last, before) is None:
            self._stats.misses += 1
            return await self._passed(key, last, before, None, touch=touch)
        asked, version = self._timer(), entry.info.version
        try:
            session = await self.inner.read(key, last=last if before is None else 0, since=version, touch=touch)
            session = await decoded(session)  # for the entry
            self._stats.stale += session.info.version != version
            if session.continues:
                with self._lock:
                    now = entry.grown(session.info, session.records, asked)
                found = None if now is None else now.session(session.info, last, before)
                if now is not None and found is None:
                    self._stats.misses += 1
                    now = await self._led(key, now, last)
                    found = None if now is None else now.session(session.info, last, before)
                elif now is not None:
                    self._stats.hits += 1
                if now is not None and found is not None:
                    self._put(key, entry, now)
                    return found
            elif before is None:
                self._stats.misses += 1
                self._put(key, entry, Entry.of(session, asked))
                return session
        except (SessionNotFound, HistoryRegressed):  # gone, or behind what was seen here: the caller is told that once
            self._drop(key)
            raise
        self._drop(key)
        return await self._passed(key, last, before, None, touch=touch)

    async def _led(self, key: Key, entry: Entry, last: int | None) -> Entry | None:
        """An entry with what is missing before it; None, if somebody has cut or made anew what is in between."""
        if entry.start == entry.stop:
            return None
        first = entry.log[entry.start]
        if last is not None:
            last -= entry.log[entry.stop - 1].messages_until - (first.messages_until - first.count)
        rest = await decoded(await self.inner.read(key, last=last, before=first.number, touch=False))
        was, now = entry.info.version, rest.info.version
        if (was.epoch, was.generation) != (now.epoch, now.generation):
            return None
        with self._lock:
            return entry.led_by(rest)

    async def _fetched(self, key: Key, last: int | None, *, touch: bool) -> Session:
        """What is not here: one of those who ask for it at the same moment reads it for all of them.

        A read that has been sent already may have passed a change that was acknowledged before somebody asked.  So who
        comes later waits for it, and is answered by the next one: in `validate`, and in `trust` after `max_age`.
        """
        self._check_missing(key)
        loop = asyncio.get_running_loop()
        flights = self._flights.get(loop)
        if flights is None:
            flights = self._flights.setdefault(loop, {})
        asked = key, last, touch
        flight = flights.get(asked)
        if flight is None or flight.void or flight.landed or self._timer() - flight.sent > self._trusted:
            ahead = flight
            flight = flights[asked] = _Flight()
            flight.task = loop.create_task(self._fly(flight, ahead, key, last, touch=touch))
            flight.task.add_done_callback(partial(_landed, flights, asked, flight))
        assert flight.task is not None
        return await asyncio.shield(flight.task)

    async def _fly(self, flight: _Flight, ahead: _Flight | None, key: Key, last: int | None, *, touch: bool) -> Session:
        if ahead is not None and ahead.task is not None:
            await asyncio.wait([ahead.task])
        self._set_out(key, flight)
        try:
            entry = self._entries.get(key)
            if entry is not None:  # it came with the flight ahead
                return await self._validated(key, entry, last, None, touch=touch)
            self._stats.misses += 1
            return await self._filled(flight, key, last, touch=touch)
        finally:
            with self._lock:
                self._came_back(key, flight)

    async def _filled(self, flight: _Flight, key: Key, last: int | None, *, touch: bool) -> Session:
        asked = self._timer()
        try:
            session = await decoded(await self.inner.read(key, last=last, touch=touch))
        except SessionNotFound:
            with self._lock:
                nothing_since = not flight.void and key not in self._entries
                self._forget(key)
                if self.mode == "trust" and nothing_since:
                    if len(self._missing) >= self.max_sessions:
                        self._missing.clear()
                    self._missing[key] = asked
            raise
        self._put(key, None, Entry.of(session, asked), flight)
        return session

    def _check_missing(self, key: Key) -> None:
        since = self._missing.get(key)
        if since is not None:
            if self._timer() - since <= min(_MISSING, self.max_age):
                self._stats.hits += 1
                raise missing(key)
            self._missing.pop(key, None)

    # --------------------------------------------------------------------------------------------------- what is kept

    def _set_out(self, key: Key, flight: _Flight | None = None) -> _Flight:
        """Have a read, or a change that may make a session, know what happens until it comes back."""
        flight = flight or _Flight()
        with self._lock:
            flight.sent = self._timer()
            self._sent.setdefault(key, set()).add(flight)
        return flight

    def _came_back(self, key: Key, flight: _Flight | None) -> None:
        """It needs to know no more.  Whoever calls this holds the lock."""
        sent = self._sent.get(key)
        if sent is not None and flight in sent:
            sent.remove(flight)
            if not sent:
                del self._sent[key]

    def _wrote(
        self,
        key: Key,
        change: Change,
        receipt: Receipt,
        sent: float,
        flight: _Flight | None,
    ) -> None:
        """Keep a change that was acknowledged: it tells whether anybody has written in between."""
        with self._lock:
            self._came_back(key, flight)
            self._drop_idle()
            entry, after = self._entries.get(key), None
            if entry is None:
                if flight is not None and not flight.void and receipt.previous is None:
                    after = Entry.made(key, change, receipt, self.clock(), sent)
            else:
                after = entry.after(change, receipt, self.clock(), sent)
                if after is None and entry.info.version not in (receipt.previous, receipt.version):
                    repeat = receipt.previous == receipt.version
                    expired = receipt.previous is None and sent >= entry.expires
                    self._stats.stale += not repeat and not expired
            if after is None:
                self._forget(key)
            elif after is not entry:
                self._keep(key, entry, after)

    def _put(self, key: Key, base: Entry | None, entry: Entry, flight: _Flight | None = None) -> None:
        """Keep an entry that was made of `base`, unless something else has come, or gone, meanwhile."""
        with self._lock:
            found = self._entries.get(key)
            if found is not base or (flight is not None and flight.void):
                # a read and a write, or two reads, came back in another order than they were sent
                if found is not None and _newer(found, entry):
                    return
                if found is None or not _newer(entry, found):  # gone, or of another epoch: which came first?
                    self._forget(key)
                    return
            self._keep(key, found, entry)
            self._drop_idle()

    def _keep(self, key: Key, found: Entry | None, entry: Entry) -> None:
        """Keep an entry in place of another, and what else there is room for."""
        entries, stats = self._entries, self._stats
        if entry.size > self.max_bytes:
            self._forget(key)
            return
        if found is None:
            self._missing.pop(key, None)
        else:
            stats.bytes -= found.size
        entries[key] = entry
        entries.move_to_end(key)
        stats.bytes += entry.size
        while stats.bytes > self.max_bytes or len(entries) > self.max_sessions:
            self._evict()

    def _drop_idle(self) -> None:
        entries, past = self._entries, self._timer() - self.idle
        while entries and entries[self._oldest()].used < past:
            self._evict()

    def _drop(self, key: Key) -> None:
        with self._lock:
            self._forget(key)

    def _evict(self) -> None:
        self._stats.evictions += 1
        self._forget(self._oldest())

    def _oldest(self) -> Key:
        while True:
            try:
                return next(iter(self._entries))
            except RuntimeError:  # a hit in another thread has moved its session to the end, which takes no lock
                pass

    def _forget(self, key: Key) -> None:
        """Without a session, and without whatever is read of it by those who have not come back yet.

        What was here, or has just been told, can no longer be compared with what they bring.
        """
        for flight in self._sent.get(key, ()):
            flight.void = True
        self._missing.pop(key, None)
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._stats.bytes -= entry.size

    def _clear(self) -> None:
        with self._lock:
            for key in (*self._sent, *self._entries):
                self._forget(key)
            self._missing.clear()

    def _empty(self) -> None:
        """Begin anew in a child that was forked, whatever other threads were at in the parent."""
        self._lock = threading.Lock()
        self._entries = OrderedDict()
        self._missing, self._sent, self._flights = {}, {}, WeakKeyDictionary()
        self._stats.bytes = 0


class _Flight:
    """A read for all who asked before it was sent, or a change of a session that is not here.

    It is `void` once something has happened that it may not have seen.
    """

    __slots__ = ("sent", "task", "void")

    def __init__(self) -> None:
        self.sent = inf  # when it was, by the timer; not yet
        self.void = False
        self.task: asyncio.Task[Session] | None = None

    @property
    def landed(self) -> bool:
        """Whether it has its answer."""
        return self.task is not None and self.task.done()


def _newer(one: Entry, other: Entry) -> bool:
    """Whether an entry is of a later state than another, or of the same one and asked for no earlier."""
    a, b = one.info.version, other.info.version
    if a != b:
        return a.is_later_than(b)
    return (one.info.first, one.seen) >= (other.info.first, other.seen)  # dropping turns makes no other version


def _landed(flights: dict[_Asked, _Flight], asked: _Asked, flight: _Flight, task: asyncio.Task[Session]) -> None:
    if flights.get(asked) is flight:
        del flights[asked]
    if not task.cancelled():
        task.exception()  # those who waited may all have been cancelled, and nobody need be told of it then


# A child that is forked while another thread holds the lock would wait for it for ever.
_layers: WeakSet[CacheLayer] = WeakSet()


def _in_the_child() -> None:
    for layer in _layers:
        layer._empty()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child)

"""`CacheLayer`: answers reads from its entries, and updates the entries from the answers of the backend."""

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
"""Longest time in seconds for which `trust` remembers that a session does not exist."""

_Asked: TypeAlias = tuple[Key, int | None, bool]


@dataclass
class CacheStats:
    """Counters of a cache since its creation, and its present size.

    Attributes:
        hits: Reads that were answered from an entry, with or without a validation by the backend.
        misses: Reads of sessions, or of parts of sessions, that were not cached.
        stale: Number of times that the backend had a later state than the entry, because another process had written.
            In `trust` the entry may have been served for up to `max_age`.  A number that keeps rising means that
            requests of one session reach several processes.
        conflicts: Changes that the backend refused with `Conflict`.
        evictions: Entries that were removed to make room, or because they were not used for `idle` seconds.
        sessions: Number of cached sessions.
        bytes: Estimated memory of the entries in bytes.
    """

    hits: int = 0
    misses: int = 0
    stale: int = 0
    conflicts: int = 0
    evictions: int = 0
    sessions: int = 0
    bytes: int = 0


class CacheLayer(Layer):
    """Keeps the decoded turns of recent sessions in this process.

    The backend stores a change before the cache keeps it.  In both modes the backend compares the version that a change
    expects, so a change that is based on a stale read is refused.  A change without `expect` is never refused because
    of the cache.

    Args:
        inner: The backend to wrap; any number of processes may have caches over it.
        mode: `validate`: each read asks the backend only for the records after the entry's version.  `trust`: an entry
            that was current at most `max_age` seconds ago is served without asking the backend.  Such a read does not
            restart the session's time to live, and may miss later changes of other processes.
        max_age: Longest time in seconds for which `trust` serves an entry without asking.
        max_bytes: Limit of the estimated memory of all entries, in bytes.
        max_sessions: Largest number of cached sessions.
        idle: Seconds after its last use until an entry is dropped.
        timer: Returns seconds from an arbitrary start, never decreasing; it measures ages.

    Raises:
        InvalidInput: An argument breaks a rule, or a layer in `inner` must be outside of this one.
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
            raise InvalidInput(f"mode must be 'validate' or 'trust', not {mode!r}")
        for name, value in (("max_age", max_age), ("idle", idle)):
            if type(value) not in (int, float) or not isfinite(value) or value <= 0:
                raise InvalidInput(f"{name} must be a number of seconds greater than 0, not {value!r}")
        for name, value in (("max_bytes", max_bytes), ("max_sessions", max_sessions)):
            if type(value) is not int or value < 1:
                raise InvalidInput(f"{name} must be a whole number of at least 1, not {value!r}")
        self.mode = mode
        self.max_age = max_age
        self.max_bytes = max_bytes
        self.max_sessions = max_sessions
        self.idle = idle
        self._timer = timer
        self._trusted = max_age if mode == "trust" else -1.0
        self._entries: OrderedDict[Key, Entry] = OrderedDict()  # least recently used first
        self._missing: dict[Key, float] = {}  # the time of the read that did not find the session
        self._pending: dict[Key, set[_Request]] = {}  # sent; the backend may have answered already
        self._reads: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Asked, _Request]] = WeakKeyDictionary()
        self._stats = CacheStats()
        self._lock = threading.Lock()  # held to change the entries, not to read them
        _layers.add(self)

    @property
    def counters(self) -> CacheStats:
        """The counters, and the present size of the cache."""
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
                try:  # noqa: SIM105 - contextlib.suppress takes longer than the call itself
                    self._entries.move_to_end(key)
                except KeyError:  # another thread may drop the entry here
                    pass
                return session
        return await self._validated(key, entry, last, before, touch=touch)

    async def commit(self, key: Key, change: Change) -> Receipt:
        sent = self._timer()
        request = None if key in self._entries else self._begin_request(key)
        try:
            receipt = await self.inner.commit(key, change)
        except BaseException as error:  # after a cancellation or `OutcomeUnknown` the change may be stored
            with self._lock:
                self._end_request(key, request)
                self._forget(key)
            self._stats.conflicts += isinstance(error, Conflict)
            raise
        self._wrote(key, change, receipt, sent, request)
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
        except BaseException:  # the source may differ from its entry: drop it, and the next read asks the backend
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
        """Read from the backend without caching the answer; an entry that is older than the answer is dropped."""
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
        """Read the records after the entry's version, and answer from the entry and these records."""
        if before is not None and entry.records(last, before) is None:
            self._stats.misses += 1
            return await self._passed(key, last, before, None, touch=touch)
        asked, version = self._timer(), entry.info.version
        try:
            session = await self.inner.read(key, last=last if before is None else 0, since=version, touch=touch)
            session = await decoded(session)  # entries hold decoded records
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
        except (SessionNotFound, HistoryRegressed):  # without the entry, the next read does not raise HistoryRegressed
            self._drop(key)
            raise
        self._drop(key)
        return await self._passed(key, last, before, None, touch=touch)

    async def _led(self, key: Key, entry: Entry, last: int | None) -> Entry | None:
        """Return the entry with earlier records in front; None if the session was cut or recreated since."""
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
        """Read a session that is not cached; callers that ask before the read is sent share it.

        A read that was sent earlier may miss a change that was acknowledged before this call.  In `validate`, and in
        `trust` if that read is older than `max_age`, this call therefore waits for the earlier read and then starts
        another one.
        """
        self._check_missing(key)
        loop = asyncio.get_running_loop()
        reads = self._reads.get(loop)
        if reads is None:
            reads = self._reads.setdefault(loop, {})
        asked = key, last, touch
        request = reads.get(asked)
        if request is None or request.invalidated or request.done or self._timer() - request.sent > self._trusted:
            earlier = request
            request = reads[asked] = _Request()
            request.task = loop.create_task(self._shared_read(request, earlier, key, last, touch=touch))
            request.task.add_done_callback(partial(_remove_finished, reads, asked, request))
        assert request.task is not None
        return await asyncio.shield(request.task)

    async def _shared_read(
        self, request: _Request, earlier: _Request | None, key: Key, last: int | None, *, touch: bool
    ) -> Session:
        if earlier is not None and earlier.task is not None:
            await asyncio.wait([earlier.task])
        self._begin_request(key, request)
        try:
            entry = self._entries.get(key)
            if entry is not None:  # the earlier read has cached it
                return await self._validated(key, entry, last, None, touch=touch)
            self._stats.misses += 1
            return await self._filled(request, key, last, touch=touch)
        finally:
            with self._lock:
                self._end_request(key, request)

    async def _filled(self, request: _Request, key: Key, last: int | None, *, touch: bool) -> Session:
        asked = self._timer()
        try:
            session = await decoded(await self.inner.read(key, last=last, touch=touch))
        except SessionNotFound:
            with self._lock:
                nothing_since = not request.invalidated and key not in self._entries
                self._forget(key)
                if self.mode == "trust" and nothing_since:
                    if len(self._missing) >= self.max_sessions:
                        self._missing.clear()
                    self._missing[key] = asked
            raise
        self._put(key, None, Entry.of(session, asked), request)
        return session

    def _check_missing(self, key: Key) -> None:
        since = self._missing.get(key)
        if since is not None:
            if self._timer() - since <= min(_MISSING, self.max_age):
                self._stats.hits += 1
                raise missing(key)
            self._missing.pop(key, None)

    # -------------------------------------------------------------------------------------------------------- entries

    def _begin_request(self, key: Key, request: _Request | None = None) -> _Request:
        """Register a read, or a change that may create a session, so that other changes can invalidate it."""
        request = request or _Request()
        with self._lock:
            request.sent = self._timer()
            self._pending.setdefault(key, set()).add(request)
        return request

    def _end_request(self, key: Key, request: _Request | None) -> None:
        """Unregister a request.  The caller holds the lock."""
        sent = self._pending.get(key)
        if sent is not None and request in sent:
            sent.remove(request)
            if not sent:
                del self._pending[key]

    def _wrote(
        self,
        key: Key,
        change: Change,
        receipt: Receipt,
        sent: float,
        request: _Request | None,
    ) -> None:
        """Update the entry after a commit; drop it if the receipt shows that another process has written."""
        with self._lock:
            self._end_request(key, request)
            self._drop_idle()
            entry, after = self._entries.get(key), None
            if entry is None:
                if request is not None and not request.invalidated and receipt.previous is None:
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

    def _put(self, key: Key, base: Entry | None, entry: Entry, request: _Request | None = None) -> None:
        """Keep an entry that was derived from `base`, unless another task has replaced or dropped `base`."""
        with self._lock:
            found = self._entries.get(key)
            if found is not base or (request is not None and request.invalidated):
                # two requests were answered in another order than they were sent
                if found is not None and _newer(found, entry):
                    return
                if found is None or not _newer(entry, found):  # dropped, or of another epoch: the order is unknown
                    self._forget(key)
                    return
            self._keep(key, found, entry)
            self._drop_idle()

    def _keep(self, key: Key, found: Entry | None, entry: Entry) -> None:
        """Replace an entry, and evict the least recently used ones that exceed the limits."""
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
            except RuntimeError:  # a hit in another thread may move an entry here, without the lock
                pass

    def _forget(self, key: Key) -> None:
        """Drop the entry of a session, and invalidate its pending requests.

        Without the entry, the cache cannot tell whether their answers are older than the last known state.
        """
        for request in self._pending.get(key, ()):
            request.invalidated = True
        self._missing.pop(key, None)
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._stats.bytes -= entry.size

    def _clear(self) -> None:
        with self._lock:
            for key in (*self._pending, *self._entries):
                self._forget(key)
            self._missing.clear()

    def _empty(self) -> None:
        """Reset the cache in a forked child, where another thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self._entries = OrderedDict()
        self._missing, self._pending, self._reads = {}, {}, WeakKeyDictionary()
        self._stats.bytes = 0


class _Request:
    """A request to the backend: a read that callers share, or a change of a session that is not cached.

    It is `invalidated` by an event that its answer may not reflect.
    """

    __slots__ = ("invalidated", "sent", "task")

    def __init__(self) -> None:
        self.sent = inf  # the time by the timer; infinite: not sent yet
        self.invalidated = False
        self.task: asyncio.Task[Session] | None = None

    @property
    def done(self) -> bool:
        """Whether the request has been answered."""
        return self.task is not None and self.task.done()


def _newer(one: Entry, other: Entry) -> bool:
    """Return whether an entry has a later version than another, or the same version and was not read earlier."""
    a, b = one.info.version, other.info.version
    if a != b:
        return a.is_later_than(b)
    return (one.info.first, one.seen) >= (other.info.first, other.seen)  # dropped turns do not change the version


def _remove_finished(
    reads: dict[_Asked, _Request], asked: _Asked, request: _Request, task: asyncio.Task[Session]
) -> None:
    if reads.get(asked) is request:
        del reads[asked]
    if not task.cancelled():
        task.exception()  # if all callers were cancelled, asyncio would log an exception that was never retrieved


# If another thread holds the lock during a fork, the child would wait for it for ever.
_layers: WeakSet[CacheLayer] = WeakSet()


def _in_the_child() -> None:
    for layer in _layers:
        layer._empty()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child)

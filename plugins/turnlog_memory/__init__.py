"""The memory backend: a bounded number of sessions in this process, for development and tests."""

from __future__ import annotations

import os
import time
from _thread import allocate_lock
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

from turnlog import Backend, Change, Expect, Key, Metadata, Page, Query, Receipt, Record, Session, Totals, Version
from turnlog.errors import InvalidInput
from turnlog.rules import SessionState, page
from turnlog.values import Remainder, check_listing

if TYPE_CHECKING:
    from turnlog.runtime import Gate

__all__ = ["MemoryBackend"]

_lock: Final = allocate_lock()
"""Held while a backend looks at a session and replaces it, so that threads with event loops of their own may share it.

One lock serves all backends of the process: no I/O happens while it is held.  A fork waits for it, so that a child
never inherits a lock that another thread holds, or a half-made change."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)

_SWEEP: Final = 16
"""Number of sessions that each new session checks for expiry: at most about one stored session in 16 has expired."""


class MemoryBackend(Backend):
    """Sessions in the memory of this process; they are lost when it ends.

    Above `max_sessions` or `max_bytes`, the backend drops whole sessions, least recently used first.  It never drops
    the internal sessions of layers, such as dictionaries.  Any number of threads and event loops may share it.

    Args:
        ttl: As in `Backend`.
        max_sessions: The largest number of sessions.
        max_bytes: The approximate limit of the bytes of all metadata and records; compressed records count with their
            plain size.  The session of the present write is never dropped.
        clock: As in `Backend`.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    def __init__(
        self,
        *,
        ttl: float | None = None,
        max_sessions: int = 100_000,
        max_bytes: int = 1024**3,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(ttl=ttl, clock=clock)
        for name, value in (("max_sessions", max_sessions), ("max_bytes", max_bytes)):
            if type(value) is not int or value < 1:
                raise InvalidInput(f"{name} must be a whole number of at least 1, not {value!r}")
        self.max_sessions = max_sessions
        self.max_bytes = max_bytes
        self._states: OrderedDict[Key, SessionState] = OrderedDict()  # least recently used first
        self._bytes = 0
        self._unswept: list[Key] = []  # sessions that the present sweep has not checked yet
        self._gate: Gate[Key] | None = None  # created on first use

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        now = self.clock()
        with _lock:
            state = self._states.get(key) or self._state(key)
            after, session = state.read(now, last=last, before=before, since=since, touch=touch)
            if after is not state:
                self._states[key] = after
            if touch:
                self._states.move_to_end(key)
        return session

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self._gate is not None:
            await self._gate.wait(key)
        now = self.clock()
        with _lock:
            state = self._states.get(key) or self._state(key)
            after, receipt = state.apply(change, now)
            if after is not state:
                self._put(key, state, after, now)
            else:  # a repeat also counts as a use
                self._states.move_to_end(key)
        return receipt

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        now = self.clock()
        with _lock:
            found = self._state(key).check_delete(expect, for_owner, now)
            if found or for_owner is None:
                self._drop(key)
        return found

    async def seal(self, key: Key, record: Record) -> bool:
        now = self.clock()
        with _lock:
            state = self._state(key)
            after, done = state.seal(record, now)
            if done:
                self._put(key, state, after, now)
        return done

    def alone(self, key: Key) -> AbstractAsyncContextManager[None]:
        from turnlog.runtime import Gate  # imports asyncio: only when needed

        self._gate = self._gate or Gate("memory")
        return self._gate.alone(key)

    async def page(self, query: Query) -> Page:
        self.check_open()
        now = self.clock()
        headers = (state.header for _, state in self._items())
        return page((h.info(now) for h in headers if h is not None and h.alive(now)), query)

    async def totals(self, namespace: str) -> Totals:
        self.check_open()
        namespace, now = Query(namespace=namespace).one_namespace, self.clock()
        headers = [state.header for key, state in self._items() if key.namespace == namespace]
        found = [h for h in headers if h is not None and h.alive(now)]
        return Totals(
            sessions=len(found),
            messages=sum([h.messages_until - h.start for h in found]),
            bytes=sum([h.bytes for h in found]),
            stored=self._bytes,
        )

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        check_listing(after, limit)
        self.check_open()
        now = self.clock()
        headers = (state.header for _, state in self._items())
        found = {h.key.namespace for h in headers if h is not None and h.alive(now)}
        return sorted(name for name in found if after is None or name > after)[:limit]  # code points sort as UTF-8 does

    async def scrub(self) -> Sequence[Remainder]:
        """Return an empty list: no file contains deleted sessions."""
        return ()

    async def close(self) -> None:
        await super().close()
        with _lock:
            self._states.clear()
            self._unswept.clear()
            self._bytes = 0

    def _items(self) -> list[tuple[Key, SessionState]]:
        """Return a copy of the sessions: other threads may change the map during an iteration."""
        with _lock:
            return list(self._states.items())

    def _state(self, key: Key) -> SessionState:
        self.check_open()  # after `close` no session is found, so callers check only here
        return self._states.get(key) or SessionState.absent(key, ttl=self.ttl)

    def _put(self, key: Key, before: SessionState, after: SessionState, now: float) -> None:
        states, header, old = self._states, after.header, before.header
        assert header is not None  # a change leaves a session
        states[key] = after
        states.move_to_end(key)
        if old is None:
            self._bytes += header.bytes + _size(header.metadata)
            self._sweep(now)
        else:
            self._bytes += header.bytes - old.bytes
            if header.metadata is not old.metadata:
                self._bytes += _size(header.metadata) - _size(old.metadata)
        while len(states) > self.max_sessions or (self._bytes > self.max_bytes and len(states) > 1):
            # internal sessions of layers, such as dictionaries, are needed to read the other sessions
            oldest = next((one for one in states if not one.is_internal), key)
            if oldest == key:
                return
            self._drop(oldest)

    def _drop(self, key: Key) -> None:
        state = self._states.pop(key, None)
        if state is not None and state.header is not None:
            self._bytes -= state.header.bytes + _size(state.header.metadata)

    def _sweep(self, now: float) -> None:
        for _ in range(_SWEEP):
            if not self._unswept:
                self._unswept = list(reversed(self._states))
                if not self._unswept:  # all sessions had expired
                    return
            key = self._unswept.pop()
            state = self._states.get(key)
            if state is not None and state.header is not None and not state.header.alive(now):
                self._drop(key)


def _size(metadata: Metadata) -> int:
    return sum(len(name) + len(value) for name, value in metadata.encoded.items())

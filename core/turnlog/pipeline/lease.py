"""`Lease`: lets one holder at a time answer on a session, across processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Self

from ..errors import Conflict, SessionNotFound, TurnlogError
from ..rules.conditions import is_met
from ..store import Store
from ..values.change import ABSENT, Expect, Receipt
from ..values.ids import new_id
from ..values.json_value import JSON
from ..values.session import SessionInfo
from ..values.version import Version
from .finish import finish

_NAME: Final = "turnlog.lease"
"""The name of the lease in a session's metadata."""

_SHORTEST, _LONGEST = 0.02, 0.5
"""Shortest and longest pause, in seconds, between two reads of another holder's lease; each is 1.5 times the last."""

_RENEWALS: Final = 3
"""Number of renewals within `Lease(seconds=)`."""


class Lease:
    """The right to answer on a session, stored in the session's metadata; use it with `async with`.

    The holder renews the lease by raising a counter.  A waiter takes the lease over if the counter has not changed for
    `seconds` by the waiter's monotonic clock.  Clocks of different processes are never compared.  `commit` writes under
    the condition that the whole session, the lease included, is as this holder last saw it.  The store therefore
    refuses a holder that was stopped for too long.

    Args:
        store: The store, or a view of it.
        session_id: The session; it is made if it is not stored.
        seconds: Seconds after which waiters take over a lease that is not renewed.
        wait: Maximum seconds to wait for the lease.
        clock: Returns the time in seconds; only differences count.
        sleep: Waits a number of seconds.
    """

    def __init__(
        self,
        store: Store,
        session_id: str,
        *,
        seconds: float,
        wait: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._session_id = session_id
        self._seconds = seconds
        self._wait = wait
        self._clock = clock
        self._sleep = sleep
        self._holder = new_id()
        self._beat = 0
        self._made_session = False
        self._version: Version | None = None
        self._turns: Version | None = None
        self._lock = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        begun = seen_since = self._clock()
        seen: object = None
        pause = _SHORTEST
        had_turns = False
        while True:
            info, found = await self._look()
            if info is None and had_turns:
                raise Conflict(
                    f"session {self._session_id!r} was erased, or has expired, while a request waited for its lease"
                )
            had_turns = info is not None and info.turns > 0
            version = None if info is None else info.version
            now = self._clock()
            if found != seen:
                seen, seen_since, pause = found, now, _SHORTEST
            if found is None or now - seen_since >= self._seconds:
                try:
                    taken = await finish(self._take(version))
                except asyncio.CancelledError:
                    if self._version is not None:  # the lease was taken before the cancellation
                        await finish(self._release())
                    raise
                if taken:
                    self._renewal = asyncio.create_task(self._renew())
                    return self
            if now - begun >= self._wait:
                raise Conflict(
                    f"other requests have held the lease of session {self._session_id!r} for {self._wait:g} s: "
                    "try again later, or wait longer with Serialize(wait=...)",
                    actual=version,
                )
            await self._sleep(pause)
            pause = min(1.5 * pause, _LONGEST, self._seconds / _RENEWALS)

    async def __aexit__(self, *error: object) -> None:
        await finish(self._release())

    def bind(self, version: Version) -> None:
        """Let `commit` store only after the turns of this version, which the holder has read."""
        self._turns = version

    def keep_session(self) -> None:
        """Keep a session that was made for the lease: its first turn will be stored later."""
        self._made_session = False

    async def commit(self, write: Callable[[Expect], Awaitable[Receipt]]) -> Receipt:
        """Write under the lease: `write` receives the condition, and may be called more than once.

        Raises:
            Conflict: The lease was taken over, or a writer without the lease has stored a turn.
        """
        async with self._lock:
            while True:
                assert self._version is not None
                if self._turns is not None and not is_met(self._version, self._turns):
                    raise Conflict(
                        f"session {self._session_id!r} has a turn that was written without its lease",
                        expected=self._turns,
                        actual=self._version,
                    )
                version = self._version
                try:
                    receipt = await write(version.exact)
                except Conflict:
                    if not await self._is_mine() or self._version == version:  # unchanged: a retry would fail again
                        raise
                else:
                    self._version = self._turns = receipt.version
                    return receipt

    async def _look(self) -> tuple[SessionInfo | None, object]:
        try:
            info = await self._store.info(self._session_id)
        except SessionNotFound:
            return None, None
        found = info.metadata.get(_NAME)
        copied = isinstance(found, dict) and found.get("session") != self._session_id
        return info, None if copied else found  # a fork copies the lease of its source, which no holder renews

    async def _take(self, version: Version | None) -> bool:
        expect: Expect = ABSENT if version is None else version.exact
        try:
            receipt = await self._mark(self._lease(self._beat), expect)
        except Conflict:  # another waiter has taken it
            return False
        self._version, self._made_session = receipt.version, version is None
        return True

    def _lease(self, beat: int) -> dict[str, JSON]:
        return {"session": self._session_id, "holder": self._holder, "beat": beat}

    async def _mark(self, value: Any, expect: Expect) -> Receipt:  # noqa: ANN401 - JSON
        return await self._store.merge_metadata(self._session_id, {_NAME: value}, expect=expect)

    async def _is_mine(self) -> bool:
        """Return whether this holder still has the lease; if so, remember the version of the session."""
        info, found = await self._look()
        if info is None or not isinstance(found, dict) or found.get("holder") != self._holder:
            return False
        self._version = info.version
        return True

    async def _renew(self) -> None:
        while True:
            await self._sleep(self._seconds / _RENEWALS)
            await self._renew_once()

    async def _renew_once(self) -> None:
        """Raise the counter.  If the lease was lost, or the store cannot be reached, a later commit fails."""
        async with self._lock:
            with suppress(TurnlogError):
                self._version = (await self._marked(self._lease(self._beat + 1))).version
                self._beat += 1

    async def _marked(self, value: Any) -> Receipt:  # noqa: ANN401 - JSON
        """Change the lease if this holder still has it, even if the rest of the session has changed."""
        assert self._version is not None
        try:
            return await self._mark(value, self._version.exact)
        except Conflict:
            if not await self._is_mine():
                raise
            return await self._mark(value, self._version.exact)

    async def _release(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])
        with suppress(TurnlogError):  # if this fails, others take the lease over after `seconds`
            assert self._version is not None
            if self._made_session and not (await self._store.info(self._session_id)).turns:
                try:
                    await self._store.erase(self._session_id, expect=self._version.exact)
                except Conflict:  # another task has written to the session: keep it
                    pass
                else:
                    return
            await self._marked(None)

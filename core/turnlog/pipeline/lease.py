"""A lease: one holder at a time answers on a session, across processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Self

from ..errors import Conflict, SessionNotFound, TurnlogError
from ..rules.header import is_met
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
"""Seconds between two looks at somebody else's lease; they grow by half each time."""

_RENEWALS: Final = 3
"""How often a holder renews its lease in the time after which others take it over."""


class Lease:
    """The right to answer on a session, kept in the session's metadata; use it with `async with`.

    The holder renews it by raising a counter.  A waiter takes it over if the counter has stood still for `seconds` by
    the waiter's own monotonic clock, so no two clocks are compared.  `commit` writes under the condition that the
    lease, and everything else in the session, is as this holder left it: a holder that was stopped for too long is
    refused by the store.

    Args:
        store: The store, or a view of it.
        session_id: The session; it is made if it is not stored.
        seconds: How long a lease that is not renewed is respected.
        wait: The most seconds to wait for it.
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
                raise Conflict(f"session {self._session_id!r} was erased, or has expired, while its lease was awaited")
            had_turns = info is not None and info.turns > 0
            version = None if info is None else info.version
            now = self._clock()
            if found != seen:
                seen, seen_since, pause = found, now, _SHORTEST
            if found is None or now - seen_since >= self._seconds:
                try:
                    taken = await finish(self._take(version))
                except asyncio.CancelledError:
                    if self._version is not None:  # it was taken all the same
                        await finish(self._release())
                    raise
                if taken:
                    self._renewal = asyncio.create_task(self._renew())
                    return self
            if now - begun >= self._wait:
                raise Conflict(
                    f"session {self._session_id!r} was being answered by other requests for {self._wait:g} s: "
                    "try again later, or wait longer with Serialize(wait=...)",
                    actual=version,
                )
            await self._sleep(pause)
            pause = min(1.5 * pause, _LONGEST, self._seconds / _RENEWALS)

    async def __aexit__(self, *error: object) -> None:
        await finish(self._release())

    def bind(self, version: Version) -> None:
        """Let `commit` store only behind the turns of this version, which the holder has read."""
        self._turns = version

    def keep_session(self) -> None:
        """Do not erase a session that was made for the lease: its first turn will be stored later."""
        self._made_session = False

    async def commit(self, write: Callable[[Expect], Awaitable[Receipt]]) -> Receipt:
        """Write under the lease: `write` is given the condition, and may be called again.

        Raises:
            Conflict: The lease was taken over, or somebody without a lease has written a turn.
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
                    if not await self._is_mine() or self._version == version:  # the same again would be refused again
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
        return info, None if copied else found  # a fork copies the lease of its source, which nobody renews

    async def _take(self, version: Version | None) -> bool:
        expect: Expect = ABSENT if version is None else version.exact
        try:
            receipt = await self._mark(self._lease(self._beat), expect)
        except Conflict:  # another waiter was first
            return False
        self._version, self._made_session = receipt.version, version is None
        return True

    def _lease(self, beat: int) -> dict[str, JSON]:
        return {"session": self._session_id, "holder": self._holder, "beat": beat}

    async def _mark(self, value: Any, expect: Expect) -> Receipt:  # noqa: ANN401 - JSON
        return await self._store.merge_metadata(self._session_id, {_NAME: value}, expect=expect)

    async def _is_mine(self) -> bool:
        """Return whether the lease is still this holder's; if so, note the version at which it is."""
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
        """Raise the counter.  If the lease was lost, or the store cannot be reached, a later commit is refused."""
        async with self._lock:
            with suppress(TurnlogError):
                self._version = (await self._marked(self._lease(self._beat + 1))).version
                self._beat += 1

    async def _marked(self, value: Any) -> Receipt:  # noqa: ANN401 - JSON
        """Change the lease if this holder still has it; other changes of the session do not matter."""
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
        with suppress(TurnlogError):  # others wait until it is over
            assert self._version is not None
            if self._made_session and not (await self._store.info(self._session_id)).turns:
                try:
                    await self._store.erase(self._session_id, expect=self._version.exact)
                except Conflict:  # somebody has written into the session: it stays
                    pass
                else:
                    return
            await self._marked(None)

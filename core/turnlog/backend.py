"""`Backend`: the contract for plugin authors.

A backend implements `read`, `commit`, `delete` and `page` by the rules in `turnlog.rules`: with `SessionState` if it
stores each session as one value, with `needs` and `plan` if it stores records separately.  `Store` implements the API
for applications on these methods.  `turnlog.testing.BackendContract` tests a backend.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Self, final

from .errors import Closed, Unsupported
from .rules.conditions import check_condition, missing
from .rules.copying import copy_change
from .rules.totals import totals_of
from .values.capability import Capability
from .values.change import Change, Expect, Receipt, check_ttl
from .values.key import Key
from .values.query import Query
from .values.record import Record
from .values.session import Page, Session
from .values.totals import Totals
from .values.version import Version

__all__ = ["Backend"]


class Backend(ABC):
    """Storage for sessions.

    A session is a log of turns with an owner and metadata, named by a `Key`.  Sessions are independent of each other.
    Any number of tasks, of threads with event loops of their own, and of processes may use one session at once.  Every
    commit is atomic and stored once, and no acknowledged commit is lost.

    `async with backend:` opens and closes it.  A backend that needs no connection or file also works unopened.  Calls
    that run while `close` is called succeed or raise `Closed`, and have ended when it returns.

    Args:
        ttl: Seconds from a session's last use to its expiry, for sessions without their own; None: they never expire.
        clock: Returns seconds since 1970.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    capabilities: frozenset[Capability] = frozenset({"threads"})
    """Properties that the kit tests only if they are declared."""

    def __init__(self, *, ttl: float | None = None, clock: Callable[[], float] = time.time) -> None:
        self.ttl: float | None = None if ttl is None else check_ttl(ttl) or None
        self.clock = clock
        self._closed = False

    @property
    def location(self) -> str | None:
        """Name of the storage, the same in every process, without a password; None: only this object can reach it."""
        return None

    @abstractmethod
    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        """Return a snapshot of a session, or of a part of it.

        Args:
            key: The session.
            last: Return the fewest whole turns at the end that hold at least this many messages; 0: no turns, only the
                info.  A sealed record is returned, and counted, as a whole.
            before: Return only turns numbered below this; `last` then counts back from there.  A sealed record that
                begins below it is returned.
            since: Return only the records after this version.  If turns were only added, `Session.continues` is true.
                The first record may then be a later round of a turn; no records mean that nothing was added.  If turns
                were cut, or the session was recreated, or records after the version were sealed or dropped, the answer
                is the same as without `since`.  Not together with `before`.
            touch: Restart the session's time to live.

        Raises:
            SessionNotFound: The session does not exist, or has expired.
            HistoryRegressed: The session is older than `since`, or has diverged from it: the storage lost acknowledged
                commits.
            InvalidInput: `last` or `before` is not a number from 0 to 2**53 - 1, or `since` is not a version, or both
                `since` and `before` are given.
            Unavailable: The backend could not be reached.
        """

    @abstractmethod
    async def commit(self, key: Key, change: Change) -> Receipt:
        """Apply a change atomically, and once per change id.

        The backend compares the owner (`change.for_owner`) first.  Then it looks up the id: for a repeated change it
        stores nothing, and returns the version and the turn number of the first commit.  Then it compares
        `change.expect`.  If the session does not exist, the commit creates it, unless the change adds nothing.  Each
        commit restarts the session's time to live.  A session remembers at least its last 64 changes.

        Args:
            key: The session.
            change: The change.

        Raises:
            Conflict: The session does not meet `change.expect`, or a round does not continue the turn that is open.
            IdReused: Another change was committed under this id.
            SplitsSealed: The cut falls inside a sealed record.
            SessionNotFound: The session does not exist and the change does not create it, or it has another owner.
            HistoryRegressed: The session is older than `change.expect`, or has diverged from it.
            TooLarge: The change would exceed a limit.
            Unavailable: The backend could not be reached; nothing was stored.
            OutcomeUnknown: The answer was lost; the same change can be sent again.
        """

    @abstractmethod
    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        """Remove a session atomically.  Without `expect` this also removes a damaged session.

        Args:
            key: The session.
            expect: The condition on the session.
            for_owner: Remove only a session of this owner; sessions of others do not exist for this call.  A damaged
                session is removed if its stored owner can still be read.

        Returns:
            False if the session did not exist.

        Raises:
            Conflict: The session does not meet `expect`, or does not exist and `expect` names a version.
            SessionNotFound: The session does not exist, and `expect` is `PRESENT`.
            HistoryRegressed: The session is older than `expect`, or has diverged from it.
            CorruptRecord: The session is damaged, so that its version or its owner cannot be compared.
            Unavailable: The backend could not be reached; nothing was removed.
            OutcomeUnknown: The answer was lost.
        """

    @abstractmethod
    async def page(self, query: Query) -> Page:
        """Return a page of unexpired sessions.  No time to live is restarted.

        A damaged session is left out of `Page.infos` and reported in `Page.damaged`.

        Raises:
            Unsupported: The query is of all namespaces, and the backend cannot list them.
        """

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:  # noqa: ARG002
        """Return the namespaces with sessions, expired and internal ones included, sorted by their bytes.

        Args:
            after: Return only namespaces that sort after this text; None: all.
            limit: The largest number to return, 1 to 1,000.  A shorter answer is the last one.

        Raises:
            Unsupported: The backend cannot list them.
            InvalidInput: `after` is not a valid namespace, or `limit` is out of bounds.
        """
        raise Unsupported(f"{type(self).__name__} cannot list namespaces: name one")

    async def seal(self, key: Key, record: Record) -> bool | None:  # noqa: ARG002 - subclasses use them
        """Replace the stored records of the rounds in `record` with it.  Messages, turns and versions stay the same.

        Args:
            key: The session.
            record: The sealed record (`Record.seal`).

        Returns:
            True if replaced, False if the records have changed since they were read, None if seals are not supported.

        Raises:
            SessionNotFound: The session does not exist.
            InvalidInput: The record does not begin with the first round of a turn.
            Unavailable: The backend could not be reached.
        """
        return None

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
        """Create a session from another one: turns with numbers and times, metadata, owner and time to live.

        The new session remembers none of the source's changes.  Override this if the server can copy sessions.

        Args:
            source: The session to copy.
            target: The new session.
            at: Copy only the turns numbered below this; None: all.
            change_id: As `Change.id`.  A repeated copy returns the first receipt if the source still meets `expect`.
            expect: The condition on the source.
            for_owner: Copy only a session of this owner; sessions of others do not exist for this call.

        Raises:
            SessionNotFound: The source does not exist, or has another owner.
            Conflict: The source does not meet `expect`, or the target exists and was created by another change.
            SplitsSealed: `at` falls inside a sealed record that only a layer can decode.
            CorruptRecord: `at` falls inside a damaged sealed record.
        """
        session = await self.read(source, before=at, touch=for_owner is None)
        if for_owner is not None:
            if session.info.owner != for_owner:
                raise missing(source)
            await self.read(source, last=0)  # the session is the owner's: restart its time to live
        check_condition(source, session.info.version, expect)
        return await self.commit(target, copy_change(source, session, at, change_id, for_owner))

    async def totals(self, namespace: str) -> Totals:
        """Return the number and the size of a namespace's unexpired sessions.  No time to live is restarted.

        Damaged and concurrently changed sessions may be left out.  Override this if the server can count sessions.
        """
        return await totals_of(self.page, namespace)

    def alone(self, key: Key) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 - subclasses use them
        """Make other writers of a session wait during a read and the commit that depends on it.

        This is a hint.  The commit must still name the version that was read, and may raise `Conflict`: callers try
        again.  The default does nothing.

        Raises:
            Unavailable: Other writers kept the session busy for too long.
        """
        return nullcontext()

    async def open(self) -> None:
        """Open files and connections; if this fails, leave nothing open.  Overrides must call `super().open()`."""
        self._closed = False

    async def close(self) -> None:
        """Close files and connections; later calls raise `Closed`.  Overrides must call `super().close()`."""
        self._closed = True

    def check_open(self) -> None:
        """Raise `Closed` if the backend is closed, or needs to be opened first.  The four methods call this first."""
        if self._closed:
            raise Closed(f"{self.location or 'the store'} is not open: use it inside its 'with' block, or after open()")

    @final
    async def __aenter__(self) -> Self:
        await self.open()
        return self

    @final
    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

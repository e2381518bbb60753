"""The contract for plugin authors: what a backend does.

Four methods make a backend: `read`, `commit`, `delete` and `page`.  The rules that they follow are in `turnlog.rules`:
`SessionState` applies them to a session that is stored as a whole, `needs` and `plan` to one that is stored in parts.
`Store` builds what applications call on these methods.  `turnlog.testing.BackendContract` tests each sentence here.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Self, final

from .errors import Closed, Unsupported
from .rules.copying import copy_change
from .rules.header import check_condition, missing
from .rules.totals import totals_of
from .values.change import Change, Expect, Receipt, check_ttl
from .values.key import Key
from .values.record import Record
from .values.session import Page, Query, Session
from .values.totals import Totals
from .values.version import Version

__all__ = ["Backend"]


class Backend(ABC):
    """A place that keeps sessions.

    A session is a log of turns with an owner and some metadata, named by a `Key`.  Sessions know nothing of each other.
    Any number of tasks and processes may work on one session at once, and the event loops of several threads where the
    backend says so.  Every commit is atomic and is stored once; nothing that was acknowledged is lost.

    `async with backend:` opens and closes it.  A backend that acquires nothing works without.

    Args:
        ttl: Seconds that a session lives after its last use, unless it has a time to live of its own; None: for ever.
        clock: Returns seconds since 1970.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    def __init__(self, *, ttl: float | None = None, clock: Callable[[], float] = time.time) -> None:
        self.ttl = None if ttl is None else check_ttl(ttl) or None
        self.clock = clock
        self._closed = False

    @property
    def location(self) -> str | None:
        """The place of the sessions, the same in each process and without a password; None: only this object's."""
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
            last: Only the fewest whole turns at the end that hold at least this many messages; 0: the info alone.  A
                sealed record is returned whole, and counted whole.
            before: Only turns numbered below this; with `last`, counted from there backwards.  A sealed record that
                begins below it is included.
            since: Only what follows this version, if the history has only grown: then `Session.continues` is true, no
                records mean that nothing has changed, and the first record may be a later round of a turn.  Otherwise
                (turns were cut, the session was made anew, or the records there were sealed or dropped) the answer is
                the same as without `since`.  It cannot be given together with `before`.
            touch: Extend the session's life.

        Raises:
            SessionNotFound: There is none, or it has expired.
            HistoryRegressed: The session is older than `since`, or has diverged from it: the store has lost what it
                had acknowledged.
            InvalidInput: `last` or `before` is not a number from 0 to 2**53 - 1, or `since` is not a version, or is
                given with `before`.
            Unavailable: The backend could not be reached.
        """

    @abstractmethod
    async def commit(self, key: Key, change: Change) -> Receipt:
        """Apply a change: all of it or nothing, once per change id.

        The owner (`change.for_owner`) is compared first.  Then the id is looked up: a repeat stores nothing and is
        answered with the version and the turn number of the first time.  Then `change.expect` is compared.  A change
        to a session that is not stored makes it, unless the change puts nothing into it.  A commit extends the
        session's life.  A session remembers at least its last 64 changes.

        Args:
            key: The session.
            change: The change.

        Raises:
            Conflict: The session does not meet `change.expect`, or a round does not follow its turn's open last one.
            IdReused: The id stands for another change.
            SplitsSealed: The cut falls inside a sealed record.
            SessionNotFound: There is no session and the change makes none, or it belongs to another owner.
            HistoryRegressed: The session is older than `change.expect`, or has diverged from it.
            TooLarge: A limit would be passed.
            Unavailable: The backend could not be reached; nothing was stored.
            OutcomeUnknown: The answer was lost; the same change can be sent again.
        """

    @abstractmethod
    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        """Remove a session, all of it at once.  Without `expect`, a damaged session is removed, too.

        Args:
            key: The session.
            expect: The condition on the session.
            for_owner: Only a session of this owner: any other does not exist for this call.  A damaged session is
                removed if what is stored with it still tells that it is this owner's.

        Returns:
            False if there was none.

        Raises:
            Conflict: The session does not meet `expect`, or there is none and `expect` names a version.
            SessionNotFound: There is none, and `expect` is `PRESENT`.
            HistoryRegressed: The session is older than `expect`, or has diverged from it.
            CorruptRecord: It is damaged: whether it meets `expect`, or whose it is, cannot be told.
            Unavailable: The backend could not be reached; nothing was removed.
            OutcomeUnknown: The answer was lost.
        """

    @abstractmethod
    async def page(self, query: Query) -> Page:
        """Return one page of sessions, the last updated first, without those that have expired; extend no life.

        A session that cannot be read hides no other: it is left out of `Page.infos` and reported in `Page.damaged`.
        """

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:  # noqa: ARG002
        """Return the namespaces that have sessions, also expired ones and those of layers, in the order of their bytes.

        Args:
            after: Only namespaces that follow this text, which need not be one of them; None: from the beginning.
            limit: How many at most, 1 to 1,000; fewer say that no others follow.

        Raises:
            Unsupported: The backend cannot list them.
            InvalidInput: `after` cannot name a namespace, or `limit` is out of bounds.
        """
        raise Unsupported(f"{type(self).__name__} cannot list its namespaces: name the namespace")

    async def seal(self, key: Key, record: Record) -> bool | None:  # noqa: ARG002 - for those that support it
        """Replace the records that hold the same rounds by one record.  Readers see no difference, nor do versions.

        Args:
            key: The session.
            record: The sealed record (`Record.seal`).

        Returns:
            True if it was done; False if the records have changed since they were read; None if seals are not
            supported.

        Raises:
            SessionNotFound: There is no session.
            InvalidInput: The record does not begin a turn.
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
        """Make a session out of another: its turns with their numbers and times, metadata, owner and time to live.

        The copy starts a new epoch and remembers none of the source's changes.  Override it to do better.

        Args:
            source: The session to copy.
            target: The new session.
            at: Copy only the turns numbered below this; None: all.
            change_id: As `Change.id`: a repeat is answered as the first time, if the source still meets `expect`.
            expect: The condition on the source.
            for_owner: Only a source of this owner: any other does not exist for this call.

        Raises:
            SessionNotFound: There is no source, or `expect` or `for_owner` excludes it.
            Conflict: The source does not meet `expect`, or the target exists and another change made it.
            SplitsSealed: `at` falls inside a sealed record that only a layer can open.
            CorruptRecord: `at` falls inside a sealed record that cannot be read.
        """
        session = await self.read(source, before=at, touch=for_owner is None)
        if for_owner is not None:
            if session.info.owner != for_owner:
                raise missing(source)
            await self.read(source, last=0)  # extends the life of what is the owner's own
        if expect is not None:
            check_condition(source, session.info.version, expect)
        return await self.commit(target, copy_change(source, session, at, change_id, for_owner))

    async def totals(self, namespace: str) -> Totals:
        """Return how many unexpired sessions a namespace has, and what they hold; extend no life.

        A session that cannot be read, or changes meanwhile, may be left out.  Override it to do better.

        Raises:
            InvalidInput: The namespace breaks a rule.
            Unavailable: The backend could not be reached.
        """
        return await totals_of(self.page, namespace)

    def alone(self, key: Key) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 - for those that support it
        """Keep other writers of a session waiting during a read and a commit that depends on it.

        It is a hint: a commit inside it still names the version that was read, and may raise `Conflict`.  By default it
        does nothing, and callers must try again when another writer has come in between.

        Raises:
            Unavailable: Other writers left no turn in time, or the backend could not be reached.
        """
        return nullcontext()

    async def open(self) -> None:
        """Acquire what the backend needs.  Overrides must call `super().open()`."""
        self._closed = False

    async def close(self) -> None:
        """Release it; afterwards every call raises `Closed`.  Overrides must call `super().close()`."""
        self._closed = True

    def check_open(self) -> None:
        """Refuse a call while the backend is closed: the four methods call this first.

        Raises:
            Closed: The backend was closed, or was never opened and has to be.
        """
        if self._closed:
            raise Closed(f"{self.location or type(self).__name__} is not open: open it with 'async with'")

    @final
    async def __aenter__(self) -> Self:
        await self.open()
        return self

    @final
    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

"""`copy`: copies all sessions of a store into another store, while applications use the first."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from turnlog import Backend, Key, SessionInfo, Store
from turnlog.errors import (
    AccessError,
    Closed,
    Conflict,
    CorruptRecord,
    InvalidInput,
    OutcomeUnknown,
    SchemaError,
    SessionNotFound,
    TurnlogError,
    Unavailable,
)
from turnlog.layers import stack_of

from ._copy_state import CopyState
from ._damage import each_of, named
from ._namespaces import views_of
from ._pace import Pace
from ._session_copier import SessionCopier
from ._snapshot import Changed

_PAUSE: Final = 1.0
"""Seconds before the third pass and each later one.  These passes copy the changes of the short pass before: without a
pause, they would list the source continuously while applications write to it."""


class CopyResult(NamedTuple):
    """The result for one session in one pass.

    Attributes:
        key: The session in the source; None: a damaged entry of the list whose name cannot be read.
        outcome: `copied`; `unchanged`: the target already had the copy; `removed`: the source does not have the session
            any more, and its copy was removed; `changing`: the session was cut or replaced while it was read, and the
            next pass copies it; `different`: another writer has changed the target's session, which stays unchanged;
            or `failed`.
        messages: The number of written messages.
        bytes: The approximate size of the written messages in bytes.
        error: The reason for `different` or `failed`.
        in_pass: The number of the pass, from 1.
    """

    key: Key | None
    outcome: Literal["copied", "unchanged", "removed", "changing", "different", "failed"]
    messages: int = 0
    bytes: int = 0
    error: TurnlogError | None = None
    in_pass: int = 1


@dataclass
class Copied:
    """The totals of a copy.

    Attributes:
        passes: The number of passes.
        sessions: The number of sessions in the last pass.
        copied: The number of times that a session, its new rounds or its new times were copied.
        removed: The number of sessions that were removed from the target.
        messages: The number of written messages.
        bytes: The approximate size of the written messages in bytes.
        changed: The number of sessions that had changed between the last pass and the one before.
        different: The number of sessions of the last pass that differ in the target.
        failed: The number of sessions of the last pass that have failed.
    """

    passes: int = 0
    sessions: int = 0
    copied: int = 0
    removed: int = 0
    messages: int = 0
    bytes: int = 0
    changed: int = 0
    different: int = 0
    failed: int = 0

    @property
    def complete(self) -> bool:
        """Whether the last pass has found every session of the source unchanged in the target."""
        return not self.changed and not self.different and not self.failed

    def begin_pass(self) -> None:
        """Count a pass."""
        self.passes += 1
        self.sessions = self.changed = self.different = self.failed = 0

    def add(self, result: CopyResult) -> None:
        """Count the result of one session."""
        outcome = result.outcome
        self.sessions += outcome != "removed"
        self.copied += outcome == "copied"
        self.removed += outcome == "removed"
        self.changed += outcome in ("copied", "removed", "changing")
        self.different += outcome == "different"
        self.failed += outcome == "failed"
        self.messages += result.messages
        self.bytes += result.bytes


async def copy(
    source: Store,
    target: Store,
    *,
    state: str | os.PathLike[str],
    all_namespaces: bool = False,
    allow_empty: bool = False,
    passes: int = 10,
    sessions_per_second: float | None = None,
    bytes_per_second: float | None = None,
    progress: Callable[[CopyResult], None] | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> Copied:
    """Copy the sessions of the source's namespace into the target's, and remove erased sessions from the target.

    A copy is equal in turns, rounds, numbers, times, owner, metadata and time to live.  It has the times at which its
    source was created and updated, and expires at the same time; differences of less than a minute are ignored.
    Written data is read back and compared.  Applications may use the source during the copy.  Passes are repeated until
    a pass finds no changes, with a pause of a second between them from the third pass on.

    The state is a local file.  After a failure, or later, call `copy` again with the same state: only changed sessions
    are copied.  If another writer has created or changed a session of the target, it stays unchanged, unless it equals
    the session of the source.  If the state is lost, a new copy accepts equal sessions, and leaves sessions that have
    changed since unchanged.

    Args:
        source: The store to copy.  Reads of the copy do not restart times to live.
        target: The store to write to.  Its `retain` is ignored.
        state: The path of the state; the file is created if it is missing.
        all_namespaces: Copy all namespaces, each into the namespace with the same name.  On views of a namespace, copy
            the namespaces that are nested in it.
        allow_empty: Whether the source may be empty although sessions were copied from it: all copies are then removed.
        passes: The largest number of passes.
        sessions_per_second: The largest number of sessions per second; None: no limit.
        bytes_per_second: The largest number of bytes per second; None: no limit.
        progress: Called with each result of each pass.
        sleep: Waits for a number of seconds.

    Raises:
        InvalidInput: An argument breaks a rule, or the state belongs to another copy.
        Conflict: Another copy is using the state.
        Unavailable: A store could not be reached.
        OutcomeUnknown: An answer of the target was lost, and so were the answers to further attempts.
        TurnlogError: The source has no sessions, although sessions were copied from it.
        OSError: The state cannot be created.
    """
    if source.owner is not None or target.owner is not None:
        raise InvalidInput("copy needs whole stores, not views of an owner: pass the stores without for_owner")
    for name, rate in (("sessions_per_second", sessions_per_second), ("bytes_per_second", bytes_per_second)):
        if rate is not None and not rate > 0:
            raise InvalidInput(f"{name} must be a number greater than 0, not {rate!r}")
    if type(passes) is not int or passes < 1:
        raise InvalidInput(f"passes must be a whole number of at least 1, not {passes!r}")
    if _place(source) == _place(target) and (all_namespaces or source.namespace == target.namespace):
        raise InvalidInput(
            "the source and the target are the same place"
            + (": copy one of its namespaces to another" if all_namespaces else ": name another store or namespace")
        )
    names = [_name(store, all_namespaces=all_namespaces) for store in (source, target)]
    totals = Copied()
    with CopyState(os.fspath(state), *names) as kept:
        work = _Work(source, target, kept, Pace(sessions_per_second, sleep=sleep), Pace(bytes_per_second, sleep=sleep))
        while totals.passes < passes:
            if totals.passes >= 2:
                await sleep(_PAUSE)
            totals.begin_pass()
            async for result in work.run_pass(all_namespaces=all_namespaces, allow_empty=allow_empty):
                totals.add(result)
                if progress is not None:
                    progress(result._replace(in_pass=totals.passes))
            if not totals.changed:
                break
    return totals


def _name(store: Store, *, all_namespaces: bool) -> str:
    """Return the location and the namespace of a store, without a password."""
    place = _place(store)
    sessions = f"namespace {store.namespace!r}"
    if all_namespaces:
        nests = store.within("a").namespace != "a"  # True on a view of a namespace
        sessions = f"all namespaces in {store.namespace!r}" if nests else "all namespaces"
    return f"{place if isinstance(place, str) else type(place).__name__}, {sessions}"


def _place(store: Store) -> str | Backend:
    """Return the location of a store, or its backend if it has no location, as in memory."""
    *_, backend = stack_of(store.backend)
    return backend.location or backend


class _Work(NamedTuple):
    source: Store
    target: Store
    state: CopyState
    by_session: Pace
    by_bytes: Pace

    async def run_pass(self, *, all_namespaces: bool, allow_empty: bool) -> AsyncIterator[CopyResult]:
        """Yield the result of each session of the source, and of each copied session that the source does not have.

        Raises:
            TurnlogError: The source has no sessions, sessions were copied from it, and `allow_empty` is false.
        """
        self.state.begin_pass()
        any_found = allow_empty
        try:
            async for name, source in views_of(self.source, all_namespaces=all_namespaces):
                copier = self._copier(name)
                try:
                    async for info in source.sessions():
                        any_found = True
                        yield await self._session(copier, info)
                except CorruptRecord as error:  # raised after all other sessions
                    any_found = True
                    for one in each_of(error):
                        yield CopyResult(one.key, "failed", error=one)
        except CorruptRecord as error:  # raised after all other namespaces: some names cannot be read
            any_found = True
            for one in each_of(error):
                yield CopyResult(one.key, "failed", error=one)
        for name, id in self.state.unseen():
            if not any_found:
                raise TurnlogError(
                    "the source has no sessions, but sessions were copied from it before: nothing was removed from the "
                    "target; check that the source is the right one; if all its sessions were erased or have expired, "
                    "pass --allow-empty (in Python, allow_empty=True)"
                )
            copier = self._copier(name)
            try:
                info = await copier.source.info(id)
            except SessionNotFound:
                yield await self._gone(copier, id)
            except CorruptRecord:  # the list has already reported it
                continue
            else:  # the session has moved to the front of the list while the list was read
                yield await self._session(copier, info)

    def _copier(self, name: str | None) -> SessionCopier:
        if not name:
            return SessionCopier("", self.source, self.target, self.state)
        return SessionCopier(name, self.source.within(name), self.target.within(name), self.state)

    async def _session(self, copier: SessionCopier, info: SessionInfo) -> CopyResult:
        try:
            if await copier.is_copied(info):
                return CopyResult(info.key, "unchanged")
            await self.by_session.wait(1)
            await self.by_bytes.wait(info.bytes)
            done = await copier.copy(info)
            return CopyResult(info.key, "copied" if done.changed else "unchanged", done.messages, done.bytes)
        except Changed:
            return CopyResult(info.key, "changing")
        except SessionNotFound:
            return await self._gone(copier, info.key.session)
        except TurnlogError as error:
            return _problem(info.key, error)

    @staticmethod
    async def _gone(copier: SessionCopier, session_id: str) -> CopyResult:
        key = Key(copier.source.namespace, session_id)
        try:
            await copier.remove(session_id)
        except TurnlogError as error:
            return _problem(key, error)
        return CopyResult(key, "removed")


def _problem(key: Key, error: TurnlogError) -> CopyResult:
    if isinstance(error, AccessError | Closed | OutcomeUnknown | SchemaError | Unavailable):
        raise error
    if isinstance(error, CorruptRecord):
        error = named(error, key)
    return CopyResult(key, "different" if isinstance(error, Conflict) else "failed", error=error)

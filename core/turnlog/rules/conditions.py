"""Conditions on sessions, and the errors of sessions that do not meet them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from ..errors import Conflict, HistoryRegressed, SessionNotFound
from ..values.change import ABSENT, PRESENT, Expect, Mark
from ..values.key import Key, check_key
from ..values.version import ExactVersion, Version, version_of


def is_met(version: Version, expect: Expect | Literal[Mark.ANY]) -> bool:
    """Return whether an existing session at a version meets a condition."""
    if expect is None or isinstance(expect, Mark):
        return expect is not ABSENT
    return expect.met_by(version)


def unchanged_since(version: Version, expect: Expect | Literal[Mark.ANY]) -> Expect:
    """Return the condition that no other task has written since a read that met `expect`."""
    return version.exact if isinstance(expect, ExactVersion) else version


def check_condition(key: Key, version: Version, expect: Expect) -> None:
    """Refuse a write if an existing session does not meet its condition.

    Args:
        key: The session.
        version: The version of the session.
        expect: The condition.

    Raises:
        Conflict: The session does not meet `expect`.
        HistoryRegressed: The session is older than the version in `expect`, or has diverged from it.
    """
    if is_met(version, expect):
        return
    if expect is None or isinstance(expect, Mark):
        raise Conflict(
            f"session {key} already exists, but the call may only create a session: choose another session id; "
            "to add to the existing session, append without expect=ABSENT",
            actual=version,
        )
    check_not_ahead(key, version, version_of(expect))
    raise Conflict(
        f"session {key} has changed since its version was read: load it again, and write with the new version",
        expected=expect,
        actual=version,
    )


def check_not_ahead(key: Key, version: Version, seen: Version) -> None:
    """Refuse a version that a reader saw if the session is older than it, or has diverged from it.

    Args:
        key: The session.
        version: The version of the session.
        seen: The version that the reader saw.

    Raises:
        HistoryRegressed: The store has lost acknowledged writes.
    """
    if seen.epoch != version.epoch or seen.generation < version.generation:
        return
    diverged = seen.rounds == version.rounds and seen.tip != version.tip
    if seen.generation > version.generation or seen.rounds > version.rounds or diverged:
        raise regressed(key, version, seen)


def check_absent(key: Key, expect: Expect, owner: str | None = None) -> None:
    """Refuse a write to a session that is not stored, if its condition needs a stored session.

    Args:
        key: The session.
        expect: The condition.
        owner: The owner of the call; None: any owner.

    Raises:
        Conflict: `expect` names a version.
        SessionNotFound: `expect` is `PRESENT`.
    """
    if expect is None or expect is ABSENT:
        return
    if expect is PRESENT:
        raise missing(key, owner)
    raise Conflict(
        f"session {key} was erased or has expired since it was read: to create it again, write all of its messages as "
        "a new turn, without expect=",
        expected=expect,
    )


def regressed(key: Key, version: Version, seen: Version) -> HistoryRegressed:
    """Return the error for a reader that saw a version which the store has lost.

    Args:
        key: The session.
        version: The version of the session.
        seen: The version that the reader saw.
    """
    return HistoryRegressed(
        f"session {key} is at {version!r}, older than {seen!r} or diverged from it: the store has lost acknowledged "
        "writes, for example in a fail-over; to go on from the stored turns, load the session again",
        seen=seen,
        actual=version,
    )


def missing(key: Key, owner: str | None = None) -> SessionNotFound:
    """Return the error for a session that is not stored, or has another owner; the text is the same for both.

    Args:
        key: The session.
        owner: The owner of the call; None: any owner.

    Raises:
        InvalidInput: `key` is not a key.
    """
    check_key(key)
    text = f"there is no session {key}, or it has expired"
    if owner is not None:
        text = (
            f"there is no session {key.session!r} of owner {owner!r} in namespace {key.namespace!r}, or it has "
            "expired: check the owner, or choose another session id"
        )
    error = SessionNotFound(text, key=key)
    error.add_note("Store.append creates a session, and Store.sessions lists the sessions.")
    return error


@contextmanager
def naming_owner(owner: str | None) -> Iterator[None]:
    """Name the owner in a `SessionNotFound` of the block, as in the error for a session of another owner.

    Args:
        owner: The owner of the call; None: any owner.
    """
    try:
        yield
    except SessionNotFound as error:
        if owner is None or error.key is None:
            raise
        raise missing(error.key, owner) from error

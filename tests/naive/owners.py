"""Naive backends: conditions, owners and namespaces."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from naive import fails, stored
from turnlog import ABSENT, PRESENT, Change, Conflict, Key, Receipt, Session, SessionNotFound, Version
from turnlog.testing._bad_input import BadInput
from turnlog.testing._concurrency import Concurrency
from turnlog.testing._conditions import Conditions
from turnlog.testing._describing import Describing
from turnlog.testing._lifecycle import Lifecycle
from turnlog.testing._namespaces import Namespaces
from turnlog.testing._owners import Owners
from turnlog.testing._repeating import Repeating
from turnlog.values.version import ExactVersion, SameSession
from turnlog_memory import MemoryBackend

# --------------------------------------------------------------------------------------------------------- conditions


class _Expecting(MemoryBackend):
    """Changes the condition of every call."""

    def condition(self, expect: Any, change: Change | None = None) -> Any:
        raise NotImplementedError

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, expect=self.condition(change.expect, change)))

    async def delete(self, key: Key, **how: Any) -> bool:
        return await super().delete(key, **{**how, "expect": self.condition(how.get("expect"))})

    async def copy(self, source: Key, target: Key, **how: Any) -> Receipt:
        return await super().copy(source, target, **{**how, "expect": self.condition(how.get("expect"))})


@fails(Conditions, "session_must_be_present")
class PresentIsNone(_Expecting):
    """Treats `PRESENT` as no condition."""

    def condition(self, expect: Any, change: Change | None = None) -> Any:
        return None if expect is PRESENT else expect


@fails(Conditions, "same_session")
class SessionIsVersion(_Expecting):
    """Compares the turns instead of the session for `version.session`."""

    def condition(self, expect: Any, change: Change | None = None) -> Any:
        return expect.version if isinstance(expect, SameSession) else expect


@fails(Conditions, "same_session")
class SessionIsPresent(_Expecting):
    """Treats `version.session` as `PRESENT`."""

    def condition(self, expect: Any, change: Change | None = None) -> Any:
        return PRESENT if isinstance(expect, SameSession) else expect


@fails(Conditions, "same_turns")
class WholeVersion(_Expecting):
    """Compares metadata for a plain version, so a new title refuses a turn."""

    def condition(self, expect: Any, change: Change | None = None) -> Any:
        return expect.exact if isinstance(expect, Version) else expect


@fails(Conditions, "same_turns")
class WholeVersionForMetadata(_Expecting):
    """Compares metadata for a plain version if the change has no turns."""

    def condition(self, expect: Any, change: Change | None = None) -> Any:
        turns = change is None or change.append or change.keep is not None
        return expect if turns or not isinstance(expect, Version) else expect.exact


@fails(Conditions, "exact_version")
@fails(Describing, "compare_and_set")
class TurnsOnly(_Expecting):
    """Compares the turns for every condition."""

    def condition(self, expect: Any, change: Change | None = None) -> Any:
        return expect.version if isinstance(expect, ExactVersion) else expect


@fails(Conditions, "without_a_condition", "session_must_be_present")
class NoneIsAbsent(_Expecting):
    """Treats a missing condition as `ABSENT`."""

    def condition(self, expect: Any, change: Change | None = None) -> Any:
        return ABSENT if expect is None and change is None else expect


@fails(Conditions, "session_must_be_absent", "same_session", "same_turns", "exact_version", "session_must_be_present")
@fails(BadInput, "conditions_that_are_none")
class DeletesUnconditionally(MemoryBackend):
    """Ignores the condition of a deletion."""

    async def delete(self, key: Key, **how: Any) -> bool:
        return await super().delete(key, for_owner=how.get("for_owner"))


@fails(Conditions, "session_must_be_absent", "same_session", "same_turns", "exact_version")
class CopiesUnconditionally(MemoryBackend):
    """Ignores the condition of a copy."""

    async def copy(self, source: Key, target: Key, **how: Any) -> Receipt:
        return await super().copy(source, target, **{**how, "expect": None})


@fails(Conditions, "session_must_be_present")
class PresentIsAConflict(MemoryBackend):
    """Raises `Conflict` instead of `SessionNotFound` for `PRESENT`."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except SessionNotFound:
            if change.expect is not PRESENT:
                raise
            raise Conflict("no session") from None


# ------------------------------------------------------------------------------------------------------------- owners


@fails(
    Owners,
    "a_change_for_an_owner",
    "a_session_that_is_made_for_an_owner",
    "a_view_extends_the_lives_of_its_owners_sessions_only",
    "a_view_of_an_owner",
    "a_view_works_on_the_sessions_of_its_owner",
    "an_append_takes_no_session_over",
    "an_expired_session_has_no_owner",
    "the_owner_is_compared_before_a_repeat_is_looked_up",
    "the_owner_is_compared_before_the_condition",
)
@fails(Concurrency, "the_owner_is_compared_in_the_same_step")
@fails(Namespaces, "views_keep_the_options_of_their_store")
class CommitsForAll(MemoryBackend):
    """Ignores `for_owner` of a change."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, for_owner=None))


@fails(Owners, "the_owner_is_compared_before_a_repeat_is_looked_up")
class LooksUpFirst(MemoryBackend):
    """Looks up a repeat before it compares the owner."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.id in self._state(key)._ring.entries:
            change = replace(change, for_owner=None)
        return await super().commit(key, change)


@fails(Owners, "the_owner_is_compared_before_the_condition")
class ComparesTheVersionFirst(MemoryBackend):
    """Checks the condition before the owner, and so reveals that the session exists."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        if session is not None and isinstance(change.expect, Version) and not change.expect.met_by(session.version):
            raise Conflict("it has changed", expected=change.expect, actual=session.version)
        return await super().commit(key, change)


@fails(Owners, "a_change_for_an_owner", "a_view_of_an_owner")
class NobodysIsEverybodys(MemoryBackend):
    """Lets any owner write to a session without an owner."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        if session is not None and not session.info.owner:
            change = replace(change, for_owner=None)
        return await super().commit(key, change)


@fails(Owners, "a_change_for_an_owner", "a_view_of_an_owner", "the_owner_is_compared_before_the_condition")
class AnotherOwnerIsAConflict(MemoryBackend):
    """Raises `Conflict` for a session of another owner."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        if session is not None and change.for_owner not in (None, session.info.owner):
            raise Conflict("it belongs to another owner")
        return await super().commit(key, change)


@fails(Owners, "a_session_that_is_made_for_an_owner", "a_view_works_on_the_sessions_of_its_owner")
class MakesNobodys(MemoryBackend):
    """Checks `for_owner`, but does not set it as the owner of a new session."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if await stored(self, key) is None:
            change = replace(change, for_owner=None)
        return await super().commit(key, change)


@fails(Owners, "an_expired_session_has_no_owner")
class TheDeadOwn(MemoryBackend):
    """Checks the owner of an expired session."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        header = self._state(key).header
        if header is not None:
            header.check_owner(change.for_owner)
        return await super().commit(key, change)


@fails(
    Owners,
    "a_view_of_an_owner",
    "delete_for_an_owner",
    "invalid_owners",
)
class DeletesForAll(MemoryBackend):
    """Ignores `for_owner` of a deletion."""

    async def delete(self, key: Key, **how: Any) -> bool:
        return await super().delete(key, expect=how.get("expect"))


@fails(Owners, "delete_for_an_owner")
class DeletesLoudly(MemoryBackend):
    """Checks the condition of a deletion before the owner."""

    async def delete(self, key: Key, **how: Any) -> bool:
        session, expect = await stored(self, key), how.get("expect")
        if session is not None and isinstance(expect, Version) and not expect.met_by(session.version):
            raise Conflict("it has changed", expected=expect, actual=session.version)
        if session is not None and expect is ABSENT:
            raise Conflict("the session exists", actual=session.version)
        return await super().delete(key, **how)


@fails(
    Owners,
    "a_view_extends_the_lives_of_its_owners_sessions_only",
    "a_view_of_an_owner",
    "copy_for_an_owner",
)
class CopiesForAll(MemoryBackend):
    """Ignores `for_owner` of a copy."""

    async def copy(self, source: Key, target: Key, **how: Any) -> Receipt:
        return await super().copy(source, target, **{**how, "for_owner": None})


@fails(Owners, "a_view_extends_the_lives_of_its_owners_sessions_only")
class CopiesThenCompares(MemoryBackend):
    """Reads the source of a copy before it checks the owner."""

    async def copy(self, source: Key, target: Key, **how: Any) -> Receipt:
        await self.read(source, last=0)
        return await super().copy(source, target, **how)


@fails(Owners, "a_view_extends_the_lives_of_its_owners_sessions_only")
class EveryReadIsAUse(MemoryBackend):
    """Extends the expiry on every read."""

    async def read(self, key: Key, **asked: Any) -> Session:
        return await super().read(key, **{**asked, "touch": True})


# -------------------------------------------------------------------------------------------- owners, many at once


@fails(Concurrency, "the_owner_is_compared_in_the_same_step")
class ComparesThenCommits(MemoryBackend):
    """Compares the owner, and then commits in a second step."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.for_owner is None or await stored(self, key) is None:
            return await super().commit(key, change)
        self._state(key).header.check_owner(change.for_owner)  # type: ignore[union-attr]  # the session exists
        await asyncio.sleep(0)
        return await super().commit(key, replace(change, for_owner=None))


@fails(Concurrency, "deleting_for_an_owner_is_one_step")
class ComparesThenDeletes(MemoryBackend):
    """Compares the owner, and then deletes in a second step."""

    async def delete(self, key: Key, **how: Any) -> bool:
        session = await stored(self, key)
        if session is None or how.get("for_owner") not in (None, session.info.owner):
            return False
        await asyncio.sleep(0)
        return await super().delete(key, expect=how.get("expect"))


@fails(Concurrency, "copying_for_an_owner_is_one_step")
class ComparesThenCopies(MemoryBackend):
    """Compares the owner, and then copies in a second step."""

    async def copy(self, source: Key, target: Key, **how: Any) -> Receipt:
        session = await stored(self, source)
        if session is None or how.get("for_owner") not in (None, session.info.owner):
            raise SessionNotFound("no session")
        await asyncio.sleep(0)
        return await super().copy(source, target, **{**how, "for_owner": None})


# ---------------------------------------------------------------------------------------------------- views, resend


@fails(Namespaces, "opening_and_closing_a_view_does_nothing")
@fails(Lifecycle, "close_twice")
class NeedsNoOpening(MemoryBackend):
    """Works even if it is not open."""

    def check_open(self) -> None:
        """Never raise."""


@fails(Repeating, "resend", "resend_without_an_answer")
class StoresAgain(MemoryBackend):
    """Stores a change again each time it is sent."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, replace(change, id=Change(owner="").id))
        return replace(receipt, number=receipt.number or 7)

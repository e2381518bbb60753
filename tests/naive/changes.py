"""Naive backends: versions, repeats, copies and seals."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec.structs import replace

from naive import fails, stored
from turnlog import ABSENT, Change, Conflict, HistoryRegressed, IdReused, Key, Receipt, Record, Session, Version
from turnlog.errors import SessionNotFound, SplitsSealed, Unavailable
from turnlog.rules import SessionState, check_condition
from turnlog.testing._bad_input import BadInput
from turnlog.testing._cancelling import Cancelling
from turnlog.testing._conditions import Conditions
from turnlog.testing._copying import Copying
from turnlog.testing._editing import Editing
from turnlog.testing._expecting import Expecting
from turnlog.testing._expiring import Expiring
from turnlog.testing._repeating import Repeating
from turnlog.testing._sealing import Sealing
from turnlog_memory import MemoryBackend

# ---------------------------------------------------------------------------------------------------------- expecting


@fails(
    Expecting,
    "a_refused_change_can_be_made_anew",
    "a_stale_version_is_refused",
    "a_session_that_is_older_than_expect",
    "a_version_from_before_a_cut",
    "a_version_is_no_clock",
    "a_version_of_another_session",
)
@fails(Expiring, "a_slow_model_brings_no_session_back")
@fails(BadInput, "input_that_does_not_fit_the_session")
class LastWriteWins(MemoryBackend):
    """Ignores conditions: the last writer wins."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, expect=None))


@fails(Expecting, "a_version_of_another_session", "no_version_comes_twice")
class Counter(MemoryBackend):
    """Numbers versions from the start of each session, without a random epoch."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        state, receipt = self._state(key).apply(change, self.clock(), nonce=bytes)
        self._put(key, self._state(key), state, self.clock())
        return receipt


@fails(
    Expecting,
    "a_refused_change_can_be_made_anew",
    "a_stale_version_is_refused",
    "a_session_that_is_older_than_expect",
    "a_version_from_before_a_cut",
    "a_version_is_no_clock",
    "a_version_of_another_session",
    "a_version_stays_while_nothing_changes",
    "no_version_comes_twice",
)
@fails(Editing, "pop_messages_under_a_condition")
class ClockVersion(MemoryBackend):
    """Uses the time of the last change as the version."""

    def _told(self, version: Version) -> Version:
        now = int(self.clock()).to_bytes(8, "big")
        return Version(b"", 0, 0, now, now)

    async def commit(self, key: Key, change: Change) -> Receipt:
        if isinstance(change.expect, Version):
            session = await stored(self, key)
            if session is None or session.info.updated > int.from_bytes(change.expect.tip, "big"):
                raise Conflict("it is newer", expected=change.expect)
            change = replace(change, expect=None)
        receipt = await super().commit(key, change)
        return replace(receipt, version=self._told(receipt.version))

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, info=replace(session.info, version=self._told(session.version)))


@fails(
    Expecting,
    "a_session_that_is_older_than_expect",
    "a_version_from_before_a_cut",
    "a_version_of_another_session",
)
class CountsMessages(MemoryBackend):
    """Treats histories of equal length as equal."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        if isinstance(change.expect, Version) and session is not None:
            if change.expect.rounds != session.version.rounds:
                raise Conflict("it has grown", expected=change.expect, actual=session.version)
            change = replace(change, expect=None)
        return await super().commit(key, change)


@fails(
    Expecting,
    "a_session_that_is_older_than_expect",
)
class DeletesAnyVersion(MemoryBackend):
    """Ignores the expected version of a deletion."""

    async def delete(self, key: Key, **how: Any) -> bool:
        return await super().delete(key)


@fails(Expecting, "a_version_survives_its_text")
class ComparesObjects(MemoryBackend):
    """Compares versions by identity."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        version = None if session is None else session.version
        if change.expect == version and change.expect is not version:
            raise Conflict("it is another", actual=version)
        return await super().commit(key, change)


@fails(
    Expecting,
    "a_refused_change_can_be_made_anew",
    "a_session_that_is_older_than_expect",
    "a_version_is_no_clock",
    "a_version_survives_its_text",
)
class RefusesAll(MemoryBackend):
    """Refuses all changes that expect a version."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if isinstance(change.expect, Version) and change.append:
            session = await stored(self, key)
            raise Conflict("no", expected=change.expect, actual=None if session is None else session.version)
        return await super().commit(key, change)


@fails(Conditions, "same_turns")
class NoConflictIfMissing(MemoryBackend):
    """Raises `SessionNotFound` instead of `Conflict` if a version is expected and the session is missing."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if isinstance(change.expect, Version):
            await self.read(key, last=0)
        return await super().commit(key, change)


@fails(Expecting, "a_session_that_is_older_than_expect")
class RegressedIsConflict(MemoryBackend):
    """Raises `Conflict` instead of `HistoryRegressed`."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except HistoryRegressed as error:
            raise Conflict(str(error), expected=error.seen, actual=error.actual) from None


@fails(Expecting, "a_session_that_is_older_than_expect")
class RegressedIsFine(MemoryBackend):
    """Accepts a change whose version is newer than the stored one."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except HistoryRegressed:
            return await super().commit(key, replace(change, expect=None))

    async def delete(self, key: Key, **how: Any) -> bool:
        try:
            return await super().delete(key, **how)
        except HistoryRegressed:
            return await super().delete(key)


@fails(Conditions, "session_must_be_absent")
class AbsentIsEmpty(MemoryBackend):
    """Treats `ABSENT` as a request to overwrite."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.expect is ABSENT:
            await self.delete(key)
        return await super().commit(key, change)


@fails(Conditions, "session_must_be_absent", "same_session", "same_turns", "exact_version")
@fails(Expecting, "a_stale_version_is_refused")
class BareConflict(MemoryBackend):
    """Raises a `Conflict` without versions."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except Conflict:
            raise Conflict("no") from None


@fails(Expecting, "a_refused_change_can_be_made_anew")
class RefusedIsRemembered(MemoryBackend):
    """Remembers the ids of refused changes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._refused: dict[tuple[Key, str], bytes] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self._refused.setdefault((key, change.id), change.digest) != change.digest:
            raise IdReused("it was another")
        return await super().commit(key, change)


@fails(
    Expecting,
    "a_stale_version_is_refused",
    "a_session_that_is_older_than_expect",
    "a_version_stays_while_nothing_changes",
)
class ReadersChangeIt(MemoryBackend):
    """Changes the version on every read."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        header = self._states[key].header
        assert header is not None
        self._states[key].header = replace(header, version=replace(header.version, stamp=header.version.stamp + b"r"))
        return session


# ---------------------------------------------------------------------------------------------------------- repeating


@fails(
    Repeating,
    "a_late_repeat",
    "a_repeat_undoes_nothing",
    "a_turn_id_stands_for_its_messages",
    "another_encoding_is_the_same_change",
    "every_kind_of_change_is_recognised",
    "five_times_the_same",
    "64_changes_are_remembered",
    "the_id_is_looked_up_before_expect",
    "what_may_differ",
    "what_may_not_differ",
)
@fails(Cancelling, "a_caller_holds_what_it_sent")
class Forgetful(MemoryBackend):
    """Never recognises a repeat."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, id=Change(owner="").id))


@fails(
    Repeating,
    "a_late_repeat",
    "a_repeat_undoes_nothing",
    "a_turn_id_stands_for_its_messages",
    "another_encoding_is_the_same_change",
    "every_kind_of_change_is_recognised",
    "five_times_the_same",
    "64_changes_are_remembered",
    "the_id_is_looked_up_before_expect",
    "what_may_differ",
    "what_may_not_differ",
)
class RemembersLast(MemoryBackend):
    """Recognises a repeat of the last change only."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._last: dict[Key, str] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self._last.get(key) != change.id:
            change = replace(change, id=Change(owner="").id, asked=None)
        receipt = await super().commit(key, change)
        self._last[key] = change.id
        return receipt


@fails(Repeating, "64_changes_are_remembered")
class RemembersSixty(MemoryBackend):
    """Recognises repeats of the last 60 changes, fewer than required."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        state = self._state(key)
        known = state._ring.entries.get(change.id)
        if known is not None and state.header is not None and known[0] < state.header.changes - 60:
            change = replace(change, id=Change(owner="").id)
        return await super().commit(key, change)


@fails(
    Repeating,
    "a_late_repeat",
    "a_repeat_undoes_nothing",
    "a_turn_id_stands_for_its_messages",
    "another_encoding_is_the_same_change",
    "every_kind_of_change_is_recognised",
    "five_times_the_same",
    "64_changes_are_remembered",
    "the_id_is_looked_up_before_expect",
    "what_may_differ",
    "what_may_not_differ",
)
class RemembersInTurns(MemoryBackend):
    """Looks for the change id in the stored turns."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        records = () if session is None else session.records
        known = {f"{record.part}:{record.id}" for record in records} | {record.id for record in records}
        if not known & {change.id, *(record.id for record in change.append)}:
            change = replace(change, id=Change(owner="").id)
        return await super().commit(key, change)


@fails(Repeating, "a_repeat_undoes_nothing", "every_kind_of_change_is_recognised", "what_may_not_differ")
class AppendsOnlyOnce(MemoryBackend):
    """Recognises repeats of appends, but not of other changes."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change if change.append else replace(change, id=Change(owner="").id))


@fails(Repeating, "another_encoding_is_the_same_change")
class ComparesPayloads(MemoryBackend):
    """Treats changes with equal payloads as repeats."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        parts = [(r.id, r.part, r.open, hashlib.sha256(r.payload).digest()) for r in change.append]
        rest = (change.keep, dict(change.metadata or {}), change.owner, change.ttl)
        digest = hashlib.sha256(msgspec.msgpack.encode((parts, rest))).digest()
        return await super().commit(key, replace(change, asked=digest))


@fails(Repeating, "a_turn_id_stands_for_its_messages", "what_may_differ")
class ComparesEverything(MemoryBackend):
    """Treats a change as a repeat only if all its fields are equal."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        asked = (change.digest, str(change.expect), change.retain, change.max_bytes, [r.time for r in change.append])
        return await super().commit(key, replace(change, asked=hashlib.sha256(msgspec.msgpack.encode(asked)).digest()))


@fails(Repeating, "a_turn_id_stands_for_its_messages", "another_encoding_is_the_same_change", "what_may_not_differ")
class TrustsIds(MemoryBackend):
    """Treats every change with a known id as a repeat, also one with other contents."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, asked=b"the same"))


@fails(Repeating, "the_id_is_looked_up_before_expect", "what_may_differ")
class ExpectsFirst(MemoryBackend):
    """Checks `expect` before it looks for a repeat."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        session = await stored(self, key)
        if session is not None:
            check_condition(key, session.version, change.expect)
        return await super().commit(key, change)


@fails(Repeating, "a_late_repeat", "64_changes_are_remembered", "the_id_is_looked_up_before_expect")
class AnswersNow(MemoryBackend):
    """Answers a repeat with the current version."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        session = await stored(self, key)
        assert session is not None
        return replace(receipt, version=session.version)


@fails(Repeating, "a_late_repeat", "five_times_the_same")
class AnswersThen(MemoryBackend):
    """Answers a repeat with the stored receipt."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._receipts: dict[Version, Receipt] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        return self._receipts.setdefault(receipt.version, receipt)


@fails(
    Repeating,
    "a_deleted_session_has_forgotten",
    "a_late_repeat",
    "a_turn_id_stands_for_its_messages",
    "another_encoding_is_the_same_change",
    "ids_are_a_sessions_own",
    "what_may_not_differ",
)
class IdsOfAll(MemoryBackend):
    """Shares the remembered ids between all sessions, and never forgets them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._receipts: dict[str, Receipt] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.id in self._receipts:
            receipt = self._receipts[change.id]
            return replace(receipt, previous=receipt.version)
        receipt = self._receipts[change.id] = await super().commit(key, change)
        return receipt


@fails(Repeating, "what_was_refused_is_not_remembered")
class RefusedOnce(MemoryBackend):
    """Raises the first error again if a refused change is repeated."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._errors: dict[str, Exception] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.id in self._errors:
            raise self._errors[change.id]
        try:
            return await super().commit(key, change)
        except Exception as error:
            self._errors[change.id] = error
            raise


# ------------------------------------------------------------------------------------------------------------ copying


@fails(
    Copying,
    "a_copy_remembers_nothing_of_the_source",
    "a_copy_starts_a_new_epoch",
    "a_repeat_after_the_source_has_grown",
    "onto_a_session_that_is_there",
)
class SharesTheState(MemoryBackend):
    """Copies nothing: the target shares the state of the source, version included, until the next write."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        if at is not None:
            return await super().copy(source, target, at=at, change_id=change_id, **how)
        state = self._state(source)
        if state.header is None:
            raise SessionNotFound("no session")
        header = replace(state.header, key=target)
        self._states[target] = SessionState(
            target, header, state._log, state._start, state._stop, state._ring, self.ttl
        )
        return header.receipt(self.clock(), header.version, None, None)


@fails(
    Copying,
    "a_copy_can_be_followed",
    "a_copy_remembers_nothing_of_the_source",
    "a_copy_starts_a_new_epoch",
    "a_repeat_after_the_source_has_grown",
    "across_namespaces",
    "all_that_is_copied",
)
class OneSessionTwoNames(MemoryBackend):
    """Stores the source's state under the target's name."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        receipt = await super().copy(source, target, at=at, change_id=change_id, **how)
        if at is None:
            self._states[target] = self._states[source]
        return receipt


@fails(
    Copying,
    "a_copy_can_be_followed",
    "a_copy_remembers_nothing_of_the_source",
    "a_copy_starts_a_new_epoch",
    "a_repeat_after_the_source_has_grown",
    "all_that_is_copied",
    "both_go_on_apart",
)
class Aliases(MemoryBackend):
    """Stores the target as an alias of the source."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._names: dict[Key, Key] = {}

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        receipt = await super().copy(source, target, at=at, change_id=change_id, **how)
        if at is None:
            self._names[target] = source
        return receipt

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(self._names.get(key, key), **asked)
        return replace(session, info=replace(session.info, key=key))

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(self._names.get(key, key), change)


@fails(
    Copying,
    "a_copy_can_be_followed",
    "a_copy_of_what_was_retained",
    "a_repeat_after_the_source_has_grown",
    "all_that_is_copied",
    "payloads_are_copied_as_they_are",
    "up_to_a_turn",
)
class CopiesMessages(MemoryBackend):
    """Copies all messages into one new turn."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        session = await self.read(source, before=at)
        record = Record.of(tuple(session.messages), id="copy", time=self.clock())
        return await self.commit(target, Change(id=change_id, append=(record,), expect=ABSENT))


@fails(Copying, "a_copy_of_what_was_retained")
class CopiesFromZero(MemoryBackend):
    """Renumbers the turns of the copy from 0."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        session = await self.read(source, before=at)
        info = session.info
        change = Change(
            id=change_id,
            append=session.records,
            metadata=info.metadata,
            owner=info.owner,
            ttl=info.ttl,
            expect=ABSENT,
            asked=f"{source}{at}".encode(),
        )
        return await self.commit(target, change)


@fails(Copying, "a_repeat_after_the_source_has_grown", "a_repeat_of_a_copy", "onto_a_session_that_is_there")
class CopiesOver(MemoryBackend):
    """Overwrites an existing target."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        await self.read(source, last=0)
        await self.delete(target)
        return await super().copy(source, target, at=at, change_id=change_id, **how)


@fails(Copying, "a_repeat_after_the_source_has_grown")
class CopiesWhatItFound(MemoryBackend):
    """Recognises a repeated copy only if the source has not changed."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        session = await self.read(source, before=at)
        info = session.info
        change = Change(
            id=change_id,
            append=session.records,
            metadata=info.metadata,
            owner=info.owner,
            ttl=info.ttl,
            expect=ABSENT,
            first=info.first if at is None else min(at, info.first),
        )
        return await self.commit(target, change)


@fails(Copying, "across_namespaces")
class CopiesWithin(MemoryBackend):
    """Copies into the namespace `default`, whatever the target."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        return await super().copy(source, Key("default", target.session), at=at, change_id=change_id)


@fails(Copying, "payloads_are_copied_as_they_are")
class CopiesDecoded(MemoryBackend):
    """Decodes the records of the source."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        for record in (await self.read(source)).records:
            assert record.messages
        return await super().copy(source, target, at=at, change_id=change_id, **how)


@fails(Copying, "without_a_source")
class MakesASource(MemoryBackend):
    """Copies a missing session as an empty one."""

    async def copy(self, source: Key, target: Key, *, at: int | None, change_id: str, **how: Any) -> Receipt:
        try:
            return await super().copy(source, target, at=at, change_id=change_id, **how)
        except SessionNotFound:
            return await self.commit(target, Change(id=change_id, metadata={}, expect=ABSENT))


# ------------------------------------------------------------------------------------------------------------ sealing


@fails(
    Sealing,
    "a_run_may_be_sealed_again",
    "a_seal_begins_a_turn",
    "a_seal_changes_storage_not_meaning",
    "a_seal_makes_no_session",
    "a_seal_of_an_open_turn_is_refused",
    "a_seal_of_another_session_is_refused",
    "a_seal_of_other_records_is_refused",
    "a_sealed_record_that_is_too_large",
    "appends_meanwhile_do_not_refuse_it",
    "parts_that_begin_or_end_in_a_sealed_run",
    "retention_keeps_a_sealed_run_whole",
    "since_over_a_sealed_run",
)
class SaysItSeals(MemoryBackend):
    """Returns True for a seal, but seals nothing."""

    async def seal(self, key: Key, record: Record) -> bool:
        return True


@fails(
    Sealing,
    "a_copy_inside_a_sealed_run",
    "a_cut_inside_a_sealed_run",
    "a_cut_inside_a_sealed_run_and_nothing_more",
    "a_run_may_be_sealed_again",
    "a_seal_changes_storage_not_meaning",
    "a_seal_extends_no_life",
    "a_seal_is_not_remembered",
    "a_seal_makes_no_session",
    "a_seal_of_an_open_turn_is_refused",
    "a_seal_of_another_session_is_refused",
    "a_seal_of_other_records_is_refused",
    "all_of_it_may_be_sealed",
    "appends_meanwhile_do_not_refuse_it",
    "parts_that_begin_or_end_in_a_sealed_run",
    "retention_keeps_a_sealed_run_whole",
    "rounds_are_sealed_whole",
    "since_over_a_sealed_run",
    "windows_over_a_sealed_run",
)
class RefusesLoudly(MemoryBackend):
    """Raises an error for a seal instead of returning None."""

    async def seal(self, key: Key, record: Record) -> bool:
        raise Unavailable("this backend does not support seals")


@fails(
    Sealing,
    "a_cut_inside_a_sealed_run",
    "a_run_may_be_sealed_again",
    "a_seal_changes_storage_not_meaning",
    "appends_meanwhile_do_not_refuse_it",
    "parts_that_begin_or_end_in_a_sealed_run",
    "retention_keeps_a_sealed_run_whole",
    "since_over_a_sealed_run",
)
class SealsAnyway(MemoryBackend):
    """Seals, but returns None as if seals were not supported."""

    async def seal(self, key: Key, record: Record) -> None:  # type: ignore[override]
        await super().seal(key, record)


@fails(
    Sealing,
    "a_seal_changes_storage_not_meaning",
    "a_seal_extends_no_life",
    "a_seal_of_an_open_turn_is_refused",
    "a_seal_of_another_session_is_refused",
    "a_seal_of_other_records_is_refused",
    "all_of_it_may_be_sealed",
    "appends_meanwhile_do_not_refuse_it",
    "since_over_a_sealed_run",
)
class SealsByRewriting(MemoryBackend):
    """Seals with a cut and an append."""

    async def seal(self, key: Key, record: Record) -> bool:
        rest = tuple(one for one in (await self.read(key)).records if one.number >= record.next_turn)
        await super().commit(key, Change(keep=record.number, append=(record, *rest), asked=b"seal"))
        return True


@fails(
    Sealing,
    "a_seal_of_an_open_turn_is_refused",
    "a_seal_of_another_session_is_refused",
    "a_seal_of_other_records_is_refused",
    "a_sealed_record_that_is_too_large",
)
class SealsUnchecked(MemoryBackend):
    """Replaces the records in the range of turns without comparing them."""

    async def seal(self, key: Key, record: Record) -> bool:
        state = self._state(key)
        run = [r for r in state.records if record.number <= r.number < record.next_turn]
        if state.header is None or not run:
            return await super().seal(key, record)
        record = replace(
            record,
            tip=run[-1].tip,
            rounds_until=run[-1].rounds_until,
            rounds=sum(r.rounds for r in run),
            messages_until=run[-1].messages_until,
        )
        log = [
            *(r for r in state.records if r.number < record.number),
            record,
            *(r for r in state.records if r.number >= record.next_turn),
        ]
        self._states[key] = SessionState(key, state.header, log, 0, len(log), state._ring, self.ttl)
        return True


@fails(Sealing, "a_seal_is_not_remembered")
class RemembersSeals(MemoryBackend):
    """Remembers a seal as a change, so an earlier change id is forgotten."""

    async def seal(self, key: Key, record: Record) -> bool:
        return self._forget(key, 1) if await super().seal(key, record) else False

    def _forget(self, key: Key, count: int) -> bool:
        header = self._states[key].header
        assert header is not None
        self._states[key].header = replace(header, changes=header.changes + count)
        return True


@fails(Sealing, "a_seal_is_not_remembered")
class SealsForgetful(RemembersSeals):
    """Forgets the change ids of the sealed turns."""

    async def seal(self, key: Key, record: Record) -> bool:
        return self._forget(key, 64) if await MemoryBackend.seal(self, key, record) else False


@fails(Sealing, "a_seal_extends_no_life")
class SealsAreUses(MemoryBackend):
    """Extends the expiry of a session on a seal."""

    async def seal(self, key: Key, record: Record) -> bool:
        await self.read(key, last=0)
        return await super().seal(key, record)


@fails(Sealing, "a_cut_inside_a_sealed_run", "a_cut_inside_a_sealed_run_and_nothing_more")
class CutsAtTheBoundary(MemoryBackend):
    """Removes a sealed record as a whole if a cut falls inside it."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except SplitsSealed as error:
            return await super().commit(key, change.rewrite(keep=error.boundary))


@fails(Sealing, "retention_keeps_a_sealed_run_whole")
class RetainsExactly(MemoryBackend):
    """Drops a sealed record as a whole if the retention limit falls inside it."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.retain is not None:
            session = await stored(self, key)
            for record in () if session is None else session.records:
                turns = session.info.turns if session is not None else 0
                if record.number < turns - change.retain < record.next_turn:
                    change = replace(change, retain=turns - record.next_turn)
        return await super().commit(key, change)


@fails(Sealing, "a_session_counts_what_readers_hold")
class CountsCompressed(MemoryBackend):
    """Counts the compressed size of the records."""

    async def read(self, key: Key, **how: Any) -> Session:
        session = await super().read(key, **how)
        return replace(session, info=replace(session.info, bytes=session.info.bytes // 3))


@fails(Sealing, "a_sealed_record_that_is_too_large")
class SealsWithoutLimit(MemoryBackend):
    """Checks the size of appended records, but not of sealed ones."""

    async def seal(self, key: Key, record: Record) -> bool:
        return await super().seal(key, replace(record, _size=16, _payload=b""))


@fails(Sealing, "a_copy_inside_a_sealed_run", "parts_that_begin_or_end_in_a_sealed_run", "windows_over_a_sealed_run")
class CountsWhatIsBelow(MemoryBackend):
    """Leaves out a sealed record that reaches beyond `before`."""

    async def read(self, key: Key, *, last: int | None = None, before: int | None = None, **asked: Any) -> Session:
        session = await super().read(key, last=last, before=before, **asked)
        if before is None:
            return session
        return replace(session, records=tuple(record for record in session.records if record.next_turn <= before))


@fails(Sealing, "a_seal_makes_no_session")
class MakesASealedSession(MemoryBackend):
    """Creates a missing session for a seal."""

    async def seal(self, key: Key, record: Record) -> bool:
        try:
            return await super().seal(key, record)
        except SessionNotFound:
            await self.commit(key, Change(append=(record,)))
            return True


@fails(Sealing, "a_seal_begins_a_turn")
class SealsRounds(MemoryBackend):
    """Accepts a single round as a seal."""

    async def seal(self, key: Key, record: Record) -> bool:
        return True if not record.turns else await super().seal(key, record)


@fails(Sealing, "since_over_a_sealed_run")
class SinceInsideTheRun(MemoryBackend):
    """Returns only the records after a sealed run to a reader whose version is inside the run."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, since=since, **asked)
        if since is None or session.continues or since.epoch != session.version.epoch:
            return session
        return replace(
            session, records=tuple(r for r in session.records if r.rounds_until > since.rounds), continues=True
        )

"""Naive backends: the effects of a commit and the result of a read."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace

from naive import fails, stored
from turnlog import Change, Key, Message, Receipt, Record, Session, SessionNotFound, Version
from turnlog.testing._conditions import Conditions
from turnlog.testing._editing import Editing
from turnlog.testing._paging import Paging
from turnlog.testing._reading import Reading
from turnlog.testing._retaining import Retaining
from turnlog.testing._rounds import Rounds
from turnlog.testing._since import Since
from turnlog.testing._undoing import Undoing
from turnlog.testing._values import Values
from turnlog.testing._writing import Writing
from turnlog_memory import MemoryBackend

# ------------------------------------------------------------------------------------------------------------ writing


@fails(Writing, "a_change_does_its_parts_in_order", "all_of_a_change_or_nothing", "what_makes_a_session")
class PartByPart(MemoryBackend):
    """Applies the parts of a change one after the other: an error in the last part leaves the first ones stored."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        parts: list[dict[str, Any]] = [{"keep": change.keep}, {"append": change.append, "retain": change.retain}]
        parts.append({"metadata": change.metadata, "owner": change.owner, "ttl": change.ttl})
        asked = [part for part in parts if any(value not in (None, ()) for value in part.values())]
        if len(asked) < 2:
            return await super().commit(key, change)
        for number, part in enumerate(asked):
            receipt = await super().commit(key, Change(id=f"{number}{change.id}"[:255], **part))
        return receipt


@fails(Values, "every_value_of_json_in_messages", "every_value_of_json_in_metadata")
class AsText(MemoryBackend):
    """Stores messages and metadata as JSON, with text in place of the values that JSON lacks."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        append = tuple([record.mapped(_as_json) for record in change.append])
        metadata = None if change.metadata is None else {n: _in_json(v) for n, v in change.metadata.items()}
        return await super().commit(key, replace(change.rewrite(append=append), metadata=metadata))


def _as_json(message: Message) -> Message:
    return Message.from_dict(_in_json(message.to_dict()))


def _in_json(value: object) -> Any:
    return json.loads(json.dumps(value, default=str))


@fails(Writing, "a_tool_call_stays_with_its_result", "messages_come_back_as_they_were_sent")
@fails(Values, "dictionaries_of_a_session")
class RoleAndContent(MemoryBackend):
    """Stores only the entries that chat models have in common."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        kept = tuple(
            Record.of(
                tuple(Message.from_dict({"role": m.role or "user", "content": m.content}) for m in record.messages),
                id=record.id,
                time=record.time,
                part=record.part,
                open=record.open,
            )
            if record.decoded
            else record
            for record in change.append
        )
        return await super().commit(key, change.rewrite(append=kept))


@fails(
    Writing,
    "a_change_does_its_parts_in_order",
    "all_of_a_change_or_nothing",
    "append_with_owner_and_metadata",
    "keep_0_leaves_an_empty_session",
)
class TurnsAlone(MemoryBackend):
    """Ignores owner and metadata in a change with turns."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.append:
            change = replace(change, metadata=None, owner=None, ttl=None)
        return await super().commit(key, change)


@fails(Writing, "all_of_a_change_or_nothing", "sessions_know_nothing_of_each_other")
class MetadataOfAll(MemoryBackend):
    """Shares metadata between all sessions."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._metadata: dict[str, Any] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        self._metadata.update(change.metadata or {})
        return await super().commit(key, change)

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, info=replace(session.info, metadata=dict(self._metadata)))


@fails(Writing, "messages_come_back_as_they_were_sent")
class AsJSON(MemoryBackend):
    """Converts integers to floats, as JavaScript does."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        kept = tuple(
            Record.of(
                tuple(Message.from_dict(json.loads(json.dumps(m.to_dict()), parse_int=float)) for m in record.messages),
                id=record.id,
                time=record.time,
                part=record.part,
                open=record.open,
            )
            if record.decoded
            else record
            for record in change.append
        )
        return await super().commit(key, change.rewrite(append=kept))


@fails(Writing, "a_turn_has_its_id_and_its_time")
class WhenItWasStored(MemoryBackend):
    """Replaces the ids and times of turns."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        kept = tuple(replace(record, id=f"of {record.id}", time=0.0) for record in change.append)
        return await super().commit(key, change.rewrite(append=kept))


@fails(Writing, "a_change_does_its_parts_in_order", "a_change_may_append_several_turns")
class OneTurnAChange(MemoryBackend):
    """Stores all records of a change as one turn."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if len(change.append) < 2 or not all(record.decoded for record in change.append):
            return await super().commit(key, change)
        messages = tuple(message for record in change.append for message in record.messages)
        whole = Record.of(messages, id=change.append[0].id, time=change.append[0].time)
        return await super().commit(key, change.rewrite(append=(whole,)))


@fails(Writing, "what_makes_no_session")
@fails(Editing, "rewrite_creates_no_session")
class KeepMakesIt(MemoryBackend):
    """Creates a session for any change."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        try:
            return await super().commit(key, change)
        except SessionNotFound:
            await super().commit(key, Change(metadata={}))
            return await super().commit(key, change)


@fails(Writing, "what_makes_a_session")
class NeedsTurns(MemoryBackend):
    """Creates a session for turns only."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if not change.append:
            await self.read(key, last=0)
        return await super().commit(key, change)


@fails(
    Writing, "a_change_does_its_parts_in_order", "keep_0_leaves_an_empty_session", "keep_cuts_the_turns_from_there_on"
)
@fails(Editing, "pop_messages_returns_the_removed_messages")
class KeepIsACount(MemoryBackend):
    """Treats `keep` as the number of the last turn to keep."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change if change.keep is None else change.rewrite(keep=change.keep + 1))


@fails(Writing, "keep_beyond_the_end_cuts_nothing")
class CutsAlways(MemoryBackend):
    """Starts a new generation for each `keep`, even if nothing is removed."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        if change.keep is None:
            return receipt
        state = self._states[key]
        assert state.header is not None
        version = replace(receipt.version, generation=receipt.version.generation + 1)
        state.header = replace(state.header, version=version)
        return replace(receipt, version=version)


@fails(Writing, "a_payload_is_kept_as_it_is")
class Decodes(MemoryBackend):
    """Decodes the records that it stores."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        for record in change.append:
            assert record.messages
        return await super().commit(key, change)


@fails(
    Writing,
    "a_change_does_its_parts_in_order",
    "a_change_may_append_several_turns",
    "a_receipt_says_what_the_change_was_applied_to",
    "a_receipt_says_where_the_session_is",
    "append_stores_one_turn",
    "keep_cuts_the_turns_from_there_on",
    "turns_are_numbered_from_0",
    "what_makes_a_session",
)
class BareReceipt(MemoryBackend):
    """Returns a receipt with the version only."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        return replace(receipt, number=0, first=0, turns=0, messages=0, previous=None)


@fails(
    Writing,
    "a_change_does_its_parts_in_order",
    "a_change_may_append_several_turns",
    "a_payload_is_kept_as_it_is",
    "a_turn_has_its_id_and_its_time",
    "keep_cuts_the_turns_from_there_on",
    "turns_are_numbered_from_0",
    "turns_keep_their_order",
)
class NewestFirst(MemoryBackend):
    """Returns the newest records first."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, records=session.records[::-1])


# ------------------------------------------------------------------------------------------------------------ reading


@fails(
    Reading,
    "the_whole_session_by_default",
    "before_returns_the_turns_numbered_below",
    "a_turn_is_the_same_in_each_window",
)
class ReadsAPage(MemoryBackend):
    """Returns five turns by default."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return session if asked.get("last") else replace(session, records=session.records[-5:])


@fails(
    Reading,
    "last_returns_the_fewest_whole_turns",
    "last_with_before_counts_backwards_from_there",
    "a_turn_is_the_same_in_each_window",
    "invalid_arguments",
)
class CutsTurns(MemoryBackend):
    """Treats `last` as a number of records."""

    async def read(self, key: Key, *, last: int | None = None, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        if last is None or asked.get("since") is not None:
            return session
        return replace(session, records=session.records[len(session.records) - last :] if last else ())


@fails(
    Reading,
    "last_0_returns_the_info_alone",
    "last_returns_the_fewest_whole_turns",
    "last_with_before_counts_backwards_from_there",
    "invalid_arguments",
)
class OneTurnMore(MemoryBackend):
    """Reads one message more than requested."""

    async def read(self, key: Key, *, last: int | None = None, **asked: Any) -> Session:
        return await super().read(key, last=last if last is None else last + 1, **asked)


@fails(
    Reading,
    "before_returns_the_turns_numbered_below",
    "last_with_before_counts_backwards_from_there",
    "a_turn_is_the_same_in_each_window",
    "invalid_arguments",
)
class BeforeIncluded(MemoryBackend):
    """Includes the turn `before`."""

    async def read(self, key: Key, *, before: int | None = None, **asked: Any) -> Session:
        return await super().read(key, before=before if before is None else before + 1, **asked)


@fails(Reading, "last_with_before_counts_backwards_from_there", "invalid_arguments")
class LastFirst(MemoryBackend):
    """Applies `last` first, and then `before`."""

    async def read(self, key: Key, *, before: int | None = None, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, records=tuple(r for r in session.records if before is None or r.number < before))


@fails(Reading, "last_0_returns_the_info_alone", "the_info_is_of_the_whole_session")
class InfoOfThePart(MemoryBackend):
    """Counts the returned messages in the info."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        info = replace(session.info, messages=sum(record.count for record in session.records))
        return replace(session, info=info)


@fails(Reading, "a_session_that_was_deleted_is_gone", "an_unknown_session")
@fails(Undoing, "save_at_a_version_that_is_gone")
class EmptyIfMissing(MemoryBackend):
    """Creates a missing session on a read."""

    async def read(self, key: Key, **asked: Any) -> Session:
        try:
            return await super().read(key, **asked)
        except SessionNotFound:
            await self.commit(key, Change(metadata={}))
            return await super().read(key, **asked)


@fails(Reading, "an_unknown_session_to_remove")
class TrueIfDeleted(MemoryBackend):
    """Returns True for every deletion, also of a missing session."""

    async def delete(self, key: Key, **how: Any) -> bool:
        await super().delete(key, **how)
        return True


@fails(Reading, "a_session_that_was_deleted_is_gone", "an_unknown_session_to_remove")
class OnlyTurnsDeleted(MemoryBackend):
    """Deletes the turns, but keeps the metadata."""

    async def delete(self, key: Key, **how: Any) -> bool:
        if not self._state(key).check_delete(how["expect"], how["for_owner"], self.clock()):
            return False
        await self.commit(key, Change(keep=0))
        return True


@fails(Reading, "created_and_updated", "reading_changes_nothing", "the_info_is_of_the_whole_session")
class ReadingIsAChange(MemoryBackend):
    """Sets the time of the last update on a read."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        state = self._states[key]
        assert state.header is not None
        state.header = replace(state.header, updated=self.clock() + 1)
        return session


@fails(Reading, "created_and_updated")
class UpdatedByAppend(MemoryBackend):
    """Changes the time of the last update on appends only."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        before = await stored(self, key)
        receipt = await super().commit(key, change)
        if before is not None and not change.append:
            state = self._states[key]
            assert state.header is not None
            state.header = replace(state.header, updated=before.info.updated)
        return receipt


@fails(Paging, "the_last_updated_first")
@fails(Reading, "created_and_updated")
class RenamingIsAnUpdate(MemoryBackend):
    """Takes each change for an update, also one of the metadata alone."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        state = self._states[key]
        assert state.header is not None
        state.header = replace(state.header, updated=self.clock())
        return receipt


@fails(Reading, "invalid_arguments")
class AsksAnything(MemoryBackend):
    """Converts invalid numbers instead of refusing them."""

    async def read(self, key: Key, *, last: Any = None, before: Any = None, **asked: Any) -> Session:
        last = last if last is None else max(0, int(last if last == last else 0))  # noqa: PLR0124 - NaN
        before = before if before is None else max(0, int(before if before == before else 0))  # noqa: PLR0124
        if before is not None:
            asked["since"] = None
        return await super().read(key, last=last, before=before, **asked)


# ---------------------------------------------------------------------------------------------------------- following


@fails(
    Since,
    "a_session_that_is_older_than_since",
    "a_session_that_has_diverged_from_since",
    "a_store_that_lost_a_cut",
    "metadata_cuts_nothing",
    "nothing_means_unchanged",
    "since_the_beginning",
    "the_first_may_be_a_later_round",
    "what_follows_a_version",
    "with_last_since_decides_where_it_continues",
)
class AllOfItAlways(MemoryBackend):
    """Ignores `since` and returns all records."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        return await super().read(key, **asked)


@fails(
    Since,
    "reads_since_add_up_to_the_session",
    "a_session_that_is_older_than_since",
    "a_session_that_has_diverged_from_since",
    "a_store_that_lost_a_cut",
    "everything_after_a_cut",
    "everything_for_the_version_of_another_session",
    "everything_of_a_session_made_anew",
    "with_last_since_decides_where_it_continues",
)
class SinceAsACount(MemoryBackend):
    """Returns the records after a number of rounds, without comparing tips."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        if since is None:
            return await super().read(key, **asked)
        session = await super().read(key, touch=asked.get("touch", True))
        return replace(
            session, records=tuple(r for r in session.records if r.rounds_until > since.rounds), continues=True
        )


@fails(
    Since,
    "reads_since_add_up_to_the_session",
    "a_session_that_is_older_than_since",
    "a_session_that_has_diverged_from_since",
    "a_store_that_lost_a_cut",
    "everything_after_a_cut",
)
class OlderIsUnchanged(MemoryBackend):
    """Returns no records to a reader with a newer version, instead of an error."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        version = session.version
        if since is not None and since.epoch == version.epoch and since.rounds >= version.rounds:
            return replace(session, records=(), continues=True)
        return await super().read(key, since=since, **asked)


@fails(Since, "a_session_that_has_diverged_from_since")
class TipUnchecked(MemoryBackend):
    """Does not compare the tip of the reader's version."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        version = session.version
        if since is not None and since.epoch == version.epoch and since.generation == version.generation:
            tips = {record.rounds_until: record.tip for record in session.records}
            since = replace(since, tip=tips.get(since.rounds, since.tip))
        return await super().read(key, since=since, **asked)


@fails(Since, "there_must_be_a_session")
class UnchangedIfGone(MemoryBackend):
    """Returns an empty continuation for a missing session."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._last: dict[Key, Session] = {}

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        self._last[key] = await super().read(key)
        return receipt

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        try:
            return await super().read(key, since=since, **asked)
        except SessionNotFound:
            if since is None:
                raise
            return replace(self._last[key], records=(), continues=True)


@fails(Since, "with_last_since_decides_where_it_continues")
class LastBeforeSince(MemoryBackend):
    """Applies `last` to a continuation."""

    async def read(self, key: Key, *, last: int | None = None, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, last=last, since=since, **asked)
        if last is None or not session.continues:
            return session
        return replace(session, records=session.records[len(session.records) - last :] if last else ())


@fails(Since, "the_first_may_be_a_later_round")
class WholeTurnsOnly(MemoryBackend):
    """Starts a continuation at the beginning of a turn, with rounds that the reader has."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, since=since, **asked)
        if session.continues and session.records and not session.records[0].turns:
            everything = (await super().read(key)).records
            return replace(session, records=tuple(r for r in everything if r.number >= session.records[0].number))
        return session


# ------------------------------------------------------------------------------------------------------------- rounds


@fails(
    Rounds,
    "a_cut_takes_all_rounds",
    "a_round_is_stored_once",
    "a_round_must_follow",
    "a_round_of_nothing",
    "an_undo_lets_a_turn_go_on",
    "another_turn_came_between",
    "open_and_interrupted",
    "retention_counts_turns",
    "rounds_make_one_turn",
    "several_rounds_in_one_change",
)
class RoundsAreTurns(MemoryBackend):
    """Stores each round as a turn."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(
            key, change.rewrite(append=tuple(replace(r, turns=1) for r in change.append)) if change.append else change
        )


@fails(Rounds, "a_turn_is_closed_without_messages")
class EmptyRoundsAreLeftOut(MemoryBackend):
    """Ignores a round without messages."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.append and not change.append[0].count:
            info = (await self.read(key, last=0)).info
            number = info.turns - 1
            return Receipt(info.version, number, info.first, info.turns, info.messages, info.version, info.expires_in)
        return await super().commit(key, change)


@fails(Rounds, "a_round_must_follow", "a_round_of_nothing", "another_turn_came_between")
class AnyRound(MemoryBackend):
    """Accepts any round, and starts a turn if it continues none."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.append and change.append[0].part:
            session = await stored(self, key)
            last = session.records[-1] if session is not None and session.records else None
            if last is None or (last.id, last.part, last.open) != (
                change.append[0].id,
                change.append[0].part - 1,
                True,
            ):
                first = replace(change.append[0], turns=1)
                change = change.rewrite(append=(first, *change.append[1:]))
        return await super().commit(key, change)


@fails(Rounds, "a_copy_of_an_open_turn_goes_on", "open_and_interrupted")
class NeverOpen(MemoryBackend):
    """Returns every turn as closed."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        return replace(session, records=tuple(replace(record, open=False) for record in session.records))


@fails(Rounds, "retention_counts_turns")
class RetainsRounds(MemoryBackend):
    """Applies the retention limit to records instead of turns."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        receipt = await super().commit(key, change)
        if change.retain is None:
            return receipt
        state = self._states[key]
        state._start = max(state._start, state._stop - change.retain)
        return receipt


# ------------------------------------------------------------------------------------------------------------ undoing


@fails(Undoing, "rewind_messages", "rewind_turns")
class CutsMessages(MemoryBackend):
    """Treats `keep` as a number of messages."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.keep is not None:
            records = (await self.read(key)).records
            change = change.rewrite(keep=sum(record.messages_until <= change.keep for record in records))
        return await super().commit(key, change)


@fails(Undoing, "load_extend_save", "pop", "rewind_messages", "rewind_turns", "rewind_what_was_seen")
class Overwrites(MemoryBackend):
    """Replaces the history on every append."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change.rewrite(keep=0) if change.append else change)


@fails(Conditions, "same_turns")
class MakesWhatIsGone(MemoryBackend):
    """Creates a missing session although the change expects a version."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if isinstance(change.expect, Version) and await stored(self, key) is None:
            change = replace(change, expect=None)
        return await super().commit(key, change)


@fails(Undoing, "save_makes_the_history_equal")
class OneTurnASave(MemoryBackend):
    """Stores all records of a change as one turn."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if len(change.append) > 1:
            messages = tuple(message for record in change.append for message in record.messages)
            change = change.rewrite(append=(Record.of(messages, id=change.append[0].id, time=0.0),))
        return await super().commit(key, change)


@fails(
    Undoing,
    "pop",
    "rewind_messages",
    "rewind_turns",
    "rewind_what_was_seen",
    "save_with_a_mark",
    "save_what_was_loaded_and_edited",
)
class AppendsOnly(MemoryBackend):
    """Ignores `keep`."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change if change.keep is None else change.rewrite(keep=2**40))


@fails(Undoing, "rewind_what_was_seen")
class CutsUnchecked(MemoryBackend):
    """Ignores `expect` on a cut."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change if change.keep is None else replace(change, expect=None))


# ---------------------------------------------------------------------------------------------------------- retaining


@fails(
    Retaining,
    "since_a_version_that_was_dropped",
    "a_thousand_turns",
    "retain_comes_after_keep_and_append",
    "retention_changes_no_version",
    "the_last_turns_stay_under_their_numbers",
    "the_option_of_a_store",
    "undo_in_what_is_left",
    "windows_into_what_is_left",
)
class KeepsAll(MemoryBackend):
    """Ignores the retention limit."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change if change.retain is None else replace(change, retain=2**40))


@fails(Retaining, "all_turns_by_default")
@fails(Editing, "a_turn_by_its_id")
class KeepsAHundred(MemoryBackend):
    """Retains a hundred turns if no limit is given."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, change if change.retain is not None else replace(change, retain=100))


@fails(
    Retaining,
    "since_a_version_that_was_dropped",
    "a_thousand_turns",
    "less_than_there_is_drops_nothing",
    "retain_comes_after_keep_and_append",
    "retention_changes_no_version",
    "the_last_turns_stay_under_their_numbers",
    "the_option_of_a_store",
    "undo_in_what_is_left",
    "windows_into_what_is_left",
)
class OneTurnLess(MemoryBackend):
    """Retains one turn less than the limit."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.retain is not None:
            change = replace(change, retain=max(1, change.retain - 1))
        return await super().commit(key, change)


@fails(
    Retaining,
    "a_thousand_turns",
    "retain_comes_after_keep_and_append",
    "the_last_turns_stay_under_their_numbers",
    "undo_in_what_is_left",
)
class Renumbers(MemoryBackend):
    """Renumbers the remaining turns from 0."""

    async def read(self, key: Key, **asked: Any) -> Session:
        session = await super().read(key, **asked)
        first = session.info.first
        records = tuple(replace(record, number=record.number - first) for record in session.records)
        info = replace(session.info, first=0, turns=session.info.turns - first)
        return replace(session, info=info, records=records)


@fails(Retaining, "since_a_version_that_was_dropped", "a_thousand_turns", "retention_changes_no_version")
class RetentionIsACut(MemoryBackend):
    """Starts a new generation when retention drops turns."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        before = await stored(self, key)
        receipt = await super().commit(key, change)
        first = 0 if before is None else before.info.first
        if change.retain is None or receipt.first == first:
            return receipt
        state = self._states[key]
        assert state.header is not None
        version = replace(receipt.version, generation=receipt.version.generation + 1)
        state.header = replace(state.header, version=version)
        return replace(receipt, version=version)


@fails(
    Retaining,
    "a_thousand_turns",
    "retain_comes_after_keep_and_append",
    "the_last_turns_stay_under_their_numbers",
    "the_option_of_a_store",
    "undo_in_what_is_left",
    "windows_into_what_is_left",
)
class RetainsFirst(MemoryBackend):
    """Applies the limit before the append, so one turn too many remains."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if change.retain is not None:
            change = replace(change, retain=change.retain + len(change.append))
        return await super().commit(key, change)


@fails(Retaining, "since_a_version_that_was_dropped")
class LosesTheGap(MemoryBackend):
    """Continues a version whose next turns were dropped, as if none were missing."""

    async def read(self, key: Key, *, since: Version | None = None, **asked: Any) -> Session:
        session = await super().read(key, since=since, **asked)
        if since is not None and since.epoch == session.version.epoch:
            return replace(session, continues=True)
        return session


# ------------------------------------------------------------------------------------------------------------- editing


@fails(Editing, "rewrite_replaces_the_tail")
class WritesAnyway(MemoryBackend):
    """Does not compare versions."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(
            key, replace(change, expect=None if isinstance(change.expect, Version) else change.expect)
        )


@fails(Editing, "trim_drops_turns_at_the_beginning")
class RetainsOneMore(MemoryBackend):
    """Counts retained turns from 0."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await super().commit(key, replace(change, retain=change.retain and change.retain + 1))


@fails(Editing, "a_store_reads_only_the_rounds_after_a_version")
class ReadsEverything(MemoryBackend):
    """Ignores `since`."""

    async def read(self, key: Key, *, since: Version | None = None, **part: Any) -> Session:
        return await super().read(key, **part)

"""`store_conversation`: stores the new messages of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from turnlog import (
    ABSENT,
    Change,
    Conflict,
    Key,
    Message,
    Metadata,
    Receipt,
    Record,
    Session,
    SessionNotFound,
    Store,
    Times,
)
from turnlog.rules import TurnRule, common, divide, is_one_turn, one_turn_text, split_turns

from ._conversations import Conversation
from ._naming import Differs, name_of, own_or_none
from ._result import ImportResult
from ._snapshot import batches

_ONE_TURN: Final = "to divide it, import it under another session_id with --begins-turn module:function"
_TRIES: Final = 10


async def store_conversation(store: Store, line: int, new: Conversation, begins: TurnRule) -> ImportResult:
    """Store the new messages of a conversation.

    Like `Store.save` without `expect`, it creates or extends a session and discards nothing.  If the session has more
    messages than the conversation, it stays unchanged.

    Args:
        store: The store; a view of an owner creates sessions of that owner.
        line: The number of the first line of the conversation.
        new: The conversation.
        begins: Returns whether a message begins a turn.

    Raises:
        Differs: The stored session differs, has too few turns left to compare, or belongs to another owner.
        Conflict: Other writers have changed the session during each attempt.
    """
    if not new.messages:
        return ImportResult(line, new.session_id, "empty", notices=(new.notice,))
    key = Key(store.namespace, new.session_id)
    for left in reversed(range(_TRIES)):
        session = await _find(store, key)
        missing = _missing(new, session, begins)
        if missing is None:
            break
        try:
            receipt = await _write(store, key, new, missing, session)
        except Conflict:
            if not left:
                raise
            # another writer has changed the session between the read and the commit: try again
        else:
            notices = [new.notice] if new.notice else []
            if is_one_turn(receipt, len(new.messages)):
                notices.append(one_turn_text(key, len(new.messages), _ONE_TURN))
            written = sum(len(turn) for turn in missing.turns)
            dropped = receipt.first - (0 if session is None else session.info.first)
            outcome: Literal["stored", "extended"] = "stored" if session is None else "extended"
            return ImportResult(line, new.session_id, outcome, written, dropped, tuple(notices))
    return ImportResult(line, new.session_id, "unchanged")


async def _find(store: Store, key: Key) -> Session | None:
    if store.owner is not None:
        await own_or_none(store, key)  # a view does not distinguish another owner's session from a missing one
    try:
        return await store.session(key.session, touch=False)
    except SessionNotFound:
        return None


class _Missing(NamedTuple):
    """The difference between a conversation and a session: turns from `number` on, and metadata under new names."""

    number: int
    turns: Sequence[tuple[Message, ...]]
    metadata: Metadata


def _missing(new: Conversation, session: Session | None, begins: TurnRule) -> _Missing | None:
    turns = split_turns(new.messages, begins)
    if session is None:
        return _Missing(0, turns, new.metadata)
    info, stored = session.info, session.messages
    wanted = [message for turn in turns[info.first :] for message in turn]  # retention may have dropped the first turns
    if not wanted:
        raise Differs(
            f"session {info.key} already exists, but its first {info.first} turns have been dropped, so that the "
            f"{len(turns)} turns of this line cannot be compared: nothing was changed"
        )
    same = common(stored, wanted)
    if same == len(wanted):
        return None
    if same < len(stored):
        place = len(new.messages) - len(wanted) + same
        raise Differs(
            f"session {info.key} already exists and differs from this line at messages[{place}], so nothing was "
            "changed: to store both, give the line another session_id"
        )
    number, rest = divide(session.turns, wanted, same, info.first, begins)
    metadata = Metadata({name: value for name, value in new.metadata.encoded.items() if name not in info.metadata})
    return _Missing(number, split_turns(rest, begins), metadata)


async def _write(store: Store, key: Key, new: Conversation, missing: _Missing, session: Session | None) -> Receipt:
    """Append the missing turns, in several changes if they are too large for one; return the last receipt."""
    version = None if session is None else session.version
    times = new.session_times()
    if times is not None and session is not None:
        times = Times(min(times.created, session.info.created), max(times.updated, session.info.updated))
    keep = missing.number if session is not None and missing.number < session.info.turns else None
    metadata: Metadata | None = missing.metadata or None
    for records in batches(_records(store, key, new, missing)):
        change = Change(
            # the same step has the same id in each import: simultaneous imports store it once
            id=name_of(
                key.session,
                str(version),
                [record.id for record in records],
                metadata and sorted(metadata.canonical().items()),
            ),
            append=records,
            keep=keep,
            retain=store.retain,
            max_bytes=store.max_session_bytes,
            metadata=metadata,
            expect=ABSENT if version is None else version,
            for_owner=store.owner,
            times=times,
        )
        receipt = await store.backend.commit(key, change)
        version = receipt.version
        keep = metadata = None
    return receipt


def _records(store: Store, key: Key, new: Conversation, missing: _Missing) -> list[Record]:
    """Return the missing turns, each with the first known time of its messages, or else with the present time."""
    records, now = [], store.backend.clock()
    start = len(new.messages) - sum(len(turn) for turn in missing.turns)
    for number, turn in enumerate(missing.turns, missing.number):
        end = start + len(turn)
        time = new.time_of(start, end)
        id = name_of(key.session, number, [message.canonical() for message in turn])
        records.append(Record.of(turn, id=id, time=now if time is None else time))
        start = end
    return records

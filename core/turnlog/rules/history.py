"""Histories as lists of messages: where turns begin, what two of them have in common, and what was asked for of one."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import CorruptRecord
from ..values.message import Message
from ..values.record import Record
from ..values.session import Session
from ..values.turn import Turn

__all__ = ["begins_turn", "common", "cut_off", "divide", "exact", "split_turns"]

_PREAMBLE = frozenset({"system", "developer"})


def begins_turn(message: Message) -> bool:
    """Whether a message begins a turn: the user says something, other than the result of a tool.

    Anthropic's API sends tool results as a user's message with blocks of type `tool_result`.
    """
    if message.role != "user":
        return False
    content = message.content
    if isinstance(content, list):
        return not any(isinstance(block, dict) and block.get("type") == "tool_result" for block in content)
    return True


def split_turns(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """A history as turns, none if it is empty; system messages that open it belong to the first."""
    if not messages:
        return []
    turns: list[tuple[Message, ...]] = []
    start, preamble = 0, True
    for place, message in enumerate(messages):
        if begins_turn(message) and not preamble:
            turns.append(tuple(messages[start:place]))
            start = place
        preamble = preamble and message.role in _PREAMBLE
    turns.append(tuple(messages[start:]))
    return turns


def common(stored: Sequence[Message], wanted: Sequence[Message]) -> int:
    """How many messages two histories have in common at the beginning."""
    for place, (old, new) in enumerate(zip(stored, wanted, strict=False)):
        if old != new:
            return place
    return min(len(stored), len(wanted))


def divide(turns: Sequence[Turn], wanted: Sequence[Message], same: int, first: int) -> tuple[int, Sequence[Message]]:
    """How many stored turns stay, and which messages follow them.

    Args:
        turns: What is stored.
        wanted: What is to be stored.
        same: How many messages they have in common at the beginning.
        first: The number of the first stored turn.

    Returns:
        The number of the first turn that does not stay, and the messages from there on: none, or such as begin a turn,
        unless nothing stays.
    """
    keep, kept, end = first, 0, 0
    for turn in turns:
        end += len(turn.messages)
        if end > same:
            break
        if end == len(wanted) or begins_turn(wanted[end]):
            keep, kept = turn.number + 1, end
    return keep, wanted[kept:]


def exact(session: Session, last: int | None, before: int | None) -> Session:
    """A session with sealed records taken apart and cut to the turns that were asked for; itself, if it is these."""
    stored = session.records
    if not stored:
        return session
    first, final = stored[0], stored[-1]
    if final.rounds_until - first.rounds_until == len(stored) - first.rounds and (
        last is None or final.messages_until - first.messages_until < last
    ):
        return session  # nothing is sealed, and without its first record it would hold too little
    parts = [part for record in stored for part in _split(session, record)]
    records = [part for part in parts if before is None or part.number < before]
    if last is not None:
        place, count = len(records), 0
        while place and (count < last or not records[place].turns):
            place -= 1
            count += records[place].count
        del records[:place]
    return Session(session.info, tuple(records), session.continues)


def cut_off(session: Session, before: int) -> int:
    """How many messages `exact` cuts off the end: those from turn `before` on, where that is inside a sealed record."""
    if not session.records or session.records[-1].next_turn <= before:
        return 0
    return sum(part.count for part in _split(session, session.records[-1]) if part.number >= before)


def _split(session: Session, record: Record) -> tuple[Record, ...]:
    try:
        return record.split()
    except CorruptRecord as error:
        error.key = session.info.key
        raise

"""Histories as lists of messages: where turns begin, and what two histories have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

from ..errors import Conflict, InvalidInput
from ..values.change import Expect, Mark
from ..values.checks import shown
from ..values.ids import new_id
from ..values.message import Message
from ..values.record import Record
from ..values.session import Session
from ..values.turn import Turn
from .conditions import is_met
from .dialects import begins_turn, outline_of

TurnRule: TypeAlias = Callable[[Message], bool]
"""Returns whether a message begins a turn."""


def check_rule(rule: object, messages: Sequence[Message] = ()) -> TurnRule:
    """Return the rule of the application, which raises if its answer is not a bool; for None, `begins_turn`.

    Args:
        rule: The rule.
        messages: The history; the rule is tried with its first message.

    Raises:
        InvalidInput: `rule` is not a function, is an async function, or does not return a bool.
    """
    if rule is None:
        return begins_turn
    if not callable(rule) or inspect.iscoroutinefunction(rule) or inspect.iscoroutinefunction(rule.__call__):
        what = "an async function" if callable(rule) else shown(rule)
        raise InvalidInput(f"begins_turn must be a function that takes a message and returns a bool, not {what}")
    checked = partial(_answer_of, rule)
    for message in messages[:1]:  # a history of one message asks for no boundary
        checked(message)
    return checked


def _answer_of(rule: Callable[[Message], object], message: Message) -> bool:
    answer = rule(message)
    if type(answer) is not bool:
        raise InvalidInput(
            f"begins_turn returned {shown(answer)}: it must return True if the message begins a turn, otherwise False"
        )
    return answer


def split_turns(messages: Sequence[Message], begins: TurnRule = begins_turn) -> list[tuple[Message, ...]]:
    """Return a history as turns; system messages at its beginning belong to the first turn.

    Args:
        messages: The history; an empty history has no turns.
        begins: Returns whether a message begins a turn.
    """
    if not messages:
        return []
    turns: list[tuple[Message, ...]] = []
    start, preamble = 0, True
    for place, message in enumerate(messages):
        if not preamble and begins(message):
            turns.append(tuple(messages[start:place]))
            start = place
        preamble = preamble and _is_system(message)
    turns.append(tuple(messages[start:]))
    return turns


def _is_system(message: Message) -> bool:
    return outline_of(message).speaker == "system"


def common(
    stored: Sequence[Message], wanted: Sequence[Message], as_read: Callable[[Message], Message] | None = None
) -> int:
    """Return the number of messages that two histories have in common at the beginning.

    Args:
        stored: The messages that were read.
        wanted: The messages to store.
        as_read: Returns the message that a reader gets for a message; None: the same message.
    """
    for place, (old, new) in enumerate(zip(stored, wanted, strict=False)):
        if old != new and (as_read is None or as_read(new) != old):
            return place
    return min(len(stored), len(wanted))


def check_extends(
    session: Session, wanted: Sequence[Message], as_read: Callable[[Message], Message] | None = None
) -> None:
    """Refuse a history that lacks messages of the stored history.

    Args:
        session: The whole session that was read.
        wanted: The messages to store.
        as_read: As in `common`.

    Raises:
        Conflict: The history lacks messages.
    """
    stored = session.messages
    if (same := common(stored, wanted, as_read)) < len(stored):
        found = f"ends before messages[{same}]" if same == len(wanted) else f"differs from messages[{same}] on"
        raise Conflict(
            f"save would discard {len(stored) - same} of the {len(stored)} stored messages of session "
            f"{session.info.key}: the new history {found}; load the session and add to its messages, or pass "
            "expect=session.version to replace the stored messages",
            actual=session.version,
        )


def check_replaces(
    session: Session,
    wanted: Sequence[Message],
    expect: Expect | Literal[Mark.ANY],
    as_read: Callable[[Message], Message] | None = None,
) -> None:
    """Refuse a history that neither extends the stored history, nor may replace it by `expect`.

    Args:
        session: The whole session that was read.
        wanted: The messages to store.
        expect: The condition on the session, as in `Store.save`.
        as_read: As in `common`.

    Raises:
        Conflict: The history lacks stored messages and `expect` names no version, or the session does not meet
            `expect`.
    """
    version = session.version
    if expect is None or expect is Mark.PRESENT:
        check_extends(session, wanted, as_read)
    elif not is_met(version, expect):
        text = f"session {session.info.key} has changed since its version was read: load it again, and save again"
        raise Conflict(text, expected=expect, actual=version)


def divide(
    turns: Sequence[Turn], wanted: Sequence[Message], same: int, first: int, begins: TurnRule = begins_turn
) -> tuple[int, Sequence[Message]]:
    """Return the number of stored turns that stay, and the messages to store after them.

    Args:
        turns: The stored turns.
        wanted: The messages to store.
        same: Number of messages that both have in common at the beginning.
        first: The number of the first stored turn.
        begins: Returns whether a message begins a turn.

    Returns:
        The number of the first turn that does not stay, and the messages from there on.  If any turn stays, the first
        of these messages begins a turn.  System messages at the beginning are not a turn, as in `split_turns`.
    """
    keep, kept, end, preamble = first, 0, 0, True
    for turn in turns:
        end += len(turn.messages)
        if end > same:
            break
        preamble = preamble and all(map(_is_system, turn.messages))
        if end == len(wanted) or (not preamble and begins(wanted[end])):
            keep, kept = turn.number + 1, end
    return keep, wanted[kept:]


def rewound(session: Session, turns: int | None, messages: int | None) -> tuple[int, tuple[Record, ...]]:
    """Return the turn from which an undo cuts, and the record to append: the rest of a turn that the undo shortens.

    Args:
        session: The session, with at least the turns to undo.
        turns: Number of turns to undo; or
        messages: number of messages to undo.

    Raises:
        InvalidInput: The session has fewer turns or messages.
    """
    info = session.info
    if turns is not None:
        if turns > info.turns - info.first:
            raise InvalidInput(
                f"{turns} turns cannot be undone: session {info.key} has {info.turns - info.first}; pass a lower number"
            )
        return info.turns - turns, ()
    assert messages is not None
    if messages > info.messages:
        raise InvalidInput(
            f"{messages} messages cannot be undone: session {info.key} has {info.messages}; pass a smaller number"
        )
    turn = session.turns[0]
    rest = sum([len(one.messages) for one in session.turns]) - messages
    if not rest:
        return turn.number, ()
    return turn.number, (Record.of(turn.messages[:rest], id=new_id(), time=turn.time),)

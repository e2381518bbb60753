"""Histories as lists of messages: where turns begin, and what two histories have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..values.message import Message
from ..values.turn import Turn

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


def common(
    stored: Sequence[Message], wanted: Sequence[Message], as_read: Callable[[Message], Message] | None = None
) -> int:
    """Return how many messages two histories have in common at the beginning.

    Args:
        stored: The messages that were read.
        wanted: The messages to store.
        as_read: Returns a message as it would be read once it is stored; None: as it is.
    """
    for place, (old, new) in enumerate(zip(stored, wanted, strict=False)):
        if old != new and (as_read is None or as_read(new) != old):
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

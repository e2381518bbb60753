"""The part of a history that a model is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import Final, Literal

import msgspec

from ..errors import InvalidInput, TooLarge
from ..values.json_value import check_number, shown
from ..values.message import Message
from ..values.turn import Turn
from .repair import repaired, without_results

_FIRST_READ: Final = 64  # messages, where only tokens are limited


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the history a model is given: whole turns from the end, within every limit that is set.

    The system prompt and the new message come on top.  The start of the window moves in steps: each time a limit is
    passed it moves on by several turns, and then stays, so that most requests begin with the whole of the one before
    and the provider's prompt cache hits.  It is a function of turn numbers alone, so all processes choose the same.

    Attributes:
        messages: At most this many messages; None: no such limit, or 20 if no other limit is set.
        turns: At most this many turns.
        tokens: At most this many tokens, by the pipeline's counter.
        least: How much of each limit stays in use when the start moves, from 0 to 1: a smaller part moves it less
            often; 1 moves it at each turn.
        interrupted: Give a call without a result one that says so (`repair`), or leave its turn out (`omit`).
        oversize: Send a last turn that is larger than a limit whole, with a warning (`send`), or raise `TooLarge`
            (`refuse`).

    Raises:
        InvalidInput: A limit is not a number from 1, or another attribute breaks its rule.
    """

    messages: int | None = None
    turns: int | None = None
    tokens: int | None = None
    least: float = 0.5
    interrupted: Literal["repair", "omit"] = "repair"
    oversize: Literal["send", "refuse"] = "send"

    def __post_init__(self) -> None:
        for name in ("messages", "turns", "tokens"):
            if getattr(self, name) is not None:
                check_number(getattr(self, name), f"Window({name})", least=1)
        if type(self.least) not in (int, float) or not isfinite(self.least) or not 0 < self.least <= 1:
            raise InvalidInput(f"Window(least) must be a number above 0 and up to 1, not {shown(self.least)}")
        for name, words in (("interrupted", ("repair", "omit")), ("oversize", ("send", "refuse"))):
            if getattr(self, name) not in words:
                raise InvalidInput(f"Window({name}) must be {' or '.join(words)}, not {shown(getattr(self, name))}")
        if self.messages is self.turns is self.tokens is None:
            msgspec.structs.force_setattr(self, "messages", 20)

    @property
    def first_read(self) -> int:
        """The number of messages to read first, which is enough for most windows."""
        if self.messages is not None:
            return self.messages
        return _FIRST_READ if self.turns is None else 2 * self.turns

    def is_filled_by(self, turns: Sequence[Turn], tokens: Callable[[Turn], int]) -> bool:
        """Return whether no turn before these could be sent, too.

        Args:
            turns: The last turns of a session.
            tokens: Returns the tokens of a turn.
        """
        return any(limit is not None and sum(map(size, turns)) >= limit for limit, size, _ in self._limits(tokens))

    def _limits(self, tokens: Callable[[Turn], int]) -> Iterator[tuple[int | None, Callable[[Turn], int], str]]:
        """Yield each limit, what it counts of a turn, and its unit."""
        yield self.messages, _messages_of, "messages"
        yield self.turns, lambda _: 1, "turns"
        yield self.tokens, tokens, "tokens"

    def start(self, turns: Sequence[Turn], tokens: Callable[[Turn], int]) -> int:
        """Return the place of the first turn to send.

        Args:
            turns: The last turns of a session, more than the window holds where there are more.
            tokens: Returns the tokens of a turn.

        Raises:
            TooLarge: The last turn is larger than a limit, and `oversize` is `refuse`.
        """
        if not turns:
            return 0
        first, latest = 0, len(turns) - 1
        for limit, size, unit in self._limits(tokens):
            if limit is not None:
                earliest, last = _range(turns, limit, limit * self.least, size)
                if earliest == len(turns):
                    self._oversized(turns[-1], size(turns[-1]), limit, unit)
                first, latest = max(first, earliest), min(latest, last)
        first = min(first, len(turns) - 1)
        places = range(first, max(first, latest) + 1)
        return max(places, key=lambda place: (_roundness(turns[place].number), -place))

    def _oversized(self, turn: Turn, size: int, limit: int, unit: str) -> None:
        text = f"turn {turn.number} has {size} {unit}, the window's limit is {limit}"
        if self.oversize == "refuse":
            raise TooLarge(f"{text}: raise the limit, or let Window(oversize='send') send it whole")
        import logging

        logging.getLogger("turnlog").warning("%s: it is sent whole", text)

    def sound(self, turn: Turn) -> Sequence[Message]:
        """Return the messages of a turn as a model may be given them: each call with a result, or none at all."""
        messages = turn.messages
        if all(message.is_plain for message in messages) or not without_results(messages):
            return messages
        return repaired(messages) if self.interrupted == "repair" else ()


def _messages_of(turn: Turn) -> int:
    return len(turn.messages)


def _range(turns: Sequence[Turn], limit: int, least: float, size: Callable[[Turn], int]) -> tuple[int, int]:
    """Return the earliest place from which a limit holds, and the latest that leaves enough of the limit in use.

    Args:
        turns: The turns.
        limit: The limit.
        least: How much is to stay in use.
        size: Returns the size of a turn.
    """
    used, earliest, latest = 0, len(turns), 0
    for place in range(len(turns) - 1, -1, -1):
        used += size(turns[place])
        if used >= least and not latest:
            latest = place
        if used > limit:
            break
        earliest = place
    return earliest, latest


def _roundness(number: int) -> int:
    """Return how often 2 divides a turn's number; 0 is rounder than all others.

    The roundest number of a range stays the same while the range moves over it.
    """
    return (number & -number).bit_length() if number else 64

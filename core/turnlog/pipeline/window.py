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
from .results import cleared, repaired, without_results

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
        tool_results: Send the tool results of at least this many turns at the end, and a short text that names the turn
            in place of older ones; None: send all.  What is stored stays as it is.

    Raises:
        InvalidInput: A limit is not a number from 1, or another attribute breaks its rule.
    """

    messages: int | None = None
    turns: int | None = None
    tokens: int | None = None
    least: float = 0.5
    interrupted: Literal["repair", "omit"] = "repair"
    oversize: Literal["send", "refuse"] = "send"
    tool_results: int | None = None

    def __post_init__(self) -> None:
        for name in ("messages", "turns", "tokens", "tool_results"):
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

    def messages_of(self, turns: Sequence[Turn], tokens: Callable[[Turn], int]) -> list[Message]:
        """Return the messages to send: of whole turns, with a result for each call.

        Args:
            turns: The last turns of a session, more than the window holds where there are more.
            tokens: Returns the tokens of a turn.
        """
        turns = turns[self.start(turns, tokens) :]
        whole = self._results_from(turns)
        messages: list[Message] = []
        for place, turn in enumerate(turns):
            sound = self._sound(turn)
            messages += sound if place >= whole else cleared(sound, turn.number)
        return messages

    def start(self, turns: Sequence[Turn], tokens: Callable[[Turn], int]) -> int:
        """Return the place of the first turn to send; arguments as in `messages_of`."""
        if not turns:
            return 0
        first, latest = 0, len(turns) - 1
        for limit, size, _ in self._limits(tokens):
            if limit is not None:
                earliest, last = _range(turns, limit, limit * self.least, size)
                first, latest = max(first, earliest), min(latest, last)
        first = min(first, len(turns) - 1)
        return _roundest(turns, first, max(first, latest))

    def oversize_of(self, turn: Turn, tokens: Callable[[Turn], int]) -> str | None:
        """Return a text that says by what a turn is larger than a limit; None if it is not.

        Raises:
            TooLarge: It is, and `oversize` is `refuse`.
        """
        for limit, size, unit in self._limits(tokens):
            if limit is not None and size(turn) > limit:
                text = f"turn {turn.number} has {size(turn)} {unit}, the window's limit is {limit}"
                if self.oversize == "refuse":
                    raise TooLarge(f"{text}: raise the limit, or let Window(oversize='send') send it whole")
                return text
        return None

    def _results_from(self, turns: Sequence[Turn]) -> int:
        """Return the place of the first turn whose tool results are sent; it moves in steps, like the start."""
        keep = self.tool_results
        if keep is None or len(turns) <= keep:
            return 0
        return _roundest(turns, max(0, len(turns) - 2 * keep), len(turns) - keep)

    def _sound(self, turn: Turn) -> Sequence[Message]:
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


def _roundest(turns: Sequence[Turn], first: int, last: int) -> int:
    """Return the place, from `first` to `last`, of the turn whose number 2 divides most often.

    It stays the same while the range moves over it.  0 is rounder than all other numbers.
    """
    numbers = range(first, last + 1)
    return max(numbers, key=lambda place: (_roundness(turns[place].number), -place))


def _roundness(number: int) -> int:
    return (number & -number).bit_length() if number else 64

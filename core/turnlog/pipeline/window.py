"""`Window`: the part of a history that a model receives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import Final, Literal

import msgspec

from ..errors import InvalidInput, TooLarge
from ..values.checks import check_number, shown
from ..values.message import Message
from ..values.turn import Turn
from .tool_results import cleared, has_unanswered_calls, repaired

_FIRST_READ: Final = 64  # messages, if only tokens are limited


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the history that a model receives: the last whole turns within every limit that is set.

    The limits do not include the system prompt and the new message.  The start of the window moves in steps: when a
    limit is passed, the start moves past several turns and then stays.  Most requests therefore begin with the whole
    previous request, and the provider's prompt cache hits.  The start depends on turn numbers alone, so all processes
    choose the same start.

    Attributes:
        messages: Maximum number of messages; None: no limit, or 20 if no other limit is set.
        turns: Maximum number of turns; None: no limit.
        tokens: Maximum number of tokens, by the pipeline's counter; None: no limit.
        least: Minimum share of each limit that stays in use when the start moves, above 0 and up to 1.  With a smaller
            share the start moves less often; with 1 it moves at each turn.
        interrupted: Add a result to a call that was interrupted (`repair`), or leave its turn out (`omit`).
        oversize: If the last turn alone is larger than a limit, send it whole with a warning (`send`), or raise
            `TooLarge` (`refuse`).
        tool_results: Minimum number of turns at the end whose tool results are sent.  In earlier turns, a short text
            that names the turn replaces each result.  None: send all results.  The stored messages do not change.

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
                check_number(getattr(self, name), f"Window({name}=)", least=1)
        if type(self.least) not in (int, float) or not isfinite(self.least) or not 0 < self.least <= 1:
            raise InvalidInput(f"Window(least=) must be greater than 0 and at most 1, not {shown(self.least)}")
        for name, words in (("interrupted", ("repair", "omit")), ("oversize", ("send", "refuse"))):
            if getattr(self, name) not in words:
                raise InvalidInput(f"Window({name}=) must be {' or '.join(words)}, not {shown(getattr(self, name))}")
        if self.messages is self.turns is self.tokens is None:
            msgspec.structs.force_setattr(self, "messages", 20)

    @property
    def first_read(self) -> int:
        """Number of messages to read first, which is enough for most windows."""
        if self.messages is not None:
            return self.messages
        return _FIRST_READ if self.turns is None else 2 * self.turns

    def is_filled_by(self, turns: Sequence[Turn], tokens: Callable[[Turn], int]) -> bool:
        """Return whether these turns fill the window, so that no earlier turn fits.

        Args:
            turns: The last turns of a session.
            tokens: Returns the number of tokens of a turn.
        """
        return any(limit is not None and sum(map(size, turns)) >= limit for limit, size, _ in self._limits(tokens))

    def _limits(self, tokens: Callable[[Turn], int]) -> Iterator[tuple[int | None, Callable[[Turn], int], str]]:
        """Yield each limit, the function that measures a turn, and the unit."""
        yield self.messages, _messages_of, "messages"
        yield self.turns, lambda _: 1, "turns"
        yield self.tokens, tokens, "tokens"

    def messages_of(self, turns: Sequence[Turn], tokens: Callable[[Turn], int]) -> list[Message]:
        """Return the messages to send: whole turns, with a result for each call.

        Args:
            turns: The last turns of a session: all of them, or more than the window holds.
            tokens: Returns the number of tokens of a turn.
        """
        turns = turns[self.start(turns, tokens) :]
        whole = self._results_from(turns)
        messages: list[Message] = []
        for place, turn in enumerate(turns):
            sound = self._sound(turn)
            messages += sound if place >= whole else cleared(sound, turn.number)
        return messages

    def start(self, turns: Sequence[Turn], tokens: Callable[[Turn], int]) -> int:
        """Return the index of the first turn to send; arguments as in `messages_of`."""
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
        """Return a text about the limit that a turn exceeds; None if it exceeds no limit.

        Raises:
            TooLarge: The turn exceeds a limit, and `oversize` is `refuse`.
        """
        for limit, size, unit in self._limits(tokens):
            if limit is not None and size(turn) > limit:
                text = f"the stored turn {turn.number} has {size(turn)} {unit}, the window's limit is {limit}"
                if self.oversize == "refuse":
                    raise TooLarge(f"{text}: raise the limit, or let Window(oversize='send') send it whole")
                return text
        return None

    def _results_from(self, turns: Sequence[Turn]) -> int:
        """Return the index of the first turn whose tool results are sent; it moves in steps, like the start."""
        keep = self.tool_results
        if keep is None or len(turns) <= keep:
            return 0
        return _roundest(turns, max(0, len(turns) - 2 * keep), len(turns) - keep)

    def _sound(self, turn: Turn) -> Sequence[Message]:
        """Return the messages of a turn with a result for each call, or no messages if the turn is left out."""
        messages = turn.messages
        if all(message.is_plain for message in messages) or not has_unanswered_calls(messages):
            return messages
        return repaired(messages) if self.interrupted == "repair" else ()


def _messages_of(turn: Turn) -> int:
    return len(turn.messages)


def _range(turns: Sequence[Turn], limit: int, least: float, size: Callable[[Turn], int]) -> tuple[int, int]:
    """Return the indices of the earliest start within a limit, and of the latest start that uses enough of the limit.

    Args:
        turns: The turns.
        limit: The limit.
        least: The size that must stay in use.
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
    """Return the index, from `first` to `last`, of the turn whose number is divisible by the highest power of 2.

    The result stays the same while it is in the range.  0 counts as divisible by a higher power than any other number.
    """
    numbers = range(first, last + 1)
    return max(numbers, key=lambda place: (_roundness(turns[place].number), -place))


def _roundness(number: int) -> int:
    return (number & -number).bit_length() if number else 64

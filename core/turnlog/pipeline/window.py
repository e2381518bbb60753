"""The part of a history that a model is given."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..values.json_value import check_number
from ..values.turn import Turn


class Window(msgspec.Struct, frozen=True):
    """How much of the history a model is given.

    Attributes:
        messages: At most so many messages, in whole turns, from the end; but never less than the last turn.  The system
            prompt, stored or not, and the new message come on top.

    Raises:
        InvalidInput: Not a number from 1.
    """

    messages: int = 20

    def __post_init__(self) -> None:
        check_number(self.messages, "Window(messages)", least=1)

    def cut(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        """The last turns that fit."""
        count, place = 0, len(turns)
        while place:
            count += len(turns[place - 1].messages)
            if count > self.messages and place < len(turns):
                break
            place -= 1
        return turns[place:]

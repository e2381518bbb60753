"""A turn: the unit of writing, undo, fork, retention and windows."""

from __future__ import annotations

import msgspec

from .checks import shown
from .message import Message


class Turn(msgspec.Struct, frozen=True):
    """The messages that were appended in one atomic step, or round by round under one id.

    Attributes:
        number: The number of the turn in the session, from 0; it never changes.
        id: The id under which the turn was written.
        time: The time of the first round, in seconds since 1970.
        messages: The messages, at least one.
        open: Whether the turn was left open for more rounds.
        interrupted: Whether the turn is open, but another turn has begun since: no round can follow.
    """

    number: int
    id: str
    time: float
    messages: tuple[Message, ...]
    open: bool = False
    interrupted: bool = False

    def __repr__(self) -> str:
        """Return a short text: the number, the id, the number of messages and their roles."""
        roles = ", ".join([message.role or "without a role" for message in self.messages[:6]])
        more = ", …" if len(self.messages) > 6 else ""
        state = ", interrupted" if self.interrupted else ", open" if self.open else ""
        return f"<Turn {self.number}, id {shown(self.id)}, {len(self.messages)} messages: {roles}{more}{state}>"

    def to_dict(self) -> dict[str, object]:
        """Return the turn as a dictionary of JSON values."""
        return {
            "number": self.number,
            "id": self.id,
            "time": self.time,
            "messages": [message.to_dict() for message in self.messages],
            "open": self.open,
            "interrupted": self.interrupted,
        }

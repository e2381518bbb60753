"""`Writer`: an event loop as one of the writers of sessions."""

from __future__ import annotations

import os

from turnlog import Change, Key, Receipt
from turnlog.runtime import Turns


class Waiting:
    """A change whose task waits for its turn; the task that has the turn may commit it together with its own.

    Args:
        change: The change; None: it must be committed by its own task.
    """

    __slots__ = ("change", "sent")

    def __init__(self, change: Change | None) -> None:
        self.change = change
        self.sent = False
        """Whether it may have been stored."""


class Writer:
    """An event loop as one of the writers of sessions: its tasks take turns, and share its place in the lines.

    Args:
        place: The name of the server in error messages.
    """

    def __init__(self, place: str) -> None:
        self.name = os.urandom(8)
        self.turns: Turns[Key, Waiting, Receipt] = Turns(place)
        self.first: set[Key] = set()
        """The sessions in whose line it is the first."""

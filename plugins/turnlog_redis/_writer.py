"""`Writer`: the tasks of an event loop that write to sessions."""

from __future__ import annotations

import os

from turnlog import Change, Key, Receipt
from turnlog.runtime import Turns


class Waiting:
    """A change of a waiting task; the task that holds the lock may commit it together with its own change.

    Args:
        change: The change; None: no other task may commit it.
    """

    __slots__ = ("change", "sent")

    def __init__(self, change: Change | None) -> None:
        self.change = change
        self.sent = False
        """Whether the change may have been stored."""


class Writer:
    """The tasks of one event loop: they write to a session one after the other, and share a place in its queue.

    Args:
        place: The name of the server in error messages.
    """

    def __init__(self, place: str) -> None:
        self.name = os.urandom(8)
        self.turns: Turns[Key, Waiting, Receipt] = Turns(place)
        self.first: set[Key] = set()
        """The sessions in whose queue this writer is the first."""

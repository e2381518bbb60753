"""`Writer`: an event loop as one of the writers of sessions."""

from __future__ import annotations

import os

from turnlog import Key
from turnlog.runtime import Turns


class Writer:
    """An event loop as one of the writers of sessions: its tasks take turns, and share its place in the lines.

    Args:
        place: The name of the server in error messages.
    """

    def __init__(self, place: str) -> None:
        self.name = os.urandom(8)
        self.turns: Turns[Key] = Turns(place)
        self.first: set[Key] = set()
        """The sessions in whose line it is the first."""

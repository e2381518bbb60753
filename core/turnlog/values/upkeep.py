"""Reports of a backend for people: `Remainder`, data that deletions leave behind, and `Finding`, a fault of a server.

A backend offers either by a method that the commands `turnlog erase` and `turnlog doctor` call if it is there:

- `async def scrub(self) -> Sequence[Remainder]`: remove what deleted sessions have left in the store, as far as the
  backend can without harm to others, and return what remains;
- `async def diagnose(self) -> Sequence[Finding]`: return what is wrong with the server, the files or the settings.
"""

from __future__ import annotations

import msgspec


class Remainder(msgspec.Struct, frozen=True):
    """A place that may still hold parts of deleted sessions.

    Attributes:
        where: The place.
        until: When they are gone without further action, such as `the next snapshot`.
        command: What removes them now; empty if no single command does.  If it is one of turnlog, such as `turnlog
            sweep --now`, the erasure was not finished, and `turnlog erase` returns 1.
    """

    where: str
    until: str
    command: str = ""


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong, or at risk.

    Attributes:
        text: What is wrong, and what may come of it.
        command: What mends it; empty if no single command does.
    """

    text: str
    command: str = ""

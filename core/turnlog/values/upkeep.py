"""Reports of a backend for people: `Remainder`, data that deletions leave, and `Finding`, a fault of a server.

A backend may have these methods.  The commands `turnlog erase` and `turnlog doctor` call them:

- `async def scrub(self) -> Sequence[Remainder]`: remove the data that deleted sessions have left in the store, as far
  as other data are not affected, and return the rest;
- `async def diagnose(self) -> Sequence[Finding]`: return the faults of the server, the files and the settings.
"""

from __future__ import annotations

import msgspec


class Remainder(msgspec.Struct, frozen=True):
    """A place that may still hold parts of deleted sessions.

    Attributes:
        where: The place.
        until: The event that removes these parts without further action, such as `the next snapshot`.
        command: The command that removes them now; empty if no single command can.  If it is a command of turnlog, such
            as `turnlog sweep --now`, the erasure is not finished, and `turnlog erase` returns 1.
    """

    where: str
    until: str
    command: str = ""


class Finding(msgspec.Struct, frozen=True):
    """A fault, or a risk.

    Attributes:
        text: The fault and its possible consequences.
        command: The command that corrects it; empty if no single command can.
    """

    text: str
    command: str = ""

"""Print the data that remains after sessions were removed."""

from __future__ import annotations

from collections.abc import Sequence

from turnlog.values import Remainder

from ._text import Printer


def print_remains(out: Printer, remains: Sequence[Remainder]) -> None:
    """Print the places with parts of removed sessions, until when they remain, and the command that removes them."""
    out(("what remains:", "bold"))
    for one in remains:
        out.wrapped(("  ", ""), (one.where, ""))
        out.wrapped(("    until ", "dim"), (one.until, ""), indent=6)
        if one.command:
            out(("    to remove it now: ", "dim"), (one.command, "bold"))  # not wrapped, so that it can be copied

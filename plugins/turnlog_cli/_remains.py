"""Data that remains after sessions were removed, as the commands print it."""

from __future__ import annotations

from collections.abc import Sequence

from turnlog.values import Remainder

from ._text import Printer


def print_remains(out: Printer, remains: Sequence[Remainder]) -> None:
    """Print where parts of removed sessions remain, until when, and what removes them now."""
    out(("what remains:", "bold"))
    for one in remains:
        out.wrapped(("  ", ""), (one.where, ""))
        out.wrapped(("    until ", "dim"), (one.until, ""), indent=6)
        if one.command:
            out(("    to remove it now: ", "dim"), (one.command, "bold"))  # unbroken, so that it can be copied

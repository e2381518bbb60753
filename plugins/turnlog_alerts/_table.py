"""The table of `turnlog alerts check` on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

_STYLES: Final = {"ok": "green", "beyond": "bold red", "unknown": "yellow"}


def table_of(rows: Sequence[tuple[str, str, str, str]]) -> Table:
    """Return a table of alerts.

    Args:
        rows: The name, the state, the value and the condition of each alert; an empty condition if the name equals it.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("alert", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("condition", overflow="fold")
    for name, state, value, condition in rows:
        table.add_row(Text(name), Text(state, _STYLES[state]), Text(value), Text(condition))
    return table

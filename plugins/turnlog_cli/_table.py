"""Tables for people and lines for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ._text import Printer, line

if TYPE_CHECKING:
    from rich.console import Console

_NUMBERS: Final = ("turns", "messages", "turn", "median", "slowest")
_NAMES: Final = ("session", "namespace", "owner", "who", "operation", "setting", "name", "distribution")
_WHOLE: Final = (*_NUMBERS, *_NAMES, "updated")
"""Columns whose cells stay on one line, so that they can be copied; other columns wrap between words."""

_GAP: Final = 2  # columns of the screen between two cells
_NARROW: Final = 12  # columns of the screen that a cell with wrapped text needs


class Table:
    """Rows of cells.  On a terminal, `end` prints a table; otherwise `add` prints each row as a line with tabs.

    A table omits empty columns.  If a table is too wide for the terminal, because an id is long, each row is printed as
    a paragraph.
    """

    def __init__(self, *columns: str) -> None:
        self.columns: Sequence[str] = columns
        self._rows: list[tuple[str, ...]] = []
        self._console = Printer().console

    @property
    def on_terminal(self) -> bool:
        """Whether standard output is a terminal."""
        return self._console is not None

    def add(self, *cells: str) -> None:
        """Add a row."""
        if self._console is None:
            print("\t".join(line(cell) for cell in cells))
        else:
            self._rows.append(tuple(map(line, cells)))

    def end(self) -> None:
        """Print the table."""
        if self._console is None or not self._rows:
            return
        used = [place for place in range(len(self.columns)) if any(row[place] for row in self._rows)]
        if self._width(used) <= self._console.width:
            self._print_table(self._console, used)
        else:
            self._print_paragraphs(self._console, used)

    def _width(self, used: Sequence[int]) -> int:
        """Return the width of the table in columns of the screen."""
        from rich.cells import cell_len

        longest = {place: max(cell_len(row[place]) for row in self._rows) for place in used}
        cells = [
            max(cell_len(self.columns[place]), width if self.columns[place] in _WHOLE else min(width, _NARROW))
            for place, width in longest.items()
        ]
        return sum(cells) + _GAP * (len(cells) - 1)

    def _print_table(self, console: Console, used: Sequence[int]) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False)
        for name in (self.columns[place] for place in used):
            whole = name in _WHOLE
            table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=whole, overflow="fold")
        for row in self._rows:
            table.add_row(*(Text(row[place]) for place in used))
        console.print(table)

    def _print_paragraphs(self, console: Console, used: Sequence[int]) -> None:
        from rich.text import Text

        first, *others = used
        for row in self._rows:
            console.print(Text(row[first], "bold"), soft_wrap=True)
            cells = [Text.assemble((f"{self.columns[place]} ", "dim"), row[place]) for place in others if row[place]]
            for rest in Text("  ").join(cells).wrap(console, console.width - _GAP):
                rest.rstrip()
                console.print(Text(" " * _GAP).append_text(rest), soft_wrap=True)

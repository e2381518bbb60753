"""How far a command is, on standard error if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ._text import is_terminal, line


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that counts one more session, and shows what was found so far.

    Args:
        what: The name of the command.  How many sessions will come is not known.
    """
    if not is_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.completed:,.0f} sessions{task.fields[found]}", markup=False), TimeElapsedColumn())
    with Progress(what, BarColumn(), *columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None, found="")
        yield lambda found: progress.update(task, advance=1, found=f", {line(found)}" if found else "")

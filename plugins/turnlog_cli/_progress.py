"""The progress of a command, on standard error if it is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ._text import is_terminal, line


@contextmanager
def progress(what: str, *, prints: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield a function that counts one session, and shows a text about the results so far.

    Args:
        what: The name of the command.
        prints: Whether the command prints results at the same time; if they go to the terminal, no progress is shown.
    """
    if not is_terminal(sys.stderr) or (prints and is_terminal(sys.stdout)):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.completed:,.0f} sessions{task.fields[found]}", markup=False), TimeElapsedColumn())
    console = Console(stderr=True)
    # rich would also print the results to standard error
    with Progress(what, BarColumn(), *columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(what, total=None, found="")
        yield lambda found: progress.update(task, advance=1, found=f", {line(found)}" if found else "")

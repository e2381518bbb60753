"""How far a command is, on standard error if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ._text import is_terminal, line


@contextmanager
def progress(what: str, *, prints: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield a function that counts one more session, and shows what was found so far.

    Args:
        what: The name of the command.  How many sessions will come is not known.
        prints: Whether the command prints results meanwhile; then it shows nothing if they go to the terminal, too.
    """
    if not is_terminal(sys.stderr) or (prints and is_terminal(sys.stdout)):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.completed:,.0f} sessions{task.fields[found]}", markup=False), TimeElapsedColumn())
    console = Console(stderr=True)
    # rich would print results to standard error, too
    with Progress(what, BarColumn(), *columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(what, total=None, found="")
        yield lambda found: progress.update(task, advance=1, found=f", {line(found)}" if found else "")

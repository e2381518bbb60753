"""Output on standard error: one line for each problem, and the progress."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_PASSWORD: Final = re.compile(r"://\S*@")


def complain(text: object, *, where: str = "turnlog") -> None:
    """Print one line on standard error, without passwords and characters that could control a terminal."""
    print(f"{on_one_line(where)}: {on_one_line(_PASSWORD.sub('://***@', str(text)))}", file=sys.stderr, flush=True)


def counted(number: int, what: str) -> str:
    """Return a number with its noun: `1 session`, `2 passes`."""
    return f"{number} {what if number == 1 else what + ('es' if what.endswith('s') else 's')}"


def on_one_line(text: str) -> str:
    r"""Escape the characters of a text that could control a terminal, for example to `\x1b`."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


@contextmanager
def progress(name: str, *, total: int | None = None) -> Iterator[Callable[[int, str], None]]:
    """Show a bar on standard error if it is a terminal.

    Args:
        name: The name of the command.
        total: The total number of bytes; None: unknown.

    Yields:
        A function to call with the number of bytes that were processed since the last call, and a text.
    """
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, FileSizeColumn, Progress, TextColumn, TimeElapsedColumn

    console, text = Console(stderr=True), TextColumn("{task.fields[text]}", markup=False)
    size = FileSizeColumn() if total is None else DownloadColumn()  # DownloadColumn would show an unknown total as "?"
    with Progress(name, BarColumn(), size, text, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(name, total=total, text="")

        def show(count: int, text: str) -> None:
            bar.update(task, advance=count, text=text)

        yield show

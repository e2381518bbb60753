"""The report of `turnlog recompress`: totals, and the progress on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ._recompressing import Recompressed


def as_json(fields: Mapping[str, object]) -> str:
    """Return numbers and lists of numbers as JSON on one line."""
    return json.dumps(fields)


@dataclass
class Totals:
    """The totals of all sessions so far."""

    sessions: int = 0
    before: int = 0
    after: int = 0
    _damaged: dict[str, int] = field(default_factory=dict)  # by session: a session that changes has several results

    @property
    def damaged(self) -> int:
        """The number of damaged records."""
        return sum(self._damaged.values())

    def add(self, result: Recompressed) -> None:
        """Add one result, and report damaged records on standard error, once for each session."""
        self.sessions += 1
        self.before += result.before
        self.after += result.after
        if result.damaged:
            if result.session not in self._damaged:
                name = f"session {result.session!r}" if result.session else "a session without a readable name"
                print(f"turnlog: {name}: {result.damaged} damaged records are left unchanged", file=sys.stderr)
            self._damaged[result.session] = result.damaged

    def fields(self) -> dict[str, object]:
        """Return the totals for programs."""
        return {
            "sessions": self.sessions,
            "before": self.before,
            "after": self.after,
            "saved": self.before - self.after,
            "damaged": self.damaged,
        }

    def __str__(self) -> str:
        saved = self.before - self.after
        text = f"{self.sessions} sessions, {self.before} bytes before, {self.after} after: {saved} saved"
        if self.before:
            text += f" ({saved / self.before:.1%})"
        if self._damaged:
            text += f"; {self.damaged} damaged records"
        return text


@contextmanager
def progress() -> Iterator[Callable[[Totals], None]]:
    """Show the totals on standard error if it is a terminal.  The number of remaining sessions is unknown."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    totals = TextColumn("{task.fields[totals]}")
    with Progress("recompress", BarColumn(), totals, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("recompress", total=None, totals="")
        yield lambda now: bar.update(
            task, totals=f"{now.sessions} sessions, {decimal(now.before)} → {decimal(now.after)}"
        )

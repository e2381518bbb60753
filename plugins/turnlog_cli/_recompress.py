"""`turnlog recompress`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from turnlog import TurnlogError
from turnlog.config import duration

from ._compression import Recompressed, compressing
from ._tables import open_existing
from ._text import Code, as_json, complain, is_terminal


def recompress(url: str | None, idle: str | None, rate: float | None, *, json: bool) -> int:
    """Bring sessions to how their store would write them now, and print what that saved.

    Args:
        url: Where they are; None: what the configuration names.
        idle: How long a session was idle that is sealed whole; None: none is.
        rate: At most so many sessions a second; None: no limit.
        json: An object for programs.
    """
    seconds = None if idle is None else duration(idle, "--idle")
    done = asyncio.run(_recompress(url, seconds, rate))
    print(as_json(done.fields()) if json else done)
    return Code.FAILED if done.damaged else Code.FINE


@dataclass
class _Done:
    """What became of all sessions so far."""

    sessions: int = 0
    before: int = 0
    after: int = 0
    removed: tuple[int, ...] = ()
    _damaged: dict[str, int] = field(default_factory=dict)  # by session: one that changes is looked at again

    @property
    def damaged(self) -> int:
        return sum(self._damaged.values())

    def add(self, one: Recompressed) -> None:
        self.removed += one.forgotten
        if not one.session:
            return
        self.sessions += 1
        self.before += one.before
        self.after += one.after
        if one.damaged:
            if one.session not in self._damaged:
                complain(f"session {one.session!r}: {one.damaged} damaged records are left as they are")
            self._damaged[one.session] = one.damaged

    def fields(self) -> dict[str, object]:
        return {
            "sessions": self.sessions,
            "before": self.before,
            "after": self.after,
            "saved": self.before - self.after,
            "damaged": self.damaged,
            "removed_dictionaries": list(self.removed),
        }

    def __str__(self) -> str:
        saved = self.before - self.after
        text = f"{self.sessions} sessions, {self.before} bytes before, {self.after} after: {saved} saved"
        if self.before:
            text += f" ({saved / self.before:.1%})"
        if self._damaged:
            text += f"; {self.damaged} damaged records"
        if self.removed:
            text += f"; dictionaries removed: {', '.join(map(str, self.removed))}"
        return text


async def _recompress(url: str | None, idle: float | None, rate: float | None) -> _Done:
    store, done = open_existing(url), _Done()
    each = compressing(store).recompress(idle=idle, rate=rate)
    async with store:
        try:
            with _progress() as show:
                async for one in each:
                    done.add(one)
                    show(done)
        except (asyncio.CancelledError, TurnlogError):  # cancelled: Ctrl-C
            complain(f"stopped after {done.sessions} sessions; what is done stays, run it again to go on")
            raise
    return done


@contextmanager
def _progress() -> Iterator[Callable[[_Done], None]]:
    """Shows how far it is on standard error if that is a terminal; how many sessions there are is not known."""
    if not is_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    said = TextColumn("{task.fields[said]}")
    with Progress("recompress", BarColumn(), said, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("recompress", total=None, said="")
        yield lambda done: progress.update(
            task, said=f"{done.sessions} sessions, {decimal(done.before)} → {decimal(done.after)}"
        )

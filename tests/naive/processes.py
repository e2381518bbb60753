"""Naive backends for several processes, for kills, and for an `open` that fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from turnlog import Change, Key, Receipt, Session, Unavailable
from turnlog.rules import SessionState
from turnlog.testing._crashing import Crashing
from turnlog.testing._opening import Opening
from turnlog.testing._processes import Processes
from turnlog_memory import MemoryBackend

from . import fails


@fails(Processes, "appends_of_processes", "compare_and_set_of_processes", shared=True)
class WithoutALock(MemoryBackend):
    """Reads a file, and replaces it without a lock."""

    capabilities = frozenset({"shared", "processes", "durable"})

    def __init__(self, *, place: Path, **options: Any) -> None:
        super().__init__(**options)
        self._file = place / "session"

    def load(self, key: Key) -> None:
        """Read the file."""
        lines = self._file.read_bytes().split(b"\n") if self._file.exists() else []
        self._states[key] = SessionState.from_lines(lines, key, ttl=self.ttl)

    def store(self, key: Key) -> None:
        """Write the file."""
        new = self._file.with_name(f"new-{os.getpid()}")
        new.write_bytes(b"\n".join(self._states[key].lines()))
        new.replace(self._file)

    async def read(self, key: Key, **asked: Any) -> Session:
        self.load(key)
        return await super().read(key, **asked)

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.load(key)
        receipt = await super().commit(key, change)
        self.store(key)
        return receipt


@fails(Crashing, "a_killed_writer", shared=True)
class WritesLater(WithoutALock):
    """Acknowledges a commit before it writes the file."""

    async def commit(self, key: Key, change: Change) -> Receipt:
        if key not in self._states:
            self.load(key)
        receipt = await MemoryBackend.commit(self, key, change)
        if receipt.turns % 3 == 0:
            self.store(key)
        return receipt


@fails(Opening, "an_open_that_fails")
class LeavesFilesOpen(MemoryBackend):
    """Opens a file, and forgets it when the rest of `open` fails."""

    fails_to_open = True
    left: ClassVar[list[Any]] = []

    async def open(self) -> None:
        self.left.append(open(os.devnull, encoding="utf-8"))  # noqa: ASYNC230, SIM115
        raise Unavailable("the server does not answer")

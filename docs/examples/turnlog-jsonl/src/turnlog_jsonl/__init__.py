"""A backend for turnlog that stores each session in a file of JSON Lines.  A commit replaces the whole file.

`SessionState` holds the rules of the contract.  The backend stores the states: it lets one writer change a session at a
time, and neither a reader nor a crash sees a partial state.
"""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from turnlog import Change, Expect, Key, Page, Query, Receipt, Record, Session, Version
from turnlog.errors import OutcomeUnknown, Unavailable
from turnlog.rules import SessionState, file_key, page_of_lines
from turnlog.threaded import ThreadedBackend

T = TypeVar("T")


class JsonlBackend(ThreadedBackend):
    """Sessions as files in a folder, on a local disk of a POSIX system.

    An acknowledged turn survives the end of any process.  It also survives a crash of the machine, if the disk keeps
    the data that it reports as written.  Threads, event loops and processes may share the folder; one of them writes
    at a time.  A commit reads and writes the whole session, so use this backend for sessions of up to some megabytes.

    Args:
        path: The folder.  The first commit creates it; only the owner can read the folder and its files.
        ttl: As in `Backend`.
        clock: As in `Backend`.
    """

    capabilities = frozenset({"shared", "threads", "processes", "durable"})

    def __init__(self, path: str, *, ttl: float | None = None, clock: Callable[[], float] = time.time) -> None:
        super().__init__(ttl=ttl, clock=clock)
        self.folder = Path(path)

    async def read(self, key: Key, *, last: int | None = None, before: int | None = None,
                   since: Version | None = None, touch: bool = True) -> Session:  # fmt: skip
        def step(old: SessionState) -> tuple[SessionState, Session]:
            return old.read(self.clock(), last=last, before=before, since=since, touch=touch)

        def read() -> Session:
            new, session = step(old := self._load(key))
            return session if new is old else self._run(key, step)  # the read extends the session's life

        return await self.in_thread(read)

    async def commit(self, key: Key, change: Change) -> Receipt:
        return await self.in_thread(self._run, key, lambda old: old.apply(change, self.clock()), change)

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        def step(old: SessionState) -> tuple[SessionState, bool]:
            found = old.check_delete(expect, for_owner, self.clock())
            return (SessionState.absent(key) if found or for_owner is None else old), found

        return await self.in_thread(self._run, key, step)

    async def seal(self, key: Key, record: Record) -> bool:
        return await self.in_thread(self._run, key, lambda old: old.seal(record, self.clock()))

    async def page(self, query: Query) -> Page:
        def read() -> Page:
            files = self.folder.glob(f"{file_key(Key(query.namespace, '-'))[:32] if query.namespace else '*'}-*.jsonl")
            return page_of_lines({path.name: self._lines(path) for path in files}, query, self.clock())

        return await self.in_thread(read)

    # ------------------------------------------------------------------------------------------------- in threads

    def _run(self, key: Key, step: Callable[[SessionState], tuple[SessionState, T]], change: Change | None = None) -> T:
        """Run a step on a session under the lock, store the new state, and return the answer."""
        try:
            self.folder.mkdir(0o700, parents=True, exist_ok=True)  # only the owner may read messages
            folder = os.open(self.folder, os.O_RDONLY)
        except OSError as error:
            raise Unavailable(f"{self.folder}: {error}: nothing was stored") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # the system releases it when a process dies
            new, answer = step(old := self._load(key))
            if new is not old:
                _replace(self._path(key), new.lines())
                os.fsync(folder)  # or a power cut could bring the old file back
        except OSError as error:
            raise OutcomeUnknown(f"session {key}: {error}", key=key, change=change) from error
        finally:
            fcntl.flock(folder, fcntl.LOCK_UN)  # a process forked meanwhile keeps the lock after a close
            os.close(folder)
        return answer

    def _load(self, key: Key) -> SessionState:
        return SessionState.from_lines(self._lines(self._path(key)), key, ttl=self.ttl)

    def _path(self, key: Key) -> Path:
        return self.folder / f"{file_key(key)}.jsonl"

    def _lines(self, path: Path) -> list[bytes]:
        """Return the lines of a file, if it exists.  No lock is needed: no writer changes an existing file."""
        try:
            with open(os.open(path, os.O_NOFOLLOW), "rb") as file:  # a planted link names another file
                return file.read().removesuffix(b"\n").split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Unavailable(f"{path}: {error}") from error


def _replace(path: Path, lines: list[bytes]) -> None:
    new = path.with_name("new")  # one name is enough: only the holder of the lock uses it
    new.unlink(missing_ok=True)  # a crash may have left the file, or somebody may have put a link there
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.writelines(line + b"\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path) if lines else path.unlink(missing_ok=True)

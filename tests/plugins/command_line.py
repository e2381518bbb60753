"""Helpers for the tests of the command line: a shared store, standard input, models, processes and a terminal."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest

import quick_turnlog
import servers
from turnlog import Backend, Change, Key, Message, Receipt, Record, Store, Version
from turnlog_memory import MemoryBackend


class KeptBackend(MemoryBackend):
    """A memory backend that keeps its sessions after `close`, as a database does, and fails on demand."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.before: Callable[[Change], None] = lambda change: None
        self.after: Callable[[Change], None] = lambda change: None
        self.before_seal: Callable[[], None] = lambda: None
        self.commits = self.seals = 0

    async def commit(self, key: Key, change: Change) -> Receipt:
        self.before(change)
        await asyncio.sleep(0)  # as with real I/O, another task may run here
        receipt = await super().commit(key, change)
        self.commits += 1
        self.after(change)
        return receipt

    async def seal(self, key: Key, record: Record) -> bool:
        self.before_seal()
        await asyncio.sleep(0)
        done = await super().seal(key, record)
        self.seals += done
        return done

    async def close(self) -> None:
        pass


class Kept(Store):
    """A store over a `KeptBackend`."""

    backend: KeptBackend

    def __init__(self, *, ttl: float | None = None, clock: Callable[[], float] = time.time, **options: Any) -> None:
        super().__init__(KeptBackend(ttl=ttl, clock=clock), **options)


def use(monkeypatch: pytest.MonkeyPatch, made: Store | Backend) -> None:
    """Let every command open this store, or a store over this backend."""
    store = made if isinstance(made, Store) else Store(made)
    for module in ("turnlog_cli._chat", "turnlog_sql.commands", "turnlog_transfer.commands"):
        monkeypatch.setattr(f"{module}.open_store", lambda url, **_: store)
    ours = ("_doctor", "_edit", "_erase", "_list", "_namespaces", "_search", "_show", "_sweep", "_verify")
    for module in (
        *(f"turnlog_cli.{name}" for name in ours),
        "turnlog_compression.commands",
        "turnlog_metrics.commands",
        "turnlog_transfer.commands",
    ):
        monkeypatch.setattr(f"{module}.open_existing", lambda url, namespace=None: _view(store, namespace))


def _view(store: Store, namespace: str | None) -> Store:
    return store if namespace is None else Store(store.backend, namespace=namespace)


def append(store: Store, session: str, *messages: Message, **more: Any) -> None:
    """Append one turn."""
    asyncio.run(store.append(session, messages, **more))


def load(store: Store, session: str) -> list[dict[str, Any]]:
    """Return the messages of a session as dictionaries."""
    return [message.to_dict() for message in asyncio.run(store.load(session))]


def version(store: Store, session: str) -> Version:
    """Return the version of a session."""
    return asyncio.run(store.info(session)).version


def typed(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    """Provide this text on standard input."""
    data = text.encode() if isinstance(text, str) else text
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="latin-1"))


def answers(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    """Make every model name refer to this model."""
    monkeypatch.setattr("turnlog_cli._chat.find_model", lambda name: model)


SLOW = [sys.executable, "-c", "import sys, turnlog_cli; sys.exit(turnlog_cli.main())"]
"""The command `turnlog` in a new Python, for tests of the start of the process."""


@cache
def quick() -> list[str]:
    """Return the command `turnlog` in a process that has already imported turnlog."""
    folder = tempfile.TemporaryDirectory(prefix="turnlog-")
    server = subprocess.Popen(
        [sys.executable, quick_turnlog.__file__, folder.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    servers.at_exit(folder.cleanup)
    servers.at_exit(server.wait)
    servers.at_exit(server.stdin.close)
    assert server.stdout.readline() == b"ready\n"
    return [f"{folder.name}/turnlog"]


def turnlog(*arguments: str, cwd: Path, text: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run `turnlog` in a process of its own."""
    return subprocess.run(
        [*quick(), *arguments],
        cwd=cwd,
        input=text.encode(),
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
        timeout=60,
    )


class Screen:
    """A process on a terminal, used as `with Screen(...) as screen`.

    After a minute the process is killed, and the test fails.

    Args:
        arguments: The arguments of `turnlog`.
        cwd: The working directory of the process.
        environment: Variables that are added to the environment of the tests.

    Attributes:
        seen: The output so far.
    """

    def __init__(self, *arguments: str, cwd: Path, **environment: str) -> None:
        self._screen, theirs = pty.openpty()
        inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self._process = subprocess.Popen(
            [*quick(), *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env={**inherited, "COLUMNS": "200", **environment, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(theirs)
        self._bound = threading.Timer(60, self._process.kill)
        self._bound.start()
        self._place = 0
        self.seen = ""
        self._raw = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._bound.cancel()
        os.close(self._screen)

    def wait_for(self, text: str) -> str:
        """Wait until the process shows this text; return the output since the last call."""
        while (found := self.seen.find(text, self._place)) < 0:
            assert self._more(), f"{text!r} was not shown: {self.seen!r}"
        begin, self._place = self._place, found + len(text)
        return self.seen[begin : self._place]

    def type(self, keys: str | bytes) -> None:
        """Press keys. Return is `\\r`."""
        os.write(self._screen, keys.encode() if isinstance(keys, str) else keys)

    def say(self, text: str) -> None:
        """Wait for the prompt, and type a line."""
        self.wait_for("you: ")
        self.type(f"{text}\r")

    def end(self, keys: str = "") -> int:
        """Press keys, wait for the end, and return the exit code."""
        self.type(keys)
        while True:
            # readline notices a signal only between its prompt and its `select()` for the next key
            if keys == "\x03" and not select.select([self._screen], [], [], 5.0)[0]:
                self.type(keys)
            elif not self._more():
                return self._process.wait()

    def _more(self) -> bool:
        try:
            more = os.read(self._screen, 4096)
        except OSError:  # Linux raises EIO when the other end is closed
            return False
        self._raw += more
        self.seen = self._raw.decode(errors="replace")
        return bool(more)

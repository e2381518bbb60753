"""Private Redis, PostgreSQL and MariaDB on loopback, started for a run and stopped by pid."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from typing import Self


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _wait(port: int, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def _stop(proc: subprocess.Popen, sig: int) -> None:
    if proc.poll() is None:
        proc.send_signal(sig)
        try:
            proc.wait(15)
        except subprocess.TimeoutExpired:
            proc.kill()
            proc.wait(5)


class Redis:
    """redis-server without persistence, a common configuration for caches and session stores."""

    def __enter__(self) -> Self:
        self.dir = tempfile.mkdtemp(prefix="bench-redis-")
        self.port = _free_port()
        self.unix = os.path.join(self.dir, "r.sock")
        self.proc = subprocess.Popen(
            [
                "redis-server",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                self.dir,
                "--unixsocket",
                self.unix,
                "--loglevel",
                "warning",
            ],
            stdout=subprocess.DEVNULL,
        )
        _wait(self.port)
        return self

    def __exit__(self, *exc) -> None:
        _stop(self.proc, signal.SIGTERM)
        shutil.rmtree(self.dir, ignore_errors=True)


class Postgres:
    """postgres with its default settings (fsync and synchronous_commit on)."""

    def __enter__(self) -> Self:
        binary = max(glob.glob("/usr/lib/postgresql/*/bin"))
        self.dir = tempfile.mkdtemp(prefix="bench-pg-")
        self.port = _free_port()
        demote = {}
        if os.getuid() == 0:  # postgres refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(self.dir, user.pw_uid, user.pw_gid)
            demote = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = os.path.join(self.dir, "data")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(
            [f"{binary}/initdb", "-D", data, "-U", "bench", "--auth=trust", "-E", "UTF8", "--locale=C"],
            check=True,
            cwd=self.dir,
            **quiet,
            **demote,
        )
        self.proc = subprocess.Popen(
            [
                f"{binary}/postgres",
                "-D",
                data,
                "-p",
                str(self.port),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                f"unix_socket_directories={self.dir}",
                "-c",
                "max_connections=200",
            ],
            cwd=self.dir,
            **quiet,
            **demote,
        )
        _wait(self.port)
        self._sql(["create database bench"], "postgres", binary)
        return self

    def _sql(self, statements, db, binary) -> None:
        for s in statements:
            for _ in range(40):
                r = subprocess.run(
                    [f"{binary}/psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "bench", "-d", db, "-c", s],
                    capture_output=True,
                )
                if r.returncode == 0:
                    break
                time.sleep(0.1)
            else:
                raise RuntimeError(r.stderr.decode())

    def __exit__(self, *exc) -> None:
        _stop(self.proc, signal.SIGINT)
        shutil.rmtree(self.dir, ignore_errors=True)


class MariaDB:
    """mariadbd with its default settings (a commit waits for the disk), and an empty database `bench`."""

    def __enter__(self) -> Self:
        self.dir = tempfile.mkdtemp(prefix="bench-mariadb-")
        self.port = _free_port()
        demote = {}
        if os.getuid() == 0:  # mariadbd refuses to run as root
            user = pwd.getpwnam("nobody")
            os.chown(self.dir, user.pw_uid, user.pw_gid)
            demote = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data, first = f"--datadir={self.dir}/data", os.path.join(self.dir, "first.sql")
        with open(first, "w") as file:
            file.write("CREATE DATABASE IF NOT EXISTS bench;\nCREATE USER IF NOT EXISTS bench@'127.0.0.1';\n")
            file.write("GRANT ALL ON bench.* TO bench@'127.0.0.1';\n")  # mariadbd reads one statement per line
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
        install = ["mariadb-install-db", "--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]
        subprocess.run([*install, data], check=True, **quiet, **demote)
        path = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        settings = [data, f"--port={self.port}", f"--socket={self.dir}/socket", f"--init-file={first}"]
        settings += ["--bind-address=127.0.0.1", "--skip-name-resolve", f"--pid-file={self.dir}/pid"]
        self.proc = subprocess.Popen([path, "--no-defaults", *settings], **quiet, **demote)
        _wait(self.port)
        return self

    def __exit__(self, *exc) -> None:
        _stop(self.proc, signal.SIGTERM)
        shutil.rmtree(self.dir, ignore_errors=True)


_running: dict[str, object] = {}


def started(backend: str, stack: ExitStack) -> str:
    """Return the URL of an empty turnlog backend; a private server for it runs until the stack ends."""
    if backend == "memory":
        return ""
    if backend == "sqlite":
        folder = tempfile.mkdtemp(prefix="bench-sqlite-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return f"sqlite:///{folder}/turnlog.db"
    if backend not in _running:
        kind = {"redis": Redis, "postgresql": Postgres, "mariadb": MariaDB}[backend]
        _running[backend] = stack.enter_context(kind())
    port = _running[backend].port
    if backend == "redis":
        subprocess.run(["redis-cli", "-p", str(port), "flushall"], check=True, stdout=subprocess.DEVNULL)
        return f"redis://127.0.0.1:{port}/0"
    if backend == "mariadb":
        _empty_mariadb(port)
        return f"mysql://bench@127.0.0.1:{port}/bench"
    _running[backend]._sql(
        ["drop schema public cascade", "create schema public"], "bench", max(glob.glob("/usr/lib/postgresql/*/bin"))
    )
    return f"postgresql://bench@127.0.0.1:{port}/bench"


def _empty_mariadb(port: int) -> None:
    words = [
        "mariadb",
        "-h127.0.0.1",
        f"-P{port}",
        "-ubench",
        "-e",
        "DROP DATABASE IF EXISTS bench; CREATE DATABASE bench",
    ]
    subprocess.run(words, check=True)

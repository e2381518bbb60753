"""Servers and files that cannot be used: each error names the failure, the stored part and the next step."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sqlite3
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

import servers
from test_read_only import as_somebody
from test_redis_tls import server as redis_tls
from turnlog import AccessError, OutcomeUnknown, SchemaError, TurnlogError, Unavailable, open_store
from turnlog.errors import ConfigError
from turnlog.runtime import why_unreachable
from turnlog_sql import _sqlite_errors
from turnlog_sql._sqlite_errors import CommitFailed
from turnlog_sql._sqlite_file import SQLiteFile

RUNS = "and that the server runs"


async def said(url: str, kind: type[TurnlogError] = AccessError) -> str:
    """Return the message of the error that opening and reading a store raises."""
    with pytest.raises(kind) as caught:
        async with open_store(url) as store:
            await store.backend.namespaces()
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://:hunter2@127.0.0.1:1/0", "redis 127.0.0.1:1/0"),
        ("postgresql://u:hunter2@127.0.0.1:1/x", "postgresql 127.0.0.1:1/x"),
        ("postgresql://u:hunter2@localhost:1/x", "postgresql localhost:1/x"),
        ("mysql://u:hunter2@127.0.0.1:1/x", "mysql 127.0.0.1:1/x"),
    ],
)
async def test_a_refused_connection(url: str, place: str) -> None:
    assert await said(f"{url}?timeout=100ms", Unavailable) == (
        f"{place} cannot be reached: no server accepts connections there: nothing was done; "
        f"check the host and the port in the URL, {RUNS}"
    )


@pytest.mark.parametrize("kind", ["redis", "postgresql", "mysql"])
async def test_a_host_that_has_no_address(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    text = await said(f"{kind}://host.invalid:7/1?timeout=100ms", Unavailable)
    assert text == (
        f"{kind} host.invalid:7/1 cannot be reached: its host name is not known: nothing was done; "
        "check the host in the URL"
    )


async def test_nodes_and_sentinels_that_refuse_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("sentinel", "cluster"):
        text = await said(f"redis+{kind}://127.0.0.1:1,127.0.0.1:2/0?timeout=100ms", Unavailable)
        for port in (1, 2):
            assert f"127.0.0.1:{port}: no server accepts connections there" in text
        assert "nothing was done; check the hosts and the ports in the URL, that a server runs, " in text


async def test_a_missing_socket(tmp_path: Path) -> None:
    text = await said(f"unix://{tmp_path}/s?timeout=100ms", Unavailable)
    assert text.endswith(
        f"cannot be reached: there is no such socket: nothing was done; check the path in the URL, {RUNS}"
    )


async def test_redis_refuses_access() -> None:
    url = servers.redis()
    for wrong, why in (
        (url.replace("//", "//:hunter2@"), "the server asks for no password (AUTH <password> called"),
        (url.replace("//", "//u:hunter2@"), "the server denies access (invalid username-password pair"),
        (url.removesuffix("/0") + "/99", "the server has no database of this number (DB index is out of range)"),
    ):
        text = await said(wrong)
        assert f": {why}" in text
        assert "): nothing was done; " in text
        assert "hunter2" not in text
    text = await said(url.replace("//", "//hunter2@"))
    assert text.endswith(
        "; the URL has a user and no password: add it, or for a password alone, write redis://:password@host"
    )
    assert "hunter2" not in text
    for rights, place, why in (
        ("+@read +@connection", url, "NOPERM "),
        ("-select", f"{url[:-1]}1", "this user has no "),
    ):
        servers.ask_redis(url, "ACL", "SETUSER", "reader", "on", ">pw", "~*", *rights.split())
        try:
            text = await said(place.replace("//", "//reader:pw@"))
        finally:
            servers.ask_redis(url, "ACL", "DELUSER", "reader")
        assert f": the server denies permission ({why}" in text
        assert text.endswith("): nothing was done; grant it to the user in the URL")


async def test_a_master_and_sentinels_that_ask_for_a_password() -> None:
    watched = servers.redis_sentinels()
    for port, why in (
        (watched.master.port, ": the server asks for a password (Authentication required"),
        (watched.ports[0], f": no sentinel names a master (127.0.0.1:{watched.ports[0]}: Auth"),
    ):
        server = f"redis://127.0.0.1:{port}"
        servers.ask_redis(server, "ACL", "SETUSER", "default", "resetpass", ">pw")
        try:
            text = await said(f"redis+sentinel://127.0.0.1:{watched.ports[0]}/0")
        finally:
            servers.ask_redis(server.replace("//", "//:pw@"), "ACL", "SETUSER", "default", "nopass")
        assert why in text


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_databases_refuse_access(kind: str) -> None:
    url = getattr(servers, kind)()
    text = await said(f"{url.rpartition('/')[0]}/no_such_database")
    assert ": the database does not exist (" in text
    assert text.endswith("): nothing was done; create it, or set another one in the URL")
    scheme, _, rest = url.partition("://")
    text = await said(f"{scheme}://nobody:hunter2@{rest.rpartition('@')[2]}")
    assert ": the server denies access (" in text
    assert "): nothing was done; set the right user and password in the URL, before the host" in text
    assert "hunter2" not in text


async def test_a_url_without_a_password() -> None:
    text = await said(re.sub("//[^@]*@", "//turnlog@", servers.mariadb()))
    assert "): nothing was done; the URL has no password: write user:password@ before the host; if the account " in text


@pytest.mark.parametrize(
    ("user", "lacks"), [("u@", "the URL has no password: "), ("", "the URL has no user, so a default was tried: ")]
)
def test_postgresql_asks_for_a_password(user: str, lacks: str) -> None:
    server = open_store(f"postgresql://{user}h/d").backend._database  # type: ignore[attr-defined]
    error = server.translated(asyncpg.InvalidPasswordError("password authentication failed"))
    assert str(error).endswith(f": nothing was done; {lacks}write user:password@ before the host")


async def test_one_node_of_a_cluster_is_refused_when_it_is_opened() -> None:
    node = servers.redis_cluster().nodes[1]
    text = await said(f"redis://127.0.0.1:{node.port}")
    assert ": the server is one node of a cluster (MOVED " in text
    assert text.endswith("): nothing was done; write redis+cluster:// in place of redis://")


async def test_a_port_without_tls() -> None:
    for url in (servers.redis(), f"redis+cluster://127.0.0.1:{servers.redis_cluster().nodes[0].port}"):
        text = await said(url.replace("redis", "rediss"))
        assert ": the server does not use TLS on this port (" in text
        assert text.endswith(
            "): nothing was done; write redis in place of rediss in the scheme of the URL, or set its TLS port"
        )


async def test_pgbouncer_refuses_settings() -> None:
    text = await said(servers.pgbouncer().partition("?")[0])
    assert ": pgbouncer refuses the settings of turnlog (unsupported startup parameter" in text
    assert text.endswith("): nothing was done; add prepare=no to the URL")


async def test_pgbouncer_refuses_access() -> None:
    """It sends one code for all of its errors."""
    bouncer = servers.PgBouncer(servers.postgresql())
    text = await said(f"{bouncer.url.rpartition('/')[0]}/no_such_database?prepare=no")
    assert ": the database does not exist (" in text
    settings, users = bouncer.folder / "settings", bouncer.folder / "users"
    users.write_text('"somebody" "pw"\n')
    users.chmod(0o644)
    text = settings.read_text().replace("auth_type = any", f"auth_type = md5\nauth_file = {users}")
    settings.write_text(text.replace("* = ", "postgres = "))
    bouncer.stop()
    process = servers.spawn([servers.program("pgbouncer"), settings], bouncer.folder / "log")
    servers.until(lambda: servers.answers(bouncer.port), process, "pgbouncer")
    for user in ("nobody", "somebody"):
        text = await said(f"postgresql://{user}:hunter2@127.0.0.1:{bouncer.port}/postgres?prepare=no")
        assert ": the server denies access (password authentication failed" in text
        assert "hunter2" not in text
    servers.stop(process, signal.SIGINT)


async def test_mariadb_refuses_an_account() -> None:
    url = servers.mariadb()
    place = url.rpartition("@")[2]
    for condition, why in (
        ("ACCOUNT LOCK", "the account is locked (Access denied, this account is locked (4151)"),
        ("PASSWORD EXPIRE", "the password has expired (You must SET PASSWORD"),
    ):
        servers.ask(url, f"CREATE OR REPLACE USER refused@'127.0.0.1' IDENTIFIED BY 'pw' {condition}")
        servers.ask(url, "GRANT SELECT ON *.* TO refused@'127.0.0.1'")
        try:
            assert f": {why}" in await said(f"mysql://refused:pw@{place}")
        finally:
            servers.ask(url, "DROP USER refused@'127.0.0.1'")


@pytest.mark.parametrize(
    ("kind", "server"),
    [
        ("redis", "nothing"),
        ("redis", "mariadb"),
        ("redis", "postgresql"),
        ("postgresql", "nothing"),
        ("postgresql", "mariadb"),
        ("postgresql", "redis"),
        ("mysql", "nothing"),
        ("mysql", "postgresql"),
    ],
)
async def test_a_port_of_another_server(kind: str, server: str) -> None:
    """Another kind of server answers, or none: then the port only accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if server == "nothing" else urlsplit(getattr(servers, server)()).port
        path = "0" if kind == "redis" else "d"
        text = await said(f"{kind}://u:hunter2@127.0.0.1:{port}/{path}?timeout=300ms", Unavailable)
    assert text.startswith(f"{kind} 127.0.0.1:{port}/")
    assert "nothing was done; check the host and the port in the URL, " in text
    assert "hunter2" not in text


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}/0", "mysql://u:hunter2@127.0.0.1:{}/d"])
async def test_a_port_of_ssh(url: str) -> None:
    """An SSH server greets its clients."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        text = await said(url.format(server.sockets[0].getsockname()[1]), Unavailable)
    assert "nothing was done; check the host and the port in the URL, " in text
    assert ("another kind of server answers" in text) == url.startswith("redis")


async def test_a_sentinel_is_no_server_and_a_server_no_sentinel() -> None:
    sentinel, server = f"redis://127.0.0.1:{servers.redis_sentinels().ports[0]}", servers.redis()
    for url in (sentinel, sentinel.replace("redis", "redis+cluster")):
        text = await said(url)
        assert ": the server lacks a command of the store (ERR unknown command" in text
        assert "; if it is a sentinel, write redis+sentinel:// in place of the scheme; " in text
    text = await said(server.replace("redis://", "redis+sentinel://"))
    assert text.endswith(
        f": the URL names no sentinel (127.0.0.1:{urlsplit(server).port} is no sentinel): nothing was done; set the "
        "port of a sentinel (usually 26379), or write redis:// in place of redis+sentinel://, and for a cluster "
        "redis+cluster://"
    )


async def test_a_service_that_no_sentinel_watches() -> None:
    port = servers.redis_sentinels().ports[0]
    assert (await said(f"redis+sentinel://127.0.0.1:{port}/0?service=other")).endswith(
        f": no sentinel watches this master (127.0.0.1:{port} watches no master 'other'): nothing was done; set "
        "?service to the name in the sentinel's setting 'sentinel monitor NAME'"
    )


async def test_a_redis_with_tls_without_rediss() -> None:
    text = await said(f"redis://localhost:{redis_tls()[1]}/0?timeout=2", Unavailable)
    assert text.endswith("and whether it uses TLS (rediss) or not (redis)")


async def test_no_host_is_a_standby() -> None:
    text = await said(f"{servers.postgresql()}?target_session_attrs=standby&timeout=2", Unavailable)
    assert text.endswith(
        ": no host in the URL is of the kind that target_session_attrs=standby asks for: nothing was done; add "
        "such a host, or set another kind"
    )


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_server_needs_time(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"\?timeout must be greater than 0, because "):
        open_store(f"{kind}://u:hunter2@h/d?timeout=0")


async def test_a_server_without_tls() -> None:
    for url in (servers.postgresql(), servers.mariadb()):
        text = await said(f"{url}?sslmode=require")
        assert text.endswith(
            "cannot be reached: the server offers no TLS: nothing was done; set it up on the server, or leave sslmode "
            "out of the URL"
        )


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    assert await said(f"sqlite:///{tmp_path}") == f"sqlite '{tmp_path}' is a folder: name a file in it"


async def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    path = tmp_path / "notes"
    assert await said(f"sqlite:///{path}/a.db") == (
        f"sqlite '{path}/a.db': '{path}' is a file, not a folder: correct the path"
    )


async def test_a_path_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert await said("sqlite:///~/chat.db") == (
        "sqlite '~/chat.db': ~ is not replaced in a URL: write the whole path, as in sqlite:////home/you/chat.db"
    )


async def test_a_file_with_a_long_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert await said(f"sqlite:///{'x' * 248}") == (
        f"sqlite '{'x' * 92}...': the name of the file has 248 bytes: shorten it to 247"
    )
    async with open_store(f"sqlite:///{'x' * 247}"):
        pass


@pytest.mark.parametrize("migrate", ["auto", "check"])
async def test_a_table_of_another_program(migrate: str, tmp_path: Path) -> None:
    file = tmp_path / "foreign.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE turnlog_sessions (x)")
    connection.close()
    assert await said(f"sqlite:///{file}?migrate={migrate}", SchemaError) == (
        f"sqlite '{file}' has a table turnlog_sessions, which turnlog did not create: name another database; if this "
        "one held sessions of turnlog, restore it from a backup"
    )


@pytest.mark.only_where(os.name == "posix" and os.geteuid() == 0, "another-user", "only root can act as another user")
async def test_a_folder_of_another_user(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    with as_somebody():
        text = await said(f"sqlite:///{tmp_path}/a.db")
    assert text.endswith(f"nothing was stored; run it as the owner, or allow its user to write to: {tmp_path}")


async def test_a_folder_without_write_access() -> None:
    text = await said("sqlite:////proc/turnlog.db")
    assert text == (
        "sqlite '/proc/turnlog.db': this process has no permission to open or create it (unable to open "
        "database file): nothing was stored; check the path, and the permissions of the file and its folder"
    ) or text.endswith("to allow its owner to write to it, run: chmod u+rw /proc")


def test_a_log_without_write_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, another user has created the log."""
    file = tmp_path / "a.db"
    for path in (file, tmp_path / "a.db-wal"):
        path.touch()
    # root may write to any file
    monkeypatch.setattr(_sqlite_errors, "may_write", lambda place: not place.endswith("-wal"))
    error = SQLiteFile(str(file), synchronous="FULL", timeout=1.0)._translated(failed(sqlite3.SQLITE_READONLY))
    assert isinstance(error, AccessError)
    assert str(error).endswith(f"to allow its owner to write to it, run: chmod u+rw {file}-wal")


@pytest.mark.only_where(os.name == "posix", "posix", "this system has no symbolic links without rights")
def test_a_file_that_cannot_be_looked_for_is_not_missing(tmp_path: Path) -> None:
    (tmp_path / "a.db").symlink_to(tmp_path / "a.db")
    file = SQLiteFile(str(tmp_path / "a.db"), synchronous="FULL", timeout=1.0)
    file._creates = False  # as after the store was opened
    assert isinstance(file._translated(failed(sqlite3.SQLITE_CANTOPEN)), AccessError)


def test_a_commit_that_fails_has_an_unknown_outcome(tmp_path: Path) -> None:
    file = SQLiteFile(str(tmp_path / "a.db"), synchronous="FULL", timeout=1.0)
    for code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL):
        assert isinstance(file._translated(failed(code, CommitFailed)), OutcomeUnknown)


def failed(code: int, kind: type[sqlite3.OperationalError] = sqlite3.OperationalError) -> sqlite3.OperationalError:
    error = kind("failed")
    error.sqlite_errorcode = code
    return error


@pytest.mark.only_where(os.name == "posix", "posix", "the system has no limit of open files")
async def test_a_lack_of_descriptors_is_transient(tmp_path: Path) -> None:
    import resource  # other systems do not have it

    url = f"sqlite:///{tmp_path}/a.db"
    async with open_store(url):
        pass
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    try:
        text = await said(url, Unavailable)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "this process has too many open files (unable to open database file): nothing was stored" in text


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (10, "renew it on the server"),
        (18, "set sslrootcert to the file of the authority that signed it"),
        (62, "write a host name of the certificate in the URL"),
        (
            99,
            "set sslrootcert to the file of the authority that signed it, and write a host name of the certificate in ",
        ),
    ],
)
def test_a_certificate_that_is_not_accepted(code: int, remedy: str) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "why"
    reason = why_unreachable(error)
    assert reason is not None and reason.permanent
    assert (reason.remedy.startswith if code == 99 else reason.remedy.__eq__)(remedy)


def test_other_errors_have_no_reason() -> None:
    assert why_unreachable(OSError("no")) is None
    assert why_unreachable(ConnectionResetError()) is None
    denied = why_unreachable(PermissionError(13, "Permission denied"))
    assert denied is not None
    assert denied.why == "the system denies access"

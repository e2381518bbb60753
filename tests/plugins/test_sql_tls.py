"""Connections to a server are encrypted and verified according to `sslmode`; no message contains a password."""

from __future__ import annotations

import traceback
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from asyncmy import errors

import servers
from turnlog import AccessError, Store, Unavailable, open_store, user
from turnlog.errors import InvalidInput
from turnlog_sql._store import SQLBackend
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend

_PASSWORD = "b9-sesame"  # noqa: S105 -- no message may contain it

_EXTENSIONS = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:FALSE
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost
"""


class Certificates(NamedTuple):
    """Files of two authorities, and of a certificate from the first for `localhost`, which does not cover 127.0.0.1."""

    authority: Path
    stranger: Path
    certificate: Path
    key: Path


@cache
def certificates() -> Certificates:
    """Create the certificates as the user of the servers, which require a key of their own."""
    openssl = servers.program("openssl")
    if openssl is None:
        servers.leave_out("tls", "no openssl is installed, which would make a certificate")
    folder = servers.folder_for("certificates")
    settings = folder / "settings"
    settings.write_text(_EXTENSIONS)
    settings.chmod(0o644)

    def ask(*words: object) -> None:
        servers.prepare([openssl, *words], folder / "log")

    request = ["req", "-config", settings, "-newkey", "rsa:2048", "-nodes"]
    for name in ("authority", "stranger"):
        files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"]
        ask(*request, *files, "-x509", "-days", 2, "-subj", f"/CN={name}", "-extensions", "authority")
    key, asked, certificate = (folder / f"server.{kind}" for kind in ("key", "csr", "crt"))
    ask(*request, "-keyout", key, "-out", asked, "-subj", "/CN=localhost")
    signed = ["-CA", folder / "authority.crt", "-CAkey", folder / "authority.key", "-set_serial", 1]
    extensions = ["-extfile", settings, "-extensions", "server"]
    ask("x509", "-req", "-in", asked, "-out", certificate, *signed, "-days", 2, *extensions)
    key.chmod(0o600)
    return Certificates(folder / "authority.crt", folder / "stranger.crt", certificate, key)


@cache
def postgresql() -> servers.Postgres:
    """Return a PostgreSQL with TLS that logs its connections."""
    files = certificates()
    server = servers.Postgres("log_connections=on")
    if not servers.ask(server.url, "SHOW ssl_library")[0][0]:
        server.stop()
        servers.leave_out("tls", "this PostgreSQL was built without TLS")
    server.stop()
    server.settings += ["ssl=on", f"ssl_cert_file={files.certificate}", f"ssl_key_file={files.key}"]
    server.start()
    return server


@cache
def mariadb() -> servers.MariaDB:
    """Return a MariaDB with TLS that logs its connections."""
    files = certificates()
    log = ("general-log", "general-log-file=let-in")
    return servers.MariaDB(f"ssl-cert={files.certificate}", f"ssl-key={files.key}", *log)


class Place:
    """A server with TLS.

    Args:
        name: `postgresql` or `mariadb`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.server: servers.Postgres | servers.MariaDB = postgresql() if name == "postgresql" else mariadb()

    def backend(self, host: str, *, password: str | None = None, **options: Any) -> SQLBackend:
        """Return a backend on the server.

        Args:
            host: The host name in the URL.
            password: A wrong password.
            options: The options of the backend.
        """
        if isinstance(self.server, servers.Postgres):  # trusts all local connections
            url = f"postgresql://postgres:{_PASSWORD}@{host}:{self.server.port}/postgres"
            return PostgreSQLBackend(url, sweep=0, timeout=20, **options)
        url = self.server.url.replace("127.0.0.1", host)
        if password is not None:
            url = f"mysql://turnlog:{password}@{host}:{self.server.port}/turnlog"
        return MySQLBackend(url, sweep=0, timeout=20, **options)

    def let_in(self) -> int:
        """Return the number of connections that the server has accepted."""
        if isinstance(self.server, servers.Postgres):
            return (self.server.folder / "log").read_bytes().count(b"connection authorized")
        return (self.server.folder / "data" / "let-in").read_bytes().count(b"Connect\t")


@pytest.fixture(params=["postgresql", "mariadb"])
def place(request: pytest.FixtureRequest) -> Place:
    """Return each kind of server."""
    return Place(request.param)


async def encrypted(backend: SQLBackend) -> bool:
    """Return whether the connection is encrypted, according to the server."""
    asked = {
        "postgresql": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        "mysql": "SHOW SESSION STATUS LIKE 'Ssl_cipher'",
    }[backend._statements.dialect.name]
    database: Any = backend._database
    rows = await database.with_connection(lambda connection: database.fetch(connection, asked, ()))
    return bool(rows[0][-1])


async def said(backend: SQLBackend) -> str:
    """Return all text about a backend that cannot be opened."""
    with pytest.raises((AccessError, Unavailable)) as caught:
        await backend.open()
    return "".join(traceback.format_exception(caught.value)) + repr(backend)


async def test_the_right_server_is_read_from_and_written_to(place: Place) -> None:
    backend = place.backend("localhost", sslmode="verify-full", sslrootcert=str(certificates().authority))
    async with Store(backend) as store:
        assert await encrypted(backend)
        name = store.new_session_id()
        await store.append(name, [user("x" * 100_000)])
        await store.append(name, [user("b")])
        assert len((await store.session(name)).turns) == 2


async def test_require_takes_any_certificate(place: Place) -> None:
    before = place.let_in()
    async with place.backend("127.0.0.1", sslmode="require") as backend:
        assert await encrypted(backend)
    assert place.let_in() > before


async def test_prefer_encrypts_where_the_server_can(place: Place) -> None:
    async with place.backend("127.0.0.1", sslmode="prefer") as backend:
        assert await encrypted(backend)
    plain = servers.postgresql() if place.name == "postgresql" else servers.mariadb()
    async with open_store(f"{plain}?sslmode=prefer&sweep=0") as store:
        assert not await encrypted(cast("SQLBackend", store.backend))


async def test_verify_ca_takes_a_certificate_for_another_name(place: Place) -> None:
    root = str(certificates().authority)
    async with place.backend("127.0.0.1", sslmode="verify-ca", sslrootcert=root) as backend:
        assert await encrypted(backend)
    text = await said(place.backend("localhost", sslmode="verify-ca", sslrootcert=str(certificates().stranger)))
    assert "certificate verify failed" in text


async def test_a_binding_to_the_channel_verifies_the_server() -> None:
    place = Place("postgresql")
    before = place.let_in()
    text = await said(place.backend("localhost", sslmode="require", channel_binding="require"))
    assert "certificate verify failed" in text and place.let_in() == before


async def test_connections_are_not_encrypted_by_default(place: Place) -> None:
    async with place.backend("127.0.0.1") as backend:
        assert not await encrypted(backend)


@pytest.mark.parametrize(
    ("host", "authority"), [("localhost", "stranger"), ("127.0.0.1", "authority"), ("localhost", "")]
)
async def test_a_wrong_server_receives_no_password(place: Place, host: str, authority: str) -> None:
    """The certificate is from another authority, for another name, or from an authority unknown to the system."""
    root = str(getattr(certificates(), authority)) if authority else None
    before = place.let_in()
    text = await said(place.backend(host, sslmode="verify-full", sslrootcert=root))
    assert "certificate verify failed" in text
    assert place.let_in() == before
    assert _PASSWORD not in text and servers.MariaDB.password not in text


async def test_a_server_that_does_not_encrypt_is_refused() -> None:
    """The backend does not retry without encryption."""
    host = servers.place(servers.postgresql())
    text = await said(PostgreSQLBackend(f"postgresql://postgres:{_PASSWORD}@{host}", sslmode="require", sweep=0))
    assert "nothing was done" in text and _PASSWORD not in text


async def test_a_server_that_requires_tls_says_so() -> None:
    place = Place("mariadb")
    async with place.backend("127.0.0.1", sslmode="require") as backend:
        database: Any = backend._database

        async def require(value: str) -> None:
            sql = f"SET GLOBAL require_secure_transport = {value}"
            await database.with_connection(lambda connection: database.fetch(connection, sql, ()))

        await require("ON")
        try:
            text = await said(place.backend("127.0.0.1"))
        finally:
            await require("OFF")
    assert ": the server denies access (Access denied" in text  # MariaDB does not say why
    assert "before the host; if the account requires TLS, add sslmode=verify-full or sslmode=require" in text
    of_mysql = errors.OperationalError(3159, "Connections using insecure transport are prohibited")
    text = str(database.translated(of_mysql))
    assert ": the server requires TLS (Connections using insecure" in text
    assert text.endswith(": nothing was done; add sslmode=verify-full or sslmode=require to the URL")


async def test_a_wrong_password_is_in_no_message() -> None:
    """Only MariaDB, because the PostgreSQL of the tests asks for no password."""
    text = await said(Place("mariadb").backend("localhost", password=_PASSWORD, sslmode="require"))
    assert "Access denied" in text and _PASSWORD not in text


@pytest.mark.parametrize("kind", [PostgreSQLBackend, MySQLBackend])
def test_options_without_effect_are_refused(kind: type[Any], tmp_path: Path) -> None:
    url = f"{'mysql' if kind is MySQLBackend else 'postgresql'}://u:{_PASSWORD}@h/d"
    (tmp_path / "none.crt").write_text("no certificate")
    for options in (
        {"sslmode": "allow"},
        {"sslmode": "require", "sslrootcert": str(tmp_path / "none.crt")},
        {"sslmode": "verify-full", "sslrootcert": str(tmp_path / "none.crt")},
        {"sslmode": "verify-full", "sslrootcert": str(tmp_path / "nowhere.crt")},
    ):
        with pytest.raises(InvalidInput) as caught:
            kind(url, **options)
        assert _PASSWORD not in str(caught.value)

"""`caching_sha2_password`, the default authentication of MySQL 8, with and without TLS; the extra `mysql` suffices."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncmy.auth
import pytest

import servers
from sha2_server import Sha2Server
from test_sql_tls import certificates
from turnlog import AccessError, open_store, user


@contextmanager
def sha2_server(**options: Any) -> Iterator[Sha2Server]:
    """Yield a server in front of the MariaDB of the tests."""
    server = Sha2Server(servers.mariadb(), **options)
    try:
        yield server
    finally:
        server.stop()


async def appended(url: str) -> list[str]:
    """Append a turn to a new session and return the texts that a new connection loads."""
    async with open_store(f"{url}sweep=0") as store:
        session = store.new_session_id()
        await store.append(session, [user("x" * 100_000), user("b")])
    async with open_store(f"{url}sweep=0") as store:
        return [message.text for message in await store.load(session)]


@pytest.mark.parametrize("switches", [False, True])
async def test_the_first_login_encrypts_the_password_and_later_ones_are_fast(*, switches: bool) -> None:
    with sha2_server(switches=switches) as server:
        assert await appended(f"{server.url}?") == ["x" * 100_000, "b"]
        assert server.ways[0] == "rsa"
        # asyncmy hashes the final NUL of a switch with the salt: then the server takes the full authentication
        assert set(server.ways[1:]) == {"rsa" if switches else "fast"}


async def test_the_first_login_over_tls_sends_the_password() -> None:
    files = certificates()
    with sha2_server(tls=(str(files.certificate), str(files.key))) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        assert await appended(f"{url}?sslmode=verify-full&sslrootcert={files.authority}&") == ["x" * 100_000, "b"]
        assert server.ways[0] == "tls"
        assert set(server.ways[1:]) == {"fast"}


async def refusal(url: str) -> str:
    """Return the message of the error that opening a store raises."""
    with pytest.raises(AccessError) as caught:
        async with open_store(url):
            pass
    return str(caught.value)


@pytest.mark.parametrize("password", ["hunter2", ""])
async def test_a_wrong_password_is_refused(password: str) -> None:
    with sha2_server() as server:
        text = await refusal(f"mysql://turnlog:{password}@127.0.0.1:{server.port}/turnlog")
        assert server.ways == ["refused"]
    assert ": the server denies access (Access denied for user 'turnlog'" in text
    assert "(1045)): nothing was done; set the right user and password in the URL, before the host, and add " in text
    assert "hunter2" not in text


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncmy.auth, "_have_cryptography", False)
    with sha2_server() as server:
        text = await refusal(server.url)
        assert text == (
            f"mysql 127.0.0.1:{server.port}/turnlog: the server's authentication needs a package that is not installed "
            "('cryptography' package is required for sha256_password or caching_sha2_password auth methods): nothing "
            "was done; run: pip install cryptography"
        )


async def test_an_unknown_authentication_is_refused() -> None:
    with sha2_server(switches=True, plugin=b"parsec") as server:
        text = await refusal(server.url)
    assert ": the driver does not know the authentication of this account (Authentication plugin 'b'parsec''" in text
    assert text.endswith(
        "(2059)): nothing was done; give it a password with caching_sha2_password, mysql_native_password or ed25519 on "
        "the server"
    )


async def test_the_package_for_ed25519_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """MariaDB has this plugin, and the extra `mysql` does not bring its package."""
    monkeypatch.setitem(sys.modules, "nacl", None)
    url = servers.mariadb()
    servers.ask(
        url,
        "INSTALL SONAME 'auth_ed25519'",
        "CREATE USER signed@'127.0.0.1' IDENTIFIED VIA ed25519 USING PASSWORD('pw')",
    )
    try:
        text = await refusal(f"mysql://signed:pw@{servers.place(url)}")
    finally:
        servers.ask(url, "DROP USER signed@'127.0.0.1'", "UNINSTALL SONAME 'auth_ed25519'")
    assert text.endswith(": nothing was done; run: pip install pynacl")

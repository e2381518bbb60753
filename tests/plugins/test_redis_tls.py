"""Connections to Redis are encrypted and verified according to `sslmode`; no message contains a password."""

from __future__ import annotations

import subprocess
import traceback
from functools import cache
from typing import Any

import pytest
from redis.asyncio import Redis

import servers
from test_sql_tls import certificates
from turnlog import AccessError, Store, Unavailable, user
from turnlog_redis import RedisBackend

_PASSWORD = "b9-sesame"  # noqa: S105 - no message may contain it


@cache
def server() -> tuple[servers.Redis, int]:
    """Return a server with TLS and its port for TLS. Its other port is for unencrypted commands."""
    files = certificates()
    binary = servers.program("redis-server")
    if binary is None:
        servers.leave_out("redis-tls", "the system has no redis-server, and a wheel's has no TLS")
    built = subprocess.run([binary, "--tls-port", "0", "--port", "bad"], capture_output=True, text=True, check=False)
    if ">>> 'port \"bad\"'" not in built.stdout + built.stderr:  # a build without TLS stops at the first option
        servers.leave_out("redis-tls", "the system's redis-server was built without TLS")
    port = servers.free_port()
    names = {"cert-file": files.certificate, "key-file": files.key, "ca-cert-file": files.authority}
    settings = [f"tls-port={port}", "tls-auth-clients=no", *(f"tls-{name}={path}" for name, path in names.items())]
    return servers.Redis(*settings, binary=binary), port


def store(host: str, **options: Any) -> Store:
    """Return a store on the port for TLS."""
    return Store(RedisBackend(f"redis://default:{_PASSWORD}@{host}:{server()[1]}/0", timeout=20, **options))


def let_in() -> int:
    """Return the number of times that a client has sent the server a password."""
    return int(server()[0].ask("INFO", "commandstats").get("cmdstat_auth", {"calls": 0})["calls"])


async def said(store: Store) -> str:
    """Return all text about a store that cannot be opened."""
    with pytest.raises((AccessError, Unavailable)) as caught:
        await store.open()
    return "".join(traceback.format_exception(caught.value)) + repr(store)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_the_right_server_is_read_from_and_written_to(scheme: str) -> None:
    url = f"{scheme}://localhost:{server()[1]}/0"
    mode: Any = {} if scheme == "rediss" else {"sslmode": "verify-full"}
    async with Store(RedisBackend(url, sslrootcert=str(certificates().authority), **mode)) as opened:
        name = opened.new_session_id()
        await opened.append(name, [user("x" * 100_000)])
        await opened.append(name, [user("b")])
        assert len((await opened.session(name)).turns) == 2


async def test_a_client_brings_its_own_settings() -> None:
    client = Redis(host="localhost", port=server()[1], ssl=True, ssl_ca_certs=str(certificates().authority))
    async with Store(RedisBackend(client=client)) as opened:
        await opened.append(opened.new_session_id(), [user("x")])


async def test_require_takes_any_certificate() -> None:
    before = let_in()
    async with store("127.0.0.1", sslmode="require") as opened:
        await opened.append(opened.new_session_id(), [user("x")])
    assert let_in() > before


@pytest.mark.parametrize(
    ("host", "authority"), [("localhost", "stranger"), ("127.0.0.1", "authority"), ("localhost", "")]
)
async def test_a_wrong_server_receives_no_password(host: str, authority: str) -> None:
    """The certificate is from another authority, for another name, or from an authority unknown to the system."""
    root = str(getattr(certificates(), authority)) if authority else None
    before = let_in()
    text = await said(store(host, sslmode="verify-full", sslrootcert=root))
    assert "certificate verify failed" in text and _PASSWORD not in text
    assert let_in() == before


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
async def test_faults_of_all_addresses_are_permanent(kind: str) -> None:
    """An untrusted certificate at each address raises `AccessError`; at one of two, `Unavailable`."""
    stranger = str(certificates().stranger)
    wrong = f"rediss+{kind}://localhost:{server()[1]}"
    with pytest.raises(AccessError, match="its certificate is not accepted"):
        await RedisBackend(wrong, sslrootcert=stranger).open()
    with pytest.raises(Unavailable, match="localhost:1: no server accepts connections there"):
        await RedisBackend(f"{wrong},localhost:1", sslrootcert=stranger).open()


async def test_sentinels_that_do_not_encrypt_are_refused() -> None:
    with pytest.raises(AccessError, match="it answers without TLS only"):
        await RedisBackend(f"rediss+sentinel://localhost:{server()[0].port}").open()


async def test_connections_are_not_encrypted_by_default() -> None:
    """The port for TLS rejects unencrypted requests."""
    assert _PASSWORD not in await said(store("127.0.0.1"))


async def test_a_server_that_does_not_encrypt_is_refused() -> None:
    url = f"rediss://default:{_PASSWORD}@127.0.0.1:{server()[0].port}/0"
    assert _PASSWORD not in await said(Store(RedisBackend(url, timeout=20)))


async def test_a_wrong_password_is_in_no_message() -> None:
    server()[0].ask("ACL", "SETUSER", "other", "on", ">right", "~*", "+@all")
    url = f"redis://other:{_PASSWORD}@127.0.0.1:{server()[1]}/0"
    text = await said(Store(RedisBackend(url, sslmode="require")))
    assert "invalid username-password" in text and _PASSWORD not in text

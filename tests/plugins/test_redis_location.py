"""The servers that a URL or a client names for a Redis store, and errors without the password."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from turnlog import open_store
from turnlog.errors import ConfigError, InvalidInput
from turnlog_redis import RedisBackend
from turnlog_redis._encrypted import EncryptedConnection
from turnlog_redis._location import Location, location_of_client, location_of_url
from turnlog_redis._topology import _slot

_PASSWORD = "b9-sesame"  # noqa: S105 - no message may contain it


def read(url: str, **options: Any) -> Location:
    """Return the location of a URL."""
    return location_of_url(url, **{"service": "mymaster", "db": None, "mode": None, "root": None, **options})


@pytest.mark.parametrize(
    ("url", "kind", "addresses", "name"),
    [
        ("redis://", "server", (("localhost", 6379),), "redis localhost:6379/0"),
        ("redis://h", "server", (("h", 6379),), "redis h:6379/0"),
        ("redis://u:p@h:1/2", "server", (("h", 1),), "redis h:1/2"),
        ("redis://[::1]:1/", "server", (("::1", 1),), "redis [::1]:1/0"),
        ("redis://:1", "server", (("localhost", 1),), "redis localhost:1/0"),
        ("rediss://h", "server", (("h", 6379),), "redis h:6379/0"),
        ("valkey://u:p@h:1/2", "server", (("h", 1),), "redis h:1/2"),
        ("valkey+sentinel://a", "sentinel", (("a", 26379),), "redis a:26379/0"),
        ("valkeys://h", "server", (("h", 6379),), "redis h:6379/0"),
        ("valkeys+cluster://a", "cluster", (("a", 6379),), "redis a:6379/0"),
        ("unix:///a%20b/c.sock", "server", (), "redis /a b/c.sock/0"),
        ("redis+sentinel://a,b:2/3", "sentinel", (("a", 26379), ("b", 2)), "redis a:26379,b:2/3"),
        ("rediss+sentinel://a", "sentinel", (("a", 26379),), "redis a:26379/0"),
        ("redis+cluster://a,b:2", "cluster", (("a", 6379), ("b", 2)), "redis a:6379,b:2/0"),
    ],
)
def test_the_location_of_a_url(url: str, kind: str, addresses: object, name: str) -> None:
    location = read(url)
    assert (location.kind, location.addresses, location.name) == (kind, addresses, name)
    assert (location.maker is EncryptedConnection) == url.startswith(("rediss", "valkeys"))
    assert location.authenticates == ("@" in url)


def test_a_name_and_a_password_may_hold_anything() -> None:
    settings = read("redis://a%40b:c%2F%3A%25@h").settings
    assert (settings["username"], settings["password"]) == ("a@b", "c/:%")
    assert read("redis://:c@h").settings["username"] is None


def test_the_database_is_in_the_url_or_an_option() -> None:
    assert read("unix:///s", db=3).settings["db"] == 3
    assert read("redis://h", db=3).name == "redis h:6379/3"
    for options in ({"db": 3}, {"db": 2}):
        with pytest.raises(InvalidInput, match="db is given twice"):
            read("redis://h/2", **options)
    with pytest.raises(InvalidInput, match="db must be a whole number of at least 0, not -1"):
        read("redis://h", db=-1)


@pytest.mark.parametrize(
    "url",
    [
        "http://u:PW@h",
        "redis+other://u:PW@h",
        "unix+cluster:///PW",
        "redis://u:PW@h:x",
        "redis://u:PW@h:0",
        "redis://u:PW@h:65536",
        "redis://u:PW@a,b",
        "redis+cluster://u:PW@a,,b",
        "redis://u:PW@a b/x",
        "redis://u:PW@h/PW",
        "redis://u:PW@[h",
        "redis://h?password=PW",
        "redis://h#PW",
        "redis://u:PW@h/-1",
        "redis+cluster://u:PW@h/1",
        "unix://PW",
        "unix://u:PW@h/s",
        3,
    ],
)
def test_an_error_quotes_nothing_of_a_bad_url(url: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(url.replace("PW", _PASSWORD) if isinstance(url, str) else url)
    assert _PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_options_of_tls_without_effect_are_refused(tmp_path: Path) -> None:
    (tmp_path / "none.crt").write_text("no certificate")
    none = str(tmp_path / "none.crt")
    for url, options in (
        ("redis://h", {"mode": "allow"}),
        ("redis://h", {"mode": "prefer"}),
        ("redis://h", {"root": none}),
        ("redis://h", {"mode": "require", "root": none}),
        ("redis://h", {"mode": "verify-full", "root": none}),
        ("redis://h", {"mode": "verify-full", "root": str(tmp_path / "nowhere.crt")}),
        ("rediss://h", {"mode": "disable"}),
        ("unix:///s", {"mode": "require"}),
        ("unix:///s", {"reqs": "none"}),
        ("redis://h", {"reqs": "none"}),
        ("rediss://h", {"reqs": "required", "mode": "require"}),
    ):
        with pytest.raises(InvalidInput, match=r"^sslmode|^sslrootcert|^ssl_cert_reqs"):
            read(url, **options)


def test_a_server_may_be_given_as_a_client() -> None:
    location = location_of_client(
        Redis(host="h", port=1, db=2, password=_PASSWORD, decode_responses=True, client_name="c")
    )
    assert (location.kind, location.addresses, location.name) == ("server", (("h", 1),), "redis h:1/2")
    assert location.settings["password"] == _PASSWORD and location.settings["client_name"] == "c"
    connection = location.connection(location.addresses[0])
    assert isinstance(connection, Connection) and connection.retry.get_retries() == 0
    assert location_of_client(Redis(ssl=True, ssl_ca_certs="f")).settings["ssl_ca_certs"] == "f"
    local = location_of_client(Redis(unix_socket_path="/s"))
    assert (local.name, local.addresses) == ("redis /s/0", ())
    assert isinstance(local.connection(None), UnixDomainSocketConnection)


def test_a_cluster_and_sentinels_may_be_given_as_a_client() -> None:
    cluster = location_of_client(RedisCluster(host="h", port=1, password=_PASSWORD, ssl=True))
    assert (cluster.kind, cluster.addresses, cluster.maker) == ("cluster", (("h", 1),), SSLConnection)
    cluster.connection(("h", 2))
    watched = Sentinel([("a", 1), ("b", 2)], sentinel_kwargs={"password": "s"}, password=_PASSWORD)  # type: ignore[no-untyped-call]
    sentinel = location_of_client(watched.master_for("main", db=3))
    assert (sentinel.kind, sentinel.addresses, sentinel.service) == ("sentinel", (("a", 1), ("b", 2)), "main")
    assert sentinel.settings["password"] == _PASSWORD
    assert "s" in sentinel.sentinel[1].values()
    assert sentinel.name == "redis a:1,b:2/3"
    sentinel.connection(("h", 2))
    sentinel.sentinel_connection(("a", 1))


def test_a_url_or_a_client_and_nothing_else() -> None:
    for options in (
        {},
        {"url": "redis://h", "client": Redis()},
        {"client": ConnectionPool()},
        {"client": Redis(), "db": 1},
        {"client": Redis(), "sslmode": "require"},
        {"url": "redis://h", "timeout": 0},
    ):
        with pytest.raises(InvalidInput):
            RedisBackend(**options)


def test_every_scheme_finds_the_store() -> None:
    for url, name in (
        ("redis://u:secret@h/1?timeout=2s", "redis h:6379/1"),
        ("rediss://h", "redis h:6379/0"),
        ("unix:///s?db=4", "redis /s/4"),
        ("redis+sentinel://a,b/1?service=main", "redis a:26379,b:26379/1"),
        ("rediss+cluster://a,b?sslmode=require", "redis a:6379,b:6379/0"),
        ("valkey+cluster://a,b", "redis a:6379,b:6379/0"),
        ("valkeys://h?ssl_cert_reqs=none", "redis h:6379/0"),
    ):
        backend = open_store(url).backend
        assert repr(backend) == f"<RedisBackend {name}>"
        assert backend.location == (f"{name}, master main" if "sentinel" in url else name)
    with pytest.raises(ConfigError, match="host"):
        open_store("redis://a,b")


def test_the_certificate_that_redis_py_requires() -> None:
    for reqs, verifies in (("required", True), ("none", False)):
        context = read("rediss://h", reqs=reqs).settings["context"]
        assert (context.verify_mode is ssl.CERT_REQUIRED) == context.check_hostname == verifies


@pytest.mark.parametrize("kind", ["", "+sentinel", "+cluster"])
def test_a_password_from_another_place_is_for_the_servers(kind: str) -> None:
    location = read(f"redis{kind}://u@h", password=_PASSWORD)
    assert (location.settings["username"], location.settings["password"]) == ("u", _PASSWORD)
    assert _PASSWORD not in str(location.sentinel)
    with pytest.raises(InvalidInput, match=r"^password is given twice"):
        read(f"redis{kind}://:x@h", password=_PASSWORD)


def test_options_of_redis_py_name_what_to_write() -> None:
    with pytest.raises(ConfigError, match="redis has no option ssl: write rediss://"):
        open_store("redis://h?ssl=true")


def test_the_slot_of_a_command() -> None:
    """The slot of 123456789 is 12739, according to redis.io/docs/reference/cluster-spec."""
    assert _slot((b"LRANGE", b"123456789", 0, -1)) == 12739
    assert _slot((b"EVALSHA", b"x", 1, b"a{123456789}b", b"{other}")) == 12739
    assert _slot((b"PING",)) is None
    assert _slot((b"CONFIG", b"GET", b"save")) is None

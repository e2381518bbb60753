"""URLs as providers hand them out, on real servers: Unix sockets, schemas, several hosts, passwords outside of URLs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from asyncpg import InternalServerError

import servers
from sql_places import emptied_mariadb, emptied_postgresql
from turnlog import AccessError, SessionNotFound, open_store, user

_PASSWORD = "b9/ses@me"  # noqa: S105 - no message may show it


class Guarded(servers.Postgres):
    """A PostgreSQL server that asks for a password on its port, and for none on its Unix socket."""

    def __init__(self) -> None:
        self.sockets = servers.folder_for("sockets")
        rules = self.sockets / "rules"
        rules.write_text("host all postgres 127.0.0.1/32 scram-sha-256\nlocal all all trust\n")
        super().__init__(f"unix_socket_directories={self.sockets}", f"hba_file={rules}")

    @property
    def local(self) -> str:
        """The URL of its Unix socket."""
        return f"postgres://postgres@{quote(str(self.sockets), safe='')}:{self.port}/postgres"


@cache
def guarded() -> Guarded:
    """Return the server; its user has the password."""
    server = Guarded()
    servers.ask(server.local, f"ALTER USER postgres PASSWORD '{_PASSWORD}'")
    return server


async def works(url: str) -> None:
    """Check that a store at this URL keeps a turn."""
    async with open_store(url) as store:
        session = store.new_session_id()
        await store.append(session, [user("hello")])
        assert len(await store.load(session)) == 1


async def test_postgresql_by_a_unix_socket() -> None:
    server = guarded()
    await works(server.local)
    await works(f"postgres://postgres@:{server.port}/postgres?host={server.sockets}&sslmode=prefer")


async def test_mariadb_by_a_unix_socket_and_its_own_scheme() -> None:
    url = emptied_mariadb()
    ((path,),) = servers.ask(url, "SELECT @@socket")
    servers.ask(
        url,
        f"CREATE USER IF NOT EXISTS local@localhost IDENTIFIED BY '{_PASSWORD}'",
        "GRANT ALL ON turnlog.* TO local@localhost",
    )
    password = _PASSWORD.replace("/", "%2F").replace("@", "%40")
    await works(f"mariadb://local:{password}@localhost/turnlog?unix_socket={path}&charset=utf8mb4")


async def test_a_password_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{_PASSWORD}\n")
    await works(f"{guarded().url}?password_file={file}")
    file.write_text("another")
    with pytest.raises(AccessError, match="denies access") as caught:
        await works(f"{guarded().url}?password_file={file}")
    assert "another" not in str(caught.value)


async def test_a_password_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """For MariaDB, a server of Redis, and a node of a cluster."""
    monkeypatch.setenv("TURNLOG_STORE_PASSWORD", servers.MariaDB.password)
    await works(f"mariadb://turnlog@{servers.place(emptied_mariadb())}")
    monkeypatch.setenv("TURNLOG_STORE_PASSWORD", _PASSWORD)
    await works(f"postgres://postgres@{servers.place(guarded().url)}")
    single, node = (
        servers.Redis(f"requirepass={_PASSWORD}", *more)
        for more in ((), ("cluster-enabled=yes", f"cluster-port={servers.free_port()}"))
    )
    with_password = f"redis://:b9%2Fses%40me@127.0.0.1:{node.port}"
    servers.ask_redis(with_password, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    servers.until(
        lambda: "cluster_state:ok" in servers.ask_redis(with_password, "CLUSTER", "INFO"), node.process, "a cluster"
    )
    await works(f"valkey://127.0.0.1:{single.port}")
    await works(f"valkey+cluster://127.0.0.1:{node.port}")


async def test_a_server_without_a_rule_for_the_connection() -> None:
    """Servers of providers have none for connections without TLS."""
    with pytest.raises(AccessError) as caught:
        await works(f"postgres://other:{quote(_PASSWORD, safe='')}@127.0.0.1:{guarded().port}/postgres")
    text = str(caught.value)
    assert ": the server accepts no such connection (no pg_hba.conf entry for host " in text
    assert text.endswith(
        "no encryption): nothing was done; add sslmode=verify-full or sslmode=require to the URL if the server "
        "requires TLS, or add a rule for this host, user and database to its pg_hba.conf"
    )
    assert _PASSWORD not in text


def test_a_pooler_that_knows_no_such_user_is_not_a_damaged_database() -> None:
    backend: Any = open_store("postgresql://u@h/d").backend
    error = backend._database.translated(InternalServerError("Tenant or user not found"))
    assert isinstance(error, AccessError) and "set the right user and password" in str(error)


async def test_a_schema_has_tables_of_its_own() -> None:
    url = emptied_postgresql()
    servers.ask(url, 'DROP SCHEMA IF EXISTS "My ""shop" CASCADE')
    async with open_store(f"{url}?schema=My%20%22shop") as shop, open_store(url) as other:
        await shop.append("s", [user("hello")])
        assert len(await shop.load("s")) == 1
        with pytest.raises(SessionNotFound):
            await other.load("s")
        assert shop.backend.location != other.backend.location
    found = servers.ask(url, "SELECT table_schema FROM information_schema.tables WHERE table_name = 'turnlog_sessions'")
    assert sorted(name for (name,) in found) == ['My "shop', "public"]
    await works(f"{url}?schema=My%20%22shop&migrate=check")
    servers.ask(url, 'DROP SCHEMA "My ""shop" CASCADE')


async def test_the_host_that_can_be_written_to() -> None:
    """The first one refuses connections, and the second one is read-only."""
    server, other = emptied_postgresql(), guarded()
    servers.ask(other.local, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    try:
        user_and_password, database = "postgres:b9%2Fses%40me", "postgres?target_session_attrs=read-write"
        places = f"127.0.0.1:1,127.0.0.1:{other.port},{servers.place(server).partition('/')[0]}"
        await works(f"postgresql+asyncpg://{user_and_password}@{places}/{database}")
    finally:
        servers.ask(
            other.local,
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        )

"""Databases that may only be read: reads and listings work, no expiry moves, and a write is refused with the reason."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

import servers
from sql_places import emptied_mariadb, emptied_postgresql
from turnlog import AccessError, Key, SchemaError, Store, open_store, user
from turnlog_cli import main
from turnlog_redis import RedisBackend
from turnlog_redis._layout import keys_of
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend

_TTL: Final = 36_000.0  # seconds: ten times that of the stored session
READER: Final = (
    "resetkeys ~turnlog:* resetchannels -@all +lrange +lindex +llen +pttl +exists +zrevrangebyscore +zrangebylex "
    "+zscore +eval +evalsha +ping"
)
_KEY: Final = Key("default", "s")


async def filled(url: str) -> None:
    """Append two turns to a session that expires in an hour."""
    async with open_store(f"{url}?ttl=1h&sweep=0" if not url.startswith("redis") else f"{url}?ttl=1h") as store:
        await store.append("s", [user("one")])
        await store.append("s", [user("two")])


async def reads_only(store: Store, says: str) -> None:
    """Check the operations of a read-only store: reads work, and writes are refused.

    Args:
        store: The store; its time to live is longer, so that a read that may write moves the expiry of the session.
        says: A part of the error of a write.
    """
    async with store:
        assert [message.text for message in await store.load("s")] == ["one", "two"]
        assert [message.text for message in await store.load("s", last=1)] == ["two"]
        assert ((await store.session("s")).info.expires_in or 0) <= 3600
        assert [info.key.session async for info in store.sessions()] == ["s"]
        assert await store.backend.namespaces() == ["default"]
        for write in (store.append("s", [user("three")]), store.append("t", [user("x")]), store.backend.delete(_KEY)):
            with pytest.raises(AccessError, match=says):
                await write
        assert len(await store.load("s")) == 2


# -------------------------------------------------------------------------------------------------------------- SQLite


@contextmanager
def as_somebody() -> Iterator[None]:
    """Run as a user without permission to write to the files of this user; root may write to all files."""
    if os.geteuid() != 0:
        yield
        return
    nobody = pwd.getpwnam("nobody")
    os.setegid(nobody.pw_gid)
    os.seteuid(nobody.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of this user, which others may enter."""
    made = servers.folder_for("read-only")
    os.chown(made, os.geteuid(), os.getegid())
    yield made
    made.chmod(0o755)


def locked(folder: Path, mode: int) -> Path:
    """Remove the write permission from the files and the folder."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(mode)
    return folder / "chat.db"


def backend(file: Path) -> SQLiteBackend:
    """Return a backend that would move the expiry."""
    return SQLiteBackend(f"sqlite:///{file}", ttl=_TTL, sweep=0)


@pytest.mark.parametrize("mode", [0o555, 0o777])
async def test_a_file_without_permission(folder: Path, mode: int) -> None:
    await filled(f"sqlite:///{folder}/chat.db")
    if os.geteuid() != 0 and mode == 0o777:
        mode = 0o755
    file = locked(folder, mode)
    with as_somebody():
        denied = "no permission to write to it .*: nothing was stored; (run it as the owner|.* chmod u\\+w)"
        await reads_only(Store(backend(file)), denied)
    assert os.listdir(folder) == ["chat.db"]  # a log of this user would shut out the writers


async def test_a_folder_without_permission(folder: Path) -> None:
    await filled(f"sqlite:///{folder}/chat.db")
    file = locked(folder, 0o555)
    file.chmod(0o666)
    with as_somebody():
        await reads_only(Store(backend(file)), "no permission to write to it")


async def test_a_reader_sees_what_a_writer_commits(folder: Path) -> None:
    """The writer opens the file before or after the reader; at its end it copies the log into the file."""
    await filled(f"sqlite:///{folder}/chat.db")
    file = folder / "chat.db"
    file.chmod(0o644)
    reader = Store(backend(file))
    if os.geteuid() != 0:
        servers.leave_out("another-user", "only root can act as another user")
    with as_somebody():
        await reader.open()
        assert len(await reader.load("s")) == 2
    for number in (3, 4):
        async with open_store(f"sqlite:///{file}") as writer:
            await writer.append("s", [user(f"{number}")])
            with as_somebody():
                assert len(await reader.load("s")) == number
                assert [info.turns async for info in reader.sessions()] == [number]
        with as_somebody():
            assert len(await reader.load("s")) == number
    with as_somebody():
        await reader.close()


async def test_a_copy_with_its_log(folder: Path) -> None:
    """The last turns are in the log, which no process has open."""
    (folder / "live").mkdir()
    file = folder / "live" / "chat.db"
    await filled(f"sqlite:///{file}")
    async with open_store(f"sqlite:///{file}") as writer:
        await writer.append("s", [user("in the log")])
        for name in ("chat.db", "chat.db-wal", "chat.db-shm"):
            shutil.copy(folder / "live" / name, folder / name)
    shutil.rmtree(folder / "live")
    file = locked(folder, 0o555)
    with as_somebody():
        async with Store(backend(file)) as store:
            assert [message.text for message in await store.load("s")][-1] == "in the log"


def test_commands_on_a_file_without_permission(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(filled(f"sqlite:///{folder}/chat.db"))
    url = f"sqlite:///{locked(folder, 0o555)}?ttl=10h"
    with as_somebody():
        assert main(["list", "--store", url]) == main(["show", "s", "--store", url]) == 0
        assert main(["erase", "s", "--yes", "--store", url]) == 3
    assert "no permission to write to it" in capsys.readouterr().err


def test_a_database_without_tables_is_given_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "chat.db").touch()
    file = locked(folder, 0o555)
    with as_somebody():
        assert main(["list", "--store", f"sqlite:///{file}"]) == 3
        with pytest.raises(SchemaError, match="has no turnlog tables"):
            asyncio.run(Store(backend(file)).open())
    err = capsys.readouterr().err
    assert err.endswith(f"to create them, run 'turnlog migrate --store sqlite:///{file}'\n") and err.count("\n") == 1
    assert file.stat().st_size == 0 and len(list(folder.iterdir())) == 1


# ------------------------------------------------------------------------------------------------------------- servers


def of_reader(url: str) -> str:
    """Return the URL for a user with SELECT only."""
    parts = urlsplit(url)
    name = "reader:turnlog-reader"
    return parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}").geturl()


async def test_postgresql_with_select_only() -> None:
    url = emptied_postgresql()
    await filled(url)
    servers.ask(
        url,
        "DO $$ BEGIN CREATE ROLE reader LOGIN PASSWORD 'turnlog-reader'; EXCEPTION WHEN duplicate_object THEN END $$",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    )
    await reads_only(Store(PostgreSQLBackend(of_reader(url), ttl=_TTL, sweep=0)), "denies permission")


async def test_postgresql_that_is_read_only() -> None:
    """As a standby is."""
    url = emptied_postgresql()
    await filled(url)
    servers.ask(
        url,
        "DO $$ BEGIN CREATE ROLE standby LOGIN SUPERUSER; EXCEPTION WHEN duplicate_object THEN END $$",
        "ALTER ROLE standby SET default_transaction_read_only = on",
    )
    place = urlsplit(url)
    standby = place._replace(netloc=f"standby@{place.netloc.rpartition('@')[2]}").geturl()
    await reads_only(Store(PostgreSQLBackend(standby, ttl=_TTL, sweep=0)), "the server is read-only")


async def test_mariadb_with_select_only() -> None:
    url = emptied_mariadb()
    await filled(url)
    servers.ask(
        url,
        "CREATE USER IF NOT EXISTS reader@'127.0.0.1' IDENTIFIED BY 'turnlog-reader'",
        f"GRANT SELECT ON {urlsplit(url).path[1:]}.* TO reader@'127.0.0.1'",
    )
    await reads_only(Store(MySQLBackend(of_reader(url), ttl=_TTL, sweep=0)), "denies permission")


async def test_a_replica_of_redis() -> None:
    master = servers.Redis("repl-diskless-sync-delay=0")
    await filled(master.url)
    replica = servers.Redis(f"replicaof=127.0.0.1 {master.port}")
    servers.until(lambda: replica.ask("ROLE")[3] == "connected", replica.process, "a replica")
    store = Store(RedisBackend(replica.url, ttl=_TTL, timeout=0.5))
    await reads_only(store, "the server is a replica, which is read-only .*: nothing was done; name its master")


async def test_redis_without_the_right_to_write() -> None:
    """The list also has the entry of an expired session, which this user cannot remove."""
    server = servers.Redis()
    await filled(server.url)
    async with open_store(f"{server.url}?ttl=1ms") as store:
        await store.append("expired", [user("x")])
    servers.until(lambda: server.ask("EXISTS", keys_of("default", b"expired").session) == 0, server.process, "expiry")
    server.ask("ACL", "SETUSER", "reader", "on", ">secret", *READER.split())
    store = Store(RedisBackend(f"redis://reader:secret@127.0.0.1:{server.port}", ttl=_TTL, timeout=2))
    await reads_only(store, "the server denies permission .*: nothing was done; grant it to the user in the URL")

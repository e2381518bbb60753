"""The remains of an owner's data after `turnlog erase`, in the bytes of the files of SQLite and of the servers."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

import servers
from sql_places import emptied_mariadb, emptied_postgresql
from turnlog import Store, assistant, open_store, user
from turnlog_cli import main
from turnlog_redis import RedisBackend
from turnlog_sql.mysql import MySQLBackend
from turnlog_sql.postgresql import PostgreSQLBackend
from turnlog_sql.sqlite import SQLiteBackend


@pytest.fixture
def secret() -> str:
    """Random text that no codec compresses and no other file contains."""
    return secrets.token_hex(24)


async def fill(store: Store, secret: str) -> None:
    """Store two sessions of the owner, with undone turns and a title, and a session of another owner."""
    for name in ("one", "two"):
        for number in range(30):
            text = f"{secret} {number} " + secret * (number % 3 * 40)  # some on overflow pages
            await store.append(name, [user(text), assistant(secret)], owner="alice", metadata={"title": secret})
        await store.rewind(name, turns=5)
    await store.append("theirs", [user("what stays")], owner="bob")


def receipt(capsys: Any, *arguments: str, code: int = 0) -> dict[str, Any]:
    assert main(["erase", "--owner=alice", "--yes", "--json", *arguments]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def held(folder: Path, word: str, pattern: str = "*") -> list[str]:
    """Return the names of the files that contain a word."""
    return [path.name for path in folder.rglob(pattern) if path.is_file() and word.encode() in path.read_bytes()]


def test_no_byte_is_left_in_an_sqlite_file_or_its_log(tmp_path: Path, secret: str, capsys: Any) -> None:
    """Pages freed earlier are erased as well, even while another process has the file open."""
    path, url = tmp_path / "chat.db", f"sqlite:///{tmp_path}/chat.db?sweep=0"

    async def work() -> None:
        async with open_store(url) as store:
            await fill(store, secret)
            await fill(store.within("shop"), secret)
            raw = sqlite3.connect(path, isolation_level=None)
            raw.execute("PRAGMA secure_delete=OFF")  # SQLite's default
            raw.execute("DELETE FROM turnlog_records WHERE number = 20")
            raw.close()
            assert held(tmp_path, secret)
            found = await asyncio.to_thread(receipt, capsys, f"--store={url}", "--all-namespaces")
            assert found["sessions"] == 4
            assert found["namespaces"] == {"default": 2, "shop": 2}
            assert [one["where"] for one in found["remains"]] == ["backups, snapshots and exports"]
            assert held(tmp_path, secret) == []
            assert held(tmp_path, "what stays")

    asyncio.run(work())


def test_what_a_reader_keeps_in_the_log_is_named(tmp_path: Path, secret: str, capsys: Any) -> None:
    """The named command removes the remains after that reader has ended."""
    url = f"sqlite:///{tmp_path}/chat.db"

    async def work() -> None:
        async with open_store(url) as store:
            await fill(store, secret)

    asyncio.run(work())
    reader = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM turnlog_sessions").fetchone()
    found = receipt(capsys, f"--store={url}", code=1)
    assert ("another process reads its log" in found["remains"][0]["where"], found["sessions"]) == (True, 2)
    assert held(tmp_path, secret)
    reader.execute("COMMIT")
    reader.close()
    assert main(found["remains"][0]["command"].split()[1:]) == 0
    assert held(tmp_path, secret) == []


@pytest.mark.parametrize("ago", [700.0, 5000.0])
def test_expired_sessions_are_gone(ago: float, tmp_path: Path, secret: str, capsys: Any) -> None:
    """They include sessions that a sweep of SQLite keeps for an hour, for processes with other clocks."""
    url = f"sqlite:///{tmp_path}/chat.db"

    async def work() -> None:
        async with Store(SQLiteBackend(url, ttl=600.0, sweep=0, clock=lambda: time.time() - ago)) as store:
            await store.append("gone", [user(secret)], owner="alice")

    asyncio.run(work())
    assert held(tmp_path, secret)
    assert receipt(capsys, f"--store={url}")["expired"] == 1
    assert held(tmp_path, secret) == []


def test_a_dictionary_is_named(tmp_path: Path, capsys: Any) -> None:
    url = f"sqlite:///{tmp_path}/chat.db?layers=zstd"

    async def work() -> None:
        async with open_store(url) as store:
            for number in range(40):
                texts = [f"Where is my order {number * 7919}, please? It was to be here on Monday, by noon."] * 5
                await store.append(f"s{number}", [user(text) for text in texts], owner="alice")

    asyncio.run(work())
    assert main(["train-dictionary", f"--store={url}"]) == 0
    capsys.readouterr()
    assert receipt(capsys, f"--store={url}")["remains"][0]["where"].startswith("dictionary ")


def test_no_byte_is_left_in_a_new_dump_of_redis(secret: str, capsys: Any) -> None:
    url = servers.redis()
    servers.ask_redis(url, "FLUSHDB")
    servers.ask_redis(url, "CONFIG", "SET", "rdbcompression", "no")  # first make the text visible

    async def work() -> None:
        async with Store(RedisBackend(url)) as store:
            await fill(store, secret)

    def dump() -> bytes:
        servers.ask_redis(url, "SAVE")
        settings = servers.ask_redis(url, "CONFIG", "GET", "d*")
        return Path(settings["dir"], settings["dbfilename"]).read_bytes()

    asyncio.run(work())
    assert secret.encode() in dump()
    found = receipt(capsys, f"--store={url}")
    assert found["sessions"] == 2
    assert secret.encode() not in (data := dump())
    assert b"what stays" in data
    assert b"alice" not in data


def test_redis_names_the_files_that_it_writes(capsys: Any) -> None:
    url = servers.redis()
    servers.ask_redis(url, "CONFIG", "SET", "save", "3600 1")
    try:
        found = receipt(capsys, f"--store={url}")
    finally:
        servers.ask_redis(url, "CONFIG", "SET", "save", "")
    assert [one["command"] for one in found["remains"]] == ["BGSAVE", ""]


def test_postgresql_is_free_of_it_after_the_command_that_the_receipt_names(secret: str, capsys: Any) -> None:
    url = emptied_postgresql()
    folder = Path(servers.ask(url, "SHOW data_directory")[0][0])

    async def work() -> None:
        async with Store(PostgreSQLBackend(url, sweep=0)) as store:
            await fill(store, secret)

    asyncio.run(work())
    servers.ask(url, "ANALYZE")  # as autovacuum does; it stores samples of all columns
    found = receipt(capsys, f"--store={url}")
    tables, samples, log, _ = found["remains"]
    assert "write-ahead log" in log["where"]
    commands = tables["command"], samples["command"]
    if not (folder / "base").exists():
        servers.leave_out("server-files", "the server is on another machine")
    servers.ask(url, "CHECKPOINT")
    assert held(folder / "base", secret), "dead rows are there until they are written over"
    for statement in "; ".join(commands).split("; "):
        servers.ask(url, statement)
    assert held(folder / "base", secret) == held(folder / "base", "alice") == []
    assert held(folder / "base", "what stays")


def test_the_binary_log_of_mariadb_is_free_of_it_after_the_command_that_the_receipt_names(
    secret: str, capsys: Any
) -> None:
    server = servers.MariaDB("log-bin=bin", "server-id=1")
    data = server.folder / "data"

    async def work() -> None:
        async with Store(MySQLBackend(server.url, sweep=0)) as store:
            await fill(store, secret)

    asyncio.run(work())
    (log,) = [one for one in receipt(capsys, f"--store={server.url}")["remains"] if "binary log" in one["where"]]
    assert held(data, secret, "bin.*")
    servers.ask(server.url, *log["command"].split("; "))
    assert held(data, secret, "bin.*") == []
    server.stop()


def test_mariadb_is_free_of_it_after_the_command_that_the_receipt_names(secret: str, capsys: Any) -> None:
    url = emptied_mariadb()
    folder = Path(servers.ask(url, "SELECT @@datadir")[0][0]) / "turnlog"

    async def work() -> None:
        async with Store(MySQLBackend(url, sweep=0)) as store:
            await fill(store, secret)

    def flushed() -> list[str]:
        servers.ask(url, "FLUSH TABLES turnlog_records, turnlog_metadata FOR EXPORT", "UNLOCK TABLES")
        return held(folder, secret, "*.ibd")

    asyncio.run(work())
    if not folder.exists():
        servers.leave_out("server-files", "the server is on another machine")
    assert flushed()
    tables, logs, *_ = receipt(capsys, f"--store={url}")["remains"]
    assert "redo log" in logs["where"]
    assert flushed(), "freed room keeps it until it is written over"
    servers.ask(url, tables["command"].partition(" (")[0])
    assert flushed() == []
    assert held(folder, "what stays", "*.ibd")

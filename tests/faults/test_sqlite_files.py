"""SQLite files that other programs change while a store has them open: no acknowledged turn is lost without an error.

The other process is a real one, because the system releases locks by process.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sqlite_writers
from turnlog import OutcomeUnknown, SessionNotFound, Store, Unavailable, user
from turnlog_sql import _second_lock, _sqlite_connection
from turnlog_sql.sqlite import SQLiteBackend

LOG, INDEX = "chat.db-wal", "chat.db-shm"
ALL = ("chat.db", LOG, INDEX)
CLOSES_ANYWHERE = sys.version_info >= (3, 12)
"""Whether SQLite can close a database without copying the log.  Before, that requires a lock that only Linux has."""
GONE = "was removed or replaced while this store had it open; nothing was stored"


class Other:
    """Another process that opens the database, reads it, and closes it."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("sqlite_writers.py")), "visit"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def visit(self, folder: Path, said: str | None = None) -> dict[str, list[str]]:
        """Append a text to session `visitor` if one is given; return the texts of all sessions, which must be sound."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder / "chat.db"), said]) + "\n")
        self._process.stdin.flush()
        found: dict[str, list[str]] = json.loads(self._process.stdout.readline())
        return found

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


@pytest.fixture(scope="module")
def other() -> Iterator[Other]:
    """Return one process for all tests."""
    made = Other()
    yield made
    made.end()


def _refuse(*_: Any) -> None:
    raise OSError(errno.EINVAL, "invalid argument")


NO_SECOND_LOCKS = {
    "no such system": SimpleNamespace(),
    "no such file system": SimpleNamespace(F_OFD_SETLK=37, F_RDLCK=0, F_UNLCK=2, fcntl=_refuse),
}
"""Replacements of `fcntl` on systems without locks of open file descriptions."""


@pytest.fixture(params=list(NO_SECOND_LOCKS))
def without_second_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test without these locks."""
    monkeypatch.setattr(_second_lock, "fcntl", NO_SECOND_LOCKS[request.param])


def at(folder: Path, **options: Any) -> Store:
    """Return a store in a folder."""
    return Store(SQLiteBackend(f"sqlite:///{folder}/chat.db", sweep=0, synchronous="NORMAL", **options))


def close_in_this_process(folder: Path, *names: str) -> None:
    """Open and close files, which releases the locks of this process."""
    for name in names:
        (folder / name).open("rb").close()


async def append(store: Store, *texts: str) -> list[str]:
    """Append turns; return the acknowledged ones."""
    acknowledged = []
    for text in texts:
        try:
            await store.append("alice", [user(text)])
        except Unavailable as error:
            assert GONE in str(error)
        else:
            acknowledged.append(text)
    return acknowledged


# ---------------------------------------------------------------------------------------------------- locks are dropped


@pytest.mark.only_where(sys.platform == "linux", "linux", "other systems drop all locks when a file is closed")
@pytest.mark.parametrize("names", [("chat.db",), ALL], ids=["the database", "all three"])
async def test_a_process_may_close_the_files_itself(tmp_path: Path, other: Other, names: tuple[str, ...]) -> None:
    """Another process then opens, reads and closes the database.  Each turn is acknowledged and stored."""
    async with at(tmp_path) as store:
        said = await append(store, "a")
        for text in ("b", "c", "d"):
            close_in_this_process(tmp_path, *names)
            assert other.visit(tmp_path)["alice"] == said
            said += await append(store, text)
        close_in_this_process(tmp_path, *names)
        other.visit(tmp_path, "hello")
        assert [message.text for message in await store.load("visitor")] == ["hello"]
        assert said == ["a", "b", "c", "d"]
    assert other.visit(tmp_path) == {"alice": said, "visitor": ["hello"]}


@pytest.mark.usefixtures("without_second_locks")
async def test_without_such_locks_the_next_turn_is_refused(tmp_path: Path, other: Other) -> None:
    """The turn after it is stored, if the connection can be closed."""
    async with at(tmp_path) as store:
        said = await append(store, "a")
        close_in_this_process(tmp_path, "chat.db")
        assert other.visit(tmp_path, "hello")["alice"] == ["a"]
        assert await append(store, "b") == []
        if CLOSES_ANYWHERE:
            said += await append(store, "c")
            assert other.visit(tmp_path) == {"alice": said, "visitor": ["hello"]}
            close_in_this_process(tmp_path, "chat.db")
            other.visit(tmp_path, "again")
            with pytest.raises(Unavailable, match=GONE):
                await store.load("alice")  # no old data
            assert [message.text for message in await store.load("visitor")] == ["hello", "again"]
        else:
            with pytest.raises(Unavailable, match="restart the process"):
                await store.append("alice", [user("c")])
    assert other.visit(tmp_path)["alice"] == said


# ------------------------------------------------------------------------------------------------ removed, or replaced


@pytest.mark.parametrize("names", [(LOG, INDEX), (LOG,), (INDEX,)], ids=["log and index", "log", "index"])
async def test_a_log_that_was_removed(tmp_path: Path, other: Other, names: tuple[str, ...]) -> None:
    """The next call is refused, also a read.  The call after it uses the existing files."""
    async with at(tmp_path) as store:
        await append(store, "a")
    for call in ("append", "load"):
        async with at(tmp_path) as store:
            await append(store, "lost, if it was only in the log")
            for name in names:
                (tmp_path / name).unlink()
            with pytest.raises(Unavailable, match=GONE):
                await (store.append("alice", [user("b")]) if call == "append" else store.load("alice"))
            assert await append(store, call) == [call]
            found = other.visit(tmp_path)["alice"]
            assert found == [message.text for message in await store.load("alice")]
            assert found[-1] == call


async def test_everything_was_removed(tmp_path: Path, other: Other) -> None:
    """No new file is created until the store is opened again.  A restored file is used."""
    saved = tmp_path / "saved"
    async with at(tmp_path) as store:
        await append(store, "a")
    shutil.copy(tmp_path / "chat.db", saved)
    store = at(tmp_path)
    await store.open()
    await append(store, "lost")
    for name in ALL:
        (tmp_path / name).unlink()
    with pytest.raises(Unavailable, match=GONE):
        await store.append("alice", [user("b")])
    with pytest.raises(Unavailable, match="does not exist any more: restore it; to create an empty one"):
        await store.append("alice", [user("b")])
    shutil.copy(saved, tmp_path / "chat.db")
    assert await append(store, "c") == ["c"]
    assert other.visit(tmp_path) == {"alice": ["a", "c"]}
    for name in ALL:
        (tmp_path / name).unlink()
    await store.close()
    async with store:
        with pytest.raises(SessionNotFound):
            await store.load("alice")
        assert await append(store, "d") == ["d"]
        assert other.visit(tmp_path) == {"alice": ["d"]}


async def test_another_database_is_put_in_its_place(tmp_path: Path, other: Other) -> None:
    """It is used.  The old log is renamed, so it cannot damage the new database."""
    backup = tmp_path / "backup"
    async with at(tmp_path) as store:
        await append(store, *map(str, range(50)))
    shutil.copy(tmp_path / "chat.db", backup)
    async with at(tmp_path) as store, at(tmp_path) as idle:
        await append(store, *map(str, range(50, 300)))  # only in the log
        await idle.load("alice")
        number = (tmp_path / "chat.db").stat().st_ino
        backup.replace(tmp_path / "chat.db")
        assert await append(store, "refused") == []
        assert await append(store, "new") == ["new"]
        expected = [*map(str, range(50)), "new"]
        assert [message.text for message in await idle.load("alice")] == expected
        assert other.visit(tmp_path) == {"alice": expected}
    assert (tmp_path / f"{LOG}.{number}").exists()


async def test_a_symbolic_link_that_leads_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is detected within a second, although the folder of the files does not change."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        async with at(tmp_path / name) as store:
            await append(store, name)
        _age(tmp_path / name)
    (tmp_path / "link").symlink_to("old")
    passed = [0.0]
    monkeypatch.setattr(_sqlite_connection, "monotonic", lambda: passed[0])
    async with at(tmp_path / "link") as store:
        await store.load("alice")
        _age(tmp_path / "old")
        await store.load("alice")
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("new")
        passed[0] = 1.5
        assert await append(store, "refused") == []
        assert [message.text for message in await store.load("alice")] == ["new"]


@pytest.mark.parametrize("name", ALL)
async def test_a_folder_that_has_not_changed_for_long(tmp_path: Path, name: str) -> None:
    """The files are not checked until the folder changes, so a removed file is detected at once."""
    async with at(tmp_path) as store:
        await append(store, "a")
        _age(tmp_path)
        assert await append(store, "b") == ["b"]
        connection = sqlite_writers.connection_of(store)
        looked: list[str] = []
        look = connection._look
        connection._look = lambda *_, **__: looked.append("again")  # type: ignore[method-assign]
        assert await append(store, "c") == ["c"]
        assert looked == []
        connection._look = look  # type: ignore[method-assign]
        (tmp_path / name).unlink()
        assert await append(store, "d") == []


def _age(folder: Path) -> None:
    past = folder.stat().st_mtime - 3600
    os.utime(folder, (past, past))


# --------------------------------------------------------------------------------------------- between check and commit


async def test_files_that_go_before_the_commit_leave_the_outcome_unknown(tmp_path: Path) -> None:
    """Each of the callers in the same commit receives the error, with its own change to send again."""
    async with at(tmp_path) as store:
        await append(store, "a")
        connection = sqlite_writers.connection_of(store)

        def remove(sql: str) -> None:
            if sql == "COMMIT":
                connection.set_trace_callback(None)
                (tmp_path / LOG).unlink()

        connection.set_trace_callback(remove)
        with pytest.raises(OutcomeUnknown, match=r"session 'alice' .* was removed or replaced .*resend") as alone:
            await store.append("alice", [user("b")], turn_id="b")
        await store.resend(alone.value)
        assert [message.text for message in await store.load("alice")] == ["b"]

        connection = sqlite_writers.connection_of(store)
        lock = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")  # the next writes wait and are committed together
        tasks = [asyncio.ensure_future(store.append(name, [user(name)], turn_id=name)) for name in ("x", "y", "z")]
        await asyncio.sleep(0.05)
        connection.set_trace_callback(remove)
        lock.close()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        unknown = [error for error in outcomes if isinstance(error, OutcomeUnknown)]
        assert len(unknown) >= 2
        assert [error.key.session for error in unknown] == [error.change.append[0].id for error in unknown]
        for error in unknown:
            await store.resend(error)
        texts = {name: [message.text for message in await store.load(name)] for name in ("x", "y", "z")}
        assert texts == {"x": ["x"], "y": ["y"], "z": ["z"]}


# ------------------------------------------------------------------------------------------------------ abandoned logs


def _close(store: Store) -> None:
    asyncio.run(store.close())


def _use(store: Store) -> None:
    assert asyncio.run(append(store, "refused")) == []


def _fork(store: Store) -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("missing", [None, *NO_SECOND_LOCKS])
@pytest.mark.parametrize("how", [_close, _use, _fork])
def test_an_old_log_is_never_copied_over_what_others_have_written(
    tmp_path: Path, other: Other, how: Callable[[Store], None], missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends with a close, with the next call, or with a fork."""
    if missing is not None:
        monkeypatch.setattr(_second_lock, "fcntl", NO_SECOND_LOCKS[missing])
    store = at(tmp_path)
    asyncio.run(store.open())
    asyncio.run(append(store, *map(str, range(20))))
    asyncio.run(store.close())
    asyncio.run(store.open())
    asyncio.run(append(store, *map(str, range(100))))
    for name in (LOG, INDEX):
        (tmp_path / name).unlink()
    for number in range(5):
        other.visit(tmp_path, f"hello {number}")
    how(store)
    seen = other.visit(tmp_path)
    assert seen["visitor"] == [f"hello {number}" for number in range(5)]
    if how is _close:
        return
    if missing is None or CLOSES_ANYWHERE:
        assert asyncio.run(append(store, "again")) == ["again"]
        assert other.visit(tmp_path)["alice"] == [*seen["alice"], "again"]
    else:
        with pytest.raises(Unavailable, match="restart the process"):
            asyncio.run(store.load("alice"))
    asyncio.run(store.close())


async def test_two_stores_of_a_process_leave_a_removed_log_together(tmp_path: Path, other: Other) -> None:
    """All connections of a process share one index of the log, so none may keep the old one."""
    async with at(tmp_path) as one, at(tmp_path) as idle:
        await append(one, "a")
        await idle.load("alice")
        for name in (LOG, INDEX):
            (tmp_path / name).unlink()
        other.visit(tmp_path, "hello")
        assert await append(one, "refused") == []
        said = await append(one, "b")
        assert other.visit(tmp_path)["alice"][-1:] == said
        said += await append(idle, "c")
        said += await append(one, "d")
        assert other.visit(tmp_path)["alice"][-3:] == said == ["b", "c", "d"]
        async with at(tmp_path) as third:
            said += await append(third, "e")
        assert other.visit(tmp_path) == {"alice": said, "visitor": ["hello"]}


async def test_a_store_that_is_opened_next_to_one_with_a_removed_log(tmp_path: Path, other: Other) -> None:
    async with at(tmp_path) as idle:
        await append(idle, "a")
        for name in (LOG, INDEX):
            (tmp_path / name).unlink()
        async with at(tmp_path) as store:
            said = await append(store, "b")
            assert other.visit(tmp_path, "hello")["alice"] == said
            said += await append(store, "c")
            said += await append(idle, "d")  # `idle` was disconnected by the other store
    assert other.visit(tmp_path) == {"alice": ["b", "c", "d"], "visitor": ["hello"]}


async def test_an_error_that_is_kept_keeps_no_connection_open(tmp_path: Path) -> None:
    """Its traceback would keep a cursor, the cursor a statement, and the statement the files."""
    kept: list[BaseException] = []
    async with at(tmp_path) as store:
        await append(store, "a")
        connection = sqlite_writers.connection_of(store)
        connection.execute("ALTER TABLE turnlog_changes RENAME TO hidden")
        try:
            await store.append("alice", [user("b")], turn_id="b")
        except Exception as error:  # noqa: BLE001 - any error
            kept.append(error)
        connection.execute("ALTER TABLE hidden RENAME TO turnlog_changes")
    assert len(kept) == 1
    assert not (tmp_path / LOG).exists()  # the last connection to close removes it


# ------------------------------------------------------------------------------------------------------------ resources


async def test_descriptors_are_not_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked files stay open for the next connection, but only a limited number."""

    def opened() -> int:
        return len(os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"))

    monkeypatch.setattr(_second_lock, "_IDLE", 4)
    before = opened()
    for place in range(12):
        (tmp_path / str(place)).mkdir()
        async with at(tmp_path / str(place)) as store:
            await append(store, "a")
    assert opened() <= before + 5


# ---------------------------------------------------------------------------------------------------------- permissions


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_files_are_for_their_owner_only(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        async with at(tmp_path) as store:
            await append(store, "a")
            assert {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ALL} == dict.fromkeys(ALL, 0o600)
    finally:
        os.umask(before)


async def test_a_file_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    """The log gets the same permissions, so a group may share a database."""
    (tmp_path / "chat.db").touch()
    (tmp_path / "chat.db").chmod(0o660)
    async with at(tmp_path) as store:
        await append(store, "a")
        assert {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ALL} == dict.fromkeys(ALL, 0o660)

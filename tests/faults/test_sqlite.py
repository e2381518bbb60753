"""SQLite with faults: other writers, kills, forks, a full disk, a lock that is not released, damage."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import sqlite_writers
from turnlog import (
    ABSENT,
    ANY,
    Conflict,
    CorruptRecord,
    Message,
    Pipeline,
    Receipt,
    SessionNotFound,
    Store,
    Unavailable,
    assistant,
    user,
)
from turnlog_offline import offline
from turnlog_sql.sqlite import SQLiteBackend

WRITERS = Path(__file__).with_name("sqlite_writers.py")


def at(folder: Path, **options: Any) -> Store:
    """Return a store in a folder."""
    return Store(SQLiteBackend(f"sqlite:///{folder}/turnlog.db", **options))


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `sqlite_writers.py` in a folder."""
    command = [sys.executable, str(WRITERS), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def writers(folder: Path, count: int, *naive: str) -> list[str]:
    """Let two processes append turns to one session concurrently; return the last line of each error output."""
    command = [sys.executable, str(WRITERS), "append", "turnlog.db"]
    started = [
        subprocess.Popen(
            [*command, name, str(count), *naive],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("ann", "ben")
    ]
    for word in ("ready\n", "begun\n"):
        for writer in started:
            assert writer.stdout is not None
            if writer.stdout.readline() != word:
                break  # it has failed, with an error message
        for writer in started:
            assert writer.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                writer.stdin.write("go\n")
                writer.stdin.flush()
    return [writer.communicate()[1].rpartition("\n")[0].rpartition("\n")[2] for writer in started]


def turns(folder: Path) -> list[tuple[int, list[str]]]:
    """Return the numbers and texts of the stored turns."""

    async def load() -> list[tuple[int, list[str]]]:
        async with at(folder) as store:
            session = await store.session("shared")
        return [(turn.number, [message.text for message in turn.messages]) for turn in session.turns]

    return asyncio.run(load())


# ------------------------------------------------------------------------------------------------------ other writers


def test_two_processes_append_to_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    """All 400 turns are stored, none torn, in the order of each writer, without an error "database is locked"."""
    assert writers(tmp_path, 200) == ["", ""]
    stored = turns(tmp_path)
    assert [number for number, _ in stored] == list(range(400))
    assert all(len(texts) == 2 and texts[0] == texts[1] for _, texts in stored)
    said = [texts[0] for _, texts in stored]
    for name in ("ann", "ben"):
        assert [text for text in said if text.startswith(name)] == [f"{name} {place}" for place in range(200)]
    assert [text.split()[0] for text in said] != sorted(text.split()[0] for text in said)  # they wrote concurrently


def test_a_transaction_that_begins_as_a_reader_is_refused_however_long_it_waits(tmp_path: Path) -> None:
    assert any("refused: database is locked" in error for error in writers(tmp_path, 200, "deferred"))


async def test_eight_stores_open_an_empty_place_at_once(tmp_path: Path) -> None:
    """The tables are created once, and no store sees incomplete ones."""
    for place in range(10):
        folder = tmp_path / str(place)
        folder.mkdir()
        stores = [at(folder) for _ in range(8)]
        await asyncio.gather(*(store.open() for store in stores))
        await asyncio.gather(*(store.append("shared", [user("hello")]) for store in stores))
        assert (await stores[0].info("shared")).turns == 8
        await asyncio.gather(*(store.close() for store in stores))


async def test_a_stale_expect_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    async with at(tmp_path) as ours, at(tmp_path) as theirs:
        stale = (await ours.append("alice", [user("a")])).version
        await theirs.append("alice", [user("b")])
        before = await ours.session("alice")
        with pytest.raises(Conflict) as caught:
            await ours.append("alice", [user("c")], expect=stale)
        assert (caught.value.expected, caught.value.actual) == (stale, before.version)
        after = await ours.session("alice")
        assert (after.version, after.messages) == (before.version, before.messages)


async def test_the_same_change_five_times_is_stored_once(tmp_path: Path) -> None:
    """Two stores send it, with other writes in between, and the five receipts have one version and number."""
    async with at(tmp_path) as ours, at(tmp_path) as theirs:
        await ours.append("alice", [user("before")])
        receipts: list[Receipt] = []
        for store in (ours, theirs, ours, theirs, ours):
            receipts.append(await store.append("alice", [user("hello")], turn_id="T"))
            await theirs.append("alice", [user("between")])
        assert {(receipt.version, receipt.number) for receipt in receipts} == {(receipts[0].version, 1)}
        texts = [message.text for message in await ours.load("alice")]
        assert texts == ["before", "hello", *["between"] * 5]


async def test_a_chat_remembers_in_another_store_over_the_same_file(tmp_path: Path) -> None:
    for text in ("My name is Alice", "What is my name?"):
        async with at(tmp_path) as store:
            result = await Pipeline(store, offline).execute("s", "user", text)
    assert result.response.text == "Your name is Alice."


async def test_only_one_of_many_makes_a_session(tmp_path: Path) -> None:
    async with at(tmp_path) as ours, at(tmp_path) as theirs:
        calls = [store.append("alice", [user("hello")], expect=ABSENT) for store in (ours, theirs) * 20]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(outcome, Receipt) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 39


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1)])
async def test_what_survives_the_loss_of_power_is_what_the_connection_is_set_to(
    tmp_path: Path, synchronous: str, level: int
) -> None:
    """SQLite reports a write-ahead log, and 2 for FULL, 1 for NORMAL (sqlite.org/pragma.html)."""
    async with at(tmp_path, synchronous=synchronous) as store:
        connection = sqlite_writers.connection_of(store)
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        assert found == ["wal", level]


# ------------------------------------------------------------------------------------------------- kills and refusals


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_a_writer_may_be_killed_at_any_moment(tmp_path: Path, synchronous: str) -> None:
    """After 50 kills during an append, every acknowledged turn is stored, no turn is torn, and the file is sound."""
    done = python(tmp_path, "kill", "turnlog.db", "50", synchronous)
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"50 kills, (\d+) acknowledged, (\d+) there unacknowledged\n", done.stdout)
    assert found is not None
    assert int(found[1]) >= 100
    assert 0 < int(found[2]) < 50  # some died after the commit, and some before


def test_without_a_transaction_a_killed_writer_tears_a_turn(tmp_path: Path) -> None:
    done = python(tmp_path, "kill", "turnlog.db", "50", "autocommit")
    assert done.returncode != 0
    assert "a stored record is missing" in done.stderr


def test_a_full_disk_refuses_changes_and_an_unknown_outcome_can_be_sent_again(tmp_path: Path) -> None:
    done = python(tmp_path, "fill", "turnlog.db")
    assert done.returncode == 0, done.stderr
    stored, unknown = map(int, re.findall(r"\d+", done.stdout))
    assert stored > 1
    assert unknown > 5


async def test_a_lock_that_stays_is_unavailable(tmp_path: Path) -> None:
    """The error comes after the timeout, and nothing is stored.  The store works again after the lock is released."""
    async with at(tmp_path, timeout=0.01) as store:
        await store.append("alice", [user("a")])
        other = sqlite3.connect(tmp_path / "turnlog.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=r"was locked by another process for 0\.01 s: nothing was stored"):
            await store.append("alice", [user("b")])
        assert [message.text for message in await store.load("alice")] == ["a"]  # a reader does not wait for a writer
        other.execute("ROLLBACK")
        await store.append("alice", [user("c")])
        assert [message.text for message in await store.load("alice")] == ["a", "c"]
        other.close()


async def test_those_who_wait_together_wait_once(tmp_path: Path) -> None:
    """With a lock that is not released, ten concurrent writes are refused after the time of one."""
    async with at(tmp_path, timeout=0.2) as store:
        await store.append("alice", [user("a")])
        other = sqlite3.connect(tmp_path / "turnlog.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        writes = [store.append("alice", [user(str(n))]) for n in range(10)]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        assert time.monotonic() - begun < 1.0  # the first waits 0.2 s, then the others together; in sequence 2 s
        other.execute("ROLLBACK")
        other.close()


async def test_a_caller_that_is_cancelled_leaves_the_others_alone(tmp_path: Path) -> None:
    """A cancelled append is stored or not.  If it is sent again while its id is remembered, it is stored once."""
    async with at(tmp_path) as store:
        tasks = [asyncio.ensure_future(store.append("s", [user(str(n))], turn_id=str(n))) for n in range(60)]
        for place, task in enumerate(tasks):
            if place % 3 == 0:
                await asyncio.sleep(0)
                task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        told = {str(n) for n, outcome in enumerate(outcomes) if isinstance(outcome, Receipt)}
        assert told <= {turn.id for turn in (await store.session("s")).turns}
        for n in range(60):
            await store.append("s", [user(str(n))], turn_id=str(n))
        assert sorted(turn.id for turn in (await store.session("s")).turns) == sorted(map(str, range(60)))


# -------------------------------------------------------------------------------------------------- processes, loops


def test_a_forked_child_goes_on_with_a_connection_of_its_own(tmp_path: Path) -> None:
    store = at(tmp_path)
    asyncio.run(store.open())
    asyncio.run(store.append("shared", [user("parent")]))
    children = []
    for name in "abcd":
        pid = os.fork()
        if not pid:
            code = 1
            try:
                asyncio.run(_append(store, name, 25))
                asyncio.run(store.close())
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    asyncio.run(_append(store, "p", 25))
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    texts = [message.text for message in asyncio.run(store.load("shared"))]
    asyncio.run(store.close())
    assert sorted(texts[1:]) == sorted(f"{name}{place}" for name in "abcdp" for place in range(25))


@pytest.mark.parametrize("own", [False, True])
def test_what_a_child_stores_outlives_the_parents_store(tmp_path: Path, own: bool) -> None:
    """The parent closes its store, and others open and close the file, while the child writes with either store."""
    store = at(tmp_path)
    asyncio.run(store.open())
    asyncio.run(_append(store, "p", 1))
    (child_reads, parent_writes), (parent_reads, child_writes) = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            here = at(tmp_path) if own else store
            if own:
                asyncio.run(here.open())
            asyncio.run(_append(here, "a", 2))
            os.write(child_writes, b".")
            os.read(child_reads, 1)
            asyncio.run(_append(here, "b", 4))
            asyncio.run(here.close())
            code = 0
        finally:
            os._exit(code)
    os.read(parent_reads, 1)
    asyncio.run(_append(store, "q", 1))
    asyncio.run(store.close())
    for _ in range(2):  # the last one to close removes the log
        assert len(turns(tmp_path)) == 4
    os.write(parent_writes, b".")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [texts[0] for _, texts in turns(tmp_path)] == ["p0", "a0", "a1", "q0", "b0", "b1", "b2", "b3"]
    for end in (child_reads, parent_writes, parent_reads, child_writes):
        os.close(end)


def test_a_fork_waits_until_the_parents_transaction_has_ended(tmp_path: Path) -> None:
    """Otherwise a child could inherit a lock that nobody releases."""
    store = at(tmp_path)
    asyncio.run(store.open())
    writer = threading.Thread(target=lambda: asyncio.run(_append(store, "p", 200)))
    writer.start()
    children = []
    for number in range(10):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                asyncio.run(_append(store, f"c{number}.", 3))
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    writer.join()
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 10
    assert asyncio.run(store.info("shared")).turns == 230
    asyncio.run(store.close())


def test_two_threads_fork_at_once(tmp_path: Path) -> None:
    """The thread that has forked does not release the locks of another thread's fork."""
    store = at(tmp_path)
    asyncio.run(store.open())
    writer = threading.Thread(target=lambda: asyncio.run(_append(store, "p", 150)))
    writer.start()

    def fork() -> None:
        for _ in range(15):
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)

    forkers = [threading.Thread(target=fork) for _ in range(3)]
    for thread in forkers:
        thread.start()
    for thread in (*forkers, writer):
        thread.join(60)
        assert not thread.is_alive()
    assert asyncio.run(store.info("shared")).turns == 150
    asyncio.run(store.close())


LOCK_AND_UNLOCK = """
import sqlite3, time
lock = sqlite3.connect("turnlog.db", isolation_level=None, timeout=30)
while True:
    lock.execute("BEGIN IMMEDIATE")
    time.sleep(0.03)
    lock.execute("ROLLBACK")
    time.sleep(0.01)
"""


def test_a_fork_while_other_threads_open_stores(tmp_path: Path) -> None:
    """No child inherits an open connection, and each child can append, with a new store and with the inherited one.

    Another process repeatedly takes a lock, so the forks meet the threads at every step.
    """
    store = at(tmp_path, synchronous="NORMAL")
    asyncio.run(store.open())
    asyncio.run(_append(store, "p", 1))
    ended = threading.Event()

    async def open_and_close() -> None:
        while not ended.is_set():
            stores = [at(tmp_path, synchronous="NORMAL") for _ in range(3)]
            await asyncio.gather(*(other.open() for other in stores))
            await asyncio.gather(*(_append(other, "o", 1) for other in stores))
            for other in stores:
                await other.close()

    lock = subprocess.Popen([sys.executable, "-c", LOCK_AND_UNLOCK], cwd=tmp_path)
    threads = [threading.Thread(target=lambda: asyncio.run(open_and_close())) for _ in range(2)]
    for thread in threads:
        thread.start()
    codes = []
    for _ in range(10):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                signal.alarm(20)
                code = 2 if _open_databases() else 0
                asyncio.run(_append_in_a_child(tmp_path, store))
            except BaseException:  # noqa: BLE001 - the parent reports it
                code = 1
            finally:
                os._exit(code)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    ended.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    lock.kill()
    lock.wait()
    assert codes == [0] * 10  # 1: the append failed; 2: it inherited a connection; -14: it hung
    texts = [message.text for message in asyncio.run(store.load("shared"))]
    assert (texts.count("own0"), texts.count("inherited0")) == (10, 10)
    asyncio.run(store.close())


async def _append_in_a_child(folder: Path, inherited: Store) -> None:
    async with at(folder, synchronous="NORMAL") as own:
        await _append(own, "own", 1)
    await _append(inherited, "inherited", 1)


def _open_databases() -> bool:
    """Return whether this process has a database file open; always False on systems other than Linux."""
    if sys.platform != "linux":
        return False
    names = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return any(str(name.resolve()).endswith("turnlog.db") for name in names)


async def test_a_fork_waits_for_no_lock_of_another_process(tmp_path: Path) -> None:
    """Otherwise a fork would block the event loop until the waiting write times out."""
    async with at(tmp_path, timeout=2) as store:
        await _append(store, "a", 1)
        lock = sqlite3.connect(tmp_path / "turnlog.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(_append(store, "b", 1))
        await asyncio.sleep(0.02)
        pid = os.fork()
        if not pid:
            os._exit(0)
        await asyncio.to_thread(os.waitpid, pid, 0)
        lock.close()
        await waiting
        assert [message.text for message in await store.load("shared")] == ["a0", "b0"]


async def test_a_read_does_not_wait_for_a_write_that_waits_for_a_lock(tmp_path: Path) -> None:
    async with at(tmp_path, timeout=2) as store:
        await _append(store, "a", 1)
        lock = sqlite3.connect(tmp_path / "turnlog.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(_append(store, "b", 1))
        await asyncio.sleep(0.02)
        assert [message.text for message in await store.load("shared")] == ["a0"]
        lock.close()
        await waiting
        assert [message.text for message in await store.load("shared")] == ["a0", "b0"]


async def _append(store: Store, name: str, count: int) -> None:
    for place in range(count):
        await store.append("shared", [user(f"{name}{place}")])


def test_several_event_loops_share_one_store(tmp_path: Path) -> None:
    """A loop that ends during its operation does not block the others."""
    store = at(tmp_path)
    asyncio.run(store.open())

    async def leave() -> None:
        asyncio.ensure_future(store.append("left", [user("?")]))  # noqa: RUF006 - left unfinished on purpose
        await asyncio.sleep(0)

    asyncio.run(leave())
    loops = [threading.Thread(target=lambda name=name: asyncio.run(_append(store, name, 25))) for name in "abcd"]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    assert (asyncio.run(store.info("shared"))).turns == 100
    asyncio.run(store.close())


# -------------------------------------------------------------------------------------------------------------- damage


async def test_a_damaged_record_is_named_and_hides_nothing_else(tmp_path: Path) -> None:
    """Other records can be read, turns can be appended, and nothing is deleted.  A restored record is read again."""
    async with at(tmp_path) as store:
        for place in range(10):
            await store.append("alice", [user(f"turn {place}"), assistant("ok")])
        await store.append("bob", [user("hello")])
    sound = _payload(tmp_path, 4)
    for flip in (0, 3, 20, len(sound) - 1):
        damaged = bytes(byte ^ (place == flip) for place, byte in enumerate(sound))
        _payload(tmp_path, 4, damaged)
        async with at(tmp_path) as store:
            with pytest.raises(CorruptRecord, match="session 'alice' in namespace 'default', turn 4") as caught:
                await store.load("alice")
            assert caught.value.turn == 4
            assert (await store.load("alice", last=6))[0].text > "turn 4"
            assert len(await store.load("alice", before=4)) == 8
            assert len(await store.load("bob")) == 1
            await store.append("alice", [user("turn x"), assistant("ok")])
    _payload(tmp_path, 4, sound)
    async with at(tmp_path) as store:
        messages: Sequence[Message] = await store.load("alice")
        assert [message.text for message in messages[:20:2]] == [f"turn {place}" for place in range(10)]
        assert len(messages) == 28


OF_ALICE = f"row = (SELECT row FROM turnlog_sessions WHERE session = x'{b'alice'.hex()}')"


def _payload(folder: Path, number: int, replaced: bytes | None = None) -> bytes:
    """Return the payload of a turn of the first session, after replacing it if `replaced` is given."""
    connection = sqlite3.connect(folder / "turnlog.db", isolation_level=None)
    if replaced is not None:
        connection.execute(
            f"UPDATE turnlog_records SET payload = ? WHERE {OF_ALICE} AND number = ?", (replaced, number)
        )
    query = f"SELECT payload FROM turnlog_records WHERE {OF_ALICE} AND number = ?"
    (found,) = connection.execute(query, (number,)).fetchone()
    connection.close()
    assert isinstance(found, bytes)
    return found


async def test_a_session_with_a_damaged_record_can_be_overwritten(tmp_path: Path) -> None:
    """`expect=ANY` overwrites it.  With a version, or to extend it, the error names the damaged turn."""
    async with at(tmp_path) as store:
        for place in range(5):
            await store.append("alice", [user(f"turn {place}"), assistant("ok")])
        version = (await store.info("alice")).version
    sound = _payload(tmp_path, 2)
    _payload(tmp_path, 2, sound[:-1] + bytes([sound[-1] ^ 1]))
    async with at(tmp_path) as store:
        for expect in (None, version):
            with pytest.raises(CorruptRecord, match="turn 2"):
                await store.save("alice", [user("anew")], expect=expect)
        assert (await store.save("alice", [user("anew")], expect=ANY)).messages == 1
        assert [message.text for message in await store.load("alice")] == ["anew"]


async def test_a_damaged_head_or_header_is_a_corrupt_record(tmp_path: Path) -> None:
    async with at(tmp_path) as store:
        await store.append("alice", [user("hello")], metadata={"title": "T"})
        await store.append("bob", [user("hello")])
    for table, column in (("records", "head"), ("sessions", "head"), ("metadata", "metadata")):
        connection = sqlite3.connect(tmp_path / "turnlog.db", isolation_level=None)
        (sound,) = connection.execute(f"SELECT {column} FROM turnlog_{table} WHERE {OF_ALICE}").fetchone()
        connection.execute(f"UPDATE turnlog_{table} SET {column} = x'c1' WHERE {OF_ALICE}")
        async with at(tmp_path) as store:
            with pytest.raises(CorruptRecord, match="'alice'"):
                await store.load("alice")
            assert len(await store.load("bob")) == 1
            with pytest.raises(SessionNotFound):
                await store.load("carol")
        connection.execute(f"UPDATE turnlog_{table} SET {column} = ? WHERE {OF_ALICE}", (sound,))
        connection.close()
    async with at(tmp_path) as store:
        assert len(await store.load("alice")) == 1

"""The file: opened once, closed after its last use, opened anew after a fork, upgraded, and refused if it is newer."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import lmdb
import pytest

from turnlog import AccessError, CorruptRecord, SchemaError, Store, user
from turnlog_lmdb import LmdbBackend
from turnlog_lmdb import _environment as environments


@contextmanager
def written(folder: Path) -> "Iterator[tuple[lmdb.Transaction[bytes], environments.Tables]]":
    """Change the tables of a store."""
    environment = environments.acquire(str(folder))
    with environment.files.begin(write=True) as transaction:
        yield transaction, environment.tables
    environments.release(environment)


async def texts(store: Store, session: str = "alice") -> list[str | None]:
    return [message.text for message in await store.load(session)]


async def stored(folder: Path, *sessions: str) -> None:
    async with Store(LmdbBackend(str(folder))) as store:
        for session in sessions:
            await store.append(session, [user(session)])


def test_a_name_and_a_location(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    backend = LmdbBackend(str(tmp_path / "link"))
    assert repr(backend) == f"<LmdbBackend {tmp_path}>"
    assert backend.location == f"lmdb:{tmp_path}"


def test_backends_of_a_folder_share_an_environment_until_the_last_one_closes(tmp_path: Path) -> None:
    async def main() -> None:
        async with Store(LmdbBackend(str(tmp_path))) as one:
            async with Store(LmdbBackend(str(tmp_path))) as two:
                await two.append("alice", [user("Hello")])
            assert await texts(one) == ["Hello"]
        lmdb.open(str(tmp_path)).close()  # LMDB refuses it while the environment is open

    asyncio.run(main())


def test_a_running_operation_keeps_the_file_open(tmp_path: Path) -> None:
    is_running, may_end = Event(), Event()

    class Slow(LmdbBackend):
        def slow(self) -> None:
            is_running.set()
            assert may_end.wait(10)

    async def main() -> None:
        backend = Slow(str(tmp_path))
        await backend.open()
        task = asyncio.create_task(asyncio.to_thread(backend._run, lambda *_: backend.slow(), writes=True))
        await asyncio.to_thread(is_running.wait, 10)
        await backend.close()
        with pytest.raises(lmdb.Error, match="already open"):
            lmdb.open(str(tmp_path))
        may_end.set()
        await task
        lmdb.open(str(tmp_path)).close()

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the threads of `to_thread` are idle
def test_a_forked_process_opens_the_file_anew(tmp_path: Path) -> None:
    store = Store(LmdbBackend(str(tmp_path)))
    asyncio.run(store.open())
    asyncio.run(store.append("alice", [user("one")]))
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(store.append("alice", [user("two")]))
            asyncio.run(store.close())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert asyncio.run(texts(store)) == ["one", "two"]
    asyncio.run(store.append("alice", [user("three")]))
    asyncio.run(store.close())


def test_version_1_is_upgraded(tmp_path: Path) -> None:
    """Version 1 had no table `pages`: the upgrade makes it."""
    asyncio.run(stored(tmp_path, "a", "b"))
    with written(tmp_path) as (transaction, tables):
        transaction.drop(tables.pages, delete=False)
        transaction.put(b"version", b"\1", db=tables.format)

    async def main() -> None:
        async with Store(LmdbBackend(str(tmp_path))) as store:
            assert [info.key.session async for info in store.sessions()] == ["b", "a"]
            await store.append("a", [user("again")])
            assert [info.key.session async for info in store.sessions()] == ["a", "b"]

    asyncio.run(main())


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    asyncio.run(stored(tmp_path, "a"))
    with written(tmp_path) as (transaction, tables):
        transaction.put(b"version", b"\3", db=tables.format)
    with pytest.raises(SchemaError, match="has version 3, and this turnlog-lmdb reads versions up to 2: upgrade it"):
        asyncio.run(stored(tmp_path, "b"))
    files = lmdb.open(str(tmp_path), max_dbs=1)
    with files.begin() as transaction:
        assert transaction.get(b"version", db=files.open_db(b"format", transaction)) == b"\3"
    files.close()


def test_another_file_is_damage_and_a_file_as_folder_an_access_error(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no database" * 1_000)
    with pytest.raises(CorruptRecord, match=r"the file of LMDB in .* is damaged"):
        asyncio.run(stored(tmp_path, "a"))
    with pytest.raises(AccessError, match=r"cannot be opened: .*: correct the path"):
        asyncio.run(stored(tmp_path / "data.mdb", "a"))

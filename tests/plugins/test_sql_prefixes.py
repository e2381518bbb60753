"""Pages of a prefix and of all namespaces in SQLite: many sessions, damaged tables, and concurrent erasures."""

from __future__ import annotations

import asyncio
import sqlite3
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from turnlog import CorruptRecord, Key, Query, Store, open_store, user
from turnlog_sql import _pages
from turnlog_sql.sqlite import SQLiteBackend

NAMES = ["a", "a%", "aB", "ab", "ab\\", "abc", "b", "é1", "é2", "\U0010ffff1"]


async def listed(store: Store, **asked: Any) -> list[list[str]]:
    """Return the session ids of all pages of two sessions."""
    query, found = Query(namespace="default", limit=2, **asked), []
    while True:
        page = await store.backend.page(query)
        assert not page.damaged
        found.append([info.key.session for info in page.infos])
        if page.cursor is None:
            return found
        query = Query(namespace="default", limit=2, cursor=page.cursor, **asked)


def unreadable(*_: object) -> None:
    """Raise the error of a damaged row or index."""
    raise CorruptRecord("database disk image is malformed")


@pytest.mark.parametrize("few", [0, 2_000])
@pytest.mark.parametrize("damaged", [(), ("page",), ("page", "listed_keys")], ids=str)
async def test_all_ways_to_read_a_page_find_the_same_sessions(
    few: int, damaged: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frequent prefix, a rare one, one by one after damage to a row, and all keys after damage to the index."""
    monkeypatch.setattr(_pages, "_FEW", few)
    async with Store(SQLiteBackend(f"sqlite:///{tmp_path}/t.db")) as store:
        for number, name in enumerate(NAMES):
            await store.append(name, [user("x")], owner=("ann", "bob", None)[number % 3])
        for name in damaged:
            monkeypatch.setattr(_pages, name, unreadable)
        for prefix, owner in product(("", "a", "a%", "ab", "ab\\", "é", "\U0010ffff", "z"), (None, "", "ann", "bob")):
            wanted = [
                name
                for number, name in reversed(list(enumerate(NAMES)))
                if name.startswith(prefix) and owner in (None, ("ann", "bob", "")[number % 3])
            ]
            pages = await listed(store, prefix=prefix, owner=owner)
            assert [name for page in pages for name in page] == wanted, (prefix, owner)
            assert all(len(page) == 2 for page in pages[:-1]), "only the last page is short"
        connection = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
        connection.execute("UPDATE turnlog_sessions SET head = x'c1' WHERE session = x'62'")
        connection.close()
        assert [len(page) for page in await listed(store, prefix="a")] == [2, 2, 2], "the damaged one is not asked for"
        damage = (await store.list_sessions(prefix="b")).damaged
        assert [error.key for error in damage] == [Key("default", "b")]


async def test_two_erasures_while_others_write_touch_no_other_owner(tmp_path: Path) -> None:
    """Two stores erase and export an owner in all namespaces, while a third one writes sessions of both owners."""
    url = f"sqlite:///{tmp_path}/t.db"
    async with open_store(url) as writer, open_store(url) as first, open_store(url) as second:
        done = asyncio.Event()

        async def write() -> None:
            for number in range(40):
                view = writer.within(f"n{number % 4}")
                await view.append(f"bob{number}", [user("bob's")], owner="bob")
                await view.append(f"ann{number}", [user("ann's")], owner="ann")
                if number % 5 == 0:
                    await view.merge_metadata(f"ann{number}", owner="bob")  # perhaps after its erasure
            done.set()

        async def erase(store: Store) -> int:
            count = 0
            while not done.is_set():
                count += (await store.erase_owner("ann", all_namespaces=True)).sessions
            return count + (await store.erase_owner("ann", all_namespaces=True)).sessions

        async def export() -> None:
            while not done.is_set():
                async for session in second.export_owner("bob", all_namespaces=True):
                    assert session.info.owner == "bob"

        _, erased, more, _ = await asyncio.gather(write(), erase(first), erase(second), export())
        left = [info async for info in first.sessions(all_namespaces=True)]
        assert {info.owner for info in left} == {"bob"}
        given = {f"ann{number}" for number in range(0, 40, 5)}
        assert given | {f"bob{number}" for number in range(40)} == {info.key.session for info in left}
        assert erased + more >= 32, "those that were not given to bob"

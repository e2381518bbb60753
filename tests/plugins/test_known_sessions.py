"""A list does not decode the headers that its process has seen, but shows the changes of other processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from redis_writers import emptied
from turnlog import SessionInfo, Store, open_store, user
from turnlog.rules import Header


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return emptied() if request.param == "redis" else f"sqlite:///{tmp_path}/known.db"


async def listed(store: Store) -> SessionInfo:
    (info,) = [info async for info in store.sessions()]
    return info


async def test_a_list_shows_the_changes_of_another_process(url: str) -> None:
    async with open_store(url) as store, open_store(url) as other:
        await store.append("s", [user("1")], metadata={"title": "old"})
        assert (await listed(store)).messages == 1
        await other.merge_metadata("s", {"title": "new"})
        assert (await listed(store)).metadata == {"title": "new"}
        await other.append("s", [user("2")])
        assert (await listed(store)).messages == 2
        await other.erase("s")
        await other.append("s", [user("3")], owner="ann")
        assert await listed(store) == await listed(other)


async def test_a_list_decodes_each_header_that_is_new_to_its_process(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    unpack = Header.unpack

    def counted(key: Any, *args: Any, **more: Any) -> Header:
        decoded.append(key.session)
        return unpack(key, *args, **more)

    async with open_store(url) as store, open_store(url) as other:
        await store.append("s", [user("1")])
        await other.append("t", [user("1")])
        monkeypatch.setattr(Header, "unpack", counted)
        assert [info.key.session async for info in store.sessions()] == ["t", "s"]
        assert decoded == ["t"]

"""Contract: pages of the sessions whose ids begin with a prefix."""

from __future__ import annotations

from typing import Any

import pytest

from ..errors import InvalidInput
from ..store import Store
from ..values.query import Query
from ._base import ContractBase
from ._difficult_ids import IDS

_PREFIXES = [
    *[
        "",
        " ",
        "a",
        "A",
        "ab",
        "Ab",
        "a ",
        "a:",
        "a%",
        "a_",
        "ac%",
        "%",
        "_",
        "*",
        "?",
        "[",
        "[a]",
        "\\",
        "^",
        "$",
        ".",
    ],
    *["'", '"', ":", "{", "x", "x:", "x" * 254, "x" * 255, "X", "i", "I", "é", "e", "\u212b", "\u00e5", "a\u0301", "ß"],
    *["s", "\u0df4", "\U0001f468", "\U0001f600", "\U0001f600" * 63, "\U0010ffff", "~", "nobody", "%s", "0", "00"],
]

_INVALID: list[Any] = [7, b"a", True, ["a"], "x" * 256, "é" * 128, "a\0", "\n", "\x7f", "\x85", "\u202ea", "\ud800"]


async def _listed(store: Store, prefix: str, limit: int, owner: str | None = None) -> list[str]:
    """Return session ids page by page; check that each page but the last is full."""
    found: list[str] = []
    cursor = None
    while True:
        page = await store.list_sessions(owner=owner, prefix=prefix, limit=limit, cursor=cursor)
        assert not page.damaged
        assert len(page.infos) == limit or page.cursor is None, "a page is short"
        assert page.cursor is None or page.cursor != cursor, "the pages repeat"
        found += [info.key.session for info in page.infos]
        cursor = page.cursor
        if cursor is None:
            return found


class Prefixes(ContractBase):
    async def test_the_ids_with_a_prefix(self, store: Store) -> None:
        """A page of a prefix has only the sessions whose ids begin with its bytes; no character is a wildcard."""
        for name in IDS:
            await store.merge_metadata(name, {"x": 1})
        for prefix in _PREFIXES:
            expected = sorted(name for name in IDS if name.encode().startswith(prefix.encode()))
            assert sorted(await _listed(store, prefix, 100)) == expected, repr(prefix)

    async def test_a_prefix_page_by_page(self, store: Store) -> None:
        """The pages of a prefix have the order of all pages, and only the last one has fewer than `limit` sessions."""
        for number in range(24):
            await store.merge_metadata(f"{'ab'[number % 2]}/{number}", {"x": 1})
            await self.advance(number % 3)
        order = [info.key.session async for info in store.sessions()]
        for prefix in ("a/", "b/", "a/1", "", "c"):
            expected = [name for name in order if name.startswith(prefix)]
            for limit in (1, 5, 12, 1_000):
                assert await _listed(store, prefix, limit) == expected, f"{prefix!r}, limit={limit}"
            assert [info.key.session async for info in store.sessions(prefix=prefix)] == expected

    async def test_a_prefix_among_many(self, store: Store) -> None:
        """Sessions with a prefix are found among any number of sessions that were updated later."""
        for number in range(3):
            await store.merge_metadata(f"old/{number}", {"x": 1})
        await self.advance(1)
        for number in range(110):
            await store.merge_metadata(f"new/{number}", {"x": 1})
        for prefix, count in (("old/", 3), ("old/1", 1), ("new/", 110), ("n", 110), ("old/3", 0)):
            for limit in (2, 100) if count < 110 else (100,):
                assert len(await _listed(store, prefix, limit)) == count, (prefix, limit)

    async def test_a_prefix_and_an_owner(self, store: Store) -> None:
        """A page of a prefix and an owner has only sessions with both, of one namespace."""
        for name, owner in (("a1", "u1"), ("a2", "u2"), ("a3", None), ("b1", "u1"), ("b2", None)):
            await store.merge_metadata(name, {"x": 1}, owner=owner)
            await store.within("other").merge_metadata(f"{name}x", {"x": 1}, owner=owner)
        for prefix, owner, names in (
            ("a", "u1", ["a1"]),
            ("a", "u2", ["a2"]),
            ("a", "", ["a3"]),
            ("a", None, ["a1", "a2", "a3"]),
            ("b", "u1", ["b1"]),
            ("b", "u2", []),
            ("u", "u1", []),
        ):
            for limit in (1, 9):
                assert sorted(await _listed(store, prefix, limit, owner)) == names, (prefix, owner)
            others = await _listed(store.within("other"), prefix, 9, owner)
            assert sorted(others) == [f"{name}x" for name in names], (prefix, owner)
        view = store.for_owner("u1")
        assert [info.key.session for info in (await view.list_sessions(prefix="a")).infos] == ["a1"]
        assert await _listed(view, "a", 9, "u2") == []

    async def test_no_prefix_of_what_is_gone(self, store: Store) -> None:
        """A page of a prefix has no session that has expired or was deleted."""
        for name, ttl in (("a/dead", None), ("a/short", 10.0), ("a/long", 1000.0)):
            await store.merge_metadata(name, {"x": 1}, ttl=ttl)
        await store.erase("a/dead")
        await self.advance(11)
        assert await _listed(store, "a/", 1) == ["a/long"]

    async def test_a_cursor_of_another_prefix(self, store: Store) -> None:
        """A query raises `InvalidInput` if its cursor belongs to a query with another prefix."""
        for name in ("a1", "a2", "b1"):
            await store.merge_metadata(name, {"x": 1})
        cursor = (await store.backend.page(Query(namespace=store.namespace, prefix="a", limit=1))).cursor
        assert cursor is not None
        for prefix in ("b", "a1", "", None):
            with pytest.raises(InvalidInput):
                await store.list_sessions(prefix=prefix, cursor=cursor)
        cursor = (await store.list_sessions(limit=1)).cursor
        with pytest.raises(InvalidInput):
            await store.list_sessions(prefix="a", cursor=cursor)

    async def test_invalid_prefixes(self, store: Store) -> None:
        """A prefix with which no id can begin raises `InvalidInput`."""
        for prefix in _INVALID:
            with pytest.raises(InvalidInput):
                await store.list_sessions(prefix=prefix)
            with pytest.raises(InvalidInput):
                async for _ in store.sessions(prefix=prefix):
                    pass

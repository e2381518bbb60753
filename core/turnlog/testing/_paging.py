"""Contract: pages of sessions."""

from __future__ import annotations

import pytest

from .. import limits
from ..errors import InvalidInput
from ..store import Store
from ..values.change import Change
from ..values.query import Query
from ._base import ContractBase
from ._forged_cursors import cursor_of, forged_cursors
from ._material import ID, Watched, key, picture, record, say, texts


async def _pages(store: Store, limit: int, owner: str | None = None) -> list[str]:
    """Return session ids page by page; check the limit of each page."""
    found: list[str] = []
    cursor = None
    while True:
        page = await store.backend.page(Query(namespace=store.namespace, owner=owner, limit=limit, cursor=cursor))
        assert len(page.infos) <= limit
        assert page.infos or cursor is None, "the last page has no cursor"
        found += [info.key.session for info in page.infos]
        cursor = page.cursor
        if cursor is None:
            return found


class Paging(ContractBase):
    async def test_the_last_updated_first(self, store: Store) -> None:
        """`page` orders sessions by the last write of turns, the latest first; changes of metadata move no session."""
        for name in ("one", "two", "three", "four"):
            await store.append(name, say("a"))
            await self.advance(1)
        await store.backend.commit(key(store, "two"), Change(keep=0))
        await self.advance(1)
        await store.append("one", say("b"))
        await self.advance(1)
        await store.merge_metadata("three", {"title": "x"}, owner="u1")
        await self.advance(1)
        await store.load("three")  # a read changes nothing
        page = await store.backend.page(Query(namespace=store.namespace))
        assert [info.key.session for info in page.infos] == ["one", "two", "four", "three"]
        assert page.cursor is None

    async def test_equal_times_by_session_id(self, store: Store) -> None:
        """`page` orders sessions that were updated at the same time by session id, as bytes."""
        names = ["b", "B", "a", "ä", "z", "\uffee", "\U0001f600", "a b", "ab", "A"]
        for name in names:
            await store.append(name, say("a"))
        for limit in (1, 3, 100):
            page = await store.backend.page(Query(namespace=store.namespace, limit=100))
            order = [i.key.session for i in sorted(page.infos, key=lambda i: (-i.updated, i.key.session.encode()))]
            assert await _pages(store, limit) == order
        assert sorted(order) == sorted(names)

    async def test_page_by_page(self, store: Store) -> None:
        """The cursor of a page selects the next page; the last page has no cursor, and each session is on one page."""
        names = [f"s{number}" for number in range(7)]
        for number, name in enumerate(names):
            await store.append(name, say("a"))
            await self.advance(number % 2)
        for limit in (1, 2, 3, 6, 7, 8, 1000):
            assert sorted(await _pages(store, limit)) == names, f"limit={limit}"
        assert sorted([info.key.session async for info in store.sessions()]) == names

    async def test_an_empty_page(self, store: Store) -> None:
        """`page` returns an empty last page if there are no sessions."""
        page = await store.backend.page(Query(namespace=store.namespace))
        assert (page.infos, page.cursor) == ((), None)
        await store.append(ID, say("a"))
        page = await store.backend.page(Query(namespace="nobody"))
        assert (page.infos, page.cursor) == ((), None)

    async def test_more_than_a_page_of_sessions(self, store: Store) -> None:
        """`sessions` yields any number of sessions."""
        names = {f"s{number}" for number in range(230)}
        for name in names:
            await store.append(name, say("a"), owner="u1")
        shown = [info.key.session async for info in store.sessions()]
        assert len(shown) == 230
        assert set(shown) == names
        assert (await store.erase_owner("u1")).sessions == 230
        assert [info async for info in store.sessions()] == []

    async def test_by_owner(self, store: Store) -> None:
        """A page of an owner has only sessions of that owner; the empty string selects sessions without an owner."""
        for name, owner in (("a", "u1"), ("b", "u2"), ("c", "u1"), ("d", None), ("e", "U1"), ("f", "u1 "), ("g", "u")):
            await store.append(name, say("x"), owner=owner)
        for owner, names in (
            ("u1", ["a", "c"]),
            ("u2", ["b"]),
            ("u%", []),
            ("u_", []),
            ("", ["d"]),
            (None, list("abcdefg")),
        ):
            assert sorted(await _pages(store, 1, owner)) == names, f"owner={owner!r}"
            assert sorted([i.key.session async for i in store.sessions(owner=owner)]) == names
        await store.merge_metadata("a", owner="u2")
        await store.merge_metadata("c", owner="")
        assert [sorted(await _pages(store, 9, owner)) for owner in ("u1", "u2", "")] == [[], ["a", "b"], ["c", "d"]]

    async def test_infos_on_pages(self, store: Store) -> None:
        """`page` returns the same infos as `info`."""
        await store.append("a", say("x", "y"), owner="u1", metadata={"title": "é"})
        await store.merge_metadata("a", ttl=600.0)
        await store.backend.commit(key(store, "b"), Change(append=tuple(record(t) for t in "xyz"), retain=2))
        await store.backend.commit(key(store, "b"), Change(keep=2))
        infos = {info.key.session: info for info in (await store.backend.page(Query(namespace=store.namespace))).infos}
        for name in ("a", "b"):
            listed, info = infos[name], await store.info(name)
            for field in info.__struct_fields__:
                if field != "expires_in":
                    assert getattr(listed, field) == getattr(info, field), field
            assert (listed.expires_in is None) == (info.expires_in is None)

    async def test_what_is_gone_is_on_no_page(self, store: Store) -> None:
        """`page` returns no session that has expired or was deleted."""
        await store.append("dead", say("a"), owner="u1")
        await store.merge_metadata("short", owner="u1", ttl=10.0)
        await store.merge_metadata("long", owner="u1", ttl=1000.0)
        await store.erase("dead")
        await self.advance(11)
        assert await _pages(store, 1) == ["long"]
        assert await _pages(store, 1, "u1") == ["long"]

    async def test_a_page_extends_no_life(self) -> None:
        """`page` restarts no time to live."""
        store = await self.opened(ttl=80.0)
        await store.append(ID, say("a"))
        await self.advance(60)
        assert await _pages(store, 10) == [ID]
        await self.advance(21)
        assert await _pages(store, 10) == []

    async def test_one_namespace_only(self, store: Store) -> None:
        """A page has only sessions of one namespace."""
        names = ["acme", "acme-corp", "acme.", "ACME", "ac_e", "ac%e", "acme:", "a"]
        for name in names:
            await store.within(name).append(f"of {name}", say("a"), owner="u1")
        for name in names:
            assert await _pages(store.within(name), 2) == [f"of {name}"]
            assert await _pages(store.within(name), 2, "u1") == [f"of {name}"]
        assert await _pages(store, 2) == []

    async def test_what_changes_meanwhile(self, store: Store) -> None:
        """A session that changes between two pages moves to the front; every other session is listed once."""
        for number in range(6):
            await store.append(f"s{number}", say("a"))
            await self.advance(1)
        page = await store.backend.page(Query(namespace=store.namespace, limit=2))
        assert [info.key.session for info in page.infos] == ["s5", "s4"]
        await store.erase("s4")  # the last session of the first page
        await store.append("s2", say("b"))
        await store.append("new", say("a"))
        rest = await store.backend.page(Query(namespace=store.namespace, limit=10, cursor=page.cursor))
        assert [info.key.session for info in rest.infos] == ["s3", "s1", "s0"]

    async def test_a_cursor_of_another_query(self, store: Store) -> None:
        """A query raises `InvalidInput` if its cursor belongs to another query, or is not a cursor."""
        for name in "abc":
            await store.append(name, say("x"), owner="u1")
        cursor = (await store.backend.page(Query(namespace=store.namespace, limit=1))).cursor
        assert cursor is not None
        for namespace, owner, given in (
            ("other", None, cursor),
            (store.namespace, "u1", cursor),
            (store.namespace, None, cursor[:-3]),
            (store.namespace, None, "1"),
            (store.namespace, None, ""),
        ):
            with pytest.raises(InvalidInput):
                await store.backend.page(Query(namespace=namespace, owner=owner, cursor=given))

    async def test_a_forged_cursor(self, store: Store) -> None:
        """An invalid cursor raises `InvalidInput` before any I/O."""
        await store.append(ID, say("x"))
        layer = Watched(store.backend)
        for forged in forged_cursors(store.namespace):
            with pytest.raises(InvalidInput):
                await layer.page(Query(namespace=store.namespace, cursor=forged))
        assert layer.calls == [], "it was refused after I/O"

    async def test_cursors_at_the_limits(self, store: Store) -> None:
        """A cursor may hold the first or the last possible time, and the longest id."""
        await store.append(ID, say("x"))
        for updated, names in ((0.0, []), (5e-324, []), (float(limits.MAX_NUMBER), [ID])):
            for session in ("\U0010ffff", "é" * 127 + "x", "%'\\"):
                cursor = cursor_of(store.namespace, None, None, store.namespace, updated, session)
                page = await store.backend.page(Query(namespace=store.namespace, cursor=cursor))
                assert [info.key.session for info in page.infos] == names, (updated, session)

    async def test_export_an_owner(self, store: Store) -> None:
        """`export_owner` yields every session of an owner, whole."""
        for name, owner in (("a", "u1"), ("b", "u2"), ("c", "u1")):
            await store.append(name, say(name, "x"), owner=owner)
        found = {session.info.key.session: texts(session.messages) async for session in store.export_owner("u1")}
        assert found == {"a": ["a", "x"], "c": ["c", "x"]}

    async def test_erase_an_owner(self, store: Store) -> None:
        """`erase_owner` deletes every session of an owner and returns their number."""
        for name, owner in (("a", "u1"), ("b", "u2"), ("c", "u1"), ("d", None)):
            await store.append(name, say(name), owner=owner)
        other = store.within("other")
        await other.append("a", say("a"), owner="u1")
        assert (await store.erase_owner("u1")).sessions == 2
        assert (await store.erase_owner("u1")).sessions == 0
        assert sorted(await _pages(store, 10)) == ["b", "d"]
        assert await picture(other, "a") is not None

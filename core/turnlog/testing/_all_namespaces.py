"""Contract: pages, exports and removals of the sessions of all namespaces."""

from __future__ import annotations

from itertools import product

import pytest

from ..errors import InvalidInput, Unsupported
from ..layers import Layer
from ..store import Store
from ..values.key import Key
from ..values.query import Query
from ._base import ContractBase
from ._forged_cursors import cursor_of
from ._material import ID, picture, say, texts

_NAMES = ["B", "a", "a!", "a/b", "a0", "t", "u", "\u00e4", "\uffee", "\U0001f600"]
"""In the order of their bytes."""


async def _listed(store: Store, limit: int, owner: str | None = None, prefix: str | None = None) -> list[Key]:
    """Return the keys of all sessions, page by page."""
    found: list[Key] = []
    query = Query(namespace=None, owner=owner, prefix=prefix, limit=limit)
    while True:
        try:
            page = await store.backend.page(query)
        except Unsupported as error:
            pytest.skip(str(error))
        assert not page.damaged
        assert len(page.infos) <= limit
        found += [info.key for info in page.infos]
        if page.cursor is None:
            return found
        assert page.cursor != query.cursor, "the pages repeat"
        query = Query(namespace=None, owner=owner, prefix=prefix, limit=limit, cursor=page.cursor)


class AllNamespaces(ContractBase):
    async def test_sessions_of_all_namespaces(self, store: Store) -> None:
        """A query of all namespaces returns each session once, by the bytes of the namespaces and then by time."""
        assert await _listed(store, 10) == []
        for number, name in product(range(3), reversed(_NAMES)):
            await store.within(name).append(f"{'ab'[number % 2]}{number}", say("x"), owner="u1" if number else None)
            await self.advance(1)
        assert await _listed(store, 1_000) == [Key(name, id) for name in _NAMES for id in ("a2", "b1", "a0")]
        for limit in (1, 2, 7, 30):
            assert len(await _listed(store, limit)) == 30
            assert await _listed(store, limit, "u1") == [Key(name, id) for name in _NAMES for id in ("a2", "b1")]
            assert await _listed(store, limit, "") == [Key(name, "a0") for name in _NAMES]
            assert await _listed(store, limit, "u1", "b") == [Key(name, "b1") for name in _NAMES]
            assert await _listed(store, limit, "u2") == []

    async def test_many_namespaces(self, store: Store) -> None:
        """A query of all namespaces finds sessions in any number of namespaces; a page may be short, or empty."""
        await _listed(store, 10)
        for number in range(103):
            await store.within(f"n{number:03}").merge_metadata(ID, {"x": 1}, owner="u1" if number % 102 == 0 else "u2")
        assert [key.namespace for key in await _listed(store, 10, "u1")] == ["n000", "n102"]
        assert len(await _listed(store, 1_000)) == 103
        found = [session.info.key.namespace async for session in store.export_owner("u1", all_namespaces=True)]
        assert found == ["n000", "n102"]

    async def test_all_namespaces_of_layers(self, store: Store) -> None:
        """A query of all namespaces omits the internal data of layers, and `erase_owner` removes none of it."""
        await _listed(store, 10)
        for name in ("a", "z"):
            await store.within(name).append(ID, say("x"), owner="u1")
        inner = store.backend
        while isinstance(inner, Layer):
            inner = inner.inner
        own = Key("turnlog:own", ID)
        await inner.copy(Key("a", ID), own, at=None, change_id="c")
        assert await _listed(store, 1) == [Key("a", ID), Key("z", ID)]
        assert (await store.erase_owner("u1", all_namespaces=True)).sessions == 2
        assert (await inner.read(own, last=0)).info.key == own

    async def test_an_owner_of_all_namespaces(self, store: Store) -> None:
        """`export_owner` and `erase_owner` can cover all namespaces, and touch no session of another owner."""
        await _listed(store, 10)
        for name, (id, owner) in product("abc", (("one", "u1"), ("two", "u1"), ("three", "u2"), ("four", None))):
            await store.within(name).append(id, say(f"{name} {id}"), owner=owner)
        exported = [session async for session in store.export_owner("u1", all_namespaces=True)]
        assert sorted(texts(session.messages)[0] for session in exported) == [
            *("a one", "a two", "b one", "b two", "c one", "c two")
        ]
        assert [session async for session in store.export_owner("u1")] == []
        assert (await store.erase_owner("u1")).sessions == 0
        before = [await picture(store.within(name), id) for name, id in product("abc", ("three", "four"))]
        assert (await store.erase_owner("u1", all_namespaces=True)).sessions == 6
        assert (await store.erase_owner("u1", all_namespaces=True)).sessions == 0
        assert before == [await picture(store.within(name), id) for name, id in product("abc", ("three", "four"))]
        assert len(await _listed(store, 10)) == 6

    async def test_no_view_covers_all_namespaces(self, store: Store) -> None:
        """`export_owner` and `erase_owner` of a view raise `InvalidInput` for all namespaces."""
        await store.append(ID, say("x"), owner="u1")
        for view in (store.within("a"), store.for_owner("u1"), store.within("a").for_owner("u1")):
            with pytest.raises(InvalidInput):
                await view.erase_owner("u1", all_namespaces=True)
            with pytest.raises(InvalidInput):
                async for _ in view.export_owner("u1", all_namespaces=True):
                    pass
        assert texts(await store.load(ID)) == ["x"]

    async def test_a_cursor_of_all_namespaces(self, store: Store) -> None:
        """The cursor of a query of all namespaces is refused by a query of one, and the other way round."""
        await _listed(store, 10)
        for name in ("a", "b"):
            await store.within("a").append(name, say("x"))
        every = (await store.backend.page(Query(namespace=None, limit=1))).cursor
        one = (await store.backend.page(Query(namespace="a", limit=1))).cursor
        assert every is not None
        assert one is not None
        for namespace, cursor in (
            ("a", every),
            (None, one),
            (None, cursor_of(None, None, None, "", 1.0, ID)),
            (None, cursor_of(None, None, None, None, 1.0, ID)),
            (None, cursor_of(None, None, None, "a", 1.0, " ")),
            ("a", cursor_of("a", None, None, "b", 1.0, ID)),
            ("a", cursor_of("a", None, None, "a", 0.0, "")),
        ):
            with pytest.raises(InvalidInput):
                await store.backend.page(Query(namespace=namespace, cursor=cursor))
        page = await store.backend.page(Query(namespace=None, cursor=cursor_of(None, None, None, "a", 0.0, "")))
        assert (page.infos, page.cursor) == ((), None), "the whole namespace was listed"

"""Contract: lists of namespaces, for backends that support them."""

from __future__ import annotations

from itertools import product

import pytest

from ..errors import Closed, InvalidInput, Unsupported
from ..layers import Layer
from ..store import Store
from ..values.key import Key
from ..values.query import Query
from ._base import ContractBase
from ._material import ID, say

_NAMES = ["B", "a", "a!", "a/b", "a/b!", "a/b/c", "a0", "b", "z", "\u00e4", "\uffee", "\U0001f600"]
"""In the order of their bytes."""


async def _listed(store: Store) -> list[str]:
    try:
        return [name async for name in store.namespaces()]
    except Unsupported as error:
        pytest.skip(str(error))


class NamespaceLists(ContractBase):
    async def test_namespaces_that_have_sessions(self, store: Store) -> None:
        """`namespaces` returns each namespace with sessions once, in the order of their bytes."""
        assert await _listed(store) == []
        for name, number in product(reversed(_NAMES), range(3)):
            await store.within(name).append(f"s{number}", say("x"), owner="u1" if number else None)
        assert await _listed(store) == _NAMES
        assert await store.backend.namespaces() == _NAMES
        await store.backend.page(Query(namespace="nobody"))
        assert await _listed(await self.another(store)) == _NAMES

    async def test_namespaces_page_by_page(self, store: Store) -> None:
        """`namespaces` returns at most `limit` namespaces that follow `after`; `after` need not be a namespace."""
        await _listed(store)
        for name in reversed(_NAMES):
            await store.within(name).append(ID, say("x"))
        for limit in (1, 5, len(_NAMES), 1_000):
            assert await store.backend.namespaces(limit=limit) == _NAMES[:limit]
        for after, start in (("a", 2), ("a/", 3), ("A", 0), ("\U0010ffff", len(_NAMES))):
            assert await store.backend.namespaces(after=after, limit=3) == _NAMES[start : start + 3], after

    async def test_more_than_a_page_of_namespaces(self, store: Store) -> None:
        """A store yields any number of namespaces."""
        await _listed(store)
        names = [f"n{number:04}" for number in range(1_001)]
        for name in names:
            await store.within(name).merge_metadata(ID, {"x": 1})
        assert await _listed(store) == names

    async def test_a_namespace_without_sessions(self, store: Store) -> None:
        """A namespace without sessions is not listed; with a new session it is listed again."""
        await _listed(store)
        for name, id in product("ab", ("one", "two")):
            await store.within(name).append(id, say("x"), owner="u1")
        await store.within("a").erase("one")
        assert await _listed(store) == ["a", "b"]
        await store.within("a").erase("two")
        assert await _listed(store) == ["b"]
        await store.within("b").erase_owner("u1")
        assert await _listed(store) == []
        await store.within("a").append("one", say("x"))
        assert await _listed(store) == ["a"]

    async def test_namespaces_of_layers(self, store: Store) -> None:
        """A backend lists the namespaces with the data of layers; a store leaves them out."""
        await _listed(store)
        await store.append(ID, say("x"))
        inner = store.backend
        while isinstance(inner, Layer):
            inner = inner.inner
        session = await inner.read(Key(store.namespace, ID))
        await inner.copy(session.info.key, Key("turnlog:own", ID), at=None, change_id="c")
        assert await _listed(store) == [store.namespace]
        assert await store.backend.namespaces() == [store.namespace, "turnlog:own"]

    async def test_nested_namespaces(self, store: Store) -> None:
        """A view that `within` returned yields the names nested in its namespace; its `within` accepts them."""
        await _listed(store)
        for name in (*_NAMES, "a/b/d/e", "a/%2F", "a/100%25", "a/%zz", "a//x", "other/b"):
            await store.within(name).append(ID, say("x"))
        view = store.within("a")
        assert await _listed(view) == ["/", "100%", "b", "b!"]
        assert await _listed(view.within("b")) == ["c", "d"]
        assert await _listed(view.within("b").within("d")) == ["e"]
        assert await _listed(view.within("b").within("d").within("e")) == []
        assert await _listed(store.within("x" * 255)) == []

    async def test_namespaces_of_no_owner(self, store: Store) -> None:
        """`namespaces` raises `InvalidInput` in a view of one owner's sessions."""
        await store.append(ID, say("x"), owner="u1")
        with pytest.raises(InvalidInput):
            await _listed(store.for_owner("u1"))

    async def test_namespaces_that_cannot_be_asked_for(self, store: Store) -> None:
        """`namespaces` raises `InvalidInput` for an invalid `limit` or `after`, and `Closed` after `close`."""
        await _listed(store)
        for limit in (0, -1, 1_001, 1.5, "1", True, None):
            with pytest.raises(InvalidInput):
                await store.backend.namespaces(limit=limit)  # type: ignore[arg-type]
        for after in ("", " ", 7, b"a", "x" * 256):
            with pytest.raises(InvalidInput):
                await store.backend.namespaces(after=after)  # type: ignore[arg-type]
        closed = self.made()
        async with closed:
            pass
        with pytest.raises(Closed):
            await closed.backend.namespaces()
        with pytest.raises(Closed):
            await _listed(closed)

"""Contract: namespaces, and the views that `within` returns."""

from __future__ import annotations

from itertools import product

import pytest

from ..errors import Closed, InvalidInput
from ..store import Store
from ..values.key import Key
from ..values.query import Query
from ._base import ContractBase
from ._difficult_ids import KEYS
from ._material import ID, history, key, picture, say, texts

_NAMES = ["a", "b", "a/b", "/", "//", "a/", "/a", "%", "%2F", "%2f", "%25", "%252F", "a%2Fb", "a%b", ".", "..", "a:b"]


class Namespaces(ContractBase):
    async def test_the_namespace_of_a_store(self) -> None:
        """The default namespace of a store is `default`."""
        assert (await self.opened()).namespace == "default"
        named = await self.opened(namespace="shop")
        await named.append(ID, say("a"))
        assert (named.namespace, (await named.info(ID)).key) == ("shop", Key("shop", ID))
        with pytest.raises(InvalidInput):
            self.made(namespace=" ")

    async def test_a_namespace_is_a_tenants_own(self, store: Store) -> None:
        """No method of a store reads or changes a session of another namespace."""
        other = store.within("other")
        await store.append(ID, say("mine"), owner="u1", metadata={"title": "x"})
        before = await picture(store)
        assert await picture(other) is None
        await other.append(ID, say("theirs"), owner="u1", turn_id="t")
        await other.append(ID, say("more"))
        await other.merge_metadata(ID, {"title": "y"}, ttl=600.0)
        await other.rewind(ID, turns=1)
        await other.fork(ID, "bob")
        await other.save(ID, say("theirs", "saved"))
        await other.pop(ID)
        assert await history(other) == ["theirs"]
        assert [session.info.key async for session in store.export_owner("u1")] == [key(store)]
        assert (await other.erase_owner("u1")).sessions == 2
        assert await picture(store) == before
        assert await picture(store, "bob") is None

    async def test_namespace_and_id_do_not_run_together(self, store: Store) -> None:
        """Different keys name different sessions, for all characters in the namespace and the id."""
        for number, (namespace, name) in enumerate(KEYS):
            receipt = await store.within(namespace).append(name, say(f"{number}"))
            assert receipt.previous is None, f"{namespace!r}, {name!r} names another session"
        for number, (namespace, name) in enumerate(KEYS):
            session = await store.within(namespace).session(name)
            assert (session.info.key, texts(session.messages)) == (Key(namespace, name), [f"{number}"])
        for namespace, name in KEYS:
            assert await store.within(namespace).erase(name) is True
        for namespace, _ in KEYS:
            assert (await store.backend.page(Query(namespace=namespace))).infos == ()

    async def test_within_a_store(self, store: Store) -> None:
        """`store.within(name)` is a view of the namespace `name`, and ignores the namespace of the store."""
        other = store.within("other")
        assert other.namespace == "other"
        await other.append(ID, say("a"))
        assert (await other.info(ID)).key == Key("other", ID)
        assert await history(store.within("other")) == ["a"]
        assert await history(Store(store.backend, namespace="other")) == ["a"]
        assert await history(store) == []
        with pytest.raises(InvalidInput):
            store.within("")

    async def test_within_a_view(self, store: Store) -> None:
        """`within` nests on a view: `b` within `a` is the namespace `a/b`, which a store also accepts as text."""
        view = store.within("a").within("b")
        await view.append(ID, say("a"))
        assert (view.namespace, (await view.info(ID)).key) == ("a/b", Key("a/b", ID))
        for same in (store.within("a/b"), Store(store.backend, namespace="a/b"), store.within("a").within("b")):
            assert await history(same) == ["a"]
        for other in (store, store.within("a"), store.within("b"), store.within("a").within("a/b")):
            assert await history(other) == []

    async def test_nested_names_do_not_run_together(self, store: Store) -> None:
        """Different paths of nested names are different namespaces, for all characters in the names."""
        tenant = store.within("t")
        views = [tenant, *map(tenant.within, _NAMES)]
        views += [tenant.within(outer).within(inner) for outer, inner in product(_NAMES, _NAMES)]
        assert len({view.namespace for view in views}) == len(views)
        for number, view in enumerate(views[::7]):
            assert (await view.append(ID, say(f"{number}"))).previous is None, view.namespace
        for number, view in enumerate(views[::7]):
            assert await history(view) == [f"{number}"], view.namespace
        for outer, inner in (("a", ""), ("x" * 200, "y" * 60)):
            with pytest.raises(InvalidInput):
                store.within(outer).within(inner)

    async def test_views_keep_the_options_of_their_store(self) -> None:
        """A view has the retention, the limit and the owner of its store."""
        store = await self.opened(retain=2, max_session_bytes=10_000)
        view = store.for_owner("u1").within("a")
        assert (view.retain, view.max_session_bytes, view.owner) == (2, 10_000, "u1")
        for text in "abc":
            await view.append(ID, say(text))
        assert await history(view) == ["b", "c"]
        assert (await view.info(ID)).owner == "u1"

    async def test_opening_and_closing_a_view_does_nothing(self) -> None:
        """A view is open as long as its store: opening or closing the view does nothing."""
        store = self.made()
        view = store.within("other").for_owner("u1")
        async with store:
            async with view as same:
                assert same is view
                await view.append(ID, say("a"))
            await view.close()
            assert await history(view) == ["a"]
        async with view:
            with pytest.raises(Closed):
                await view.load(ID)

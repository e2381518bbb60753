"""Contract: namespaces and ids."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ..errors import InvalidInput
from ..store import Store
from ..values.change import Change
from ..values.key import Key
from ..values.session import Query
from ._base import Chapter
from ._difficult_ids import IDS, KEYS, NO_IDS
from ._material import ID, Watched, history, key, picture, record, say, texts


class Naming(Chapter):
    async def test_no_two_ids_share_a_place(self, store: Store) -> None:
        """Key: compared as bytes, nothing folded: no two sessions share a place, whatever characters their ids hold."""
        for number, name in enumerate(IDS):
            receipt = await store.append(name, say(f"{number}"), metadata={"number": number})
            assert receipt.previous is None, f"{name!r} is taken for another session"
        for number, name in enumerate(IDS):
            session = await store.session(name)
            assert (session.info.key, texts(session.messages)) == (key(store, name), [f"{number}"])
            assert dict(session.info.metadata) == {"number": number}
        shown = [info.key.session async for info in store.sessions()]
        assert sorted(shown) == sorted(IDS)

    async def test_an_id_is_no_pattern(self, store: Store) -> None:
        """delete: remove a session: the one that is named, and never what its id would match, expand to or lead to."""
        for name in IDS:
            await store.append(name, say("a"), owner=name)
        left = set(IDS)
        for name in IDS[::2]:
            assert await store.erase(name) is True, f"{name!r} went with another"
            assert await store.erase(name) is False
            left.remove(name)
        assert {info.key.session async for info in store.sessions()} == left
        for name in IDS:
            assert [i.key.session async for i in store.sessions(owner=name)] == ([name] if name in left else [])
            assert await history(store, name) == (["a"] if name in left else []), f"{name!r}"

    async def test_namespace_and_id_do_not_run_together(self, store: Store) -> None:
        """Key: no two keys ever share a place, whatever characters they hold."""
        for number, (namespace, name) in enumerate(KEYS):
            receipt = await store.within(namespace).append(name, say(f"{number}"))
            assert receipt.previous is None, f"{namespace!r}, {name!r} is taken for another session"
        for number, (namespace, name) in enumerate(KEYS):
            session = await store.within(namespace).session(name)
            assert (session.info.key, texts(session.messages)) == (Key(namespace, name), [f"{number}"])
        for namespace, name in KEYS:
            assert await store.within(namespace).erase(name) is True
        for namespace, _ in KEYS:
            assert (await store.page(Query(namespace=namespace))).infos == ()

    async def test_a_namespace_is_a_tenants_own(self, store: Store) -> None:
        """Store: namespace: the tenant: what is done in one is never seen in another, by whichever method."""
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

    async def test_within(self, store: Store) -> None:
        """within: the same store under another tenant."""
        other = store.within("other")
        assert other.namespace == "other"
        await other.append(ID, say("a"))
        assert (await other.info(ID)).key == Key("other", ID)
        assert await history(store.within("other")) == ["a"]
        assert await history(other.within(store.namespace)) == []
        assert (await store.read(Key("other", ID))).messages == await other.load(ID)
        with pytest.raises(InvalidInput):
            store.within("")

    async def test_the_namespace_of_a_store(self) -> None:
        """Store: namespace: the tenant that the application's methods work in; `default` unless it is named."""
        store = await self.opened()
        assert store.namespace == "default"
        named = await self.opened(namespace="shop")
        assert named.namespace == "shop"
        await named.append(ID, say("a"))
        assert (await named.info(ID)).key == Key("shop", ID)
        with pytest.raises(InvalidInput):
            self.make(namespace=" ")

    async def test_what_is_no_id(self, store: Store) -> None:
        """Key: InvalidInput: an id is 1 to 255 bytes of UTF-8 without control characters; no default session."""
        await store.append(ID, say("a"))
        before = await picture(store)
        watched = Watched(store)
        calls: list[Callable[[Any], Awaitable[object]]] = [
            watched.load,
            watched.info,
            watched.touch,
            watched.pop,
            watched.erase,
            lambda bad: watched.append(bad, say("x")),
            lambda bad: watched.save(bad, say("x")),
            lambda bad: watched.fork(bad, "y"),
            lambda bad: watched.fork(ID, bad),
            lambda bad: watched.rewind(bad, turns=1),
            lambda bad: watched.merge_metadata(bad, {"x": 1}),
        ]
        for bad in NO_IDS:
            for call in calls:
                with pytest.raises(InvalidInput):
                    await call(bad)
            with pytest.raises(InvalidInput):
                store.within(bad)
        assert watched.asked == [], "it was refused after the store had been asked"
        assert await picture(store) == before

    async def test_what_is_no_key(self, store: Store) -> None:
        """read, commit, delete: a session id without its namespace is an error, and never a session that is missing."""
        await store.append(ID, say("a"))
        bad: Any = ID
        calls: list[Awaitable[object]] = [
            store.read(bad),
            store.commit(bad, Change(append=(record("x"),))),
            store.delete(bad),
        ]
        for call in calls:
            with pytest.raises((InvalidInput, AttributeError, TypeError)):
                await call
        assert await history(store) == ["a"]

    async def test_new_session_ids(self, store: Store) -> None:
        """new_session_id: an id for an anonymous session, not to be guessed."""
        ids = {store.new_session_id() for _ in range(100)}
        assert len(ids) == 100
        for session_id in sorted(ids)[:3]:
            assert (await store.append(session_id, say("a"))).previous is None

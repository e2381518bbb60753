"""Contract: session ids and keys."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from ..errors import InvalidInput
from ..store import Store
from ..values.change import Change
from ._base import ContractBase
from ._difficult_ids import IDS
from ._material import ID, history, key, record, say, texts


class Naming(ContractBase):
    async def test_no_two_ids_share_a_place(self, store: Store) -> None:
        """Session ids are compared as bytes: different ids name different sessions, for all characters in them."""
        for number, name in enumerate(IDS):
            receipt = await store.append(name, say(f"{number}"), metadata={"number": number})
            assert receipt.previous is None, f"{name!r} names another session"
        for number, name in enumerate(IDS):
            session = await store.session(name)
            assert (session.info.key, texts(session.messages)) == (key(store, name), [f"{number}"])
            assert dict(session.info.metadata) == {"number": number}
        shown = [info.key.session async for info in store.sessions()]
        assert sorted(shown) == sorted(IDS)

    async def test_an_id_is_no_pattern(self, store: Store) -> None:
        """`delete` removes only the named session, even if the id looks like a pattern."""
        for name in IDS:
            await store.append(name, say("a"), owner=name)
        left = set(IDS)
        for name in IDS[::2]:
            assert await store.erase(name) is True, f"{name!r} was deleted with another"
            assert await store.erase(name) is False
            left.remove(name)
        assert {info.key.session async for info in store.sessions()} == left
        for name in IDS:
            assert [i.key.session async for i in store.sessions(owner=name)] == ([name] if name in left else [])
            assert await history(store, name) == (["a"] if name in left else []), f"{name!r}"

    async def test_invalid_keys(self, store: Store) -> None:
        """A backend raises an error for a session id in place of a key, and does not report a missing session."""
        await store.append(ID, say("a"))
        bad: Any = ID
        calls: list[Awaitable[object]] = [
            store.backend.read(bad),
            store.backend.copy(bad, key(store), at=None, change_id="f"),
            store.backend.copy(key(store), bad, at=None, change_id="f"),
            store.backend.commit(bad, Change(append=(record("x"),))),
            store.backend.delete(bad),
        ]
        for call in calls:
            with pytest.raises((InvalidInput, AttributeError, TypeError)):
                await call
        assert await history(store) == ["a"]

    async def test_new_session_ids(self, store: Store) -> None:
        """`new_session_id` returns a new id each time."""
        ids = {store.new_session_id() for _ in range(100)}
        assert len(ids) == 100
        for session_id in sorted(ids)[:3]:
            assert (await store.append(session_id, say("a"))).previous is None

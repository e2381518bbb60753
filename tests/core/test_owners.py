"""`export_owner` and `erase_owner` while other tasks change the owner of a session."""

from __future__ import annotations

import pytest

from turnlog import Backend, Conflict, Layer, Page, Query, Store, user
from turnlog_memory import MemoryBackend


class Interposed(Layer):
    """Another task changes the owner of session `s` after each page is read and before the page is used."""

    def __init__(self, inner: Backend, owner: str) -> None:
        super().__init__(inner)
        self.owner = owner

    async def page(self, query: Query) -> Page:
        """Return a page that is out of date by the time it arrives."""
        page = await super().page(query)
        await Store(self.inner).merge_metadata("s", owner=self.owner)
        return page


async def _texts(store: Store, owner: str) -> list[str]:
    return [session.messages[0].text async for session in store.export_owner(owner)]


async def test_what_was_given_away_meanwhile_is_not_exported() -> None:
    async with Store(MemoryBackend()) as store:
        await store.append("s", [user("now bob's")], owner="alice")
        await store.append("t", [user("alice's")], owner="alice")
        assert await _texts(Store(Interposed(store.backend, "bob")), "alice") == ["alice's"]


async def test_what_was_given_away_meanwhile_is_not_erased() -> None:
    async with Store(MemoryBackend()) as store:
        await store.append("s", [user("now bob's")], owner="alice")
        await store.append("t", [user("alice's")], owner="alice")
        assert (await Store(Interposed(store.backend, "bob")).erase_owner("alice")).sessions == 1
        assert [message.text for message in await store.load("s")] == ["now bob's"]


class Stale(Layer):
    """Lists a page that never changes, as a broken index would."""

    stored: Page | None = None

    async def page(self, query: Query) -> Page:
        """Return the first page again and again."""
        self.stored = self.stored or await super().page(query)
        return self.stored


async def test_erase_owner_gives_up_on_a_session_that_stays_listed() -> None:
    layer = Stale(MemoryBackend())
    store = Store(layer)
    await store.append("s", [user("a")], owner="alice")
    assert [info.owner async for info in store.sessions(owner="alice")] == ["alice"]
    await store.merge_metadata("s", owner="bob")
    with pytest.raises(Conflict, match="is listed for owner 'alice', but cannot be deleted"):
        await store.erase_owner("alice")
    assert [message.text for message in await store.load("s")] == ["a"]

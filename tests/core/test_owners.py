"""What an owner is given out, and what of theirs is erased, while others write."""

from __future__ import annotations

import pytest

from turnlog import Conflict, Layer, Page, Query, Store, user
from turnlog_memory import MemoryBackend


class Interposed(Layer):
    """Somebody else gives the session `s` away, between a page of sessions and what follows from it."""

    def __init__(self, inner: Store, owner: str) -> None:
        super().__init__(inner)
        self.owner = owner

    async def page(self, query: Query) -> Page:
        """A page that is out of date once it is there."""
        page = await super().page(query)
        await self.inner.merge_metadata("s", owner=self.owner)
        return page


async def _texts(store: Store, owner: str) -> list[str]:
    return [session.messages[0].text async for session in store.export_owner(owner)]


async def test_what_was_given_away_meanwhile_is_not_exported() -> None:
    async with MemoryBackend() as store:
        await store.append("s", [user("now bob's")], owner="alice")
        await store.append("t", [user("alice's")], owner="alice")
        assert await _texts(Interposed(store, "bob"), "alice") == ["alice's"]


async def test_what_was_given_away_meanwhile_is_not_erased() -> None:
    async with MemoryBackend() as store:
        await store.append("s", [user("now bob's")], owner="alice")
        await store.append("t", [user("alice's")], owner="alice")
        assert (await Interposed(store, "bob").erase_owner("alice")).sessions == 1
        assert [message.text for message in await store.load("s")] == ["now bob's"]


async def test_erasing_what_never_stands_still_gives_up_in_the_end() -> None:
    async with MemoryBackend() as store:
        await store.append("s", [user("a")], owner="alice")
        with pytest.raises(Conflict):
            await Interposed(store, "alice").erase_owner("alice")

"""Contract: the totals of a namespace."""

from __future__ import annotations

import asyncio

import pytest

from ..errors import InvalidInput
from ..store import Store
from ..values.change import Change
from ..values.key import Key
from ..values.session import SessionInfo
from ._base import ContractBase
from ._material import key, record, say

TTL = 80.0


def _sums(infos: list[SessionInfo]) -> tuple[int, int, int]:
    return len(infos), sum(info.messages for info in infos), sum(info.bytes for info in infos)


async def _totals(store: Store) -> tuple[int, int, int]:
    found = await store.backend.totals(store.namespace)
    assert found.stored is None or found.stored >= 0
    return found.sessions, found.messages, found.bytes


async def _infos(store: Store) -> list[SessionInfo]:
    return [info async for info in store.sessions()]


class Counting(ContractBase):
    async def test_totals_are_the_sums_of_all_sessions(self, store: Store) -> None:
        """`totals` returns the number of sessions, and the sums of their messages and bytes."""
        assert await _totals(store) == (0, 0, 0)
        await store.append("a", say("one", "two"), owner="u1", metadata={"title": "x"})
        await store.append("b", say("three"))
        assert await _totals(store) == _sums(await _infos(store))
        assert (await _totals(store))[:2] == (2, 3)

    async def test_totals_follow_each_change(self, store: Store) -> None:
        """`totals` counts copies and sessions without messages, but no turns that were cut, dropped or erased."""
        for number in range(5):
            await store.append("a", say(f"{number}", "answer"))
        await store.rewind("a", messages=3)
        await store.fork("a", "b")
        turns = tuple(record(f"{number}") for number in range(6))
        await store.backend.commit(key(store, "c"), Change(append=turns, retain=2))
        await store.merge_metadata("d", {"title": "no message"})
        await store.append("e", say("erased"))
        await store.erase("e")
        assert (await _totals(store))[:2] == (4, 7 + 7 + 2 + 0)
        assert await _totals(store) == _sums(await _infos(store))

    async def test_totals_of_many_sessions(self, store: Store) -> None:
        """`totals` counts any number of sessions."""
        for tens in range(23):
            await asyncio.gather(*(store.append(f"s{tens}{number}", say("a")) for number in range(10)))
        assert (await _totals(store))[:2] == (230, 230)

    async def test_totals_are_of_one_namespace(self, store: Store) -> None:
        """`totals` counts only sessions of the namespace, and no data of layers."""
        await store.append("a", say("mine"))
        for name in ("other", f"{store.namespace}/a", store.namespace.upper(), store.namespace + "2"):
            await store.within(name).append("a", say("others", "others"))
        await store.backend.commit(Key(f"turnlog:own:{store.namespace}", "a"), Change(append=(record("a layer's"),)))
        assert (await _totals(store))[:2] == (1, 1)
        assert (await _totals(store.within("nobody"))) == (0, 0, 0)

    async def test_totals_leave_out_what_has_expired(self) -> None:
        """`totals` counts no expired session, even before the session is removed."""
        store = await self.opened(ttl=TTL)
        await store.append("the backend's", say("a"))
        await store.append("of its own", say("a", "b"))
        await store.merge_metadata("of its own", ttl=8 * TTL)
        await store.append("never", say("a", "b", "c"))
        await store.merge_metadata("never", ttl=0.0)
        assert (await _totals(store))[:2] == (3, 6)
        await self.advance(TTL + 1)
        assert (await _totals(store))[:2] == (2, 5)
        await self.advance(8 * TTL)
        assert await _totals(store) == _sums(await _infos(store))
        assert (await _totals(store))[:2] == (1, 3)

    async def test_totals_count_a_session_once_that_was_made_anew(self) -> None:
        """`totals` counts a session once if it has expired and was made again, even for another owner."""
        store = await self.opened(ttl=TTL)
        for number in range(3):
            await store.append("a", say(f"{number}"), owner=f"u{number}")
            assert (await _totals(store))[:2] == (1, 1)
            await self.advance(TTL + 1)

    async def test_totals_extend_no_life(self) -> None:
        """`totals` restarts no time to live."""
        store = await self.opened(ttl=TTL)
        await store.append("a", say("a"))
        await self.advance(60)
        assert (await _totals(store))[0] == 1
        await self.advance(21)
        assert (await _totals(store))[0] == 0

    async def test_totals_of_no_namespace(self, store: Store) -> None:
        """`totals` of an invalid namespace raises `InvalidInput`."""
        for bad in ("", "a\nb", "x" * 256):
            with pytest.raises(InvalidInput):
                await store.backend.totals(bad)

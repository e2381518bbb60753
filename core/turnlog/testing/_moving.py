"""Contract: the times of a session that comes from another store."""

from __future__ import annotations

import pytest

from ..errors import SessionNotFound
from ..limits import MAX_NUMBER
from ..store import Store
from ..values.change import ABSENT, Change
from ..values.query import Query
from ..values.times import Times
from ._base import ContractBase
from ._material import ID, has_ended, history, key, record, say

TTL = 80.0
"""Seconds."""


async def _now(store: Store) -> float:
    """Return the time by the clock that sets the times of sessions, which may be a server's."""
    await store.append("clock", say("tick"))
    now = (await store.info("clock")).updated
    await store.erase("clock")
    return now


async def _moved(store: Store, times: Times, session_id: str = ID, ttl: float | None = None) -> float | None:
    """Make a session with times, and return the seconds to its expiry in the receipt."""
    change = Change(append=(record("a"),), owner="u1", ttl=ttl, times=times)
    return (await store.backend.commit(key(store, session_id), change)).expires_in


class Moving(ContractBase):
    async def test_a_moved_session_has_the_times_of_its_source(self, store: Store) -> None:
        """A change may set the times of a session: creation, update and expiry."""
        now = await _now(store)
        times = Times(now - 5_000.25, now - 3_000.5, now + 500)
        left = await _moved(store, times, ttl=800.0)
        for reader in (store, await self.another(store)):
            info = await reader.info(ID)
            assert (info.created, info.updated, info.ttl) == (times.created, times.updated, 800.0)
            assert info.expires_in == pytest.approx(500, abs=1)
        assert left == pytest.approx(500, abs=1)

    async def test_times_at_the_limits(self, store: Store) -> None:
        """Times may be any number over 0, up to 2**53 - 1."""
        most = float(MAX_NUMBER)
        for name, times in (("old", Times(5e-324, 0.001, most)), ("new", Times(most, most, most))):
            await _moved(store, times, name)
            info = await store.info(name)
            assert (info.created, info.updated) == (times.created, times.updated)
            assert info.expires_in is not None
            assert info.expires_in == pytest.approx(most, rel=1e-5)
        page = await store.backend.page(Query(namespace=store.namespace))
        assert [info.key.session for info in page.infos] == ["new", "old"]

    async def test_a_moved_session_expires_with_its_source(self) -> None:
        """A moved session expires at the time of its source; without such a time its time to live starts again."""
        store = await self.opened(ttl=TTL)
        now = await _now(store)
        for name, ttl in (("own", 90.0), ("store's", None)):
            await _moved(store, Times(now - 50, now - 50, now + 40), name, ttl)
        await _moved(store, Times(now - 50, now - 50), "anew")
        await self.advance(38)
        assert [await has_ended(store, name) for name in ("own", "store's", "anew")] == [False, False, False]
        await self.advance(4)
        assert [await has_ended(store, name) for name in ("own", "store's", "anew")] == [True, True, False]
        await self.advance(40)
        assert await has_ended(store, "anew")

    async def test_an_expiry_in_the_past(self, store: Store) -> None:
        """A change with an expiry in the past leaves no session."""
        now = await _now(store)
        for ttl in (None, 800.0):
            left = await _moved(store, Times(now - 50, now - 40, now - 30), ttl=ttl)
            assert left is not None
            assert left <= 0
            assert await has_ended(store)
        assert (await store.backend.page(Query(namespace=store.namespace))).infos == ()
        assert (await store.append(ID, say("b"), expect=ABSENT)).previous is None
        await store.backend.commit(key(store), Change(append=(record("c"),), times=Times(now - 50, now - 40, now - 30)))
        assert await has_ended(store)

    async def test_the_next_use_and_change_move_the_times(self) -> None:
        """After a move, uses and changes move the expiry and `updated` as always, and leave `created`."""
        store = await self.opened(ttl=TTL)
        now = await _now(store)
        times = Times(now - 50, now - 40, now + 20)
        change = Change(append=(record("a"),), times=times)
        await store.backend.commit(key(store), change)
        assert (await store.touch(ID)).expires_in == pytest.approx(TTL, abs=1)
        await _moved(store, Times(now - 50, now - 40, now + 500), "far")
        assert (await store.info("far")).expires_in == pytest.approx(500, abs=1)
        assert (await store.touch("far")).expires_in == pytest.approx(TTL, abs=1)
        for ttl in (None, TTL):
            await _moved(store, Times(now - 50, now - 40, now + 500), f"far {ttl}", ttl)
            assert (await store.append(f"far {ttl}", say("b"))).expires_in == pytest.approx(TTL, abs=1)
        await self.advance(10)
        await store.merge_metadata(ID, {"title": "x"})
        assert (await store.info(ID)).updated == times.updated
        await store.append(ID, say("b"))
        info = await store.info(ID)
        assert info.created == times.created
        assert info.updated >= now
        await store.backend.commit(key(store), change)
        assert (await store.info(ID)).updated == info.updated, "a repeat changes nothing"

    async def test_each_change_may_carry_the_times(self, store: Store) -> None:
        """The times in a change take precedence over its effects; the times in the last stored change decide."""
        now = await _now(store)
        changes = (
            {"append": (record("a"),)},
            {"append": (record("b"), record("c")), "metadata": {"title": "x"}},
            {"keep": 2, "append": (record("d"),)},
            {"keep": 2},
            {"owner": "u2", "ttl": 800.0},
            {"retain": 1},
        )
        for number, parts in enumerate(changes, 1):
            times = Times(now - 500 + number, now - 400 + number, now + 400 + number)
            receipt = await store.backend.commit(key(store), Change(**parts, times=times))  # type: ignore[arg-type]
            info = await store.info(ID)
            assert (info.created, info.updated) == (times.created, times.updated), parts
            assert receipt.expires_in == pytest.approx(400 + number, abs=1), parts
            assert info.expires_in == pytest.approx(400 + number, abs=1), parts
        assert await history(store) == ["b"]

    async def test_times_alone(self, store: Store) -> None:
        """A change of only the times creates no session and no version, and a digest does not cover the times."""
        now = await _now(store)
        with pytest.raises(SessionNotFound):
            await store.backend.commit(key(store), Change(times=Times(now, now)))
        version = (await store.append(ID, say("a"))).version
        first, second = Times(now - 500, now - 400, now + 500), Times(now - 50, now - 40)
        change = Change(times=first, expect=version.exact)
        assert (await store.backend.commit(key(store), change)).version == version
        assert (await store.load(ID)) == say("a")
        info = await store.info(ID)
        assert (info.created, info.updated) == (first.created, first.updated)
        await store.backend.commit(key(store), Change(id=change.id, times=second))
        assert (await store.info(ID)).updated == first.updated, "a repeat changes nothing"
        await store.backend.commit(key(store), Change(times=second, expect=version.exact))
        assert (await store.info(ID)).updated == second.updated

    async def test_a_moved_session_is_listed_by_its_time(self, store: Store) -> None:
        """`page` orders moved sessions by their times in the source, not by the time of the move."""
        now = await _now(store)
        for name, ago in (("third", 300), ("first", 100), ("fourth", 400), ("second", 200)):
            await _moved(store, Times(now - 1_000, now - ago), name)
        await store.backend.commit(key(store, "fourth"), Change(times=Times(now - 1_000, now - 50)))
        for owner in (None, "u1"):
            page = await store.backend.page(Query(namespace=store.namespace, owner=owner, limit=3))
            assert [info.key.session for info in page.infos] == ["fourth", "first", "second"]
            page = await store.backend.page(Query(namespace=store.namespace, owner=owner, cursor=page.cursor))
            assert [info.key.session for info in page.infos] == ["third"]

"""Contract: time to live.

All times are at least a second away from an expiry, because the clock of a server keeps running during a test.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from ..errors import Conflict, InvalidInput, SessionNotFound
from ..pipeline import Pipeline
from ..store import Store
from ..values.change import ABSENT, Change
from ..values.message import Message, assistant
from ._base import ContractBase
from ._material import ID, has_ended, history, key, picture, record, say

YEAR = 365 * 86_400.0
TTL = 80.0
"""Time to live in seconds.  A use need not extend the expiry within 10 seconds, 1/8, of the last extension."""


async def _uses(store: Store) -> dict[str, Callable[[str], Awaitable[object]]]:
    """Return the calls that use a session, each by the id of the session that is made for it."""
    change, numbers = Change(append=(record("a"),)), count()
    uses: dict[str, Callable[[str], Awaitable[object]]] = {
        "load": store.load,
        "session": lambda name: store.session(name, last=1),
        "read": lambda name: store.backend.read(key(store, name), last=0),
        "touch": store.touch,
        "append": lambda name: store.append(name, say("b")),
        "merge_metadata": lambda name: store.merge_metadata(name, {"title": "x"}),
        "keep": lambda name: store.backend.commit(key(store, name), Change(keep=1)),
        "a repeat": lambda name: store.backend.commit(key(store, name), change),
        "fork, of the source": lambda name: store.fork(name, f"copy {next(numbers)}"),
    }
    for name in uses:
        await store.backend.commit(key(store, name), change)
    return uses


class Expiring(ContractBase):
    async def test_a_session_lives_so_long_after_its_last_use(self) -> None:
        """After its last use, a session lives at least 7/8 of its time to live, and never longer than all of it."""
        store = await self.opened(ttl=TTL)
        await store.append(ID, say("a"))
        await self.advance(69)
        assert not await has_ended(store)
        await self.advance(12)
        assert await has_ended(store)

    async def test_for_ever_by_default(self, store: Store) -> None:
        """A backend without a time to live keeps its sessions for ever."""
        await store.append(ID, say("a"))
        info = await store.info(ID)
        assert (info.ttl, info.expires_in) == (None, None)
        await self.advance(20 * YEAR)
        assert await history(store) == ["a"]

    async def test_what_extends_a_life(self) -> None:
        """Reads, commits, repeats and copies extend the life of a session."""
        store = await self.opened(ttl=TTL)
        uses = await _uses(store)
        await self.advance(60)
        for name, use in uses.items():
            await use(name)
        await self.advance(69)
        for name in uses:
            assert not await has_ended(store, name), f"{name} did not extend the life of the session"

    async def test_a_clock_that_is_behind_ends_no_session(self) -> None:
        """The use of a session never moves its expiry backwards, even if a clock is behind."""
        store = await self.opened(ttl=TTL)
        uses = await _uses(store)
        for seconds in (2 * TTL, 10 * YEAR):
            self.clock.advance(-seconds)
            for name, use in uses.items():
                await use(name)
            self.clock.advance(seconds)
            for name in uses:
                assert not await has_ended(store, name), f"{name} moves the expiry backwards"
        await self.advance(69)
        for name in uses:
            assert not await has_ended(store, name), f"{name} moves the expiry backwards"
        await self.advance(12)
        for name in uses:
            assert await has_ended(store, name), f"{name} moves the expiry by a clock that is behind"

    async def test_what_extends_no_life(self) -> None:
        """`info`, `page`, `sessions`, reads with `touch=False` and refused changes restart no time to live."""
        store = await self.opened(ttl=TTL)
        version = (await store.append(ID, say("a"))).version
        await store.append(ID, say("b"))
        await self.advance(60)
        await store.info(ID)
        await store.session(ID, touch=False)
        await store.backend.read(key(store), touch=False, since=version)
        assert len([info async for info in store.sessions()]) == 1
        with pytest.raises(Conflict):
            await store.append(ID, say("c"), expect=version)
        await self.advance(21)
        assert await has_ended(store)

    async def test_using_it_changes_no_version(self) -> None:
        """An extension of a session's life does not change its version."""
        store = await self.opened(ttl=TTL)
        version = (await store.append(ID, say("a"))).version
        for _ in range(3):
            await self.advance(60)
            assert (await store.session(ID)).version == version
        await store.merge_metadata(ID, {"title": "x"}, expect=version.exact)

    async def test_a_slow_model_brings_no_session_back(self) -> None:
        """A pipeline stores no turn if the session was erased, made again or expired while the model worked."""
        store = await self.opened(ttl=TTL)

        async def made_anew() -> object:
            await store.erase(ID)
            return await store.append(ID, say("anew"), owner="u2")

        ends: dict[str, Callable[[], Awaitable[object]]] = {
            "erased": lambda: store.erase(ID),
            "erased with its owner": lambda: store.erase_owner("u1"),
            "made anew": made_anew,
            "expired": lambda: self.advance(81),
        }
        for name, end in ends.items():

            async def model(_: list[Message], end: Callable[[], Awaitable[object]] = end) -> Message:
                await end()
                return assistant("too late")

            await store.erase(ID)
            await store.append(ID, say("a"), owner="u1")
            with pytest.raises(Conflict):
                await Pipeline(store, model).execute(ID, "user", "b")
            assert await history(store) == (["anew"] if name == "made anew" else []), name

    async def test_an_expired_session_is_not_there(self) -> None:
        """Every method treats an expired session as a missing session."""
        store = await self.opened(ttl=TTL)
        version = (await store.append(ID, say("a"), owner="u1", metadata={"title": "x"})).version
        await self.advance(81)
        missing: list[Callable[[], Awaitable[object]]] = [
            lambda: store.load(ID),
            lambda: store.session(ID),
            lambda: store.info(ID),
            lambda: store.touch(ID),
            lambda: store.pop(ID),
            lambda: store.rewind(ID, turns=1),
            lambda: store.backend.read(key(store), since=version),
            lambda: store.fork(ID, "bob"),
            lambda: store.backend.commit(key(store), Change(keep=0)),
        ]
        for call in missing:
            with pytest.raises(SessionNotFound):
                await call()
        assert await store.erase(ID) is False
        refused: list[Callable[[], Awaitable[object]]] = [
            lambda: store.erase(ID, expect=version),
            lambda: store.append(ID, say("b"), expect=version),
            lambda: store.merge_metadata(ID, {"title": "y"}, expect=version),
        ]
        for call in refused:
            with pytest.raises(Conflict):
                await call()
        assert [info async for info in store.sessions()] == []
        assert [session async for session in store.export_owner("u1")] == []

    async def test_all_of_a_session_expires_together(self) -> None:
        """All parts of a session expire together: a new session with the same id starts empty."""
        store = await self.opened(ttl=TTL)
        change = Change(append=(record("a"),), owner="u1", metadata={"title": "x"}, ttl=40.0)
        old = (await store.backend.commit(key(store), change)).version
        await self.advance(41)
        receipt = await store.append(ID, say("b"), expect=ABSENT)
        session = await store.session(ID)
        assert (receipt.previous, receipt.number, receipt.turns) == (None, 0, 1)
        assert (session.info.owner, dict(session.info.metadata), session.info.ttl) == ("", {}, None)
        assert session.version != old
        again = await store.backend.commit(key(store), change)
        assert again.number == 1, "it remembers no change of the one before"
        assert await history(store) == ["b", "a"]

    async def test_a_time_to_live_of_its_own(self) -> None:
        """A session may have its own time to live in seconds; 0 means that it never expires."""
        store = await self.opened(ttl=TTL)
        await store.append("store's", say("a"))
        await store.merge_metadata("short", {"title": "x"}, ttl=20.0)
        await store.merge_metadata("long", ttl=800.0)
        await store.merge_metadata("for ever", ttl=0.0)
        assert [(await store.info(name)).ttl for name in ("store's", "short", "long", "for ever")] == [
            None,
            20.0,
            800.0,
            0.0,
        ]
        await self.advance(21)
        assert await has_ended(store, "short")
        await self.advance(60)
        assert await has_ended(store, "store's")
        assert not await has_ended(store, "long")
        await self.advance(YEAR)
        assert await has_ended(store, "long")
        assert not await has_ended(store, "for ever")

    async def test_a_time_to_live_takes_effect_at_once(self, store: Store) -> None:
        """A new time to live applies from the change that sets it."""
        await store.append(ID, say("a"))
        await store.merge_metadata(ID, ttl=800.0)
        await store.merge_metadata(ID, ttl=20.0)
        await self.advance(21)
        assert await has_ended(store)
        await store.merge_metadata(ID, ttl=20.0)
        await store.merge_metadata(ID, ttl=800.0)
        await self.advance(600)
        await store.append(ID, say("b"))
        await self.advance(699)
        assert not await has_ended(store)
        await store.merge_metadata(ID, ttl=0.0)
        await self.advance(20 * YEAR)
        assert await history(store) == ["b"]

    async def test_how_long_it_still_lives(self) -> None:
        """`expires_in` is the time in seconds until an unused session expires; None if it does not expire."""
        store = await self.opened(ttl=TTL)
        receipt = await store.append(ID, say("a"))
        assert receipt.expires_in == pytest.approx(TTL, abs=1)
        await self.advance(30)
        assert (await store.info(ID)).expires_in == pytest.approx(50, abs=1)
        assert (await store.touch(ID)).expires_in == pytest.approx(TTL, abs=1)
        receipt = await store.merge_metadata(ID, ttl=800.0)
        assert receipt.expires_in == pytest.approx(800, abs=1)
        receipt = await store.merge_metadata(ID, ttl=0.0)
        assert (receipt.expires_in, (await store.info(ID)).expires_in) == (None, None)

    async def test_the_shortest_and_the_longest(self, store: Store) -> None:
        """A time to live is 0, or from a millisecond to ten years; any other value raises `InvalidInput`."""
        for name, ttl in (("shortest", 0.001), ("longest", 10 * YEAR), ("whole", 60)):
            await store.merge_metadata(name, {"x": 1}, ttl=ttl)
        assert (await store.info("longest")).ttl == 10 * YEAR
        await self.advance(1)
        assert await has_ended(store, "shortest")
        wrong: list[Any] = [-1, 0.0001, float("nan"), float("inf"), 11 * YEAR, True, "60"]
        for bad in wrong:
            with pytest.raises(InvalidInput):
                await store.merge_metadata(ID, {"x": 1}, ttl=bad)
            with pytest.raises(InvalidInput):
                self.made(ttl=bad)
        assert await picture(store) is None

    async def test_a_copy_has_a_life_of_its_own(self, store: Store) -> None:
        """A copy has the time to live of its source, and expires independently of it."""
        await store.append(ID, say("a"))
        await store.merge_metadata(ID, ttl=TTL)
        await self.advance(60)
        receipt = await store.fork(ID, "bob")
        assert receipt.expires_in == pytest.approx(TTL, abs=1)
        await self.advance(60)
        await store.load("bob")
        await self.advance(60)
        assert await has_ended(store)
        assert await history(store, "bob") == ["a"]

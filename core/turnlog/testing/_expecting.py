"""Contract: versions, and the changes that `expect` refuses."""

from __future__ import annotations

import pytest

from ..errors import Conflict, HistoryRegressed
from ..store import Store
from ..values.change import Change
from ..values.version import Version
from ._base import ContractBase
from ._material import ID, diverged, history, key, later, picture, record, say


class Expecting(ContractBase):
    async def test_a_version_stays_while_nothing_changes(self, store: Store) -> None:
        """A version stays equal while the session does not change."""
        version = (await store.append(ID, say("a"))).version
        await store.load(ID)
        await store.touch(ID)
        await store.append("bob", say("b"))
        await self.advance(1000)
        assert [info.version async for info in store.sessions() if info.key == key(store)] == [version]
        assert (await store.session(ID)).version == version

    async def test_no_version_comes_twice(self, store: Store) -> None:
        """Every change makes a new version, and a session that is deleted and made again never repeats a version."""
        seen: list[Version] = []
        for _ in range(3):  # the same changes at the same time
            for change in (
                Change(id="1", append=(record("a", id="1"),)),
                Change(id="2", append=(record("b", id="2"),)),
                Change(id="3", keep=1),
                Change(id="4", append=(record("b", id="4"),)),
                Change(id="5", metadata={"title": "x"}),
                Change(id="6", owner="u1"),
                Change(id="7", ttl=600.0),
                Change(id="8", metadata={"title": "x"}),
                Change(id="9", keep=0),
            ):
                receipt = await store.backend.commit(key(store), change)
                seen.append(receipt.version)
            assert await store.erase(ID)
        assert len(set(seen)) == len(seen) == 27

    async def test_a_version_is_no_clock(self, store: Store) -> None:
        """Versions do not depend on clocks: changes at the same time, or at an earlier time, have other versions."""
        one = (await store.append(ID, say("a"))).version
        self.clock.advance(-3600)
        two = (await store.append(ID, say("b"), expect=one)).version
        with pytest.raises(Conflict):
            await store.append(ID, say("c"), expect=one)
        assert (await store.append(ID, say("c"), expect=two)).turns == 3
        assert await history(store) == ["a", "b", "c"]

    async def test_a_version_survives_its_text(self, store: Store) -> None:
        """`Version.parse` reads the text of a version back as an equal version."""
        version = (await store.append(ID, say("a"))).version
        assert Version.parse(str(version)) == version
        assert (await store.append(ID, say("b"), expect=Version.parse(str(version)))).turns == 2

    async def test_a_stale_version_is_refused(self, store: Store) -> None:
        """`commit` raises `Conflict` with the current version, and stores nothing, if `expect` has other turns."""
        stale = (await store.append(ID, say("a"))).version
        version = (await store.append(ID, say("b"))).version
        before = await picture(store)
        for change in (
            Change(append=(record("c"),), expect=stale),
            Change(keep=0, expect=stale),
            Change(append=(record("c"),), keep=1, metadata={"title": "x"}, expect=stale),
            Change(metadata={"title": "x"}, expect=stale.exact),
            Change(owner="u1", expect=stale),
            Change(ttl=60.0, expect=stale),
        ):
            with pytest.raises(Conflict) as error:
                await store.backend.commit(key(store), change)
            assert (error.value.expected, error.value.actual) == (change.expect, version)
        assert await picture(store) == before

    async def test_a_refused_change_can_be_made_anew(self, store: Store) -> None:
        """A refused change stores nothing, so its id can be used again."""
        stale = (await store.append(ID, say("a"))).version
        version = (await store.append(ID, say("b"))).version
        with pytest.raises(Conflict):
            await store.append(ID, say("c"), turn_id="t", expect=stale)
        await store.append(ID, say("c, after reading again"), turn_id="t", expect=version)
        assert await history(store) == ["a", "b", "c, after reading again"]

    async def test_a_version_from_before_a_cut(self, store: Store) -> None:
        """A version from before a cut is refused, even if the history has the same length again."""
        await store.append(ID, say("a"))
        version = (await store.append(ID, say("b"))).version
        await store.pop(ID)
        await store.append(ID, say("c"))
        with pytest.raises(Conflict):
            await store.append(ID, say("d"), expect=version)
        assert await history(store) == ["a", "c"]

    async def test_a_version_of_another_session(self, store: Store) -> None:
        """The version of another session is refused."""
        change = Change(append=(record("a"),))
        other = (await store.backend.commit(key(store, "bob"), change)).version
        await store.backend.commit(key(store), change)
        with pytest.raises(Conflict):
            await store.append(ID, say("b"), expect=other)
        assert await history(store) == ["a"]

    async def test_a_session_that_is_older_than_expect(self, store: Store) -> None:
        """Every method raises `HistoryRegressed` if the session is older than `expect` or has diverged from it."""
        await store.append(ID, say("a"))
        version = (await store.append(ID, say("b"))).version
        before = await picture(store)
        for seen in (later(version), later(version, rounds=7), diverged(version)):
            for expect in (seen, seen.exact):
                for change in (
                    Change(append=(record("c"),), expect=expect),
                    Change(keep=0, expect=expect),
                    Change(metadata={"title": "x"}, expect=expect),
                ):
                    with pytest.raises(HistoryRegressed) as error:
                        await store.backend.commit(key(store), change)
                    assert (error.value.seen, error.value.actual) == (seen, version)
                with pytest.raises(HistoryRegressed):
                    await store.backend.delete(key(store), expect=expect)
                with pytest.raises(HistoryRegressed):
                    await store.backend.copy(key(store), key(store, "bob"), at=None, change_id="f", expect=expect)
        assert await picture(store) == before
        await store.append(ID, say("c"), expect=later(version).session)
        assert (await history(store), await history(store, "bob")) == (["a", "b", "c"], [])

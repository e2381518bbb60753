"""Contract: versions, and what `expect` refuses."""

from __future__ import annotations

import pytest

from ..errors import Conflict, HistoryRegressed
from ..store import Store
from ..values.change import ABSENT, Change
from ..values.version import Version
from ._base import Chapter
from ._material import ID, ahead, beside, history, key, picture, record, say


class Expecting(Chapter):
    async def test_a_version_stays_while_nothing_changes(self, store: Store) -> None:
        """Version: which state of a session a reader saw: it is equal as long as nothing changes."""
        version = (await store.append(ID, say("a"))).version
        await store.load(ID)
        await store.touch(ID)
        await store.append("bob", say("b"))
        await self.advance(1000)
        assert [info.version async for info in store.sessions() if info.key == key(store)] == [version]
        assert (await store.session(ID)).version == version

    async def test_no_version_comes_twice(self, store: Store) -> None:
        """Version: every change makes another; a session that is deleted and made again never repeats one."""
        seen: list[Version] = []
        for _ in range(3):  # the same changes at the same instant
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
                receipt = await store.commit(key(store), change)
                seen.append(receipt.version)
            assert await store.erase(ID)
        assert len(set(seen)) == len(seen) == 27

    async def test_a_version_is_no_clock(self, store: Store) -> None:
        """Version: never a clock: it tells changes apart that happened at one instant, or while the clock went back."""
        one = (await store.append(ID, say("a"))).version
        self.clock.advance(-3600)
        two = (await store.append(ID, say("b"), expect=one)).version
        with pytest.raises(Conflict):
            await store.append(ID, say("c"), expect=one)
        assert (await store.append(ID, say("c"), expect=two)).turns == 3
        assert await history(store) == ["a", "b", "c"]

    async def test_a_version_survives_its_text(self, store: Store) -> None:
        """Version: its text, for an ETag or a form field, is read back as the same version."""
        version = (await store.append(ID, say("a"))).version
        assert Version.parse(str(version)) == version
        assert (await store.append(ID, say("b"), expect=Version.parse(str(version)))).turns == 2

    async def test_expect_the_version_that_is_there(self, store: Store) -> None:
        """Change.expect: the version the session must be at."""
        version = (await store.append(ID, say("a"))).version
        for text in "bc":
            version = (await store.append(ID, say(text), expect=version)).version
        assert await history(store) == ["a", "b", "c"]

    async def test_a_stale_version_is_refused(self, store: Store) -> None:
        """commit: Conflict: the session is not at `expect`; nothing is stored, and the error says where it is."""
        stale = (await store.append(ID, say("a"))).version
        version = (await store.append(ID, say("b"))).version
        before = await picture(store)
        for change in (
            Change(append=(record("c"),), expect=stale),
            Change(keep=0, expect=stale),
            Change(append=(record("c"),), keep=1, metadata={"title": "x"}, expect=stale),
            Change(metadata={"title": "x"}, expect=stale),
            Change(owner="u1", expect=stale),
            Change(ttl=60.0, expect=stale),
        ):
            with pytest.raises(Conflict) as error:
                await store.commit(key(store), change)
            assert (error.value.expected, error.value.actual) == (stale, version)
        assert await picture(store) == before

    async def test_a_refused_change_can_be_made_anew(self, store: Store) -> None:
        """commit: Conflict: nothing was stored, so its id is still free."""
        stale = (await store.append(ID, say("a"))).version
        version = (await store.append(ID, say("b"))).version
        with pytest.raises(Conflict):
            await store.append(ID, say("c"), turn_id="t", expect=stale)
        await store.append(ID, say("c, after reading again"), turn_id="t", expect=version)
        assert await history(store) == ["a", "b", "c, after reading again"]

    async def test_absent(self, store: Store) -> None:
        """ABSENT: the session must not exist."""
        version = (await store.append(ID, say("a"), expect=ABSENT)).version
        for change in (Change(append=(record("b"),), expect=ABSENT), Change(metadata={"title": "x"}, expect=ABSENT)):
            with pytest.raises(Conflict) as error:
                await store.commit(key(store), change)
            assert error.value.actual == version
        await store.erase(ID)
        await store.append(ID, say("c"), expect=ABSENT)
        assert await history(store) == ["c"]

    async def test_a_version_of_what_is_not_there(self, store: Store) -> None:
        """commit: Conflict: a session that is not there is at no version; none is made."""
        version = (await store.append(ID, say("a"))).version
        await store.erase(ID)
        for change in (
            Change(append=(record("b"),), expect=version),
            Change(metadata={"title": "x"}, expect=version),
            Change(keep=0, expect=version),
        ):
            with pytest.raises(Conflict) as error:
                await store.commit(key(store), change)
            assert (error.value.expected, error.value.actual) == (version, None)
        assert await picture(store) is None

    async def test_a_version_from_before_a_delete(self, store: Store) -> None:
        """Version: a session that is deleted and made again never repeats a version: an old one is refused."""
        change = Change(append=(record("a"),))
        version = (await store.commit(key(store), change)).version
        await store.erase(ID)
        await store.commit(key(store), change)
        before = await picture(store)
        for late in (Change(append=(record("b"),), expect=version), Change(metadata={"x": 1}, expect=version)):
            with pytest.raises(Conflict):
                await store.commit(key(store), late)
        with pytest.raises(Conflict):
            await store.erase(ID, expect=version)
        assert await picture(store) == before

    async def test_a_version_from_before_a_cut(self, store: Store) -> None:
        """Version: a history that was cut and grew again to the same length is at another version."""
        await store.append(ID, say("a"))
        version = (await store.append(ID, say("b"))).version
        await store.pop(ID)
        await store.append(ID, say("c"))
        with pytest.raises(Conflict):
            await store.append(ID, say("d"), expect=version)
        assert await history(store) == ["a", "c"]

    async def test_a_version_of_another_session(self, store: Store) -> None:
        """commit: Conflict: the version of another session is never this one's."""
        change = Change(append=(record("a"),))
        other = (await store.commit(key(store, "bob"), change)).version
        await store.commit(key(store), change)
        with pytest.raises(Conflict):
            await store.append(ID, say("b"), expect=other)
        assert await history(store) == ["a"]

    async def test_turns_are_compared_on_turns(self, store: Store) -> None:
        """Change.expect: a change that adds or cuts turns is compared on turns: metadata is no conflict."""
        await store.append(ID, say("a"))
        version = (await store.append(ID, say("b"))).version
        await store.merge_metadata(ID, {"title": "x"}, owner="u1", ttl=600.0)
        await store.append(ID, say("c"), metadata={"mood": "good"}, expect=version)
        version = (await store.info(ID)).version
        await store.merge_metadata(ID, {"title": "y"})
        await store.commit(key(store), Change(keep=1, expect=version))
        assert await history(store) == ["a"]
        assert dict((await store.info(ID)).metadata) == {"title": "y", "mood": "good"}

    async def test_metadata_is_compared_on_the_whole_version(self, store: Store) -> None:
        """Change.expect: any other change is compared on the whole version, which gives compare-and-set."""
        version = (await store.append(ID, say("a"))).version
        now = (await store.merge_metadata(ID, {"title": "x"}, expect=version)).version
        for stale in (
            Change(metadata={"title": "y"}, expect=version),
            Change(owner="u1", expect=version),
            Change(ttl=60.0, expect=version),
        ):
            with pytest.raises(Conflict):
                await store.commit(key(store), stale)
        await store.append(ID, say("b"))
        with pytest.raises(Conflict):
            await store.merge_metadata(ID, {"title": "z"}, expect=now)
        info = await store.info(ID)
        assert (dict(info.metadata), info.owner, info.ttl) == ({"title": "x"}, "", None)

    async def test_delete_is_compared_on_the_whole_version(self, store: Store) -> None:
        """delete: expect: only at this version, metadata included. Conflict: it is not, or there is none."""
        version = (await store.append(ID, say("a"))).version
        now = (await store.merge_metadata(ID, {"title": "x"})).version
        with pytest.raises(Conflict) as error:
            await store.delete(key(store), expect=version)
        assert (error.value.expected, error.value.actual) == (version, now)
        assert await history(store) == ["a"]
        assert await store.delete(key(store), expect=now) is True
        with pytest.raises(Conflict) as error:
            await store.delete(key(store), expect=now)
        assert error.value.actual is None

    async def test_a_store_that_is_behind_its_writer(self, store: Store) -> None:
        """commit, delete: HistoryRegressed: the session is behind, or beside, `expect`; nothing is stored."""
        await store.append(ID, say("a"))
        version = (await store.append(ID, say("b"))).version
        before = await picture(store)
        for seen in (ahead(version), ahead(version, rounds=7), beside(version)):
            for change in (
                Change(append=(record("c"),), expect=seen),
                Change(keep=0, expect=seen),
                Change(metadata={"title": "x"}, expect=seen),
            ):
                with pytest.raises(HistoryRegressed) as error:
                    await store.commit(key(store), change)
                assert (error.value.seen, error.value.actual) == (seen, version)
            with pytest.raises(HistoryRegressed):
                await store.delete(key(store), expect=seen)
        assert await picture(store) == before

"""Contract: reads with `since`."""

from __future__ import annotations

import random

import pytest

from ..errors import HistoryRegressed, SessionNotFound
from ..store import Store
from ..values.change import Change
from ._base import ContractBase
from ._material import ID, diverged, key, later, record, say, texts


class Since(ContractBase):
    async def test_nothing_means_unchanged(self, store: Store) -> None:
        """`read` with `since` returns no records if nothing has changed."""
        version = (await store.append(ID, say("a"))).version
        session = await store.backend.read(key(store), since=version)
        assert session.continues
        assert session.records == ()
        assert session.version == version

    async def test_what_follows_a_version(self, store: Store) -> None:
        """If the history has only grown, `read` returns only the records after `since`, and `continues` is true."""
        versions = [(await store.append(ID, say(text))).version for text in "abcde"]
        for place, version in enumerate(versions):
            session = await store.backend.read(key(store), since=version)
            assert session.continues
            assert texts(session.messages) == list("abcde")[place + 1 :]
            assert session.version == versions[-1]

    async def test_metadata_cuts_nothing(self, store: Store) -> None:
        """A change of metadata, owner or time to live does not end the continuation; the info shows it."""
        version = (await store.append(ID, say("a"))).version
        await store.merge_metadata(ID, {"title": "x"}, owner="u1", ttl=60.0)
        await store.append(ID, say("b"))
        session = await store.backend.read(key(store), since=version)
        assert session.continues
        assert texts(session.messages) == ["b"]
        assert (session.info.owner, dict(session.info.metadata)) == ("u1", {"title": "x"})

    async def test_everything_after_a_cut(self, store: Store) -> None:
        """`read` returns the whole session if turns were cut since."""
        versions = [(await store.append(ID, say(text))).version for text in "abc"]
        await store.backend.commit(key(store), Change(keep=2))
        for version in versions:
            session = await store.backend.read(key(store), since=version)
            assert not session.continues
            assert texts(session.messages) == ["a", "b"]
        await store.append(ID, say("d"))  # the same number of turns, but other turns
        for version in versions:
            session = await store.backend.read(key(store), since=version)
            assert not session.continues
            assert texts(session.messages) == ["a", "b", "d"]

    async def test_everything_of_a_session_made_anew(self, store: Store) -> None:
        """`read` returns the whole session if it was deleted and made again, even with the same changes."""
        change = Change(append=(record("a"),))
        version = (await store.backend.commit(key(store), change)).version
        await store.erase(ID)
        await store.backend.commit(key(store), change)
        session = await store.backend.read(key(store), since=version)
        assert not session.continues
        assert texts(session.messages) == ["a"]

    async def test_everything_for_the_version_of_another_session(self, store: Store) -> None:
        """`read` returns the whole session if `since` is a version of another session."""
        other = (await store.append("bob", say("a"))).version
        await store.append(ID, say("a"))
        session = await store.backend.read(key(store), since=other)
        assert not session.continues
        assert texts(session.messages) == ["a"]

    async def test_the_first_may_be_a_later_round(self, store: Store) -> None:
        """The first record of a continuation may be a later round of a turn, under the number of its turn."""
        await store.append(ID, say("a"))
        version = (await store.append(ID, say("b"), turn_id="t", open=True)).version
        await store.append(ID, say("c"), turn_id="t", part=1)
        await store.append(ID, say("d"))
        session = await store.backend.read(key(store), since=version)
        assert session.continues
        found = [(r.number, r.part, r.begins_turn, texts(r.messages)) for r in session.records]
        assert found == [(1, 1, False, ["c"]), (2, 0, True, ["d"])]

    async def test_since_the_beginning(self, store: Store) -> None:
        """All turns follow the version of a session without turns."""
        version = (await store.merge_metadata(ID, {"title": "x"})).version
        await store.append(ID, say("a"))
        await store.append(ID, say("b"))
        session = await store.backend.read(key(store), since=version)
        assert session.continues
        assert texts(session.messages) == ["a", "b"]

    async def test_with_last_since_decides_where_it_continues(self, store: Store) -> None:
        """`last` applies only if the history does not continue from `since`."""
        versions = [(await store.append(ID, say(text))).version for text in "abcd"]
        session = await store.backend.read(key(store), since=versions[0], last=1)
        assert (session.continues, texts(session.messages)) == (True, ["b", "c", "d"])
        session = await store.backend.read(key(store), since=versions[3], last=2)
        assert (session.continues, session.records) == (True, ())
        await store.backend.commit(key(store), Change(keep=3))
        for last, shown in ((0, []), (1, ["c"]), (2, ["b", "c"])):
            session = await store.backend.read(key(store), since=versions[0], last=last)
            assert (session.continues, texts(session.messages)) == (False, shown)

    async def test_a_session_that_is_older_than_since(self, store: Store) -> None:
        """`read` raises `HistoryRegressed` if the session is older than `since`."""
        version = (await store.append(ID, say("a"))).version
        with pytest.raises(HistoryRegressed) as error:
            await store.backend.read(key(store), since=later(version))
        assert error.value.seen == later(version)
        assert error.value.actual == version
        with pytest.raises(HistoryRegressed):
            await store.backend.read(key(store), since=later(version, rounds=5), last=0)

    async def test_a_session_that_has_diverged_from_since(self, store: Store) -> None:
        """`read` raises `HistoryRegressed` if the session has diverged from `since`."""
        versions = [(await store.append(ID, say(text))).version for text in "abc"]
        for version in versions:
            with pytest.raises(HistoryRegressed):
                await store.backend.read(key(store), since=diverged(version))

    async def test_a_store_that_lost_a_cut(self, store: Store) -> None:
        """`read` raises `HistoryRegressed` if `since` includes a cut that the session does not have."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b"))
        cut = (await store.backend.commit(key(store), Change(keep=1))).version
        await store.erase(ID)
        version = (await store.append(ID, say("a"))).version
        from_the_future = type(cut)(version.epoch, version.generation + 1, version.rounds, version.tip, version.stamp)
        with pytest.raises(HistoryRegressed):
            await store.backend.read(key(store), since=from_the_future)

    async def test_there_must_be_a_session(self, store: Store) -> None:
        """`read` with `since` raises `SessionNotFound` if the session does not exist."""
        version = (await store.append(ID, say("a"))).version
        await store.erase(ID)
        with pytest.raises(SessionNotFound):
            await store.backend.read(key(store), since=version)

    async def test_reads_since_add_up_to_the_session(self, store: Store) -> None:
        """A reader that appends each continuation, and drops the turns before `first`, always has the whole session."""
        chance = random.Random(7)  # noqa: S311 - dice, not keys
        await store.append(ID, say("begin"))
        followed = list((await store.backend.read(key(store))).records)
        version = (await store.info(ID)).version
        for step in range(60):
            turns = (await store.info(ID)).turns
            action = chance.choice(
                ["append", "append", "append", "rounds", "cut", "retain", "metadata", "anew", "rewrite"]
            )
            if action == "append":
                await store.append(ID, say(f"{step}", "x"))
            elif action == "rounds":
                await store.append(ID, say(f"{step}"), turn_id=f"t{step}", open=True)
                await store.append(ID, say(f"{step}+"), turn_id=f"t{step}", part=1)
            elif action == "cut":
                await store.backend.commit(key(store), Change(keep=max(0, turns - 1)))
            elif action == "rewrite":
                await store.backend.commit(key(store), Change(keep=max(0, turns - 1), append=(record(f"{step}"),)))
            elif action == "retain":
                await store.backend.commit(key(store), Change(append=(record(f"{step}"),), retain=4))
            elif action == "metadata":
                await store.merge_metadata(ID, {"step": step})
            else:
                await store.erase(ID)
                await store.append(ID, say(f"{step}"))
            session = await store.backend.read(key(store), since=version)
            followed = [*followed, *session.records] if session.continues else list(session.records)
            followed = [record for record in followed if record.number >= session.info.first]
            version = session.version
            assert tuple(followed) == (await store.backend.read(key(store))).records, f"step {step}, after {action}"

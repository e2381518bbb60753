"""Contract: retention."""

from __future__ import annotations

import pytest

from ..errors import InvalidInput
from ..store import Store
from ..values.change import Change
from ..values.version import Version
from ._base import ContractBase
from ._material import ID, history, key, numbers, picture, record, say, texts


async def _trimmed(store: Store) -> None:
    """Write turns 0 to 9, and retain 6 to 9."""
    await store.backend.commit(key(store), Change(append=tuple(record(f"{n}") for n in range(10)), retain=4))


class Retaining(ContractBase):
    async def test_the_last_turns_stay_under_their_numbers(self, store: Store) -> None:
        """`retain` drops all turns before the last ones; turn numbers never change."""
        for number in range(7):
            receipt = await store.backend.commit(key(store), Change(append=(record(f"{number}"),), retain=3))
            first = max(0, number - 2)
            assert (receipt.number, receipt.first, receipt.turns) == (number, first, number + 1)
            assert receipt.messages == number + 1 - first
            session = await store.session(ID)
            assert numbers(session) == list(range(first, number + 1))
            assert texts(session.messages) == [str(n) for n in range(first, number + 1)]
            assert (session.info.first, session.info.turns) == (first, number + 1)

    async def test_the_option_of_a_store(self) -> None:
        """`Store(retain=n)` keeps the last `n` turns: each append drops older turns."""
        store = await self.opened(retain=2)
        for text in "abcd":
            await store.append(ID, say(text))
        assert await history(store) == ["c", "d"]
        await store.save(ID, [*await store.load(ID), *say("e", "f")])
        assert await history(store) == ["e", "f"]
        with pytest.raises(InvalidInput):
            self.made(retain=0)

    async def test_all_turns_by_default(self, store: Store) -> None:
        """A store keeps all turns by default."""
        for number in range(150):
            await store.append(ID, say(f"{number}"))
        assert (await store.info(ID)).first == 0
        assert len(await store.load(ID)) == 150

    async def test_retention_changes_no_version(self, store: Store) -> None:
        """Retention does not change the version."""
        for text in "abcd":
            version = (await store.append(ID, say(text))).version
        receipt = await store.backend.commit(key(store), Change(retain=2))
        assert (receipt.version, receipt.number, receipt.first) == (version, None, 2)
        assert (await store.session(ID)).version == version
        await store.append(ID, say("e"), expect=version)
        assert await history(store) == ["c", "d", "e"]

    async def test_less_than_there_is_drops_nothing(self, store: Store) -> None:
        """`retain` drops nothing from a session that has no more than this number of turns."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b"))
        before = await picture(store)
        for retain in (2, 3, 2**40):
            await store.backend.commit(key(store), Change(retain=retain))
        assert await picture(store) == before

    async def test_retain_comes_after_keep_and_append(self, store: Store) -> None:
        """A change cuts and appends before it drops turns."""
        for text in "abcd":
            await store.append(ID, say(text))
        await store.backend.commit(key(store), Change(keep=3, append=(record("x"), record("y")), retain=3))
        session = await store.session(ID)
        assert (numbers(session), texts(session.messages)) == ([2, 3, 4], ["c", "x", "y"])

    async def test_windows_into_what_is_left(self, store: Store) -> None:
        """`last` and `before` select from the retained turns; `before` is the number of a turn."""
        await _trimmed(store)
        assert texts(await store.load(ID, last=2)) == ["8", "9"]
        assert texts(await store.load(ID, last=100)) == ["6", "7", "8", "9"]
        assert texts(await store.load(ID, before=8)) == ["6", "7"]
        assert texts(await store.load(ID, before=8, last=1)) == ["7"]
        assert texts(await store.load(ID, before=3)) == []

    async def test_undo_in_what_is_left(self, store: Store) -> None:
        """`keep` is the number of a turn, even if the history no longer begins at 0."""
        await _trimmed(store)
        await store.rewind(ID, turns=2)
        assert await history(store) == ["6", "7"]
        assert (await store.append(ID, say("x"))).number == 8
        with pytest.raises(InvalidInput):
            await store.rewind(ID, turns=4)
        assert await history(store) == ["6", "7", "x"]
        receipt = await store.backend.commit(key(store), Change(keep=2))
        assert (receipt.turns, receipt.messages) == (2, 0), "below the first turn, nothing is left"
        assert (await store.append(ID, say("y"))).number == 2
        assert await history(store) == ["y"]

    async def test_since_a_version_that_was_dropped(self, store: Store) -> None:
        """`read` returns the whole session if the turns after `since` were dropped."""
        versions = [(await store.append(ID, say(f"{n}"))).version for n in range(6)]
        await store.backend.commit(key(store), Change(retain=3))
        for number, version in enumerate(versions):
            session = await store.backend.read(key(store), since=version)
            shown = texts(session.messages)
            if number >= 3:
                assert (session.continues, shown) == (True, [str(n) for n in range(number + 1, 6)])
            else:
                assert shown == ["3", "4", "5"], f"since turn {number}"
                assert not session.continues or number == 2, f"since turn {number}: turns in between are lost"

    async def test_a_thousand_turns(self) -> None:
        """Of 1,000 turns with `retain=100` the last 100 are stored; reads, `fork` and `rewind` work on them."""
        store = await self.opened(retain=100)
        follower: list[str] = []
        seen: Version | None = None
        for number in range(1000):
            receipt = await store.append(ID, say(f"{number}"))
            if number % 90 == 10:  # never after more than 100 turns
                session = await store.backend.read(key(store), since=seen)
                assert session.continues is (seen is not None)
                follower += texts(session.messages)
                seen = session.version
                assert follower == [str(n) for n in range(number + 1)]
        assert (receipt.number, receipt.first, receipt.turns, receipt.messages) == (999, 900, 1000, 100)
        session = await store.session(ID)
        assert numbers(session) == list(range(900, 1000))
        assert texts(session.messages) == [str(n) for n in range(900, 1000)]
        assert texts(await store.load(ID, last=5)) == ["995", "996", "997", "998", "999"]
        await store.fork(ID, "fork", at=950)
        assert numbers(await store.session("fork")) == list(range(900, 950))
        assert (await store.append("fork", say("x"))).number == 950
        assert (await store.rewind(ID, turns=50)).turns == 950
        assert numbers(await store.session(ID)) == list(range(900, 950))
        assert (await store.append(ID, say("y"))).number == 950
        assert len(await store.load(ID)) == 51

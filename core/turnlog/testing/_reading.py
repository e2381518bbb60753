"""Contract: the result of a read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from ..errors import InvalidInput, SessionNotFound
from ..limits import MAX_NUMBER
from ..store import Store
from ..values.change import Change
from ._base import ContractBase
from ._material import ID, key, made_by_hand, numbers, record, say, texts

SIZES = [2, 1, 3, 1, 1, 4]
"""The number of messages in each turn of the session in these tests."""


async def _written(store: Store) -> list[list[str]]:
    turns = [[f"{number}.{place}" for place in range(size)] for number, size in enumerate(SIZES)]
    for number, turn in enumerate(turns):
        if number == 2:  # in three rounds
            for part, text in enumerate(turn):
                await store.append(ID, say(text), turn_id="rounds", part=part, open=part < 2)
        else:
            await store.append(ID, say(*turn))
    return turns


def _window(turns: list[list[str]], last: int) -> list[str]:
    """Return the fewest whole turns at the end that hold at least this many messages."""
    shown: list[str] = []
    for turn in reversed(turns):
        if len(shown) >= last:
            break
        shown = turn + shown
    return shown


class Reading(ContractBase):
    async def test_the_whole_session_by_default(self, store: Store) -> None:
        """`read` returns a snapshot of the whole session by default."""
        turns = await _written(store)
        session = await store.backend.read(key(store))
        assert texts(session.messages) == [text for turn in turns for text in turn]
        assert numbers(session) == list(range(len(turns)))
        assert not session.continues
        assert session.version == session.info.version

    async def test_last_returns_the_fewest_whole_turns(self, store: Store) -> None:
        """`last` returns the fewest whole turns at the end that hold at least this many messages."""
        turns = await _written(store)
        for last in [*range(1, sum(SIZES) + 2), 10_000]:
            expected = _window(turns, last)
            assert texts(await store.load(ID, last=last)) == expected, f"load(last={last})"
            assert texts((await store.backend.read(key(store), last=last)).messages) == expected, f"read(last={last})"

    async def test_last_0_returns_the_info_alone(self, store: Store) -> None:
        """`last=0` returns the info alone."""
        await _written(store)
        session = await store.backend.read(key(store), last=0)
        assert session.records == ()
        assert (session.info.turns, session.info.messages) == (len(SIZES), sum(SIZES))

    async def test_before_returns_the_turns_numbered_below(self, store: Store) -> None:
        """`before` returns only turns numbered below it."""
        turns = await _written(store)
        for before in [*range(len(turns) + 2), 2**40]:
            expected = [text for turn in turns[:before] for text in turn]
            assert texts(await store.load(ID, before=before)) == expected, f"load(before={before})"

    async def test_last_with_before_counts_backwards_from_there(self, store: Store) -> None:
        """`last` counts backwards from `before` if both are given."""
        turns = await _written(store)
        for before in range(len(turns) + 2):
            for last in range(sum(SIZES) + 1):
                shown = texts((await store.backend.read(key(store), last=last, before=before)).messages)
                assert shown == _window(turns[:before], last), f"read(last={last}, before={before})"

    async def test_the_info_is_of_the_whole_session(self, store: Store) -> None:
        """The info describes the whole session, even if only a part of it is read."""
        await _written(store)
        await store.merge_metadata(ID, {"title": "x"}, owner="u1")
        info = (await store.backend.read(key(store), touch=False)).info
        for last, before in ((1, None), (0, None), (None, 2), (1, 0)):
            assert (await store.backend.read(key(store), last=last, before=before)).info == info, f"{last=}, {before=}"
        assert (await store.backend.read(key(store), since=info.version)).info == info
        assert info.key == key(store)

    async def test_a_turn_is_the_same_in_each_window(self, store: Store) -> None:
        """A turn has the same number, id and time in every read."""
        await _written(store)
        turns = (await store.session(ID)).turns
        for last in range(1, sum(SIZES) + 1):
            shown = (await store.session(ID, last=last)).turns
            assert shown == turns[-len(shown) :], f"last={last}"
        assert (await store.session(ID, before=3)).turns == turns[:3]

    async def test_reading_changes_nothing(self, store: Store) -> None:
        """A read changes no turn, no version and no time."""
        await _written(store)
        before = await store.backend.read(key(store))
        for _ in range(2):
            await store.load(ID)
            await store.load(ID, last=2)
            await store.touch(ID)
            await store.info(ID)
        after = await store.backend.read(key(store))
        assert (after.info, after.turns) == (before.info, before.turns)

    async def test_created_and_updated(self, store: Store) -> None:
        """`created` is the time of the session's creation, `updated` the time of the last write or cut of turns."""
        await store.append(ID, say("a"))
        made = await store.info(ID)
        assert made.created == made.updated
        await self.advance(10)
        await store.load(ID)
        assert (await store.info(ID)).updated == made.updated, "a read changes nothing"
        seen = made
        for change in (
            Change(append=(record("b"),)),
            Change(append=(record("c"),), metadata={"title": "x"}),
            Change(keep=2),
        ):
            await self.advance(10)
            await store.backend.commit(key(store), change)
            info = await store.info(ID)
            assert info.updated > seen.updated, change
            assert info.created == made.created
            seen = info
        for change in (Change(metadata={"title": "y"}), Change(owner="u1"), Change(ttl=800.0), Change(retain=1)):
            await self.advance(10)
            await store.backend.commit(key(store), change)
            assert (await store.info(ID)).updated == seen.updated, change
        described = await store.merge_metadata("described", {"title": "x"})
        assert described.previous is None
        info = await store.info("described")
        assert info.updated == info.created > seen.updated, "it was made"

    async def test_an_unknown_session(self, store: Store) -> None:
        """`load`, `session`, `read`, `info`, `touch`, `rewind` and `pop` raise `SessionNotFound` without a session."""
        await store.append("bob", say("a"))
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.load(ID),
            lambda: store.load(ID, last=5),
            lambda: store.session(ID),
            lambda: store.backend.read(key(store)),
            lambda: store.backend.read(key(store), last=0, touch=False),
            lambda: store.info(ID),
            lambda: store.touch(ID),
            lambda: store.rewind(ID, turns=1),
            lambda: store.rewind(ID, messages=1),
            lambda: store.pop(ID),
        ]
        for call in calls:
            with pytest.raises(SessionNotFound):
                await call()
        assert [info.key.session async for info in store.sessions()] == ["bob"], "no call has made a session"

    async def test_an_unknown_session_to_remove(self, store: Store) -> None:
        """`delete` returns False if the session does not exist."""
        await store.append("bob", say("a"))
        assert await store.backend.delete(key(store)) is False
        assert await store.erase(ID) is False
        assert await store.erase("bob") is True
        assert await store.erase("bob") is False

    async def test_a_session_that_was_deleted_is_gone(self, store: Store) -> None:
        """`delete` removes all of a session."""
        await store.append(ID, say("a", "b"), owner="u1", metadata={"title": "x"})
        assert await store.backend.delete(key(store)) is True
        with pytest.raises(SessionNotFound):
            await store.load(ID)
        receipt = await store.append(ID, say("c"))
        session = await store.session(ID)
        assert (receipt.number, receipt.previous, texts(session.messages)) == (0, None, ["c"])
        assert (session.info.owner, dict(session.info.metadata)) == ("", {})

    async def test_invalid_arguments(self, store: Store) -> None:
        """`read` raises `InvalidInput` for an invalid `last`, `before` or `since`, and for `before` with `since`."""
        version = (await store.append(ID, say("a"))).version
        for session_id in (ID, "not there"):
            for bad in (-1, True, "5", 1.0, float("nan"), MAX_NUMBER + 1, 2**63, 2**64):
                with pytest.raises(InvalidInput):
                    await store.backend.read(key(store, session_id), last=bad)  # type: ignore[arg-type]
                with pytest.raises(InvalidInput):
                    await store.backend.read(key(store, session_id), before=bad)  # type: ignore[arg-type]
            with pytest.raises(InvalidInput):
                await store.backend.read(key(store, session_id), since=version, before=1)
            for since in ("1", *made_by_hand(version)):
                with pytest.raises(InvalidInput):
                    await store.backend.read(key(store, session_id), since=since)  # type: ignore[arg-type]
        await store.backend.read(key(store), last=MAX_NUMBER, before=MAX_NUMBER)

"""Contract: edits of a stored history, a turn by its id, and incremental reads of a store."""

from __future__ import annotations

import pytest

from ..errors import Conflict, InvalidInput, SessionNotFound
from ..store import Store
from ..values.change import PRESENT
from ..values.message import user
from ..values.version import Version
from ._base import ContractBase
from ._material import ID, history, numbers, picture, say, texts


async def three(store: Store) -> Version:
    """Store three turns of two messages each and return the version."""
    for name in "abc":
        receipt = await store.append(ID, say(name, name.upper()), turn_id=name)
    return receipt.version


class Editing(ContractBase):
    async def test_pop_messages_returns_the_removed_messages(self, store: Store) -> None:
        """`pop_messages` removes messages at the end and returns them, oldest first; the rest of a turn stays."""
        await three(store)
        assert texts(await store.pop_messages(ID, 1)) == ["C"]
        assert await history(store) == ["a", "A", "b", "B", "c"]
        assert texts(await store.pop_messages(ID, 2)) == ["B", "c"]
        session = await store.session(ID)
        assert ([texts(turn.messages) for turn in session.turns], session.turns[0].id) == ([["a", "A"], ["b"]], "a")
        assert texts(await store.pop_messages(ID, 100)) == ["a", "A", "b"]
        assert await store.pop_messages(ID, 1) == []
        with pytest.raises(SessionNotFound):
            await store.pop_messages("bob", 1)
        for n in (0, -1, 1.0, True, None):
            with pytest.raises(InvalidInput, match="n must be a whole number of at least 1"):
                await store.pop_messages(ID, n)  # type: ignore[arg-type]

    async def test_pop_messages_under_a_condition(self, store: Store) -> None:
        """`pop_messages` with a stale version raises `Conflict` and removes nothing."""
        version = await three(store)
        await store.append(ID, say("d"))
        with pytest.raises(Conflict):
            await store.pop_messages(ID, 1, expect=version)
        assert texts(await store.pop_messages(ID, 2, expect=version.session)) == ["C", "d"]

    async def test_rewrite_replaces_the_tail(self, store: Store) -> None:
        """`rewrite` replaces the turns from a number on in one commit; earlier turns keep ids, numbers and times."""
        version = await three(store)
        first = (await store.session(ID)).turns[0]
        receipt = await store.rewrite(ID, [user("s"), user("t")], from_turn=1, expect=version)
        session = await store.session(ID)
        assert [texts(turn.messages) for turn in session.turns] == [["a", "A"], ["s"], ["t"]]
        assert (session.turns[0], numbers(session), session.version) == (first, [0, 1, 2], receipt.version)
        with pytest.raises(Conflict):
            await store.rewrite(ID, say("late"), from_turn=0, expect=version)
        await store.rewrite(ID, say("end"), from_turn=3, expect=receipt.version)
        assert await history(store) == ["a", "A", "s", "t", "end"]
        await store.rewrite(ID, [], from_turn=1, expect=PRESENT)
        assert await history(store) == ["a", "A"]

    async def test_rewrite_creates_no_session(self, store: Store) -> None:
        """`rewrite` of a session that does not exist, or that another owner has, raises `SessionNotFound`."""
        for expect in (None, PRESENT):
            with pytest.raises(SessionNotFound):
                await store.rewrite(ID, say("x"), from_turn=0, expect=expect)
        await store.append(ID, say("a"), owner="ann")
        with pytest.raises(SessionNotFound):
            await store.for_owner("bob").rewrite(ID, say("x"), from_turn=0, expect=None)
        assert await history(store) == ["a"]

    async def test_trim_drops_turns_at_the_beginning(self, store: Store) -> None:
        """`trim` drops the turns before a number; the others keep their numbers, and a repeat changes nothing."""
        version = await three(store)
        receipt = await store.trim(ID, before=2, expect=version)
        session = await store.session(ID)
        assert (numbers(session), texts(session.messages)) == ([2], ["c", "C"])
        assert (receipt.first, receipt.turns, receipt.messages) == (2, 3, 2)
        before = await picture(store)
        assert (await store.trim(ID, before=2)).first == 2
        assert (await store.trim(ID, before=0)).first == 2
        assert await picture(store) == before
        for number in (3, 7):
            with pytest.raises(InvalidInput, match="before must be at most 2"):
                await store.trim(ID, before=number)
        await store.append(ID, say("d"))
        with pytest.raises(Conflict):
            await store.trim(ID, before=3, expect=version)
        assert numbers(await store.session(ID)) == [2, 3]

    async def test_a_turn_by_its_id(self, store: Store) -> None:
        """`turn` returns the turn with an id, with all of its rounds; None if there is no such turn."""
        await three(store)
        await store.append(ID, say("d"), turn_id="d", open=True)
        await store.append(ID, say("e"), turn_id="d", part=1)
        for number in range(130):
            await store.append(ID, say("x", "y"), turn_id=f"later-{number}")
        for name, number, said in (("a", 0, ["a", "A"]), ("d", 3, ["d", "e"]), ("later-129", 133, ["x", "y"])):
            turn = await store.turn(ID, name)
            assert turn is not None
            assert (turn.number, turn.id, texts(turn.messages)) == (number, name, said)
        assert await store.turn(ID, "none") is None
        with pytest.raises(SessionNotFound):
            await store.turn("bob", "a")

    async def test_a_store_reads_only_the_rounds_after_a_version(self, store: Store) -> None:
        """`session(since=)` returns the new rounds; after a cut it returns the session, and `continues` is False."""
        version = await three(store)
        await store.append(ID, say("d", "D"), owner=None)
        session = await store.session(ID, since=version, last=1)
        assert (session.continues, texts(session.messages), numbers(session)) == (True, ["d", "D"], [3])
        same = await store.session(ID, since=session.version)
        assert (same.continues, same.messages, same.version) == (True, [], session.version)
        await store.rewind(ID, turns=3)
        cut = await store.session(ID, since=session.version)
        assert (cut.continues, texts(cut.messages)) == (False, ["a", "A"])
        with pytest.raises(InvalidInput):
            await store.session(ID, since=session.version, before=1)
        with pytest.raises(InvalidInput):
            await store.session(ID, since="1")  # type: ignore[arg-type]

"""Contract: a turn may be written in rounds."""

from __future__ import annotations

import pytest

from ..errors import Conflict, IdReused
from ..store import Store
from ..values.change import Change
from ._base import Chapter
from ._material import ID, history, key, numbers, picture, record, say, texts


class Rounds(Chapter):
    async def test_rounds_make_one_turn(self, store: Store) -> None:
        """append: part: which round of the turn: rounds share the turn's id, its number and its place."""
        await store.append(ID, say("a"))
        receipts = [
            await store.append(ID, say(text), turn_id="t", part=part, open=part < 2) for part, text in enumerate("bcd")
        ]
        await store.append(ID, say("e"))
        assert [(r.number, r.turns) for r in receipts] == [(1, 2)] * 3
        assert len({r.version for r in receipts}) == 3
        session = await store.session(ID)
        assert [(turn.number, texts(turn.messages)) for turn in session.turns] == [
            (0, ["a"]),
            (1, ["b", "c", "d"]),
            (2, ["e"]),
        ]
        assert session.turns[1].id == "t"
        assert (session.info.turns, session.info.messages) == (3, 5)

    async def test_open_and_interrupted(self, store: Store) -> None:
        """Turn: open: whether more rounds were to follow; interrupted: it is open, and another turn has begun since."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        (turn,) = (await store.session(ID)).turns
        assert (turn.open, turn.interrupted) == (True, False)
        await store.append(ID, say("b"))
        one, two = (await store.session(ID)).turns
        assert (one.open, one.interrupted) == (True, True)
        assert (two.open, two.interrupted) == (False, False)
        await store.append("bob", say("a"), turn_id="t", open=True)
        await store.append("bob", say("b"), turn_id="t", part=1)
        (turn,) = (await store.session("bob")).turns
        assert (turn.open, turn.interrupted) == (False, False)

    async def test_a_round_must_follow(self, store: Store) -> None:
        """commit: Conflict: a round does not follow its turn's open last one; nothing is stored."""
        with pytest.raises(Conflict):
            await store.append(ID, say("b"), turn_id="t", part=1)
        assert await picture(store) is None, "a later round makes no session"
        await store.append(ID, say("a"), turn_id="t", open=True)
        before = await picture(store)
        for turn_id, part in (("t", 2), ("t", 7), ("other", 1)):
            with pytest.raises(Conflict):
                await store.append(ID, say("x"), turn_id=turn_id, part=part)
        assert await picture(store) == before
        await store.append(ID, say("b"), turn_id="t", part=1)
        with pytest.raises(Conflict):
            await store.append(ID, say("c"), turn_id="t", part=2)
        assert await history(store) == ["a", "b"], "the turn was not open any more"

    async def test_a_round_of_nothing(self, store: Store) -> None:
        """Conflict.actual: where the session is; None where it does not exist."""
        with pytest.raises(Conflict) as error:
            await store.append(ID, say("b"), turn_id="t", part=1)
        assert error.value.actual is None

    async def test_another_turn_came_between(self, store: Store) -> None:
        """commit: Conflict: a round does not follow where another turn has begun since."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        await store.append(ID, say("x"))
        with pytest.raises(Conflict):
            await store.append(ID, say("b"), turn_id="t", part=1)
        assert await history(store) == ["a", "x"]

    async def test_an_undo_lets_a_turn_go_on(self, store: Store) -> None:
        """commit: a round is stored if the last record is the one before it, open: also if a cut made it the last."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        await store.append(ID, say("x"))
        await store.rewind(ID, turns=1)
        receipt = await store.append(ID, say("b"), turn_id="t", part=1)
        assert (receipt.number, receipt.turns) == (0, 1)
        assert await history(store) == ["a", "b"]

    async def test_a_round_is_stored_once(self, store: Store) -> None:
        """append: each round under its turn's id and its part is stored once. IdReused: other messages under both."""
        for _ in range(2):
            await store.append(ID, say("a"), turn_id="t", open=True)
        for _ in range(2):
            receipt = await store.append(ID, say("b"), turn_id="t", part=1)
        await store.append(ID, say("c"))
        again = await store.append(ID, say("b"), turn_id="t", part=1)
        assert (again.version, again.number) == (receipt.version, 0)
        with pytest.raises(IdReused):
            await store.append(ID, say("other"), turn_id="t", part=1)
        assert await history(store) == ["a", "b", "c"]

    async def test_several_rounds_in_one_change(self, store: Store) -> None:
        """Change.append: rounds that follow each other, and turns after them, are stored in one step."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        rest = (record("b", id="t", part=1, open=True), record("c", id="t", part=2), record("d"))
        receipt = await store.commit(key(store), Change(append=rest))
        assert (receipt.number, receipt.turns, receipt.messages) == (0, 2, 4), "of the first turn that it appended to"
        session = await store.session(ID)
        assert [texts(turn.messages) for turn in session.turns] == [["a", "b", "c"], ["d"]]

    async def test_a_cut_takes_all_rounds(self, store: Store) -> None:
        """Windows, forks and undo cut between turns: all rounds of a turn stay or go together."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b"), turn_id="t", open=True)
        await store.append(ID, say("c"), turn_id="t", part=1, open=True)
        await store.fork(ID, "bob", at=1)
        assert await history(store, "bob") == ["a"]
        assert texts(await store.load(ID, last=1)) == ["b", "c"]
        turn = await store.pop(ID)
        assert turn is not None
        assert texts(turn.messages) == ["b", "c"]
        assert await history(store) == ["a"]

    async def test_retention_counts_turns(self, store: Store) -> None:
        """Change.retain: what lies wholly before the last `retain` turns: rounds count as their turn."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b"), turn_id="t", open=True)
        receipt = await store.commit(key(store), Change(append=(record("c", id="t", part=1),), retain=1))
        assert (receipt.first, receipt.turns, receipt.messages) == (1, 2, 2)
        session = await store.session(ID)
        assert (numbers(session), texts(session.messages)) == ([1], ["b", "c"])

    async def test_a_copy_of_an_open_turn_goes_on(self, store: Store) -> None:
        """copy: its turns: one that is open in the source is open in the target."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        await store.fork(ID, "bob")
        await store.append("bob", say("b"), turn_id="t", part=1)
        assert (await history(store), await history(store, "bob")) == (["a"], ["a", "b"])

"""Contract: a turn may be written in rounds."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ..errors import Conflict, IdReused, InvalidInput
from ..store import Store
from ..values.change import Change
from ._base import ContractBase
from ._material import ID, history, key, numbers, picture, record, say, texts


class Rounds(ContractBase):
    async def test_rounds_make_one_turn(self, store: Store) -> None:
        """Rounds of a turn share its id and its number."""
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
        """A turn is open until its last round, and interrupted if another turn begins before that."""
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

    async def test_a_turn_is_closed_without_messages(self, store: Store) -> None:
        """The last round of a turn may be empty: it only closes the turn, and does not count in windows."""
        for number, name in enumerate("stu"):
            await store.append(ID, say(f"{name} 0"), turn_id=name, open=True)
            await store.append(ID, say(f"{name} 1"), turn_id=name, part=1, open=True)
            before = (await store.session(ID)).version
            receipt = await store.append(ID, [], turn_id=name, part=2)
            assert (receipt.number, receipt.turns, receipt.messages) == (number, number + 1, 2 * number + 2)
            assert receipt.version != before
            assert await store.append(ID, [], turn_id=name, part=2) == replace(receipt, previous=receipt.version)
        every = [["s 0", "s 1"], ["t 0", "t 1"], ["u 0", "u 1"]]
        for last, first in ((1, 2), (2, 2), (3, 1), (4, 1), (5, 0), (None, 0)):
            session = await store.session(ID, last=last)
            assert [texts(turn.messages) for turn in session.turns] == every[first:], f"last={last}"
            assert not any(turn.open for turn in session.turns)
        assert texts(await store.load(ID, last=2, before=2)) == every[1]
        await store.fork(ID, "bob", at=2)
        assert [texts(turn.messages) for turn in (await store.session("bob")).turns] == every[:2]
        turn = await store.pop("bob")
        assert turn is not None
        assert (texts(turn.messages), turn.open) == (every[1], False)

    async def test_only_a_later_round_that_closes_its_turn_may_be_empty(self, store: Store) -> None:
        """`append` raises `InvalidInput` if a turn would begin, or stay open, without messages."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        before = await picture(store)
        for part, open in ((0, False), (0, True), (1, True)):
            with pytest.raises(InvalidInput):
                await store.append(ID, [], turn_id="t", part=part, open=open)
        assert await picture(store) == before

    async def test_a_round_must_follow(self, store: Store) -> None:
        """`commit` raises `Conflict` if a round does not follow its turn’s open last one, and stores nothing."""
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
        """`Conflict.actual` is None if the session does not exist."""
        with pytest.raises(Conflict) as error:
            await store.append(ID, say("b"), turn_id="t", part=1)
        assert error.value.actual is None

    async def test_another_turn_came_between(self, store: Store) -> None:
        """A round raises `Conflict` if another turn has begun after the turn of the round."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        await store.append(ID, say("x"))
        with pytest.raises(Conflict):
            await store.append(ID, say("b"), turn_id="t", part=1)
        assert await history(store) == ["a", "x"]

    async def test_an_undo_lets_a_turn_go_on(self, store: Store) -> None:
        """A round is stored if its turn’s open last round is the last record, also after a cut."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        await store.append(ID, say("x"))
        await store.rewind(ID, turns=1)
        receipt = await store.append(ID, say("b"), turn_id="t", part=1)
        assert (receipt.number, receipt.turns) == (0, 1)
        assert await history(store) == ["a", "b"]

    async def test_a_round_is_stored_once(self, store: Store) -> None:
        """`append` stores a round once per `turn_id` and `part`, and raises `IdReused` for other messages with both."""
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
        """A change may append several rounds and turns in one step."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        rest = (record("b", id="t", part=1, open=True), record("c", id="t", part=2), record("d"))
        receipt = await store.backend.commit(key(store), Change(append=rest))
        assert (receipt.number, receipt.turns, receipt.messages) == (0, 2, 4), "of the first turn that it appended to"
        session = await store.session(ID)
        assert [texts(turn.messages) for turn in session.turns] == [["a", "b", "c"], ["d"]]

    async def test_a_cut_takes_all_rounds(self, store: Store) -> None:
        """Windows, forks and undo select whole turns, with all their rounds."""
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
        """`retain` counts turns, not rounds."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b"), turn_id="t", open=True)
        receipt = await store.backend.commit(key(store), Change(append=(record("c", id="t", part=1),), retain=1))
        assert (receipt.first, receipt.turns, receipt.messages) == (1, 2, 2)
        session = await store.session(ID)
        assert (numbers(session), texts(session.messages)) == ([1], ["b", "c"])

    async def test_a_copy_of_an_open_turn_goes_on(self, store: Store) -> None:
        """A turn that is open in the source is open in the copy."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        await store.fork(ID, "bob")
        await store.append("bob", say("b"), turn_id="t", part=1)
        assert (await history(store), await history(store, "bob")) == (["a"], ["a", "b"])

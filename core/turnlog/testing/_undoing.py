"""Contract: save, rewind and pop."""

from __future__ import annotations

import pytest

from ..errors import Conflict, InvalidInput
from ..store import Store
from ..values.change import ABSENT, ANY
from ..values.message import assistant, user
from ._base import Chapter
from ._material import ID, history, numbers, picture, say, texts


class Undoing(Chapter):
    async def test_save_makes_the_history_equal(self, store: Store) -> None:
        """save: make the stored history equal to this one; a turn begins at each user message."""
        messages = [user("a"), assistant("A"), user("b"), assistant("B"), assistant("more")]
        receipt = await store.save(ID, messages)
        session = await store.session(ID)
        assert session.messages == messages
        assert [texts(turn.messages) for turn in session.turns] == [["a", "A"], ["b", "B", "more"]]
        assert (receipt.version, receipt.turns, receipt.messages) == (session.version, 2, 5)

    async def test_load_extend_save(self, store: Store) -> None:
        """save: without `expect` it may extend what is stored; only what differs is written."""
        await store.append(ID, [user("a"), assistant("A")], turn_id="t")
        messages = [*await store.load(ID), user("b"), assistant("B")]
        await store.save(ID, messages)
        session = await store.session(ID)
        assert session.messages == messages
        assert (session.turns[0].id, numbers(session)) == ("t", [0, 1])
        before = await picture(store)
        receipt = await store.save(ID, messages)
        assert await picture(store) == before, "nothing differs, nothing is written"
        assert (receipt.version, receipt.messages) == (session.version, 4)

    async def test_load_edit_save_is_refused(self, store: Store) -> None:
        """save: Conflict: it would discard messages that the caller has not said to have seen."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b"))
        before = await picture(store)
        for messages in (say("a", "edited"), say("a"), say("x", "a", "b")):
            with pytest.raises(Conflict):
                await store.save(ID, messages)
        assert await picture(store) == before

    async def test_save_what_was_loaded_and_edited(self, store: Store) -> None:
        """save: expect: the version that was loaded: then what is stored may be replaced. Conflict: it moved on."""
        await store.append(ID, say("a"))
        version = (await store.append(ID, say("b"))).version
        receipt = await store.save(ID, say("a", "edited"), expect=version)
        assert await history(store) == ["a", "edited"]
        with pytest.raises(Conflict):
            await store.save(ID, say("a", "again"), expect=version)
        await store.save(ID, say("a"), expect=receipt.version)
        assert await history(store) == ["a"]

    async def test_save_aloud(self, store: Store) -> None:
        """save: `ABSENT`: only make it. `ANY`: overwrite whatever is there."""
        await store.save(ID, say("a"), expect=ABSENT)
        with pytest.raises(Conflict):
            await store.save(ID, say("a", "b"), expect=ABSENT)
        await store.save(ID, say("x", "y"), expect=ANY)
        assert await history(store) == ["x", "y"]
        await store.save("bob", say("z"), expect=ANY)
        assert await history(store, "bob") == ["z"]

    async def test_save_at_a_version_that_is_gone(self, store: Store) -> None:
        """save: Conflict: the session is not at `expect`: it was deleted meanwhile, and is not made again."""
        version = (await store.append(ID, say("a"))).version
        await store.erase(ID)
        with pytest.raises(Conflict):
            await store.save(ID, say("a", "b"), expect=version)
        assert await picture(store) is None

    async def test_rewind_turns(self, store: Store) -> None:
        """rewind: undo the last turns."""
        for text in "abcd":
            await store.append(ID, say(text, text.upper()))
        receipt = await store.rewind(ID, turns=2)
        assert await history(store) == ["a", "A", "b", "B"]
        assert (receipt.turns, receipt.messages) == (2, 4)
        await store.rewind(ID, turns=2)
        assert await history(store) == []
        assert (await store.append(ID, say("e"))).number == 0

    async def test_rewind_messages(self, store: Store) -> None:
        """rewind: undo the last messages; a turn that is shortened by it is written whole under a new id."""
        await store.append(ID, say("a", "b"), turn_id="one")
        await store.append(ID, say("c", "d", "e"), turn_id="two")
        await store.rewind(ID, messages=2)
        session = await store.session(ID)
        assert [texts(turn.messages) for turn in session.turns] == [["a", "b"], ["c"]]
        assert numbers(session) == [0, 1]
        assert session.turns[0].id == "one"
        assert session.turns[1].id != "two", "an id always means the same messages"
        await store.rewind(ID, messages=1)
        assert await history(store) == ["a", "b"]

    async def test_rewind_more_than_there_is(self, store: Store) -> None:
        """rewind: InvalidInput: neither or both are given, or more than there is."""
        await store.append(ID, say("a", "b"))
        before = await picture(store)
        for turns, messages in ((2, None), (None, 3), (None, None), (1, 1), (0, None), (None, -1)):
            with pytest.raises(InvalidInput):
                await store.rewind(ID, turns=turns, messages=messages)
        assert await picture(store) == before

    async def test_rewind_what_was_seen(self, store: Store) -> None:
        """rewind: expect: Conflict: the session is not at this version."""
        version = (await store.append(ID, say("a"))).version
        await store.append(ID, say("b"))
        with pytest.raises(Conflict):
            await store.rewind(ID, turns=1, expect=version)
        assert await history(store) == ["a", "b"]
        await store.rewind(ID, turns=1, expect=(await store.info(ID)).version)
        assert await history(store) == ["a"]

    async def test_pop(self, store: Store) -> None:
        """pop: remove the last turn and hand it out; None if the session has none."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b", "c"), turn_id="t")
        turn = await store.pop(ID)
        assert turn is not None
        assert (turn.id, turn.number, texts(turn.messages)) == ("t", 1, ["b", "c"])
        assert await history(store) == ["a"]
        assert (await store.pop(ID)) is not None
        assert (await store.pop(ID)) is None
        assert await history(store) == []

"""Contract: save, rewind and pop."""

from __future__ import annotations

import pytest

from ..errors import Conflict, InvalidInput, SessionNotFound
from ..store import Store
from ..values.change import ABSENT, ANY, PRESENT, Change
from ..values.message import assistant, user
from ._base import ContractBase
from ._material import ID, history, key, numbers, picture, say, texts


class Undoing(ContractBase):
    async def test_save_makes_the_history_equal(self, store: Store) -> None:
        """`save` makes the stored history equal to the given one; a turn begins at each user message."""
        messages = [user("a"), assistant("A"), user("b"), assistant("B"), assistant("more")]
        receipt = await store.save(ID, messages)
        session = await store.session(ID)
        assert session.messages == messages
        assert [texts(turn.messages) for turn in session.turns] == [["a", "A"], ["b", "B", "more"]]
        assert (receipt.version, receipt.turns, receipt.messages) == (session.version, 2, 5)

    async def test_load_extend_save(self, store: Store) -> None:
        """`save` without a condition may extend the history, and writes only the difference."""
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
        """`save` without a condition raises `Conflict` if it would discard messages."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b"))
        before = await picture(store)
        for messages in (say("a", "edited"), say("a"), say("x", "a", "b")):
            with pytest.raises(Conflict):
                await store.save(ID, messages)
        assert await picture(store) == before

    async def test_save_what_was_loaded_and_edited(self, store: Store) -> None:
        """`save` with the loaded version may replace messages, and raises `Conflict` if others were stored since."""
        await store.append(ID, say("a"))
        version = (await store.append(ID, say("b"))).version
        receipt = await store.save(ID, say("a", "edited"), expect=version)
        assert await history(store) == ["a", "edited"]
        with pytest.raises(Conflict):
            await store.save(ID, say("a", "again"), expect=version)
        await store.save(ID, say("a"), expect=receipt.version)
        assert await history(store) == ["a"]
        with pytest.raises(Conflict):
            await store.save(ID, say("b"), expect=receipt.version.exact)
        await store.append(ID, say("b"))
        await store.save(ID, say("x"), expect=receipt.version.session)
        assert await history(store) == ["x"]

    async def test_save_with_a_mark(self, store: Store) -> None:
        """`save` with `ABSENT` only makes a session, with `PRESENT` only extends it, and with `ANY` overwrites it."""
        await store.save(ID, say("a"), expect=ABSENT)
        with pytest.raises(Conflict):
            await store.save(ID, say("a", "b"), expect=ABSENT)
        with pytest.raises(SessionNotFound):
            await store.save("carol", say("a"), expect=PRESENT)
        await store.save(ID, say("a", "b"), expect=PRESENT)
        with pytest.raises(Conflict):
            await store.save(ID, say("a"), expect=PRESENT)
        await store.save(ID, say("x", "y"), expect=ANY)
        assert await history(store) == ["x", "y"]
        await store.save("bob", say("z"), expect=ANY)
        assert await history(store, "bob") == ["z"]

    async def test_save_at_a_version_that_is_gone(self, store: Store) -> None:
        """`save` with a version raises `Conflict` if the session was deleted, and does not make it again."""
        version = (await store.append(ID, say("a"))).version
        await store.erase(ID)
        with pytest.raises(Conflict):
            await store.save(ID, say("a", "b"), expect=version)
        assert await picture(store) is None

    async def test_rewind_turns(self, store: Store) -> None:
        """`rewind` undoes the last turns."""
        for text in "abcd":
            await store.append(ID, say(text, text.upper()))
        receipt = await store.rewind(ID, turns=2)
        assert await history(store) == ["a", "A", "b", "B"]
        assert (receipt.turns, receipt.messages) == (2, 4)
        await store.rewind(ID, turns=2)
        assert await history(store) == []
        assert (await store.append(ID, say("e"))).number == 0

    async def test_rewind_messages(self, store: Store) -> None:
        """`rewind` undoes the last messages; a shortened turn is stored under a new id."""
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
        """`rewind` raises `InvalidInput` for neither or both of `turns` and `messages`, and for more than exist."""
        await store.append(ID, say("a", "b"))
        before = await picture(store)
        for turns, messages in ((2, None), (None, 3), (None, None), (1, 1), (0, None), (None, -1)):
            with pytest.raises(InvalidInput):
                await store.rewind(ID, turns=turns, messages=messages)
        assert await picture(store) == before

    async def test_rewind_what_was_seen(self, store: Store) -> None:
        """`rewind` and a cut raise `Conflict` if the session does not meet `expect`."""
        version = (await store.append(ID, say("a"))).version
        await store.append(ID, say("b"))
        with pytest.raises(Conflict):
            await store.rewind(ID, turns=1, expect=version)
        with pytest.raises(Conflict):
            await store.backend.commit(key(store), Change(keep=1, expect=version))
        assert await history(store) == ["a", "b"]
        await store.rewind(ID, turns=1, expect=(await store.info(ID)).version.exact)
        await store.append(ID, say("b"))
        await store.rewind(ID, turns=1, expect=version.session)
        await store.append(ID, say("b"))
        await store.rewind(ID, turns=1, expect=PRESENT)
        assert await history(store) == ["a"]

    async def test_pop(self, store: Store) -> None:
        """`pop` removes the last turn and returns it, or returns None if the session has none."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b", "c"), turn_id="t")
        turn = await store.pop(ID)
        assert turn is not None
        assert (turn.id, turn.number, texts(turn.messages)) == ("t", 1, ["b", "c"])
        assert await history(store) == ["a"]
        assert (await store.pop(ID)) is not None
        assert (await store.pop(ID)) is None
        assert await history(store) == []

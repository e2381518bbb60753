"""Contract: a change that is sent again is stored once."""

from __future__ import annotations

import pytest

from ..errors import Conflict, CorruptRecord, IdReused
from ..store import Store
from ..values.change import ABSENT, Change
from ._base import Chapter
from ._material import ID, history, key, picture, record, say, texts


class Repeating(Chapter):
    async def test_five_times_the_same(self, store: Store) -> None:
        """commit: once per change id: a repeat is answered with the version and the turn number of the first time."""
        await store.append(ID, say("a"))
        change = Change(append=(record("b"), record("c")), metadata={"title": "x"}, owner="u1")
        first = await store.commit(key(store), change)
        before = await picture(store)
        for _ in range(4):
            receipt = await store.commit(key(store), change)
            assert (receipt.version, receipt.number) == (first.version, first.number)
            assert (receipt.turns, receipt.messages, receipt.first) == (first.turns, first.messages, first.first)
            assert receipt.previous == receipt.version, "Receipt.previous: `version` in a repeat"
        assert await picture(store) == before
        assert await history(store) == ["a", "b", "c"]

    async def test_every_kind_of_change_is_recognised(self, store: Store) -> None:
        """commit: a repeat stores nothing, whatever it changed."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b"))
        for change in (
            Change(keep=1),
            Change(keep=1, append=(record("c"),)),
            Change(metadata={"title": "x"}),
            Change(owner="u1"),
            Change(ttl=600.0),
            Change(append=(record("d"),), retain=1),
        ):
            receipt = await store.commit(key(store), change)
            before = await picture(store)
            assert (await store.commit(key(store), change)).version == receipt.version
            assert await picture(store) == before, change

    async def test_a_late_repeat(self, store: Store) -> None:
        """Receipt.version: in a repeat, where this change brought it; the counts are the session's now."""
        change = Change(append=(record("a"),))
        first = await store.commit(key(store), change)
        await store.append(ID, say("b"))
        last = await store.commit(key(store), Change(append=(record("c", "d"),), retain=1))
        before = await picture(store)
        receipt = await store.commit(key(store), change)
        assert (receipt.version, receipt.number, receipt.previous) == (first.version, 0, first.version)
        assert (receipt.first, receipt.turns, receipt.messages) == (last.first, last.turns, last.messages) == (2, 3, 2)
        assert await picture(store) == before

    async def test_a_repeat_undoes_nothing(self, store: Store) -> None:
        """commit: a repeat stores nothing: not what was overwritten since, not what was cut since."""
        title = Change(metadata={"title": "x"})
        await store.commit(key(store), title)
        await store.merge_metadata(ID, {"title": "y"})
        await store.commit(key(store), title)
        assert dict((await store.info(ID)).metadata) == {"title": "y"}
        turn = Change(append=(record("a"),))
        await store.commit(key(store), turn)
        await store.pop(ID)
        await store.commit(key(store), turn)
        assert await history(store) == [], "changes are remembered apart from the turns"
        await store.append(ID, say("b"))
        cut = Change(keep=0)
        await store.commit(key(store), cut)
        await store.append(ID, say("c"))
        await store.commit(key(store), cut)
        assert await history(store) == ["c"]

    async def test_the_id_is_looked_up_before_expect(self, store: Store) -> None:
        """commit: the id is looked up before `expect` is compared: a repeat is no conflict with itself."""
        made = Change(append=(record("a"),), expect=ABSENT)
        first = await store.commit(key(store), made)
        assert (await store.commit(key(store), made)).version == first.version
        grown = Change(append=(record("b"),), expect=first.version)
        second = await store.commit(key(store), grown)
        await store.append(ID, say("c"))
        assert (await store.commit(key(store), grown)).version == second.version
        assert await history(store) == ["a", "b", "c"]

    async def test_what_may_differ(self, store: Store) -> None:
        """Change.digest: not of `expect`, `retain` and `max_bytes`, which callers vary, nor of the times of turns."""
        version = (await store.append(ID, say("a"))).version
        first = await store.commit(key(store), Change(id="c", append=(record("b", id="t", time=1.0),)))
        for again in (
            Change(id="c", append=(record("b", id="t", time=2.0),)),
            Change(id="c", append=(record("b", id="t"),), expect=version),
            Change(id="c", append=(record("b", id="t"),), retain=1),
            Change(id="c", append=(record("b", id="t"),), max_bytes=1),
        ):
            assert (await store.commit(key(store), again)).version == first.version
        assert await history(store) == ["a", "b"]

    async def test_what_may_not_differ(self, store: Store) -> None:
        """commit: IdReused: the id stands for another change; nothing is stored."""
        asked = {"keep": 1, "metadata": {"title": "x"}, "owner": "u1", "ttl": 600.0}
        await store.append(ID, say("a"))
        await store.commit(key(store), Change(id="c", append=(record("b", id="t"),), **asked))  # type: ignore[arg-type]
        before = await picture(store)
        for other in (
            Change(id="c", append=(record("other", id="t"),), **asked),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="other"),), **asked),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t", open=True),), **asked),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t"), record("more")), **asked),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t"),), **{**asked, "keep": 0}),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t"),), **{**asked, "metadata": {}}),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t"),), **{**asked, "owner": ""}),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t"),), **{**asked, "ttl": 0.0}),  # type: ignore[arg-type]
            Change(id="c", metadata={"title": "x"}),
        ):
            with pytest.raises(IdReused):
                await store.commit(key(store), other)
        assert await picture(store) == before

    async def test_a_turn_id_stands_for_its_messages(self, store: Store) -> None:
        """append: turn_id: the same messages under it are stored once. IdReused: others were stored under it."""
        first = await store.append(ID, say("a"), turn_id="t")
        await self.advance(5)
        again = await store.append(ID, [{"content": "a", "role": "user"}], turn_id="t")
        assert (again.version, again.number) == (first.version, first.number)
        with pytest.raises(IdReused):
            await store.append(ID, say("b"), turn_id="t")
        assert await history(store) == ["a"]

    async def test_another_encoding_is_the_same_change(self, store: Store) -> None:
        """Change.digest: carried over by layers: a change that is compressed or encrypted anew is still the same."""
        change = Change(append=(record("a"),))
        encoded = [change.rewrite(append=(change.append[0].with_payload(nonce * 40),)) for nonce in (b"1", b"2")]
        if self.reads_messages:
            with pytest.raises(CorruptRecord):
                await store.commit(key(store), encoded[0])
            return
        first = await store.commit(key(store), encoded[0])
        again = await store.commit(key(store), encoded[1])
        assert (again.version, again.number) == (first.version, first.number)
        session = await store.read(key(store))
        assert [r.payload for r in session.records] == [b"1" * 40], "what was stored first stays"
        other = Change(id=change.id, append=(record("b"),))
        with pytest.raises(IdReused):
            await store.commit(key(store), other.rewrite(append=(other.append[0].with_payload(b"1" * 40),)))

    async def test_so_many_changes_are_remembered(self, store: Store) -> None:
        """Store.remembers: how many of a session's last changes it recognises when they are sent again; at least 64."""
        assert store.remembers >= 64
        changes = [Change(append=(record(f"{n}"),)) for n in range(64)]
        receipts = [await store.commit(key(store), change) for change in changes]
        before = await picture(store)
        for change, receipt in zip(changes, receipts, strict=True):
            again = await store.commit(key(store), change)
            assert (again.version, again.number) == (receipt.version, receipt.number)
        assert await picture(store) == before

    async def test_ids_are_a_sessions_own(self, store: Store) -> None:
        """commit: a change id stands for a change of one session: in another it is new."""
        change = Change(append=(record("a"),))
        await store.commit(key(store), change)
        receipt = await store.commit(key(store, "bob"), change)
        assert receipt.previous is None
        assert (await history(store), await history(store, "bob")) == (["a"], ["a"])

    async def test_a_deleted_session_has_forgotten(self, store: Store) -> None:
        """commit: a change makes a session that is not there: with a deleted one went what it remembered."""
        change = Change(append=(record("a"),))
        first = await store.commit(key(store), change)
        await store.erase(ID)
        receipt = await store.commit(key(store), change)
        assert receipt.previous is None
        assert receipt.version != first.version
        assert await history(store) == ["a"]

    async def test_what_was_refused_is_not_remembered(self, store: Store) -> None:
        """commit: Conflict: nothing was stored: the same change is stored once its time has come."""
        change = Change(append=(record("b", id="t", part=1),))
        with pytest.raises(Conflict):
            await store.commit(key(store), change)
        await store.append(ID, say("a"), turn_id="t", open=True)
        await store.commit(key(store), change)
        assert texts(await store.load(ID)) == ["a", "b"]

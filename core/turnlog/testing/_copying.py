"""Contract: copies of sessions."""

from __future__ import annotations

import pytest

from ..errors import Conflict, CorruptRecord, IdReused, InvalidInput, SessionNotFound
from ..store import Store
from ..values.change import Change
from ..values.key import Key
from ._base import ContractBase
from ._material import ID, history, key, numbers, picture, record, say, texts


async def _source(store: Store) -> None:
    for text in "abcd":
        await store.append(ID, say(text, text.upper()), turn_id=f"turn {text}")
    await store.merge_metadata(ID, {"title": "x", "tags": ["y"]}, owner="u1", ttl=600.0)


class Copying(ContractBase):
    async def test_all_that_is_copied(self, store: Store) -> None:
        """`copy` copies the turns with their numbers and times, the metadata, the owner and the time to live."""
        await _source(store)
        await self.advance(10)
        receipt = await store.fork(ID, "bob")
        source, target = await store.session(ID), await store.session("bob")
        assert target.turns == source.turns
        for name in ("first", "turns", "messages", "owner", "metadata", "ttl"):
            assert getattr(target.info, name) == getattr(source.info, name), name
        assert (receipt.version, receipt.turns, receipt.messages) == (target.version, 4, 8)
        assert receipt.previous is None

    async def test_up_to_a_turn(self, store: Store) -> None:
        """`copy` with `at` copies only the turns numbered below it."""
        await _source(store)
        for at in (0, 1, 3, 4, 9):
            receipt = await store.fork(ID, f"at {at}", at=at)
            session = await store.session(f"at {at}")
            assert numbers(session) == list(range(min(at, 4))), f"at={at}"
            assert texts(session.messages) == list("aAbBcCdD")[: at * 2]
            assert session.info.owner == "u1"
            assert receipt.turns == session.info.turns == min(at, 4)
            assert (await store.append(f"at {at}", say("next"))).number == min(at, 4)

    async def test_both_go_on_apart(self, store: Store) -> None:
        """The source and the copy are independent afterwards."""
        await _source(store)
        await store.fork(ID, "bob")
        await store.append(ID, say("source"))
        await store.append("bob", say("target"))
        await store.merge_metadata("bob", {"title": "y"}, owner="u2")
        await store.rewind(ID, turns=3)
        assert await history(store) == list("aAbB")
        assert await history(store, "bob") == [*"aAbBcCdD", "target"]
        assert dict((await store.info(ID)).metadata) == {"title": "x", "tags": ["y"]}
        before = await picture(store, "bob")
        await store.erase(ID)
        assert await picture(store, "bob") == before

    async def test_a_copy_starts_a_new_epoch(self, store: Store) -> None:
        """A copy starts a new epoch: a version of the source is never a version of the copy."""
        await _source(store)
        version = (await store.info(ID)).version
        await store.fork(ID, "bob")
        assert (await store.info("bob")).version != version
        with pytest.raises(Conflict):
            await store.append("bob", say("e"), expect=version)
        session = await store.backend.read(key(store, "bob"), since=version)
        assert not session.continues
        assert texts(session.messages) == list("aAbBcCdD")

    async def test_a_copy_can_be_followed(self, store: Store) -> None:
        """A copy is an ordinary session: its versions work with `since` and `expect`, and it can be cut."""
        await _source(store)
        version = (await store.fork(ID, "bob")).version
        await store.append("bob", say("e"), expect=version)
        session = await store.backend.read(key(store, "bob"), since=version)
        assert (session.continues, texts(session.messages)) == (True, ["e"])
        await store.rewind("bob", turns=3)
        assert await history(store, "bob") == list("aAbB")

    async def test_a_copy_remembers_nothing_of_the_source(self, store: Store) -> None:
        """A copy remembers none of the changes of its source: their ids are new in the copy."""
        change = Change(append=(record("a"),))
        await store.backend.commit(key(store), change)
        await store.fork(ID, "bob")
        assert (await store.backend.commit(key(store, "bob"), change)).number == 1
        assert await history(store, "bob") == ["a", "a"]

    async def test_onto_a_session_that_is_there(self, store: Store) -> None:
        """`copy` raises `Conflict` if the target exists and another change made it, and leaves the target as it is."""
        await _source(store)
        await store.append("bob", say("mine"))
        before = await picture(store, "bob")
        with pytest.raises(Conflict):
            await store.fork(ID, "bob")
        assert await picture(store, "bob") == before
        with pytest.raises(InvalidInput):
            await store.fork(ID, ID)

    async def test_without_a_source(self, store: Store) -> None:
        """`copy` raises `SessionNotFound` if the source does not exist, and makes no target."""
        with pytest.raises(SessionNotFound):
            await store.fork(ID, "bob")
        assert await picture(store, "bob") is None

    async def test_a_repeat_of_a_copy(self, store: Store) -> None:
        """A copy that is sent again under the same change id is made once, and gets the first answer again."""
        await _source(store)
        first = await store.fork(ID, "bob", at=2, change_id="f")
        await store.append(ID, say("later"))
        await store.append("bob", say("later"))
        before = await picture(store, "bob")
        again = await store.fork(ID, "bob", at=2, change_id="f")
        assert (again.version, again.number) == (first.version, first.number)
        assert await picture(store, "bob") == before
        with pytest.raises(IdReused):
            await store.fork(ID, "bob", at=3, change_id="f")

    async def test_a_repeat_after_the_source_has_grown(self, store: Store) -> None:
        """A copy that is sent again is the same change even if the source has grown: the digest covers the request."""
        await _source(store)
        first = await store.fork(ID, "bob", change_id="f")
        await store.append(ID, say("later"))
        assert (await store.fork(ID, "bob", change_id="f")).version == first.version
        assert await history(store, "bob") == list("aAbBcCdD")

    async def test_across_namespaces(self, store: Store) -> None:
        """`copy` takes keys: it can copy a session to another namespace."""
        await _source(store)
        target = Key("elsewhere", "bob")
        await store.backend.copy(key(store), target, at=None, change_id="f")
        session = await store.backend.read(target)
        assert (session.info.key, texts(session.messages)) == (target, list("aAbBcCdD"))
        assert await picture(store, "bob") is None

    async def test_payloads_are_copied_as_they_are(self, store: Store) -> None:
        """`copy` keeps payloads that only a layer can read, byte for byte."""
        change = Change(append=(record("secret").with_payload(b"\xff" * 50),))
        if self.reads_messages:
            with pytest.raises(CorruptRecord):
                await store.backend.commit(key(store), change)
            return
        await store.backend.commit(key(store), change)
        await store.backend.copy(key(store), key(store, "bob"), at=None, change_id="f")
        assert [r.payload for r in (await store.backend.read(key(store, "bob"))).records] == [b"\xff" * 50]

    async def test_a_copy_of_what_was_retained(self, store: Store) -> None:
        """Copied turns keep their numbers, even if the history of the source no longer begins at 0."""
        for text in "abcde":
            await store.append(ID, say(text))
        await store.backend.commit(key(store), Change(retain=3))
        await store.fork(ID, "all")
        await store.fork(ID, "some", at=4)
        for name, shown in (("all", [2, 3, 4]), ("some", [2, 3])):
            session = await store.session(name)
            assert numbers(session) == shown
            assert (session.info.first, session.info.turns, session.info.messages) == (2, shown[-1] + 1, len(shown))
            assert (await store.append(name, say("next"))).number == shown[-1] + 1

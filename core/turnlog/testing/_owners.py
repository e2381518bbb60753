"""Contract: calls for one owner, and the views that `for_owner` returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ..errors import Conflict, InvalidInput, SessionNotFound
from ..store import Store
from ..values.change import ABSENT, PRESENT, Change
from ._base import ContractBase
from ._material import ID, history, key, picture, record, say, texts

_TTL = 80.0


async def _sessions(store: Store) -> None:
    """Make a session of u1, one of u2 and one without an owner."""
    for name, owner in (("mine", "u1"), ("theirs", "u2"), ("nobody's", "")):
        await store.append(name, say("a", "A"), owner=owner or None, metadata={"title": "x"})
        await store.append(name, say("b"), turn_id=f"turn of {name}")


class Owners(ContractBase):
    async def test_a_change_for_an_owner(self, store: Store) -> None:
        """A change for an owner raises `SessionNotFound` if the session belongs to another owner, or to none."""
        await _sessions(store)
        changes: list[dict[str, Any]] = [
            {"append": (record("x"),)},
            {"keep": 0},
            {"keep": 1, "append": (record("x"),)},
            {"retain": 1},
            {"metadata": {"title": "y"}},
            {"owner": "u1"},
            {"ttl": 60.0},
        ]
        for name in ("theirs", "nobody's"):
            before = await picture(store, name)
            for parts in changes:
                with pytest.raises(SessionNotFound):
                    await store.backend.commit(key(store, name), Change(for_owner="u1", **parts))
            assert await picture(store, name) == before
        for parts in changes:
            await store.backend.commit(key(store, "mine"), Change(for_owner="u1", **parts))
        assert (await store.info("mine")).ttl == 60.0

    async def test_the_owner_is_compared_before_the_condition(self, store: Store) -> None:
        """`commit` raises `SessionNotFound` for a session of another owner, with every condition of the change."""
        await _sessions(store)
        old = (await store.info("theirs")).version
        await store.append("theirs", say("c"))
        for expect in (ABSENT, PRESENT, old, old.exact, old.session, (await store.info("mine")).version):
            with pytest.raises(SessionNotFound):
                await store.backend.commit(
                    key(store, "theirs"), Change(append=(record("x"),), expect=expect, for_owner="u1")
                )
        assert await history(store, "theirs") == ["a", "A", "b", "c"]

    async def test_the_owner_is_compared_before_a_repeat_is_looked_up(self, store: Store) -> None:
        """`commit` raises `SessionNotFound` for a session of another owner, even if the change is a repeat."""
        change = Change(append=(record("a"),), for_owner="u2")
        first = await store.backend.commit(key(store), change)
        for wrong in (
            Change(id=change.id, append=change.append, for_owner="u1"),
            Change(id=change.id, append=(record("another"),), for_owner="u1"),
        ):
            with pytest.raises(SessionNotFound):
                await store.backend.commit(key(store), wrong)
        assert (await store.backend.commit(key(store), change)).version == first.version
        await store.merge_metadata(ID, owner="u1")
        with pytest.raises(SessionNotFound):
            await store.backend.commit(key(store), change)
        assert await history(store) == ["a"]

    async def test_an_append_takes_no_session_over(self, store: Store) -> None:
        """`append(owner=...)` makes a session; it raises `SessionNotFound` if another owner, or none, has it."""
        await _sessions(store)
        for name in ("theirs", "nobody's"):
            before = await picture(store, name)
            for turn in (f"turn of {name}", "new"):
                with pytest.raises(SessionNotFound):
                    await store.append(name, say("b"), owner="u1", turn_id=turn, metadata={"title": "stolen"})
            assert await picture(store, name) == before
        await store.append("mine", say("c"), owner="u1")
        await store.append("made", say("a"), owner="u1")
        assert {info.key.session async for info in store.sessions(owner="u1")} == {"mine", "made"}
        await store.merge_metadata("nobody's", owner="u1")
        await store.append("nobody's", say("c"), owner="u1")
        assert await history(store, "nobody's") == ["a", "A", "b", "c"]

    async def test_a_session_that_is_made_for_an_owner(self, store: Store) -> None:
        """A session that a change for an owner makes belongs to the owner, unless the change sets another owner."""
        changes: dict[str, dict[str, Any]] = {
            "turns": {"append": (record("a"),)},
            "metadata": {"metadata": {"title": "x"}},
            "ttl": {"ttl": 600.0},
            "absent": {"append": (record("a"),), "expect": ABSENT},
        }
        for name, parts in changes.items():
            change = Change(for_owner="u1", **parts)
            first = await store.backend.commit(key(store, name), change)
            assert (await store.info(name)).owner == "u1", name
            assert (await store.backend.commit(key(store, name), change)).version == first.version
        assert {info.key.session async for info in store.sessions(owner="u1")} == set(changes)
        await store.backend.commit(key(store), Change(append=(record("a"),), owner="u2", for_owner="u1"))
        assert (await store.info(ID)).owner == "u2"

    async def test_an_expired_session_has_no_owner(self, store: Store) -> None:
        """A change for an owner makes a new session in place of an expired one of another owner."""
        await store.merge_metadata(ID, {"title": "x"}, owner="u2", ttl=10.0)
        await self.advance(11)
        receipt = await store.backend.commit(key(store), Change(append=(record("a"),), for_owner="u1"))
        info = await store.info(ID)
        assert (receipt.previous, info.owner, dict(info.metadata)) == (None, "u1", {})

    async def test_delete_for_an_owner(self, store: Store) -> None:
        """`delete` for an owner treats a session of another owner as a missing session."""
        await _sessions(store)
        version = (await store.info("theirs")).version
        for name in ("theirs", "nobody's", "missing"):
            before = await picture(store, name)
            assert await store.backend.delete(key(store, name), for_owner="u1") is False
            assert await store.backend.delete(key(store, name), expect=ABSENT, for_owner="u1") is False
            with pytest.raises(SessionNotFound):
                await store.backend.delete(key(store, name), expect=PRESENT, for_owner="u1")
            with pytest.raises(Conflict) as error:
                await store.backend.delete(key(store, name), expect=version, for_owner="u1")
            assert error.value.actual is None
            assert await picture(store, name) == before
        with pytest.raises(Conflict):
            await store.backend.delete(key(store, "mine"), expect=version, for_owner="u1")
        assert await store.backend.delete(key(store, "mine"), for_owner="u1") is True
        assert await picture(store, "mine") is None

    async def test_copy_for_an_owner(self, store: Store) -> None:
        """`copy` for an owner copies only a session of the owner; the target must not be stored."""
        await _sessions(store)
        version = (await store.info("theirs")).version
        for source in ("theirs", "nobody's", "missing"):
            for expect in (None, PRESENT, version, version.session):
                with pytest.raises(SessionNotFound):
                    await store.backend.copy(
                        key(store, source), key(store), at=None, change_id="f", expect=expect, for_owner="u1"
                    )
        assert await picture(store) is None
        for target, error in (("mine", InvalidInput), ("theirs", SessionNotFound)):
            before = await picture(store, target)
            with pytest.raises(error):
                await store.for_owner("u1").fork("mine", target)
            assert await picture(store, target) == before
        for _ in range(2):
            await store.backend.copy(key(store, "mine"), key(store), at=1, change_id="f", for_owner="u1")
        assert ((await store.info(ID)).owner, await history(store)) == ("u1", ["a", "A"])

    async def test_a_view_of_an_owner(self, store: Store) -> None:
        """The methods of a view treat a session of another owner as a missing session, with the same error."""
        await _sessions(store)
        view = store.for_owner("u1")
        before = [await picture(store, name) for name in ("theirs", "nobody's")]
        calls: list[Callable[[str], Awaitable[object]]] = [
            view.load,
            view.session,
            view.info,
            view.touch,
            view.pop,
            lambda name: view.load(name, last=1),
            lambda name: view.rewind(name, turns=1),
            lambda name: view.rewind(name, messages=1),
            lambda name: view.fork(name, "copy"),
            lambda name: view.append(name, say("c"), expect=PRESENT),
            lambda name: view.save(name, say("a", "A", "b", "c"), expect=PRESENT),
            lambda name: view.merge_metadata(name, {"title": "y"}, expect=PRESENT),
            lambda name: view.erase(name, expect=PRESENT),
        ]
        writes: list[Callable[[str], Awaitable[object]]] = [
            lambda name: view.append(name, say("c")),
            lambda name: view.save(name, say("a")),
            lambda name: view.merge_metadata(name, {"x": 1}),
        ]
        for call in calls:
            with pytest.raises(SessionNotFound) as missing:
                await call("missing")
            for name in ("theirs", "nobody's"):
                with pytest.raises(SessionNotFound) as error:
                    await call(name)
                assert str(error.value) == str(missing.value).replace("'missing'", repr(name))
        for name in ("theirs", "nobody's"):
            for write in writes:
                with pytest.raises(SessionNotFound):
                    await write(name)
            assert await view.erase(name) is False
        assert [await picture(store, name) for name in ("theirs", "nobody's")] == before
        assert [info.key.session async for info in view.sessions()] == ["mine"]
        assert [info async for info in view.sessions(owner="u2")] == []
        assert [session async for session in view.export_owner("u2")] == []
        assert (await view.erase_owner("u2")).sessions == 0
        with pytest.raises(InvalidInput):
            view.for_owner("u2")

    async def test_a_view_works_on_the_sessions_of_its_owner(self, store: Store) -> None:
        """The methods of a view read and change the sessions of its owner, and make sessions of its owner."""
        view = store.for_owner("u1")
        await view.append(ID, say("a"))
        await view.save(ID, say("a", "b", "c"))
        await view.merge_metadata(ID, {"title": "x"})
        await view.rewind(ID, turns=1)
        await view.fork(ID, "copy")
        turn = await view.pop(ID)
        assert turn is not None
        assert texts(turn.messages) == ["b"]
        assert (await view.load(ID), await view.load("copy")) == (say("a"), say("a", "b"))
        await view.save("saved", say("a"))
        await view.merge_metadata("described", {"title": "x"})
        found = {info.key.session: info.owner async for info in store.sessions()}
        assert found == dict.fromkeys((ID, "copy", "saved", "described"), "u1")
        assert await view.erase("copy") is True
        assert (await view.erase_owner("u1")).sessions == 3
        assert [info async for info in store.sessions()] == []

    async def test_a_view_extends_the_lives_of_its_owners_sessions_only(self) -> None:
        """A read through a view extends the life of a session of its owner, and of no other session."""
        store = await self.opened(ttl=_TTL)
        for name, owner in (("mine", "u1"), ("mine too", "u1"), ("theirs", "u2"), ("theirs too", "u2")):
            await store.append(name, say("a"), owner=owner)
        view = store.for_owner("u1")
        await self.advance(60)
        await view.load("mine")
        await view.fork("mine too", "copy")
        uses: list[Callable[[], Awaitable[object]]] = [
            lambda: view.load("theirs"),
            lambda: view.touch("theirs"),
            lambda: view.append("theirs", say("b")),
            lambda: view.fork("theirs too", "x"),
        ]
        for use in uses:
            with pytest.raises(SessionNotFound):
                await use()
        await self.advance(21)
        assert {info.key.session async for info in store.sessions()} == {"mine", "mine too", "copy"}

    async def test_invalid_owners(self, store: Store) -> None:
        """An owner is 1 to 255 bytes of UTF-8 without control characters; otherwise calls raise `InvalidInput`."""
        await _sessions(store)
        wrong: list[Any] = ["", " ", "x" * 256, "a\nb", 7]
        for bad in wrong:
            with pytest.raises(InvalidInput):
                store.for_owner(bad)
            with pytest.raises(InvalidInput):
                Change(keep=0, for_owner=bad)
            for name in ("nobody's", "missing"):
                with pytest.raises(InvalidInput):
                    await store.backend.delete(key(store, name), for_owner=bad)
        assert len([info async for info in store.sessions()]) == 3

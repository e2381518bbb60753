"""Contract: a change that is sent again is stored once, also by `resend`."""

from __future__ import annotations

import pytest

from ..errors import Conflict, CorruptRecord, IdReused, InvalidInput, OutcomeUnknown, Unavailable
from ..layers import Layer
from ..store import Store
from ..values.change import ABSENT, Change, Receipt
from ..values.key import Key
from ._base import ContractBase
from ._material import ID, history, key, picture, record, say, texts


class _Failing(Layer):
    """A layer whose next commits fail, before or after the change is stored."""

    failures: tuple[str, ...] = ()

    async def commit(self, key: Key, change: Change) -> Receipt:
        if not self.failures:
            return await super().commit(key, change)
        failure, *rest = self.failures
        self.failures = tuple(rest)
        if failure == "unavailable":
            raise Unavailable("the backend cannot be reached")
        if failure == "answer lost":
            await super().commit(key, change)
        raise OutcomeUnknown("the answer was lost", key=key, change=change)


class Repeating(ContractBase):
    async def test_five_times_the_same(self, store: Store) -> None:
        """A change is stored once per id: a repeat returns the version and the turn number of the first time."""
        await store.append(ID, say("a"))
        change = Change(append=(record("b"), record("c")), metadata={"title": "x"}, owner="u1")
        first = await store.backend.commit(key(store), change)
        before = await picture(store)
        for _ in range(4):
            receipt = await store.backend.commit(key(store), change)
            assert (receipt.version, receipt.number) == (first.version, first.number)
            assert (receipt.turns, receipt.messages, receipt.first) == (first.turns, first.messages, first.first)
            assert receipt.previous == receipt.version, "`Receipt.previous` is `version` in a repeat"
        assert await picture(store) == before
        assert await history(store) == ["a", "b", "c"]

    async def test_every_kind_of_change_is_recognised(self, store: Store) -> None:
        """A repeat of any kind of change stores nothing."""
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
            receipt = await store.backend.commit(key(store), change)
            before = await picture(store)
            assert (await store.backend.commit(key(store), change)).version == receipt.version
            assert await picture(store) == before, change

    async def test_a_late_repeat(self, store: Store) -> None:
        """A late repeat returns the version that the change made, and the current counts."""
        change = Change(append=(record("a"),))
        first = await store.backend.commit(key(store), change)
        await store.append(ID, say("b"))
        last = await store.backend.commit(key(store), Change(append=(record("c", "d"),), retain=1))
        before = await picture(store)
        receipt = await store.backend.commit(key(store), change)
        assert (receipt.version, receipt.number, receipt.previous) == (first.version, 0, first.version)
        assert (receipt.first, receipt.turns, receipt.messages) == (last.first, last.turns, last.messages) == (2, 3, 2)
        assert await picture(store) == before

    async def test_a_repeat_undoes_nothing(self, store: Store) -> None:
        """A repeat does not restore data that was overwritten or cut since."""
        title = Change(metadata={"title": "x"})
        await store.backend.commit(key(store), title)
        await store.merge_metadata(ID, {"title": "y"})
        await store.backend.commit(key(store), title)
        assert dict((await store.info(ID)).metadata) == {"title": "y"}
        turn = Change(append=(record("a"),))
        await store.backend.commit(key(store), turn)
        await store.pop(ID)
        await store.backend.commit(key(store), turn)
        assert await history(store) == [], "a change is remembered although its turns are cut"
        await store.append(ID, say("b"))
        cut = Change(keep=0)
        await store.backend.commit(key(store), cut)
        await store.append(ID, say("c"))
        await store.backend.commit(key(store), cut)
        assert await history(store) == ["c"]

    async def test_the_id_is_looked_up_before_expect(self, store: Store) -> None:
        """The id is looked up before `expect` is compared: a repeat does not conflict with itself."""
        made = Change(append=(record("a"),), expect=ABSENT)
        first = await store.backend.commit(key(store), made)
        assert (await store.backend.commit(key(store), made)).version == first.version
        grown = Change(append=(record("b"),), expect=first.version)
        second = await store.backend.commit(key(store), grown)
        await store.append(ID, say("c"))
        assert (await store.backend.commit(key(store), grown)).version == second.version
        assert await history(store) == ["a", "b", "c"]

    async def test_what_may_differ(self, store: Store) -> None:
        """A repeat may have another `expect`, `retain` and `max_bytes`, and other times of turns."""
        version = (await store.append(ID, say("a"))).version
        first = await store.backend.commit(key(store), Change(id="c", append=(record("b", id="t", time=1.0),)))
        for again in (
            Change(id="c", append=(record("b", id="t", time=2.0),)),
            Change(id="c", append=(record("b", id="t"),), expect=version),
            Change(id="c", append=(record("b", id="t"),), retain=1),
            Change(id="c", append=(record("b", id="t"),), max_bytes=1),
        ):
            assert (await store.backend.commit(key(store), again)).version == first.version
        assert await history(store) == ["a", "b"]

    async def test_what_may_not_differ(self, store: Store) -> None:
        """`commit` raises `IdReused`, and stores nothing, if the id was used for another change."""
        parts = {"keep": 1, "metadata": {"title": "x"}, "owner": "u1", "ttl": 600.0}
        await store.append(ID, say("a"))
        await store.backend.commit(key(store), Change(id="c", append=(record("b", id="t"),), **parts))  # type: ignore[arg-type]
        before = await picture(store)
        for other in (
            Change(id="c", append=(record("other", id="t"),), **parts),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="other"),), **parts),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t", open=True),), **parts),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t"), record("more")), **parts),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t"),), **{**parts, "keep": 0}),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t"),), **{**parts, "metadata": {}}),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t"),), **{**parts, "owner": ""}),  # type: ignore[arg-type]
            Change(id="c", append=(record("b", id="t"),), **{**parts, "ttl": 0.0}),  # type: ignore[arg-type]
            Change(id="c", metadata={"title": "x"}),
        ):
            with pytest.raises(IdReused):
                await store.backend.commit(key(store), other)
        assert await picture(store) == before

    async def test_a_turn_id_stands_for_its_messages(self, store: Store) -> None:
        """`append` stores a turn once per `turn_id`, and raises `IdReused` for other messages with the same id."""
        first = await store.append(ID, say("a"), turn_id="t")
        await self.advance(5)
        again = await store.append(ID, [{"content": "a", "role": "user"}], turn_id="t")
        assert (again.version, again.number) == (first.version, first.number)
        with pytest.raises(IdReused):
            await store.append(ID, say("b"), turn_id="t")
        assert await history(store) == ["a"]

    async def test_another_encoding_is_the_same_change(self, store: Store) -> None:
        """A change is still the same change if a layer compresses or encrypts it again."""
        change = Change(append=(record("a"),))
        encoded = [change.rewrite(append=(change.append[0].with_payload(nonce * 40),)) for nonce in (b"1", b"2")]
        if self.reads_messages:
            with pytest.raises(CorruptRecord):
                await store.backend.commit(key(store), encoded[0])
            return
        first = await store.backend.commit(key(store), encoded[0])
        again = await store.backend.commit(key(store), encoded[1])
        assert (again.version, again.number) == (first.version, first.number)
        session = await store.backend.read(key(store))
        assert [r.payload for r in session.records] == [b"1" * 40], "the first encoding stays"
        other = Change(id=change.id, append=(record("b"),))
        with pytest.raises(IdReused):
            await store.backend.commit(key(store), other.rewrite(append=(other.append[0].with_payload(b"1" * 40),)))

    async def test_64_changes_are_remembered(self, store: Store) -> None:
        """A session remembers at least its last 64 changes."""
        changes = [Change(append=(record(f"{n}"),)) for n in range(64)]
        receipts = [await store.backend.commit(key(store), change) for change in changes]
        before = await picture(store)
        for change, receipt in zip(changes, receipts, strict=True):
            again = await store.backend.commit(key(store), change)
            assert (again.version, again.number) == (receipt.version, receipt.number)
        assert await picture(store) == before

    async def test_ids_are_a_sessions_own(self, store: Store) -> None:
        """A change id belongs to one session: in another session it is new."""
        change = Change(append=(record("a"),))
        await store.backend.commit(key(store), change)
        receipt = await store.backend.commit(key(store, "bob"), change)
        assert receipt.previous is None
        assert (await history(store), await history(store, "bob")) == (["a"], ["a"])

    async def test_a_deleted_session_has_forgotten(self, store: Store) -> None:
        """A deleted session remembers no changes."""
        change = Change(append=(record("a"),))
        first = await store.backend.commit(key(store), change)
        await store.erase(ID)
        receipt = await store.backend.commit(key(store), change)
        assert receipt.previous is None
        assert receipt.version != first.version
        assert await history(store) == ["a"]

    async def test_what_was_refused_is_not_remembered(self, store: Store) -> None:
        """A refused change is not remembered: it can be stored later."""
        change = Change(append=(record("b", id="t", part=1),))
        with pytest.raises(Conflict):
            await store.backend.commit(key(store), change)
        await store.append(ID, say("a"), turn_id="t", open=True)
        await store.backend.commit(key(store), change)
        assert texts(await store.load(ID)) == ["a", "b"]

    async def test_resend(self, store: Store) -> None:
        """`resend` sends the change of an `OutcomeUnknown` until the backend answers; the change is stored once."""
        layer = _Failing(store.backend)
        failing = Store(layer, retain=3)
        for number, first in enumerate(("answer lost", "change lost")):
            for then in ((), ("unavailable", "answer lost"), ("change lost", "unavailable")):
                name = f"{first}, {', '.join(then)}"
                await failing.append(name, say("a"))
                layer.failures = (first, *then)
                with pytest.raises(OutcomeUnknown) as lost:
                    await failing.append(name, say("b"), metadata={"number": number})
                receipt = await failing.resend(lost.value, delays=(0.0,) * 3)
                session = await store.session(name)
                assert (receipt.version, receipt.number) == (session.version, 1)
                assert texts(session.messages) == ["a", "b"]
                assert session.info.metadata == {"number": number}

    async def test_resend_without_an_answer(self, store: Store) -> None:
        """`resend` raises the same error again if no attempt is answered: the outcome is still unknown."""
        layer = _Failing(store.backend)
        failing = Store(layer)
        layer.failures = ("change lost",)
        with pytest.raises(OutcomeUnknown) as lost:
            await failing.append(ID, say("a"))
        for last in ("unavailable", "change lost"):
            layer.failures = ("unavailable", "change lost", last)
            with pytest.raises(OutcomeUnknown) as again:
                await failing.resend(lost.value, delays=(0.0, 0.0))
            assert again.value is lost.value
        assert await history(store) == []
        assert (await failing.resend(lost.value, delays=())).number == 0
        with pytest.raises(InvalidInput):
            await store.resend(OutcomeUnknown("of a deletion", key=key(store)))

"""Contract: sealing. A store that cannot seal says so, and a seal loses quietly there."""

from __future__ import annotations

import pytest

from .. import limits
from ..errors import Conflict, SessionNotFound, SplitsSealed, TooLarge
from ..store import Store
from ..values.change import Change
from ..values.record import Record
from ..values.session import Session
from ._base import Chapter
from ._material import ID, history, key, numbers, picture, record, say, texts


async def _turns(store: Store, count: int = 8) -> Session:
    await store.commit(key(store), Change(append=tuple(record(f"{n}") for n in range(count))))
    return await store.read(key(store))


def _seal(session: Session, first: int, after: int) -> Change:
    """What seals the turns from `first` up to `after`, as they were read."""
    return Change(seal=Record.seal([r for r in session.records if first <= r.number < after]))


class Sealing(Chapter):
    async def test_a_seal_changes_storage_not_meaning(self, store: Store) -> None:
        """Change.seal: changes storage, not meaning; in a store that cannot seal it loses quietly."""
        session = await _turns(store)
        before = await picture(store)
        receipt = await store.commit(key(store), _seal(session, 1, 5))
        after, info = await picture(store), session.info
        assert isinstance(before, tuple)
        assert isinstance(after, tuple)
        assert after[1] == before[1], "the turns are the same"
        for name in ("version", "first", "turns", "messages", "created", "updated", "owner", "metadata", "ttl"):
            assert getattr(after[0], name) == getattr(before[0], name), name
        assert (receipt.version, receipt.number) == (info.version, None)
        assert (receipt.first, receipt.turns, receipt.messages) == (info.first, info.turns, info.messages)
        stored = (await store.read(key(store))).records
        assert [r.rounds for r in stored] == ([1, 4, 1, 1, 1] if store.can_seal else [1] * 8), (
            f"can_seal is {store.can_seal}"
        )

    async def test_windows_over_a_sealed_run(self, store: Store) -> None:
        """load: whole turns, as few as hold so many messages, also of a sealed record; read gives that whole."""
        session = await _turns(store)
        await store.commit(key(store), _seal(session, 2, 6))
        for last in range(1, 10):
            assert texts(await store.load(ID, last=last)) == [str(n) for n in range(max(0, 8 - last), 8)], (
                f"last={last}"
            )
        for before in range(10):
            assert texts(await store.load(ID, before=before)) == [str(n) for n in range(min(before, 8))]
        for before in range(10):
            for last in range(10):
                end = min(before, 8)
                expected = [str(n) for n in range(max(0, end - last), end)]
                assert texts(await store.load(ID, last=last, before=before)) == expected, f"{last=}, {before=}"
                shown = texts((await store.session(ID, last=last, before=before, touch=False)).messages)
                assert shown == expected, f"session: {last=}, {before=}"

    async def test_parts_that_begin_or_end_in_a_sealed_run(self, store: Store) -> None:
        """read: a sealed record is given whole, and counted whole, where it begins below `before`."""
        session = await _turns(store)
        await store.commit(key(store), _seal(session, 2, 6))
        sealed = store.can_seal
        parts: list[tuple[int | None, int | None, int, int]] = [
            (4, None, 2 if sealed else 4, 8),
            (None, 3, 0, 6 if sealed else 3),
            (1, 3, 2, 6 if sealed else 3),
            (4, 5, 2 if sealed else 1, 6 if sealed else 5),
            (5, 5, 1 if sealed else 0, 6 if sealed else 5),
            (2, 2, 0, 2),
        ]
        for last, before, first, after in parts:
            shown = texts((await store.read(key(store), last=last, before=before)).messages)
            assert shown == [str(n) for n in range(first, after)], f"{last=}, {before=}"

    async def test_since_over_a_sealed_run(self, store: Store) -> None:
        """read: since: everything, if the place is sealed over; what follows, where a record still ends there."""
        versions = [(await store.append(ID, say(f"{n}"))).version for n in range(8)]
        await store.commit(key(store), _seal(await store.read(key(store)), 2, 6))
        for number, version in enumerate(versions):
            session = await store.read(key(store), since=version)
            inside = store.can_seal and 2 <= number < 5
            assert session.continues is not inside, f"since turn {number}"
            assert texts(session.messages) == [str(n) for n in range(0 if inside else number + 1, 8)], (
                f"since turn {number}"
            )

    async def test_a_run_may_be_sealed_again(self, store: Store) -> None:
        """Change.seal: put one record in place of the records that hold the same rounds: some may be sealed already."""
        before = (await _turns(store)).turns
        await store.commit(key(store), _seal(await store.read(key(store)), 1, 4))
        await store.commit(key(store), _seal(await store.read(key(store)), 0, 6))
        session = await store.read(key(store))
        assert session.turns == before
        assert [r.rounds for r in session.records] == ([6, 1, 1] if store.can_seal else [1] * 8)

    async def test_all_of_it_may_be_sealed(self, store: Store) -> None:
        """Change.seal: the run may reach the end, and the session goes on behind it."""
        session = await _turns(store, 3)
        await store.commit(key(store), _seal(session, 0, 3))
        receipt = await store.append(ID, say("3"), expect=session.version)
        assert receipt.number == 3
        assert await history(store) == ["0", "1", "2", "3"]

    async def test_rounds_are_sealed_whole(self, store: Store) -> None:
        """Record.seal: whole turns, with their rounds, ids and times."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        await store.append(ID, say("b"), turn_id="t", part=1, open=True)
        await store.append(ID, say("c"))
        session = await store.read(key(store))
        await store.commit(key(store), _seal(session, 0, 2))
        assert (await store.session(ID)).turns == session.turns
        assert (await store.info(ID)).turns == 2

    async def test_appends_meanwhile_do_not_refuse_it(self, store: Store) -> None:
        """Change.seal: appends meanwhile do not refuse it, and it disturbs nobody's `expect`."""
        session = await _turns(store, 4)
        await store.append(ID, say("4"))
        await store.merge_metadata(ID, {"title": "x"})
        version = (await store.info(ID)).version
        await store.commit(key(store), _seal(session, 0, 4))
        await store.append(ID, say("5"), expect=version)
        stored = await store.read(key(store))
        assert texts(stored.messages) == ["0", "1", "2", "3", "4", "5"]
        assert len(stored.records) == (3 if store.can_seal else 6)

    async def test_a_seal_of_what_is_no_longer_there_loses(self, store: Store) -> None:
        """Change.seal: accepted only where exactly these rounds still end in the same tip; else it loses quietly."""
        session = await _turns(store, 6)
        stale = _seal(session, 1, 4)
        await store.commit(key(store), Change(keep=2))
        await store.commit(key(store), Change(append=tuple(record(f"new {n}") for n in range(2, 6))))
        before = await picture(store)
        receipt = await store.commit(key(store), stale)
        assert receipt.version == (await store.info(ID)).version
        assert await picture(store) == before
        await store.commit(key(store), Change(retain=3))
        await store.commit(key(store), _seal(session, 2, 5))
        assert await history(store) == ["new 3", "new 4", "new 5"]

    async def test_a_seal_of_an_open_turn_loses(self, store: Store) -> None:
        """Change.seal: what follows begins a turn, or, at the end, the last is not open; otherwise it loses quietly."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b"), turn_id="t", open=True)
        open_end = _seal(await store.read(key(store)), 0, 2)
        await store.commit(key(store), open_end)
        assert len((await store.read(key(store))).records) == 2
        await store.append(ID, say("c"), turn_id="t", part=1)
        await store.commit(key(store), open_end)  # its last turn has one more round now
        stored = await store.read(key(store))
        assert texts(stored.messages) == ["a", "b", "c"]
        assert len(stored.records) == 3

    async def test_a_seal_of_another_session_loses(self, store: Store) -> None:
        """Change.seal: the tip starts from the epoch: what was read of another session never fits."""
        change = Change(append=tuple(record(text) for text in "abc"))
        await store.commit(key(store), change)
        stale = _seal(await store.read(key(store)), 0, 3)
        await store.erase(ID)
        await store.commit(key(store), change)
        await store.commit(key(store), stale)
        assert len((await store.read(key(store))).records) == 3

    async def test_a_cut_inside_a_sealed_run(self, store: Store) -> None:
        """commit: SplitsSealed: the cut falls inside a sealed record, which begins at `boundary`; nothing is stored.

        A layer that seals cuts where it is asked to.
        """
        await store.commit(key(store), _seal(await _turns(store), 2, 6))
        before = await picture(store)
        for keep in (5, 4, 3):
            change = Change(keep=keep, append=(record("x"),), metadata={"title": "x"})
            try:
                receipt = await store.commit(key(store), change)
            except SplitsSealed as error:
                assert (store.can_seal, error.boundary) == (True, 2)  # noqa: PT017
                assert await picture(store) == before
            else:
                assert await history(store) == [*map(str, range(keep)), "x"]
                assert (receipt.number, receipt.turns, receipt.messages) == (keep, keep + 1, keep + 1)
                again = await store.commit(key(store), change)
                assert (again.version, again.number) == (receipt.version, keep), "sent again"
        info = await store.info(ID)
        if info.turns == 8:
            await store.commit(key(store), Change(keep=6))
        await store.commit(key(store), Change(keep=2))
        assert await history(store) == ["0", "1"]

    async def test_a_cut_inside_a_sealed_run_and_nothing_more(self, store: Store) -> None:
        """Receipt.number: None, if it appended nothing, whatever a layer had to put back."""
        await store.commit(key(store), _seal(await _turns(store), 2, 6))
        version = (await store.info(ID)).version
        change = Change(keep=4, expect=version)
        try:
            receipts = [await store.commit(key(store), change) for _ in range(2)]
        except SplitsSealed:
            assert (await store.info(ID)).version == version
            return
        assert [receipt.number for receipt in receipts] == [None, None]
        assert receipts[0].version == receipts[1].version != version
        assert numbers(await store.session(ID)) == [0, 1, 2, 3]
        with pytest.raises(Conflict):
            await store.commit(key(store), Change(keep=3, expect=version))
        assert await history(store) == ["0", "1", "2", "3"]

    async def test_a_copy_inside_a_sealed_run(self, store: Store) -> None:
        """copy: SplitsSealed: `at` falls inside a sealed record, and this store does not look into it."""
        await store.commit(key(store), _seal(await _turns(store), 2, 6))
        try:
            await store.fork(ID, "bob", at=4)
        except SplitsSealed as error:
            assert (store.can_seal, error.boundary) == (True, 2)  # noqa: PT017
            assert await picture(store, "bob") is None
        else:
            assert (await store.session("bob")).turns == (await store.session(ID)).turns[:4]
        await store.fork(ID, "all")
        await store.fork(ID, "some", at=6)
        assert (await store.session("all")).turns == (await store.session(ID)).turns
        assert numbers(await store.session("some")) == [0, 1, 2, 3, 4, 5]
        await store.commit(key(store, "some"), Change(keep=2))
        assert await history(store, "some") == ["0", "1"]

    async def test_retention_keeps_a_sealed_run_whole(self, store: Store) -> None:
        """Change.retain: a sealed run may keep a few turns more, never fewer."""
        await store.commit(key(store), _seal(await _turns(store), 2, 6))
        for retain, first in ((4, 2 if store.can_seal else 4), (3, 2 if store.can_seal else 5), (2, 6)):
            receipt = await store.commit(key(store), Change(retain=retain))
            session = await store.session(ID)
            assert numbers(session) == list(range(first, 8)), f"retain={retain}"
            assert (receipt.first, receipt.messages) == (first, 8 - first)
            assert (session.info.first, session.info.messages) == (first, 8 - first)
        assert texts(await store.load(ID, last=1)) == ["7"]

    async def test_a_sealed_record_that_is_too_large(self, store: Store) -> None:
        """limits.MAX_PAYLOAD_BYTES: TooLarge: one encoded record, a sealed one too; nothing is changed."""
        large = "x" * (limits.MAX_PAYLOAD_BYTES // 2)
        for _ in range(2):
            await store.append(ID, say(large))
        session = await store.read(key(store))
        if store.can_seal:
            with pytest.raises(TooLarge):
                await store.commit(key(store), _seal(session, 0, 2))
        stored = await store.read(key(store))
        assert (stored.info, stored.records) == (session.info, session.records)

    async def test_a_seal_is_not_remembered(self, store: Store) -> None:
        """Change.seal: not remembered, and what is remembered stays: a repeat is still recognised."""
        changes = [Change(append=(record(f"{n}"),)) for n in range(4)]
        receipts = [await store.commit(key(store), change) for change in changes]
        seal = _seal(await store.read(key(store)), 0, 4)
        await store.commit(key(store), seal)
        await store.commit(key(store), seal)
        for change, receipt in zip(changes, receipts, strict=True):
            assert (await store.commit(key(store), change)).version == receipt.version
        await store.commit(key(store), Change(id=seal.id, append=(record("4"),)))
        assert await history(store) == ["0", "1", "2", "3", "4"]

    async def test_a_seal_extends_nobodys_life(self) -> None:
        """Change.seal: no expiry changes by it."""
        store = await self.opened(ttl=80.0)
        session = await _turns(store, 3)
        await self.advance(60)
        await store.commit(key(store), _seal(session, 0, 3))
        await self.advance(21)
        with pytest.raises(SessionNotFound):
            await store.info(ID)

    async def test_a_seal_makes_no_session(self, store: Store) -> None:
        """commit: SessionNotFound: there is none, and a seal has nothing to put into one."""
        seal = _seal(await _turns(store, 3), 0, 3)
        await store.erase(ID)
        with pytest.raises(SessionNotFound):
            await store.commit(key(store), seal)
        assert await picture(store) is None

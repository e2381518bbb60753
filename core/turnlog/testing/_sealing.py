"""Contract: sealing.

If a backend does not support seals, `seal` returns None.  The tests then check that nothing has changed.
"""

from __future__ import annotations

import contextlib

import pytest

from .. import limits
from ..errors import Conflict, InvalidInput, SessionNotFound, SplitsSealed, TooLarge
from ..store import Store
from ..values.change import Change
from ..values.record import Record
from ..values.session import Session
from ._base import ContractBase
from ._material import ID, history, key, numbers, picture, record, say, texts


async def _turns(store: Store, count: int = 8) -> Session:
    await store.backend.commit(key(store), Change(append=tuple(record(f"{n}") for n in range(count))))
    return await store.backend.read(key(store))


def _run(session: Session, first: int, after: int) -> Record:
    """Return a sealed record of the turns that were read, from `first` to before `after`."""
    return Record.seal([r for r in session.records if first <= r.number < after])


async def _seal(store: Store, session: Session, first: int, after: int) -> bool:
    """Seal these turns; return whether seals are supported."""
    done = await store.backend.seal(key(store), _run(session, first, after))
    assert done is not False, "the records have not changed"
    return done is not None


class Sealing(ContractBase):
    async def test_a_seal_changes_storage_not_meaning(self, store: Store) -> None:
        """A seal replaces records, and readers see no change; a backend that cannot seal returns None."""
        session = await _turns(store)
        before = await picture(store)
        sealed = await _seal(store, session, 1, 5)
        after = await picture(store)
        assert isinstance(before, tuple)
        assert isinstance(after, tuple)
        assert after[1] == before[1], "the turns are the same"
        for name in ("version", "first", "turns", "messages", "created", "updated", "owner", "metadata", "ttl"):
            assert getattr(after[0], name) == getattr(before[0], name), name
        stored = (await store.backend.read(key(store))).records
        assert [r.rounds for r in stored] == ([1, 4, 1, 1, 1] if sealed else [1] * 8)

    async def test_windows_over_a_sealed_run(self, store: Store) -> None:
        """`load` returns the fewest whole turns, even from a sealed record."""
        await _seal(store, await _turns(store), 2, 6)
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
        """`read` returns a sealed record that begins below `before` as a whole, and counts all of it."""
        session = await _turns(store)
        sealed = await _seal(store, session, 2, 6)
        parts: list[tuple[int | None, int | None, int, int]] = [
            (4, None, 2 if sealed else 4, 8),
            (None, 3, 0, 6 if sealed else 3),
            (1, 3, 2, 6 if sealed else 3),
            (4, 5, 2 if sealed else 1, 6 if sealed else 5),
            (5, 5, 1 if sealed else 0, 6 if sealed else 5),
            (2, 2, 0, 2),
        ]
        for last, before, first, after in parts:
            shown = texts((await store.backend.read(key(store), last=last, before=before)).messages)
            assert shown == [str(n) for n in range(first, after)], f"{last=}, {before=}"

    async def test_since_over_a_sealed_run(self, store: Store) -> None:
        """`read` returns the whole session if `since` falls inside a sealed record."""
        versions = [(await store.append(ID, say(f"{n}"))).version for n in range(8)]
        sealed = await _seal(store, await store.backend.read(key(store)), 2, 6)
        for number, version in enumerate(versions):
            session = await store.backend.read(key(store), since=version)
            inside = sealed and 2 <= number < 5
            assert session.continues is not inside, f"since turn {number}"
            assert texts(session.messages) == [str(n) for n in range(0 if inside else number + 1, 8)], (
                f"since turn {number}"
            )

    async def test_a_run_may_be_sealed_again(self, store: Store) -> None:
        """A seal may replace sealed records."""
        before = (await _turns(store)).turns
        await _seal(store, await store.backend.read(key(store)), 1, 4)
        sealed = await _seal(store, await store.backend.read(key(store)), 0, 6)
        session = await store.backend.read(key(store))
        assert session.turns == before
        assert [r.rounds for r in session.records] == ([6, 1, 1] if sealed else [1] * 8)

    async def test_all_of_it_may_be_sealed(self, store: Store) -> None:
        """A seal may include the last record, and turns can be appended after it."""
        session = await _turns(store, 3)
        await _seal(store, session, 0, 3)
        receipt = await store.append(ID, say("3"), expect=session.version)
        assert receipt.number == 3
        assert await history(store) == ["0", "1", "2", "3"]

    async def test_rounds_are_sealed_whole(self, store: Store) -> None:
        """A sealed record keeps the rounds, ids and times of its turns."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        await store.append(ID, say("b"), turn_id="t", part=1, open=True)
        await store.append(ID, say("c"))
        session = await store.backend.read(key(store))
        await _seal(store, session, 0, 2)
        assert (await store.session(ID)).turns == session.turns
        assert (await store.info(ID)).turns == 2

    async def test_appends_meanwhile_do_not_refuse_it(self, store: Store) -> None:
        """A seal succeeds if only turns were appended or metadata changed since the read; it changes no version."""
        session = await _turns(store, 4)
        await store.append(ID, say("4"))
        await store.merge_metadata(ID, {"title": "x"})
        version = (await store.info(ID)).version
        sealed = await _seal(store, session, 0, 4)
        await store.append(ID, say("5"), expect=version)
        stored = await store.backend.read(key(store))
        assert texts(stored.messages) == ["0", "1", "2", "3", "4", "5"]
        assert len(stored.records) == (3 if sealed else 6)

    async def test_a_seal_of_other_records_is_refused(self, store: Store) -> None:
        """`seal` returns False, and changes nothing, if the records were cut or dropped since the read."""
        session = await _turns(store, 6)
        stale = _run(session, 1, 4)
        await store.backend.commit(key(store), Change(keep=2))
        await store.backend.commit(key(store), Change(append=tuple(record(f"new {n}") for n in range(2, 6))))
        before = await picture(store)
        assert not await store.backend.seal(key(store), stale)
        assert await picture(store) == before
        await store.backend.commit(key(store), Change(retain=3))
        assert not await store.backend.seal(key(store), _run(session, 2, 5))
        assert await history(store) == ["new 3", "new 4", "new 5"]

    async def test_a_seal_of_an_open_turn_is_refused(self, store: Store) -> None:
        """`seal` returns False if the last turn of the record is open or has another round."""
        await store.append(ID, say("a"))
        await store.append(ID, say("b"), turn_id="t", open=True)
        open_end = _run(await store.backend.read(key(store)), 0, 2)
        assert not await store.backend.seal(key(store), open_end)
        assert len((await store.backend.read(key(store))).records) == 2
        await store.append(ID, say("c"), turn_id="t", part=1)
        assert not await store.backend.seal(key(store), open_end), "its last turn has another round"
        stored = await store.backend.read(key(store))
        assert texts(stored.messages) == ["a", "b", "c"]
        assert len(stored.records) == 3

    async def test_a_seal_of_another_session_is_refused(self, store: Store) -> None:
        """`seal` returns False for the records of a session that was deleted and made again."""
        change = Change(append=tuple(record(text) for text in "abc"))
        await store.backend.commit(key(store), change)
        stale = _run(await store.backend.read(key(store)), 0, 3)
        await store.erase(ID)
        await store.backend.commit(key(store), change)
        assert not await store.backend.seal(key(store), stale)
        assert len((await store.backend.read(key(store))).records) == 3

    async def test_a_cut_inside_a_sealed_run(self, store: Store) -> None:
        """`commit` raises `SplitsSealed` with the `boundary`, and stores nothing, if a cut is inside a sealed record.

        A layer that seals records itself makes the cut.
        """
        sealed = await _seal(store, await _turns(store), 2, 6)
        before = await picture(store)
        for keep in (5, 4, 3):
            change = Change(keep=keep, append=(record("x"),), metadata={"title": "x"})
            try:
                receipt = await store.backend.commit(key(store), change)
            except SplitsSealed as error:
                assert (sealed, error.boundary) == (True, 2)  # noqa: PT017
                assert await picture(store) == before
            else:
                assert await history(store) == [*map(str, range(keep)), "x"]
                assert (receipt.number, receipt.turns, receipt.messages) == (keep, keep + 1, keep + 1)
                again = await store.backend.commit(key(store), change)
                assert (again.version, again.number) == (receipt.version, keep), "sent again"
        info = await store.info(ID)
        if info.turns == 8:
            await store.backend.commit(key(store), Change(keep=6))
        await store.backend.commit(key(store), Change(keep=2))
        assert await history(store) == ["0", "1"]

    async def test_a_cut_inside_a_sealed_run_and_nothing_more(self, store: Store) -> None:
        """`Receipt.number` is None if the change appended nothing, even if a layer restored records."""
        await _seal(store, await _turns(store), 2, 6)
        version = (await store.info(ID)).version
        change = Change(keep=4, expect=version)
        try:
            receipts = [await store.backend.commit(key(store), change) for _ in range(2)]
        except SplitsSealed:
            assert (await store.info(ID)).version == version
            return
        assert [receipt.number for receipt in receipts] == [None, None]
        assert receipts[0].version == receipts[1].version != version
        assert numbers(await store.session(ID)) == [0, 1, 2, 3]
        with pytest.raises(Conflict):
            await store.backend.commit(key(store), Change(keep=3, expect=version))
        assert await history(store) == ["0", "1", "2", "3"]

    async def test_a_copy_inside_a_sealed_run(self, store: Store) -> None:
        """`copy` raises `SplitsSealed` if `at` falls inside a sealed record that only a layer can open."""
        sealed = await _seal(store, await _turns(store), 2, 6)
        try:
            await store.fork(ID, "bob", at=4)
        except SplitsSealed as error:
            assert (sealed, error.boundary) == (True, 2)  # noqa: PT017
            assert await picture(store, "bob") is None
        else:
            assert (await store.session("bob")).turns == (await store.session(ID)).turns[:4]
        await store.fork(ID, "all")
        await store.fork(ID, "some", at=6)
        assert (await store.session("all")).turns == (await store.session(ID)).turns
        assert numbers(await store.session("some")) == [0, 1, 2, 3, 4, 5]
        await store.backend.commit(key(store, "some"), Change(keep=2))
        assert await history(store, "some") == ["0", "1"]

    async def test_retention_keeps_a_sealed_run_whole(self, store: Store) -> None:
        """Retention never splits a sealed record, so a few more turns may stay."""
        sealed = await _seal(store, await _turns(store), 2, 6)
        for retain, first in ((4, 2 if sealed else 4), (3, 2 if sealed else 5), (2, 6)):
            receipt = await store.backend.commit(key(store), Change(retain=retain))
            session = await store.session(ID)
            assert numbers(session) == list(range(first, 8)), f"retain={retain}"
            assert (receipt.first, receipt.messages) == (first, 8 - first)
            assert (session.info.first, session.info.messages) == (first, 8 - first)
        assert texts(await store.load(ID, last=1)) == ["7"]

    async def test_a_sealed_record_that_is_too_large(self, store: Store) -> None:
        """`seal` raises `TooLarge` for a record of more than `limits.MAX_PAYLOAD_BYTES` encoded."""
        large = "x" * (limits.MAX_PAYLOAD_BYTES // 2)
        for _ in range(2):
            await store.append(ID, say(large))
        session = await store.backend.read(key(store))
        with contextlib.suppress(TooLarge):
            assert await store.backend.seal(key(store), _run(session, 0, 2)) is None, "it is too large"
        stored = await store.backend.read(key(store))
        assert (stored.info, stored.records) == (session.info, session.records)

    async def test_a_session_counts_what_readers_hold(self) -> None:
        """Bytes are counted in UTF-8, before compression and encryption; a seal or a copy hardly changes them."""
        store = await self.opened(max_session_bytes=100_000)
        for text in ("so it is, " * 3_000, "そうです。" * 2_000, "so it was, " * 2_700):
            await store.append(ID, say(text))
        size = (await store.info(ID)).bytes
        assert 89_700 <= size <= 90_300
        with pytest.raises(TooLarge):
            await store.append(ID, say("so it will be, " * 1_000))
        await store.fork(ID, "copy")
        assert abs((await store.info("copy")).bytes - size) <= 300
        await store.backend.seal(key(store), Record.seal((await store.backend.read(key(store))).records))
        assert abs((await store.info(ID)).bytes - size) <= 300
        await store.backend.commit(key(store), Change(keep=0))
        assert (await store.info(ID)).bytes == 0

    async def test_a_seal_is_not_remembered(self, store: Store) -> None:
        """After a seal, a session remembers the same changes."""
        changes = [Change(append=(record(f"{n}"),)) for n in range(64)]
        receipts = [await store.backend.commit(key(store), change) for change in changes]
        await _seal(store, await store.backend.read(key(store)), 0, 64)
        for change, receipt in zip(changes, receipts, strict=True):
            assert (await store.backend.commit(key(store), change)).version == receipt.version
        assert (await store.info(ID)).turns == 64

    async def test_a_seal_extends_no_life(self) -> None:
        """A seal restarts no time to live."""
        store = await self.opened(ttl=80.0)
        session = await _turns(store, 3)
        await self.advance(60)
        await _seal(store, session, 0, 3)
        await self.advance(21)
        with pytest.raises(SessionNotFound):
            await store.info(ID)

    async def test_a_seal_makes_no_session(self, store: Store) -> None:
        """`seal` raises `SessionNotFound` if the session does not exist, and makes no session."""
        seal = _run(await _turns(store, 3), 0, 3)
        await store.erase(ID)
        with contextlib.suppress(SessionNotFound):
            assert await store.backend.seal(key(store), seal) is None, "there is no session"
        assert await picture(store) is None

    async def test_a_seal_begins_a_turn(self, store: Store) -> None:
        """`seal` raises `InvalidInput` for a record that does not begin a turn."""
        await store.append(ID, say("a"), turn_id="t", open=True)
        await store.append(ID, say("b"), turn_id="t", part=1)
        session = await store.backend.read(key(store))
        with contextlib.suppress(InvalidInput):
            assert await store.backend.seal(key(store), session.records[1]) is None, "it does not begin a turn"
        assert (await store.backend.read(key(store))).records == session.records

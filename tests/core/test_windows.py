"""The part of a session that was asked for, where some of its turns are sealed in one record."""

from __future__ import annotations

from typing import Any

import pytest

from turnlog import Change, CorruptRecord, Key, Layer, Record, Session, Store, user
from turnlog.rules import exact
from turnlog_memory import MemoryBackend

KEY = Key("default", "s")


class Counting(Layer):
    """Notes the `last` of each read, and can seal a record right after a read."""

    asked: list[int | None]
    sealed_next: Record | None = None

    async def read(self, key: Key, **how: Any) -> Session:
        """Note and forward."""
        self.asked.append(how.get("last"))
        session = await super().read(key, **how)
        if self.sealed_next is not None:
            record, self.sealed_next = self.sealed_next, None
            assert await self.inner.seal(key, record)
        return session


async def ten(*runs: slice) -> Counting:
    """Ten turns of one message, `q0` to `q9`, with some sealed."""
    store = Counting(MemoryBackend())
    store.asked = []
    turns = tuple(Record.of((user(f"q{n}"),), id=f"t{n}", time=0.0) for n in range(10))
    await store.commit(KEY, Change(append=turns))
    records = (await store.inner.read(KEY)).records
    for run in runs:
        assert await store.seal(KEY, Record.seal(records[run]))
    return store


async def shown(store: Counting, last: int, before: int) -> list[str]:
    """Return the texts of `load`; `session` returns the same messages and takes at least as many reads."""
    store.asked.clear()
    session = await Store(store).session("s", last=last, before=before)
    reads = store.asked.copy()
    store.asked.clear()
    messages = await Store(store).load("s", last=last, before=before)
    assert session.messages == messages
    assert len(reads) >= len(store.asked)
    return [message.text for message in messages]


async def test_what_was_cut_off_is_read_again_further_back() -> None:
    store = await ten(slice(2, 7))
    assert await shown(store, 3, 3) == ["q0", "q1", "q2"]
    assert store.asked == [3, 7]


async def test_every_part_is_exact_and_takes_one_read_more_at_most_and_only_where_needed() -> None:
    store = await ten(slice(1, 3), slice(3, 8))
    inside = {2, 4, 5, 6, 7}
    for before in range(12):
        for last in range(12):
            end = min(before, 10)
            assert await shown(store, last, before) == [f"q{n}" for n in range(max(0, end - last), end)]
            start = {2: 1, 4: 3, 5: 3, 6: 3, 7: 3}.get(before, 0)
            needed = before in inside and last > before - start and start > 0 and last > 0
            assert len(store.asked) <= 1 + needed, f"{last=}, {before=}"


async def test_a_run_that_is_sealed_between_the_two_reads() -> None:
    """Then more is cut off than was asked for in addition, and it is read once more."""
    store = await ten(slice(2, 5))
    store.sealed_next = Record.seal((await store.inner.read(KEY)).records[2:4])
    session = await Store(store).session("s", last=4, before=4)
    assert [message.text for message in session.messages] == ["q0", "q1", "q2", "q3"]
    assert store.asked == [4, 5, 6]


async def test_a_window_that_is_wider_than_asked_for_is_cut_though_nothing_in_it_is_sealed() -> None:
    session = await (await ten()).read(KEY)
    for last in range(1, 12):
        assert [message.text for message in exact(session, last, None).messages] == [
            f"q{n}" for n in range(max(0, 10 - last), 10)
        ]


async def test_the_second_read_is_answered_with_what_is_not_sealed() -> None:
    """As by a cache that has single records from before: then it was asked for more than is needed."""
    sealed, single = await ten(slice(2, 7)), await ten()

    async def read(key: Key, **how: Any) -> Session:
        return await (single if sealed.asked[1:] else sealed.inner).read(key, **how)

    store = Counting(sealed)
    store.asked = sealed.asked
    store.inner.read = read  # type: ignore[method-assign]
    for last in range(2, 6):
        assert await shown(store, last, 3) == [f"q{n}" for n in range(max(0, 3 - last), 3)]
        assert store.asked == [last, last + 4]


@pytest.mark.parametrize("part", [{}, {"last": 3}, {"before": 4}, {"last": 1, "before": 4}])
async def test_a_sealed_record_that_cannot_be_read_is_named(part: dict[str, int]) -> None:
    store = await ten()
    sealed = Record.seal((await store.inner.read(KEY)).records[2:])
    assert await store.seal(KEY, sealed.with_payload(sealed.payload[:-1]))
    with pytest.raises(CorruptRecord) as caught:
        await Store(store).load("s", **part)
    assert (caught.value.key, caught.value.turn) == (KEY, 2)

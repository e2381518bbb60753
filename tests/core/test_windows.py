"""Windows: the fewest whole turns at the end, and the exact turns if some of them are sealed in one record.

The tests of `window` and `newest` have failed with these bugs: a window that starts with a later round, that is a
record too short or too long, or that ignores `start` or `stop`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from turnlog import Change, CorruptRecord, Key, Layer, Record, Session, Store, user
from turnlog.rules import SessionState, check_whole, exact, newest, window
from turnlog_memory import MemoryBackend

KEY = Key("default", "s")


shapes = st.lists(st.tuples(st.sampled_from(["turn", "round", "run"]), st.integers(1, 4)), max_size=14)
few = st.integers(1, 9) | st.integers(1, 40)


def placed(shape: list[tuple[str, int]], start: int) -> list[Record]:
    """Return records of these kinds and counts, of a session whose first `start` messages were dropped."""
    records: list[Record] = []
    number = rounds = 0
    messages = start
    for kind, count in shape:
        turns = {"turn": 1, "round": 0 if records else 1, "run": count}[kind]
        held = count if kind == "run" else 1
        rounds, messages = rounds + held, messages + count
        records.append(Record("t", 0, False, 0.0, count, held, turns, number, rounds, messages, b""))
        number += turns
    return records


def by_definition(records: list[Record], last: int) -> int:
    """Return the start of the fewest whole turns with `last` messages, by a search from the end."""
    for place in range(len(records), 0, -1):
        begins = place == len(records) or records[place].turns > 0
        if begins and sum(record.count for record in records[place:]) >= last:
            return place
    return 0


@given(shape=shapes, dropped=st.integers(0, 9), last=st.just(0) | few, ends=st.tuples(*[st.integers(0, 14)] * 2))
def test_a_window_agrees_with_the_definition(
    shape: list[tuple[str, int]], dropped: int, last: int, ends: tuple[int, int]
) -> None:
    records = placed(shape, dropped)
    assert window(records, last) == by_definition(records, last)
    start, stop = (min(end, len(records)) for end in sorted(ends))
    while start and start < len(records) and not records[start].turns:
        start -= 1  # it must start a turn
    assert window(records, last, start, stop) == start + by_definition(records[start:stop], last)


@given(shape=shapes, dropped=st.integers(0, 9), last=few)
def test_the_newest_records_are_the_window(shape: list[tuple[str, int]], dropped: int, last: int) -> None:
    """No earlier record is read."""
    records = placed(shape, dropped)
    backwards = iter(records[::-1])
    found = newest(backwards, last)
    assert found == records[window(records, last) :]
    assert len(list(backwards)) == len(records) - len(found)


class Counting(Layer):
    """Records the `last` of each read, and can seal a record directly after a read."""

    asked: list[int | None]
    sealed_next: Record | None = None

    async def read(self, key: Key, **how: Any) -> Session:
        """Record the read and forward it."""
        self.asked.append(how.get("last"))
        session = await super().read(key, **how)
        if self.sealed_next is not None:
            record, self.sealed_next = self.sealed_next, None
            assert await self.inner.seal(key, record)
        return session


async def ten(*runs: slice) -> Counting:
    """Return ten turns of one message, `q0` to `q9`, with these runs sealed."""
    store = Counting(MemoryBackend())
    store.asked = []
    turns = tuple(Record.of((user(f"q{n}"),), id=f"t{n}", time=0.0) for n in range(10))
    await store.commit(KEY, Change(append=turns))
    records = (await store.inner.read(KEY)).records
    for run in runs:
        assert await store.seal(KEY, Record.seal(records[run]))
    return store


async def shown(store: Counting, last: int, before: int) -> list[str]:
    """Return the texts of `load`.  `session` must return the same messages with at least the same number of reads."""
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
    """The cut is larger than the addition of the second read, so a third read follows."""
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
    """A cache may still have the single records.  Then the second read returns more than needed."""
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


ROUNDS = [
    Record.of((user(f"{number}"),), id=f"t{turn}", time=0.0, part=part, open=not part)
    for number, (turn, part) in enumerate(product(range(4), range(2)))
]
"""Four turns of two rounds each, with one message in each round."""


def check_part(
    kept: Iterable[int], *, last: int | None = None, before: int | None = None, since: int | None = None
) -> None:
    """Check an answer with some of the records of a session whose first turn was dropped."""
    state, _ = SessionState.absent(KEY).apply(Change(append=tuple(ROUNDS), retain=3), 0.0)
    header, records = state.header, state.records
    assert header is not None
    seen = None if since is None else replace(header.version, rounds=since)
    check_whole(header, [records[place] for place in kept], last, before, seen)


@pytest.mark.parametrize(
    ("kept", "options", "turn"),
    [
        ([], {}, 1),
        ([], {"before": 2}, 1),
        ([], {"since": 6}, 1),
        (range(1, 6), {}, 1),
        (range(3, 6), {"last": 3}, 1),
        (range(4, 6), {"last": 3}, 1),
        (range(5, 6), {"since": 4}, 2),
        ([0, 1, 3, 4, 5], {}, 1),
        ([0, 1, 4, 5], {}, 2),
        (range(4), {"before": 2}, 2),
        (range(5), {}, 4),
        (range(4), {}, 3),
        (range(2), {"before": 3}, 2),
    ],
)
def test_an_answer_with_a_gap_is_refused(kept: Iterable[int], options: dict[str, int], turn: int) -> None:
    """The first turn was dropped.  Each case lacks records at another place; the error names the turn before them."""
    with pytest.raises(CorruptRecord, match="a stored record is missing, or out of order") as caught:
        check_part(kept, **options)
    assert caught.value.turn == turn


@pytest.mark.parametrize(
    ("kept", "options"),
    [
        (range(6), {}),
        (range(2, 6), {"last": 3}),
        (range(4), {"before": 3}),
        (range(2, 4), {"before": 3, "last": 2}),
        (range(3, 6), {"since": 5}),
        ([], {"since": 8}),
        ([], {"before": 1}),
        ([], {"last": 0}),
    ],
)
def test_a_whole_answer_is_accepted(kept: Iterable[int], options: dict[str, int]) -> None:
    check_part(kept, **options)

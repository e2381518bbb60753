"""`needs` and `plan`: the two functions that define the effect of a change on a session.

The tests have failed with these bugs in `turnlog.rules.plan`: `needs` that compares `expect` before the owner, omits
`min(first, keep)`, or does not count the appended turns; `_drop` with `<` for `<=`, without its first `return`, or
without `skip`; `plan` that does not count the change, extends the expiry of a deferred plan, or checks the size before
the drop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlog import ABSENT, PRESENT, Change, Expect, Key, Record, Times, user
from turnlog.errors import (
    Conflict,
    CorruptRecord,
    HistoryRegressed,
    InvalidInput,
    SessionNotFound,
    SplitsSealed,
    TooLarge,
)
from turnlog.rules import NOTHING, Header, Near, Plan, needs, plan

KEY = Key("shop", "alice")


def nonce(size: int) -> bytes:
    return b"e" * size


def turn(id: str, *, part: int = 0, open: bool = False, size: int = 1) -> Record:
    return Record.of((user("x" * size),), id=id, time=0.0, part=part, open=open)


def turns(count: int) -> tuple[Record, ...]:
    """Return turns `t0`, `t1` and so on, each larger than the previous one."""
    return tuple(turn(f"t{n}", size=n + 1) for n in range(count))


def session(append: Sequence[Record], *runs: slice, **parts: Any) -> tuple[Header, list[Record]]:
    """Return a new session, with these runs of its records sealed."""
    change = Change(append=tuple(append), owner="ann", **parts)
    done = plan(KEY, None, change, needs(KEY, None, change), 1.0, ttl=None, nonce=nonce)
    header, records = done.header, done.append
    for run in sorted(runs, key=lambda run: -run.start):
        sealed = Record.seal(records[run])
        sealed = sealed.sealed_at(records[run][-1], sealed.size)
        size = header.bytes - sum(one.size for one in records[run]) + sealed.size
        header = msgspec.structs.replace(header, bytes=size)
        records[run] = [sealed]
    return header, records


def fill(near: Near, records: Sequence[Record]) -> Near:
    """Fill in the records that the attributes of `Near` describe."""
    below = [one for one in records if near.keep is None or one.number < near.keep]
    first = next((one for one in below if near.drop is not None and one.next_turn > near.drop), None)
    dropped = below if first is None else below[: below.index(first)]
    return Near(
        near.keep,
        near.drop,
        below[-1] if below and near.keep is not None else None,
        sum(one.size for one in records[len(below) :]),
        first,
        0 if near.drop is None else sum(one.size for one in dropped),
        near.deferred,
    )


def planned(header: Header | None, records: Sequence[Record], change: Change, **options: Any) -> Plan:
    near = needs(KEY, header, change)
    return plan(KEY, header, change, fill(near, records), 2.0, **{"ttl": None, "nonce": nonce, **options})


def stored(records: Sequence[Record], done: Plan) -> list[Record]:
    """Return the stored records after a backend has carried out the plan."""
    kept = [
        one
        for one in records
        if (done.keep is None or one.number < done.keep) and (done.drop is None or one.number >= done.drop)
    ]
    return kept + done.append


# ---------------------------------------------------------------------------------------------------------------- needs


@pytest.mark.parametrize(
    ("parts", "keep", "drop"),
    [
        ({"append": turns(1)}, None, None),
        ({"owner": "bob"}, None, None),
        ({"keep": 5}, None, None),
        ({"keep": 9}, None, None),
        ({"keep": 4}, 4, None),
        ({"keep": 0}, 0, None),
        ({"retain": 5}, None, None),
        ({"retain": 9}, None, None),
        ({"retain": 4}, None, 1),
        ({"retain": 1}, None, 4),
        ({"append": turns(1), "retain": 6}, None, None),
        ({"append": turns(1), "retain": 5}, None, 1),
        ({"append": turns(3), "retain": 2}, None, 6),
        ({"append": (turn("t4", part=1),), "retain": 5}, None, None),
        ({"keep": 3, "retain": 3}, 3, None),
        ({"keep": 3, "retain": 2}, 3, 1),
        ({"keep": 0, "append": turns(3), "retain": 2}, 0, 1),
        ({"keep": 5, "retain": 4}, None, 1),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_change_needs_the_records_that_it_cuts_or_drops(
    parts: dict[str, Any], keep: int | None, drop: int | None
) -> None:
    header, _ = session(turns(5))
    near = needs(KEY, header, Change(**parts))
    assert near == Near(keep, drop)
    assert (near is NOTHING) == (keep is None and drop is None)


def test_turns_that_were_dropped_before_are_not_needed() -> None:
    header, records = session(turns(5))
    after = planned(header, records, Change(retain=2)).header
    assert after.first == 3
    for retain in (2, 3, 9):
        assert needs(KEY, after, Change(retain=retain)) is NOTHING
    assert needs(KEY, after, Change(retain=1)) == Near(None, 4)
    # A cut below the first remaining turn: numbering continues from the cut.
    assert needs(KEY, after, Change(keep=1, append=turns(2), retain=2)) == Near(1)
    assert needs(KEY, after, Change(keep=1, append=turns(2), retain=1)) == Near(1, 2)


@pytest.mark.parametrize(
    ("parts", "near"),
    [
        ({"append": turns(3)}, NOTHING),
        ({"append": turns(3), "retain": 3}, NOTHING),
        ({"append": turns(3), "retain": 2}, Near(None, 1)),
        ({"append": turns(3), "retain": 2, "first": 7}, Near(None, 8)),
        ({"append": turns(3), "keep": 0}, NOTHING),
        ({"owner": "ann", "keep": 3, "first": 7}, Near(3)),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_new_session_has_nothing_before_its_first_turn(parts: dict[str, Any], near: Near) -> None:
    assert needs(KEY, None, Change(**parts)) == near


HEADER, _RECORDS = session((*turns(2), turn("o", open=True)))
AHEAD = msgspec.structs.replace(HEADER.version, rounds=9, tip=b"other")
OTHER = msgspec.structs.replace(HEADER.version, epoch=b"other")
STAMPED = msgspec.structs.replace(HEADER.version, stamp=b"other")
CUT = msgspec.structs.replace(HEADER.version, generation=1)
SHORTER = msgspec.structs.replace(HEADER.version, rounds=1, tip=b"t")

CONDITIONS: list[tuple[Expect, type[Exception] | None, type[Exception] | None]] = [
    (None, None, None),
    (ABSENT, Conflict, None),
    (PRESENT, None, SessionNotFound),
    (HEADER.version, None, Conflict),
    (HEADER.version.exact, None, Conflict),
    (HEADER.version.session, None, Conflict),
    (STAMPED, None, Conflict),
    (STAMPED.exact, Conflict, Conflict),
    (STAMPED.session, None, Conflict),
    (SHORTER, Conflict, Conflict),
    (SHORTER.exact, Conflict, Conflict),
    (SHORTER.session, None, Conflict),
    (AHEAD, HistoryRegressed, Conflict),
    (AHEAD.exact, HistoryRegressed, Conflict),
    (AHEAD.session, None, Conflict),
    (CUT, HistoryRegressed, Conflict),
    (CUT.exact, HistoryRegressed, Conflict),
    (CUT.session, None, Conflict),
    (OTHER, Conflict, Conflict),
    (OTHER.exact, Conflict, Conflict),
    (OTHER.session, Conflict, Conflict),
]
"""Each condition, with the error for an existing session and for a missing one."""


@pytest.mark.parametrize(("expect", "existing", "absent"), CONDITIONS, ids=range(len(CONDITIONS)))
def test_a_condition_means_the_same_in_every_change(
    expect: Expect, existing: type[Exception] | None, absent: type[Exception] | None
) -> None:
    several: list[dict[str, Any]] = [
        {"append": turns(1)},
        {"owner": "bob"},
        {"append": turns(1), "keep": 1, "retain": 1},
    ]
    for parts in several:
        for header, error in ((HEADER, existing), (None, absent)):
            change = Change(**parts, expect=expect)
            if error is None:
                needs(KEY, header, change)
            else:
                with pytest.raises(error):
                    needs(KEY, header, change)


def test_the_owner_is_compared_before_the_condition() -> None:
    for expect in (None, ABSENT, OTHER, AHEAD):
        with pytest.raises(SessionNotFound):
            needs(KEY, HEADER, Change(append=turns(1), expect=expect, for_owner="bob"))
    needs(KEY, HEADER, Change(append=turns(1), for_owner="ann"))
    needs(KEY, None, Change(append=turns(1), for_owner="bob"))


def test_a_change_that_makes_no_session_is_refused() -> None:
    for change in (Change(keep=0), Change(retain=1), Change(keep=3, retain=1)):
        with pytest.raises(SessionNotFound):
            needs(KEY, None, change)
    with pytest.raises(
        Conflict, match=r"part 1 of turn 'o' cannot be stored: there is no session .* begin the turn with part 0"
    ):
        needs(KEY, None, Change(append=(turn("o", part=1),)))
    key: Any = "alice"
    with pytest.raises(InvalidInput, match="key must be a Key"):
        needs(key, None, Change(append=turns(1)))


# ----------------------------------------------------------------------------------------------------------------- plan


def test_a_new_session_begins_with_an_epoch_of_its_own() -> None:
    sizes: list[int] = []

    def count(size: int) -> bytes:
        sizes.append(size)
        return b"r" * size

    done = planned(None, (), Change(append=turns(2), first=7, for_owner="bob"), nonce=count)
    assert (done.previous, done.number, done.keep, done.drop, sizes) == (None, 7, None, None, [16])
    header = done.header
    assert (header.version.epoch, header.owner, header.created, header.updated) == (b"r" * 16, "bob", 2.0, 2.0)
    assert (header.first, header.turns, header.start, header.messages_until, header.changes) == (7, 9, 0, 2, 1)
    again = planned(header, done.append, Change(append=turns(1), for_owner="bob"), nonce=count)
    assert (again.previous, again.number, again.header.changes, sizes) == (header.version, 9, 2, [16])


def test_times_prevail_also_where_a_server_moves_the_expiry() -> None:
    times = Times(5.0, 6.0, 70.0)
    lives = msgspec.structs.replace(HEADER, expires=60.0, expiry_ttl=30.0)
    for deferred in (False, True):
        near = Near(deferred=deferred)
        for change in (Change(append=turns(1), ttl=10.0, times=times), Change(times=times)):
            header = plan(KEY, lives, change, near, 50.0, ttl=30.0, nonce=nonce).header
            assert (header.created, header.updated, header.expires, header.expiry_ttl) == (5.0, 6.0, 70.0, None)
    begins = plan(KEY, HEADER, Change(times=Times(5.0, 6.0)), NOTHING, 50.0, ttl=30.0, nonce=nonce).header
    assert (begins.updated, begins.expires, begins.version) == (6.0, 80.0, HEADER.version)


def test_a_round_follows_its_turn() -> None:
    done = planned(HEADER, _RECORDS, Change(append=(turn("o", part=1, open=True), turn("o", part=2), turn("p"))))
    assert (done.number, [one.number for one in done.append], done.header.turns) == (2, [2, 2, 3], 4)
    assert done.header.tail == ("p", 0, False)
    steps = {"its last part is 0; store part 1 next": "o", "another turn was stored after it, .* new turn id": "t1"}
    for step, name in steps.items():
        wrong = turn(name, part=2)
        with pytest.raises(Conflict, match=step):
            planned(HEADER, _RECORDS, Change(append=(wrong,)))


def test_a_cut_inside_a_sealed_record_names_its_boundary() -> None:
    header, records = session(turns(6), slice(1, 4))
    for keep in (2, 3):
        with pytest.raises(SplitsSealed) as caught:
            planned(header, records, Change(keep=keep))
        assert caught.value.boundary == 1
    for keep in (1, 4, 5):
        done = planned(header, records, Change(keep=keep))
        assert (done.keep, done.header.turns) == (keep, keep)
        assert done.header.bytes == sum(one.size for one in stored(records, done))


@pytest.mark.parametrize("lost", [slice(0, 4), slice(2, 4), slice(3, 4)])
def test_a_cut_over_a_gap_is_refused(lost: slice) -> None:
    """Otherwise the remaining records would count as complete, and the turns before the cut would be lost."""
    header, records = session(turns(6))
    change = Change(keep=4)
    del records[lost]
    with pytest.raises(CorruptRecord, match="missing") as caught:
        planned(header, records, change)
    assert caught.value.key == KEY


@pytest.mark.parametrize("lost", [slice(2, 4), slice(2, 6), slice(3, 4)])
def test_a_drop_up_to_a_gap_is_refused(lost: slice) -> None:
    """Otherwise missing turns that should be retained would count as dropped."""
    header, records = session(turns(6))
    del records[lost]
    with pytest.raises(CorruptRecord, match="missing") as caught:
        planned(header, records, Change(retain=3))
    assert caught.value.key == KEY


def test_a_cut_of_everything_begins_again_at_the_epoch() -> None:
    header, records = session(turns(3))
    done = planned(header, records, Change(keep=0))
    after = done.header
    assert (after.version.generation, after.version.rounds, after.version.tip) == (1, 0, header.version.epoch)
    assert (after.tail, after.bytes, after.first, after.turns, after.messages_until) == (None, 0, 0, 0, 0)


# Each branch of the drop: the first remaining record is stored or appended; records are dropped or not.


def test_drop_of_stored_records() -> None:
    header, records = session(turns(5))
    done = planned(header, records, Change(retain=2))
    assert (done.drop, done.append, done.header.first, done.header.start) == (3, [], 3, 3)
    assert done.header.bytes == records[3].size + records[4].size
    assert done.header.version == header.version


def test_drop_of_nothing_because_the_first_record_is_a_sealed_run_that_reaches_further() -> None:
    header, records = session(turns(5), slice(0, 4))
    done = planned(header, records, Change(retain=2))
    assert (done.drop, done.header.first, done.header.bytes) == (None, 0, header.bytes)
    done = planned(header, records, Change(retain=1))
    assert (done.drop, done.header.first, done.header.bytes) == (4, 4, records[1].size)


def test_drop_up_to_a_sealed_run_that_reaches_further() -> None:
    header, records = session(turns(6), slice(1, 4))
    done = planned(header, records, Change(retain=3))
    assert (done.drop, done.header.first) == (1, 1)
    assert done.header.bytes == sum(one.size for one in records[1:])


def test_drop_of_all_stored_records_and_of_none_that_are_appended() -> None:
    header, records = session(turns(3))
    done = planned(header, records, Change(append=turns(2), retain=2))
    assert (done.drop, [one.number for one in done.append], done.number) == (3, [3, 4], 3)
    assert (done.header.first, done.header.start) == (3, 3)
    assert done.header.bytes == sum(one.size for one in done.append)


def test_drop_of_all_stored_records_and_of_some_that_are_appended() -> None:
    header, records = session(turns(3))
    done = planned(header, records, Change(append=turns(4), retain=2))
    assert (done.drop, [one.number for one in done.append], done.number) == (5, [5, 6], 3)
    assert (done.header.first, done.header.start, done.header.messages_until) == (5, 5, 7)
    assert done.header.bytes == sum(one.size for one in done.append)
    assert done.header.version.rounds == 7


def test_drop_of_appended_records_alone_in_a_new_session() -> None:
    done = planned(None, (), Change(append=turns(4), retain=1, first=5))
    assert (done.drop, [one.number for one in done.append], done.header.first, done.number) == (8, [8], 8, 5)


def test_drop_where_every_stored_record_is_cut_and_the_appended_ones_stay() -> None:
    """The first appended record starts at the first turn, so nothing is dropped."""
    header, records = session(turns(5))
    after = planned(header, records, Change(retain=2))
    records = stored(records, after)
    run = Record.seal(session(turns(3))[1])  # a run of three turns, which is kept as a whole
    done = planned(after.header, records, Change(keep=1, append=(run,), retain=2))
    assert (done.keep, done.drop, len(done.append)) == (1, None, 1)
    assert (done.header.first, done.header.turns, done.header.bytes) == (1, 4, run.size)


def test_a_later_round_keeps_the_turn_that_it_belongs_to() -> None:
    header, records = session((*turns(2), turn("o", open=True)))
    done = planned(header, records, Change(append=(turn("o", part=1),), retain=1))
    assert (done.drop, done.header.first) == (2, 2)
    assert [one.part for one in stored(records, done)] == [0, 1]


def test_the_size_is_compared_after_the_drop() -> None:
    header, records = session([turn("big", size=1_000)])
    append = (turn("next", size=900),)
    limit = planned(header, records, Change(append=append, retain=1)).header.bytes
    planned(header, records, Change(append=append, retain=1, max_bytes=limit))
    with pytest.raises(TooLarge, match="the limit is"):
        planned(header, records, Change(append=append, max_bytes=limit))
    larger = (turn("next", size=1_100),)
    with pytest.raises(TooLarge):
        planned(header, records, Change(append=larger, retain=1, max_bytes=limit))
    planned(header, records, Change(append=append, retain=1, max_bytes=1))  # too large, but smaller than before


def test_a_deferred_plan_leaves_the_drop_the_size_and_the_expiry_to_the_backend() -> None:
    header, _ = session(turns(5))
    change = Change(append=turns(1), retain=2, max_bytes=1, ttl=60)
    near = msgspec.structs.replace(needs(KEY, header, change), deferred=True)
    done = plan(KEY, header, change, near, 2.0, ttl=60.0, nonce=nonce)
    assert (done.drop, done.header.first, done.header.turns, done.header.expires) == (4, 0, 6, None)
    assert done.header.bytes == header.bytes + done.append[0].size


@pytest.mark.parametrize(
    ("ttl", "own", "expires"), [(None, None, None), (60.0, None, 62.0), (60.0, 5.0, 7.0), (60.0, 0, None)]
)
def test_the_expiry_is_moved(ttl: float | None, own: float | None, expires: float | None) -> None:
    header, records = session(turns(1))
    assert planned(header, records, Change(owner="bob", ttl=own), ttl=ttl).header.expires == expires


@pytest.mark.parametrize(
    ("ttl", "expiry_ttl", "left", "after"),
    [
        (80.0, 80.0, 71.0, None),
        (80.0, 80.0, 70.0, 80.0),
        (80.0, 80.0, 80.5, None),  # this clock is slow
        (80.0, 80.0, 1e9, None),
        (800.0, 80.0, 79.0, 800.0),  # a longer ttl
        (800.0, 80.0, 790.0, None),
        (8.0, 80.0, 79.0, 8.0),  # a shorter ttl
        (8.0, 80.0, 80.5, 8.0),
        (8.0, 80.0, 7.5, 8.0),  # else a slow clock could see a shorter ttl later
        (8.0, 80.0, 82.0, None),  # a shorter ttl, and this clock is slow
        (80.0, None, 75.0, None),  # ttl of the expiry unknown
        (80.0, None, 81.0, 80.0),
        (80.0, None, 70.0, 80.0),
    ],
)
def test_a_use_moves_an_expiry(ttl: float, expiry_ttl: float | None, left: float, after: float | None) -> None:
    """It moves forwards, or backwards for a shorter time to live; with None it does not move."""
    now = 1_800_000_000.0
    header, _ = session(turns(1))
    header = msgspec.structs.replace(header, expires=now + left, expiry_ttl=expiry_ttl)
    slid = header.slide(now, ttl)
    if after is None:
        assert slid is header
    else:
        assert (slid.expires, slid.expiry_ttl) == (now + after, ttl)
    own = msgspec.structs.replace(header, ttl=ttl)
    assert own.slide(now, 3.0).expires == slid.expires
    assert header.slide(now, None) == msgspec.structs.replace(header, expires=None, expiry_ttl=None)


def test_the_number_is_that_of_the_first_record_that_was_asked_for() -> None:
    header, records = session(turns(4), slice(1, 4))
    again = records[1].until(3)  # a layer cuts the sealed run and restores its first two turns
    done = planned(header, records, Change(keep=1, append=(again, turn("new")), restored=1))
    assert (done.number, [one.number for one in done.append]) == (3, [1, 3])
    assert planned(header, records, Change(keep=1, append=(again,), restored=1)).number is None


shapes = st.lists(st.sampled_from(["turn", "open", "run"]), min_size=1, max_size=8)


def built(kinds: Sequence[str], name: Callable[[], str]) -> tuple[Record, ...]:
    """Return turns of one round, turns of two rounds, and sealed runs of three turns."""
    records: list[Record] = []
    for kind in kinds:
        id = name()
        if kind == "run":
            records.append(Record.seal(session([turn(name(), size=5) for _ in range(3)])[1]))
        else:
            records.append(turn(id, open=kind == "open", size=7))
            if kind == "open":
                records.append(turn(id, part=1, size=11))
    return tuple(records)


@given(
    before=shapes,
    dropped=st.integers(1, 30),
    after=shapes | st.just([]),
    keep=st.none() | st.integers(0, 25),
    retain=st.none() | st.integers(1, 12),
)
def test_a_plan_agrees_with_the_definition(
    before: list[str], dropped: int, after: list[str], keep: int | None, retain: int | None
) -> None:
    """Cut, append, then drop the records that end before the last `retain` turns, step by step on a list."""
    names = iter(range(10_000))
    header, records = session(built(before, lambda: f"n{next(names)}"))
    first = planned(header, records, Change(retain=dropped))
    header, records = first.header, stored(records, first)
    append = built(after, lambda: f"n{next(names)}")
    change = Change(append=append, keep=keep, retain=retain, owner="ann")
    below = [one for one in records if keep is None or one.number < keep]
    if below and keep is not None and keep < min(header.turns, below[-1].next_turn):
        with pytest.raises(SplitsSealed):
            planned(header, records, change)
        return
    done = planned(header, records, change)
    turns = header.turns if keep is None else min(keep, header.turns)
    wanted = [(one.id, one.part) for one in below]
    ends = [one.next_turn for one in below]
    for one in append:
        turns += one.turns
        wanted.append((one.id, one.part))
        ends.append(turns)
    if retain is not None:
        wanted = [name for name, end in zip(wanted, ends, strict=True) if end > turns - retain]
    found = stored(records, done)
    assert [(one.id, one.part) for one in found] == wanted
    assert done.header.turns == turns
    assert done.header.bytes == sum(one.size for one in found)
    if found:
        assert done.header.first == found[0].number
        assert done.header.start == found[0].messages_until - found[0].count
    else:
        assert done.header.first == turns

"""The lines of a session: damaged and missing lines are detected and named."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any
from zlib import crc32

import msgspec
import pytest

from forged import forged_json
from turnlog import PRESENT, Change, Key, Query, Record, assistant, tool, user
from turnlog.errors import CorruptRecord, FormatTooNew, TurnlogError
from turnlog.rules import SessionState, listed_key, page, page_of_lines

KEY = Key("shop", "älice")


def small() -> SessionState:
    """Return a session of four records: a sealed run, two turns, and an encoded turn.  Its first turn was dropped."""
    turns = [
        Record.of((user("Wie spät?"),), id="t0", time=1.5, open=True),
        Record.of((tool("12:30", tool_call_id="c1"), assistant("12:30")), id="t0", time=2.0, part=1),
        *(Record.of((user(f"q{n}"), assistant(f"a{n}")), id=f"t{n}", time=3.0) for n in range(1, 5)),
    ]
    state, _ = SessionState.absent(KEY, ttl=60.0).apply(
        Change(id="c1", append=tuple(turns), metadata={"title": "Zeit"}, owner="u1"), 10.0
    )
    records = state.records
    state, done = state.seal(Record.seal(records[2:4]), 11.0)
    assert done
    encoded = Record.of((user("encoded"),), id="t5", time=4.0)
    change = Change(id="c2", append=(encoded.with_payload(encoded.payload),), retain=5, ttl=600)
    return state.apply(change, 12.0)[0]


def damaged(line: bytes) -> Iterator[bytes]:
    """Yield the line with each bit flipped, with each byte removed, and cut at each byte."""
    for place in range(len(line)):
        for bit in range(8):
            yield line[:place] + bytes([line[place] ^ 1 << bit]) + line[place + 1 :]
        yield line[:place] + line[place + 1 :]
        yield line[:place]


def read_back(lines: list[bytes], key: Key, *, ttl: float | None = None) -> SessionState:
    """Return the state that lines contain.

    Raises:
        CorruptRecord: The lines are damaged.
    """
    state = SessionState.from_lines(lines, key, ttl=ttl)
    _ = state.records
    return state


TURNS = {2: 1, 3: 3, 4: 4, 5: 5}
"""The turn number of each line with a record."""


def test_what_is_kept_is_read_back() -> None:
    state = small()
    lines = state.lines()
    assert len(lines) == 2 + len(TURNS)
    assert read_back(lines, KEY).lines() == lines
    assert read_back(lines, KEY, ttl=60.0).read(12.0)[1].turns == state.read(12.0)[1].turns
    assert {place: json.loads(line)["number"] for place, line in enumerate(lines) if place > 1} == TURNS


@pytest.mark.parametrize("place", range(6))
def test_every_flipped_bit_and_every_cut_is_noticed(place: int) -> None:
    """The error names the session, and the turn if a record's line is damaged."""
    lines = small().lines()
    for line in damaged(lines[place]):
        with pytest.raises(CorruptRecord) as caught:
            read_back([*lines[:place], line, *lines[place + 1 :]], KEY)
        assert type(caught.value) is CorruptRecord
        assert (caught.value.key, caught.value.turn) == (KEY, TURNS.get(place))


def test_after_an_open_round_the_turn_is_not_known() -> None:
    """The next line may be of the same turn or of another."""
    state, _ = SessionState.absent(KEY).apply(Change(append=(Record.of((user("a"),), id="t", time=0, open=True),)), 0.0)
    state, _ = state.apply(Change(append=(Record.of((user("b"),), id="t", time=0, part=1),)), 0.0)
    lines = state.lines()
    with pytest.raises(CorruptRecord) as caught:
        read_back([*lines[:3], lines[3][:-1]], KEY)
    assert (caught.value.key, caught.value.turn) == (KEY, None)


def test_every_lost_repeated_or_moved_line_is_noticed() -> None:
    lines = small().lines()
    for place in range(len(lines)):
        for wrong in (
            lines[:place] + lines[place + 1 :],
            lines[:place],
            [*lines[: place + 1], *lines[place:]],
            [*lines[:place], *lines[place : place + 2][::-1], *lines[place + 2 :]],
        ):
            if wrong in (lines, []):
                continue
            with pytest.raises(CorruptRecord) as caught:
                read_back(wrong, KEY)
            assert caught.value.key == KEY


def signed(text: bytes, start: int = 0) -> bytes:
    """Return a line with a checksum, computed by the specification."""
    return text[:-1] + b',"crc32":"%08x"}' % crc32(text[:-1], start)


def start() -> int:
    """Return the initial value of the checksums of all lines but the first, by the specification."""
    namespace, session = KEY.namespace.encode(), KEY.session.encode()
    return crc32(b"%d:%b:%b" % (len(namespace), namespace, session))


def test_a_line_can_be_made_by_hand() -> None:
    for place, line in enumerate(small().lines()):
        content = json.loads(line)
        assert list(content)[-1] == "crc32"
        body, comma, _ = line.rpartition(b',"crc32":')
        assert comma and int(content["crc32"], 16) == crc32(body, start() if place else 0)
        assert signed(body + b"}", start() if place else 0) == line


@pytest.mark.parametrize("place", range(1, 6))
def test_a_line_of_another_session_is_noticed(place: int) -> None:
    """The line is valid and in the right place, but its checksum starts with another key."""
    lines, state = small().lines(), small()
    other = Key("shop", "bob")
    assert state.header is not None
    theirs = msgspec.structs.replace(state, key=other, header=msgspec.structs.replace(state.header, key=other)).lines()
    assert read_back(theirs, other).lines() == theirs
    with pytest.raises(CorruptRecord, match="belongs to another session") as caught:
        read_back([*lines[:place], theirs[place], *lines[place + 1 :]], KEY)
    assert (caught.value.key, caught.value.turn) == (KEY, TURNS.get(place))


@pytest.mark.parametrize("place", range(6))
def test_a_damaged_session_can_only_be_deleted(place: int) -> None:
    """A deletion for an owner, or with a condition, needs a readable header.  All other calls are errors."""
    state = small()
    lines = state.lines()
    lines[place] = lines[place][1:]
    damaged = SessionState.from_lines(lines, KEY)
    assert damaged.check_delete(None, None, 20.0)
    if place:
        assert damaged.check_delete(None, "u1", 20.0)
        assert not damaged.check_delete(None, "u2", 20.0)
    else:
        with pytest.raises(CorruptRecord):
            damaged.check_delete(PRESENT, None, 20.0)
        with pytest.raises(CorruptRecord):
            damaged.check_delete(None, "u1", 20.0)
    uses: list[Callable[[], object]] = [
        lambda: damaged.records,
        lambda: damaged.read(20.0),
        lambda: damaged.apply(Change(metadata={"a": 1}), 20.0),
        lambda: damaged.seal(state.records[0], 20.0),
        damaged.lines,
    ]
    for use in uses:
        with pytest.raises(CorruptRecord) as caught:
            use()
        assert caught.value.key == KEY


def test_pages_read_headers_alone_and_name_what_is_damaged() -> None:
    state = small()
    lines = state.lines()
    sessions = {"a": lines[:1], "b": [b"damaged"], "c": []}
    page = page_of_lines(sessions, Query(namespace="shop"), 20.0)
    assert state.header is not None
    assert page.infos == (state.header.info(20.0),)
    assert [str(error).partition(":")[0] for error in page.damaged] == ["b"]
    assert page_of_lines(sessions, Query(namespace="shop"), 10_000.0).infos == (), "it has expired"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"id":"\xff"}',
        b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"changes":[["c1","AAAA","no version",0]]}',
        b'{"turnlog":1,"header":{"key":{"namespace":"","session":""}}}',
        b'{"turnlog":"1"}',
        b'{"turnlog":1}',
    ],
)
@pytest.mark.parametrize("place", range(6))
def test_what_is_no_line_is_corrupt_also_with_a_right_digest(line: bytes, place: int) -> None:
    lines = small().lines()
    for wrong in (line, signed(line, start() if place else 0)):
        with pytest.raises(CorruptRecord) as caught:
            read_back([*lines[:place], wrong, *lines[place + 1 :]], KEY)
        assert (caught.value.key, caught.value.turn) == (KEY, TURNS.get(place))


USES: list[Callable[[SessionState], object]] = [
    *(lambda state, last=last: state.read(13.0, last=last)[1].messages for last in (None, 1, 3)),
    *(lambda state, last=last: state.read(13.0, last=last)[1].turns for last in (None, 1, 3)),
    lambda state: page([state.read(13.0)[1].info], Query(namespace="shop")),
    lambda state: state.read(13.0)[1].info.to_dict(),
    lambda state: state.apply(Change(append=(Record.of((user("more"),), id="more", time=0.0),), retain=2), 13.0),
    lambda state: state.apply(Change(keep=3, metadata={"a": 1}), 13.0),
    lambda state: state.seal(Record.seal(state.records[-2:]), 13.0),
    lambda state: state.lines(),
]


@pytest.mark.parametrize("place", range(5))
def test_what_is_forged_with_a_right_digest_is_a_session_or_corrupt(place: int) -> None:
    """No other error occurs, also when the session is used."""
    lines = small().lines()
    for body in forged_json(lines[place]):
        try:
            state = SessionState.from_lines([*lines[:place], signed(body), *lines[place + 1 :]], KEY)
        except CorruptRecord:
            continue
        for use in USES:
            with contextlib.suppress(TurnlogError):  # such as an expired session
                use(state)


def test_lines_of_a_later_form_are_left_alone() -> None:
    later = signed(b'{"turnlog":3,"header":"another"}')
    with pytest.raises(FormatTooNew):
        read_back([later, b"whatever"], KEY)
    with pytest.raises(CorruptRecord) as caught:
        read_back([later.replace(b"3", b"4", 1), b"whatever"], KEY)
    assert type(caught.value) is CorruptRecord


@pytest.mark.parametrize("wrong", [{"count": 3}, {"rounds": 2}])
def test_a_record_of_other_messages_than_its_head_states_is_corrupt(wrong: dict[str, int]) -> None:
    """The line has a valid checksum."""
    lines = small().lines()
    content = json.loads(lines[3])
    assert (content["count"], content["rounds"], len(content["messages"])) == (2, 1, 2)
    del content["crc32"]
    lines[3] = signed(msgspec.json.encode({**content, **wrong}), start())
    states = f"it holds 2 messages, its head states {wrong.get('count', 2)}"
    with pytest.raises(CorruptRecord, match=states) as caught:
        read_back(lines, KEY)
    assert (caught.value.key, caught.value.turn) == (KEY, TURNS[3])


@pytest.mark.parametrize("session", [b"\xff", b"", b"a\nb", None, 5])
def test_a_damaged_id_in_a_list(session: Any) -> None:
    assert listed_key("shop", b"alice") == Key("shop", "alice")
    with pytest.raises(CorruptRecord, match="a session of namespace 'shop' has the damaged id"):
        listed_key("shop", session)

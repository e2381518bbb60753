"""Key, Version, Change, Query, Record, Metadata and ids: checked on creation, equal by value, immutable."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import pickle
import string
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from turnlog import (
    ABSENT,
    ANY,
    PRESENT,
    Change,
    Key,
    Message,
    Metadata,
    Query,
    Record,
    Session,
    SessionInfo,
    Store,
    Times,
    Turn,
    Unsupported,
    Version,
    assistant,
    open_store,
    user,
)
from turnlog.errors import ConfigError, CorruptRecord, InvalidInput, TooLarge
from turnlog.limits import MAX_NUMBER, MAX_SEALED_MESSAGES, MAX_SEALED_TURNS, MAX_VALUES
from turnlog.rules import SessionState, page
from turnlog.values import ExactVersion, SameSession
from turnlog_memory import MemoryBackend

VERSION = Version(b"e" * 16, 1, 2, b"t" * 8, b"s" * 8)


def short(value: object) -> str:
    return ascii(value)[:40]


def record(text: str = "hello", *, id: str = "t", time: float = 0.0, part: int = 0, open: bool = False) -> Record:
    return Record.of((user(text),), id=id, time=time, part=part, open=open)


# --------------------------------------------------------------------------------------------------- names of all kinds

GOOD_NAMES = [
    "a",
    "a:b",
    "{x}",
    "}",
    "*",
    "[a]",
    "%",
    "_",
    "'",
    ";--",
    "..",
    "../../x",
    "C:\\x",
    "CON",
    "a b",
    "a ",
    "-",
    "é",
    "e\u0301",
    "日本",
    "👩‍👩‍👧",
    "\ufeffx",
]
GOOD_NAMES += ["x" * 255, "é" * 127, "None", "0", "\u200b", "\u00a0x"]
BAD_NAMES: list[Any] = [
    None,
    5,
    b"a",
    ["a"],
    True,
    0,
    "",
    " ",
    "\u3000",
    "x" * 256,
    "é" * 128,
    "a\x00",
    "a\nb",
    "\x7f",
    "\x85",
]
BAD_NAMES += ["a\u202e", "\u2066a", "\u2028", "\ud800", "a\udfff", b"", False, [], {}]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_may_hold_any_sign_that_can_be_seen(name: str) -> None:
    key = Key(name, name)
    assert (key.namespace, key.session) == (name, name)
    Change(id=name, owner=name)
    Query(namespace=name, owner=name)


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize(
    ("what", "make"),
    [
        ("namespace", lambda bad: Key(bad, "a")),
        ("session id", lambda bad: Key("a", bad)),
        ("change id", lambda bad: Change(id=bad, owner="ann")),
        ("turn id", lambda bad: record(id=bad)),
    ],
)
def test_a_bad_name_is_refused_and_says_which(what: str, make: Any, name: Any) -> None:
    with pytest.raises(InvalidInput, match=what):
        make(name)


@pytest.mark.parametrize("name", [bad for bad in BAD_NAMES if bad is not None], ids=ascii)
def test_a_query_is_of_a_namespace_or_of_all(name: Any) -> None:
    Query(namespace=None)
    with pytest.raises(InvalidInput, match="namespace"):
        Query(namespace=name)


@pytest.mark.parametrize("name", [bad for bad in BAD_NAMES if bad not in ("", " ", "\u3000", None)], ids=ascii)
def test_a_prefix_is_the_beginning_of_a_name(name: Any) -> None:
    for good in ("", " ", "\u3000", "x" * 255, "é" * 127, *GOOD_NAMES):
        Query(namespace="shop", prefix=good)
    with pytest.raises(InvalidInput, match="prefix"):
        Query(namespace="shop", prefix=name)


@pytest.mark.parametrize("name", [bad for bad in BAD_NAMES if bad != "" and bad is not None], ids=ascii)
def test_an_owner_is_a_name_or_empty(name: Any) -> None:
    Change(owner="")
    Query(namespace="shop", owner="")
    with pytest.raises(InvalidInput, match="owner"):
        Change(owner=name)
    with pytest.raises(InvalidInput, match="owner"):
        Query(namespace="shop", owner=name)


@pytest.mark.parametrize("name", ["turnlog:", "turnlog:x", "turnlog:dictionaries"])
async def test_no_application_works_in_a_namespace_where_turnlog_keeps_what_is_its_own(name: str) -> None:
    store = Store(MemoryBackend())
    with pytest.raises(InvalidInput, match=f"namespace '{name}' begins with 'turnlog:'"):
        Store(MemoryBackend(), namespace=name)
    with pytest.raises(InvalidInput, match="begins with 'turnlog:'"):
        store.within(name)
    with pytest.raises(ConfigError, match=r"namespace .* begins with 'turnlog:'"):
        open_store("memory://", namespace=name)
    with pytest.raises(ConfigError, match=r"namespace .* begins with 'turnlog:'"):
        open_store(f"memory://?namespace={name}")
    await store.backend.commit(Key(name, "s"), Change(append=(record("kept"),)))  # layers may use such a name
    assert (await store.backend.read(Key(name, "s"))).messages == [user("kept")]
    assert [info async for info in store.sessions()] == []


@pytest.mark.parametrize("name", ["turnlog", "Turnlog:x", "turnlog-x", " turnlog:", "x:turnlog:"])
async def test_a_namespace_that_only_looks_like_it_is_any_other(name: str) -> None:
    assert Store(MemoryBackend(), namespace=name).namespace == name
    assert Store(MemoryBackend()).within(name).namespace == name


def test_a_turn_id_is_shorter_so_that_a_change_id_holds_it_and_its_part() -> None:
    record(id="x" * 200)
    with pytest.raises(InvalidInput, match="200"):
        record(id="x" * 201)


def test_keys_are_compared_as_bytes() -> None:
    keys = [Key("n", name) for name in ("Ab", "ab", "ab ", "\u00e9", "e\u0301")] + [Key("N", "ab")]
    assert len(set(keys)) == 6
    assert (
        Key("a", "b") == Key("a", "b")
        and hash(Key("a", "b")) == hash(Key("a", "b"))
        and Key("a", "b") < Key("a", "c") < Key("b", "a")
    )
    assert "a" in str(Key("a", "b")) and "b" in str(Key("a", "b"))


@pytest.mark.parametrize("value", [Key("a", "b"), VERSION, Query(namespace="a"), Change(owner="ann"), record()])
def test_values_cannot_be_changed(value: Any) -> None:
    for name in value.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(value, name, None)


@pytest.mark.parametrize(
    "value",
    [
        Key("a", "b"),
        VERSION,
        Query(namespace="a", owner="", limit=5),
        Change(
            id="c",
            append=(record(),),
            keep=1,
            retain=2,
            metadata={"a": [1], "b": None},
            owner="ann",
            ttl=5,
            expect=VERSION,
        ),
        Change(id="c", owner="ann", expect=ABSENT, for_owner="bob"),
        Change(id="c", owner="ann", expect=VERSION.exact),
        VERSION.session,
        Metadata.of({"a": [1, {"b": None}], "b": b"\x00"}),
        record(),
    ],
)
def test_values_travel(value: Any) -> None:
    for arrived in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert arrived == value and type(arrived) is type(value)


def test_marks_are_single() -> None:
    for mark in (ABSENT, PRESENT, ANY):
        assert pickle.loads(pickle.dumps(mark)) is mark and copy.deepcopy(mark) is mark
    assert (repr(ABSENT), repr(PRESENT), repr(ANY)) == ("ABSENT", "PRESENT", "ANY")


# ------------------------------------------------------------------------------------------------------------- versions

versions = st.builds(
    Version,
    st.binary(max_size=16),
    st.integers(0, MAX_NUMBER),
    st.integers(0, MAX_NUMBER),
    st.binary(max_size=8),
    st.binary(max_size=8),
)


@given(versions)
def test_a_version_is_read_back_from_its_text(version: Version) -> None:
    text = str(version)
    assert Version.parse(text) == version
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "a",
        "abc",
        "é",
        "AAAA",
        "kw",
        str(VERSION)[:-1],
        str(VERSION) + "AAAA",
        " " + str(VERSION),
        None,
        5,
        b"x",
        [],
    ],
)
def test_what_is_no_version_is_refused(text: Any) -> None:
    with pytest.raises(InvalidInput):
        Version.parse(text)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (SessionState.absent(Key("n", "s")).apply(Change(append=(record(),)), 0.0)[1], ": pass its attribute version"),
        (str(VERSION), r": for the text of a version, pass Version.parse\(text\)"),
    ],
)
async def test_an_error_about_a_version_names_the_remedy(given: Any, hint: str) -> None:
    with pytest.raises(InvalidInput, match=rf"since must be a Version, not .*{hint}$"):
        await Store(MemoryBackend()).session("s", since=given)


@pytest.mark.parametrize("part", ["epoch", "tip", "stamp"])
@pytest.mark.parametrize("size", [17, 1_000_000])
def test_a_version_from_a_client_is_no_longer_than_a_stores_own(part: str, size: int) -> None:
    """A server would refuse the statement, and the error message would contain the text."""
    with pytest.raises(InvalidInput) as caught:
        Version.parse(str(msgspec.structs.replace(VERSION, **{part: b"x" * size})))
    assert len(str(caught.value)) < 200


@given(st.binary(max_size=40))
def test_any_bytes_in_a_version_s_place_are_a_version_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        assert type(Version.parse(base64.urlsafe_b64encode(data).decode())) is Version


@pytest.mark.parametrize("name", ["generation", "rounds"])
@pytest.mark.parametrize("number", [-1, -5, MAX_NUMBER + 1, 2**63, 2**64 - 1])
def test_the_text_of_a_version_holds_numbers_from_0_that_a_store_can_count(name: str, number: int) -> None:
    with pytest.raises(InvalidInput):
        Version.parse(str(msgspec.structs.replace(VERSION, **{name: number})))


@pytest.mark.parametrize("field", ["epoch", "generation", "rounds", "tip", "stamp"])
def test_every_part_of_a_version_counts(field: str) -> None:
    other = msgspec.structs.replace(VERSION, **{field: b"other" if type(getattr(VERSION, field)) is bytes else 9})
    assert other != VERSION
    assert other.met_by(VERSION) == VERSION.met_by(other) == (field == "stamp")
    assert not other.exact.met_by(VERSION) and not VERSION.exact.met_by(other)
    assert other.session.met_by(VERSION) == VERSION.session.met_by(other) == (field != "epoch")


def test_a_version_meets_all_its_own_conditions() -> None:
    assert VERSION.met_by(VERSION) and VERSION.exact.met_by(VERSION) and VERSION.session.met_by(VERSION)
    assert len({VERSION, VERSION.exact, VERSION.session}) == 3
    assert [repr(one)[-9:] for one in (VERSION.exact, VERSION.session)] == ["73>.exact", ">.session"]


@pytest.mark.parametrize(
    ("change", "later"),
    [
        ({"rounds": 3}, True),
        ({"rounds": 1}, False),
        ({"generation": 2, "rounds": 0}, True),
        ({"generation": 0, "rounds": 9}, False),
        ({}, False),
        ({"tip": b"other"}, False),
        ({"stamp": b"other"}, False),
        ({"epoch": b"other", "rounds": 3}, False),
        ({"epoch": b"other", "generation": 2}, False),
    ],
)
def test_a_later_version_has_more_cuts_or_more_rounds_in_the_same_session(change: dict[str, Any], later: bool) -> None:
    assert msgspec.structs.replace(VERSION, **change).is_later_than(VERSION) is later


def test_versions_are_not_ordered() -> None:
    with pytest.raises(TypeError):
        VERSION < VERSION  # type: ignore[operator]  # noqa: B015, PLR0124 - the comparison itself must fail


# -------------------------------------------------------------------------------------------------------------- changes


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        ({}, "must have a part"),
        ({"append": ()}, "must have a part"),
        ({"expect": VERSION}, "must have a part"),
        ({"append": [record()]}, "append must be a tuple"),
        ({"append": record()}, "append must be a tuple"),
        ({"append": (user("x"),)}, "append must hold records"),
        ({"append": (None,)}, "append must hold records"),
        ({"append": [], "owner": "ann"}, "append"),
        ({"append": None, "owner": "ann"}, "append"),
        ({"append": (record(), record(part=1))}, "part 1"),
        ({"append": (record(open=True), record(part=2))}, "part 2"),
        ({"append": (record(open=True), record(id="u", part=1))}, "part 1"),
        ({"keep": -1}, "keep"),
        ({"keep": 1.0}, "keep"),
        ({"keep": True}, "keep"),
        ({"keep": "1"}, "keep"),
        ({"keep": 2**53}, "keep"),
        ({"retain": 0}, "retain"),
        ({"retain": -1}, "retain"),
        ({"retain": False}, "retain"),
        ({"retain": 2**63}, "retain"),
        ({"owner": "ann", "max_bytes": 0}, "max_bytes"),
        ({"owner": "ann", "max_bytes": 1.5}, "max_bytes"),
        ({"owner": "ann", "first": -1}, "first"),
        ({"owner": "ann", "first": "1"}, "first"),
        ({"owner": "ann", "first": None}, "first"),
        ({"owner": "ann", "first": 0.0}, "first"),
        ({"owner": "ann", "first": False}, "first"),
        ({"owner": "ann", "first": 2**52 + 1}, "first"),
        ({"append": (record(),), "first": MAX_NUMBER}, "first"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"ttl": float("inf")}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"ttl": "5"}, "ttl"),
        ({"ttl": 0.0005}, "ttl"),
        ({"ttl": 10 * 366 * 86_400}, "ttl"),
        ({"ttl": 10**400}, "ttl"),
        ({"owner": "ann", "expect": ANY}, "expect"),
        ({"owner": "ann", "expect": "absent"}, "expect"),
        ({"owner": "ann", "expect": str(VERSION)}, "expect"),
        ({"owner": "ann", "expect": 0}, "expect"),
        ({"owner": "ann", "expect": VERSION.epoch}, "expect"),
        ({"owner": "ann", "expect": ExactVersion(str(VERSION))}, "expect"),  # type: ignore[arg-type]
        ({"owner": "ann", "expect": SameSession(None)}, "expect"),  # type: ignore[arg-type]
        ({"owner": "ann", "for_owner": ""}, "for_owner"),
        ({"owner": "ann", "for_owner": 5}, "for_owner"),
        ({"for_owner": "ann"}, "must have a part"),
        ({"metadata": [("a", 1)]}, "metadata"),
        ({"metadata": "a"}, "metadata"),
        ({"metadata": {"a": {1}}}, "metadata.a"),
        ({"metadata": {"a": [{1}]}}, r"metadata.a\[0\]"),
        ({"metadata": {"a": (1,)}}, "metadata.a"),
        ({"metadata": {1: "a"}}, "metadata"),
        ({"metadata": {"": 1}}, "metadata"),
        ({"metadata": {"\ud800": 1}}, "metadata"),
        ({"times": (1.0, 2.0)}, "times must be Times, not tuple"),
    ],
    ids=short,
)
def test_a_bad_change_is_refused(parts: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidInput, match=place):
        Change(**parts)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf"), 2**53, "1", True, b"1"], ids=short)
def test_times_are_numbers_over_0(bad: Any, place: int) -> None:
    times: list[Any] = [1, 2.5, 2**53 - 1]
    assert [type(time) for time in astuple(Times(*times))] == [float, float, float]
    times[place] = bad
    with pytest.raises(InvalidInput, match=f"{('created', 'updated', 'expires')[place]} must be a number of seconds"):
        Times(*times)


def test_times_of_an_info_that_was_read() -> None:
    state, _ = SessionState.absent(Key("n", "s"), ttl=50.0).apply(Change(append=(record(),)), 10.0)
    info = state.read(20.0, touch=False)[1].info
    assert Times.of(info, 20.0) == Times(10.0, 10.0, 60.0)
    assert Times.of(replace(info, expires_in=None), 20.0) == Times(10.0, 10.0, None)


def test_a_layer_keeps_the_times_of_a_change() -> None:
    times = Times(1.0, 2.0)
    assert Change(append=(record(),), times=times).rewrite(keep=1).times == times


def test_a_change_may_go_on_with_an_open_turn_and_begin_others() -> None:
    rounds = (
        record(part=3, open=True),
        record(part=4),
        record(id="u", open=True),
        record(id="v", open=True),
        record(id="v", part=1),
    )
    assert Change(append=rounds).append == rounds


def test_a_change_is_named_once_and_for_all() -> None:
    one, other = Change(owner="ann"), Change(owner="ann")
    assert one.id != other.id
    assert one.digest == other.digest


def test_what_happens_later_to_the_metadata_it_was_given_does_not_reach_it() -> None:
    values: dict[str, Any] = {"a": [1]}
    change = Change(metadata=values)
    digest = Change(metadata={"a": [1]}).digest
    values["a"].append(2)
    values["b"] = 1
    assert dict(change.metadata or {}) == {"a": [1]}
    assert change.digest == digest


SAME: dict[str, Any] = {
    "append": (record(),),
    "keep": 3,
    "metadata": {"a": {"x": 1, "y": 2}, "b": 2},
    "owner": "ann",
    "ttl": 5,
}


@pytest.mark.parametrize(
    "parts",
    [
        {"expect": VERSION},
        {"expect": ABSENT},
        {"expect": PRESENT},
        {"expect": VERSION.exact},
        {"for_owner": "bob"},
        {"retain": 5},
        {"max_bytes": 5},
        {"first": 5},
        {"times": Times(1.0, 2.0, 3.0)},
        {"append": (record(time=99.0),)},
        {"metadata": {"b": 2, "a": {"y": 2, "x": 1}}},
        {"ttl": 5.0},
        {"append": (Record.of((Message.from_dict({"content": "hello", "role": "user"}),), id="t", time=0.0),)},
    ],
    ids=short,
)
def test_the_digest_is_the_same_for_the_same_request(parts: dict[str, Any]) -> None:
    assert Change(**{**SAME, **parts}).digest == Change(**SAME).digest


@pytest.mark.parametrize(
    "parts",
    [
        {"append": ()},
        {"append": (record("hallo"),)},
        {"append": (record(id="u"),)},
        {"append": (record(open=True),)},
        {"append": (record(part=1),)},
        {"append": (record(), record(id="u"))},
        {"append": (Record.of((assistant("hello"),), id="t", time=0.0),)},
        {"keep": None},
        {"keep": 4},
        {"metadata": None},
        {"metadata": {}},
        {"metadata": {"a": {"x": 1, "y": 2}}},
        {"metadata": {"a": {"x": 1, "y": 2}, "b": None}},
        {"owner": None},
        {"owner": ""},
        {"ttl": None},
        {"ttl": 0},
    ],
    ids=short,
)
def test_the_digest_differs_for_another_request(parts: dict[str, Any]) -> None:
    assert Change(**{**SAME, **parts}).digest != Change(**SAME).digest


def test_what_a_layer_makes_of_a_change_is_still_the_same_change() -> None:
    change = Change(**SAME)
    packed = change.rewrite(append=(record().with_payload(b"packed"),), keep=2, expect=VERSION)
    assert (packed.id, packed.digest, packed.keep, packed.expect) == (change.id, Change(**SAME).digest, 2, VERSION)
    assert packed.rewrite(keep=1).digest == change.digest
    assert (packed.metadata, packed.owner, packed.ttl) == (change.metadata, change.owner, change.ttl)


# -------------------------------------------------------------------------------------------------------------- records


def test_a_record_counts_what_it_holds() -> None:
    one = Record.of((user("a"), assistant("b")), id="t", time=5.0)
    assert (one.id, one.part, one.open, one.time, one.count, one.rounds, one.turns, one.begins_turn) == (
        "t",
        0,
        False,
        5.0,
        2,
        1,
        1,
        True,
    )
    assert not record(part=1).begins_turn and record(part=1).turns == 0


@pytest.mark.parametrize(
    "parts",
    [
        {"messages": ()},
        {"messages": [user("x")]},
        {"messages": ("x",)},
        {"messages": ({"role": "user"},)},
        {"messages": (m for m in "ab")},
        {"messages": None},
        {"part": -1},
        {"part": True},
        {"part": 1.0},
        {"part": 2**53},
        {"part": "0"},
        {"time": float("nan")},
        {"time": float("inf")},
        {"time": "now"},
        {"time": None},
        {"open": "yes"},
        {"open": None},
        {"id": 5},
    ],
    ids=short,
)
def test_a_bad_record_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Record.of(**{"messages": (user("x"),), "id": "t", "time": 0.0, **parts})


def test_the_two_faces_of_a_body() -> None:
    one = record()
    assert one.decoded
    payload = one.payload
    assert payload is one.payload  # encoded once
    stored = Record(one.id, one.part, one.open, one.time, one.count, _payload=payload)
    assert not stored.decoded
    assert stored.messages == one.messages and stored.messages is stored.messages and stored.decoded
    assert one.with_payload(b"other").payload == b"other"
    assert one.with_payload(payload).messages == one.messages
    assert one.messages == (user("hello"),)


def test_a_record_is_a_key_of_a_set() -> None:
    assert {record(), record(), record("other"), record(id="u")} == {record("other"), record(), record(id="u")}
    assert record() != "hello"


def test_dictionaries_of_a_damaged_session_name_it() -> None:
    key = Key("n", "s")
    _, session = SessionState.absent(key).apply(Change(append=(record(),)), 0.0)[0].read(0.0)
    assert session.to_dicts() == [{"role": "user", "content": "hello"}]
    broken = replace(session, records=(session.records[0].damaged("it is damaged"),))
    with pytest.raises(CorruptRecord, match="it is damaged") as caught:
        broken.to_dicts()
    assert caught.value.key == key


def test_a_record_is_equal_to_itself_whichever_face_was_asked_for() -> None:
    one, other = record(), record()
    assert one == other
    assert one.payload
    assert one == other


def sealed(*ends: int) -> tuple[Record, tuple[Record, ...]]:
    """Return a sealed run of turns with these numbers of rounds, and its records before the seal."""
    rounds = tuple(
        record(f"{turn}.{part}", id=f"t{turn}", part=part, open=part < n - 1)
        for turn, n in enumerate(ends)
        for part in range(n)
    )
    state, _ = SessionState.absent(Key("n", "s")).apply(Change(append=rounds), 0.0)
    return Record.seal(state.records), state.records


def test_a_sealed_record_says_what_it_holds() -> None:
    whole, parts = sealed(1, 3, 2)
    assert (whole.rounds, whole.turns, whole.count, whole.number, whole.rounds_until, whole.messages_until) == (
        6,
        3,
        6,
        0,
        6,
        6,
    )
    assert (whole.id, whole.part, whole.open, whole.tip, whole.next_turn) == ("t2", 1, False, parts[-1].tip, 3)
    assert whole.messages == tuple(message for part in parts for message in part.messages)


def test_what_cannot_be_sealed() -> None:
    _, parts = sealed(1, 2, 1)
    for run, why in (
        ((), "two"),
        (parts[:1], "two"),
        (parts[2:], "begin"),
        ((parts[0], parts[2]), "follow"),
        ((parts[1], parts[0]), "follow"),
    ):
        with pytest.raises(InvalidInput, match=why):
            Record.seal(run)


def test_a_seal_holds_a_limited_number_of_messages() -> None:
    """More messages would block the event loop during a seal or a read."""
    half = tuple(user("x") for _ in range(MAX_SEALED_MESSAGES // 2))
    records = tuple(Record.of(half, id=f"t{number}", time=0.0) for number in range(3))
    state = SessionState.absent(Key("n", "s"))
    for record in records:
        state, _ = state.apply(Change(append=(record,)), 0.0)
    assert Record.seal(state.records[:2]).count == MAX_SEALED_MESSAGES
    with pytest.raises(TooLarge, match="seal of 30000 messages, the limit is 20000: seal fewer turns"):
        Record.seal(state.records)


def test_a_seal_holds_a_limited_number_of_turns() -> None:
    change = Change(append=tuple(record(id=f"t{number}") for number in range(MAX_SEALED_TURNS + 1)))
    state, _ = SessionState.absent(Key("n", "s")).apply(change, 0.0)
    assert Record.seal(state.records[1:]).turns == MAX_SEALED_TURNS
    with pytest.raises(InvalidInput, match="seal of 1025 turns, the limit is 1024"):
        Record.seal(state.records)


def test_sealed_records_can_be_sealed_again() -> None:
    _, parts = sealed(1, 2, 1)
    again = Record.seal([Record.seal(parts[:3]), parts[3]])
    assert again.messages == Record.seal(parts).messages and again.payload == Record.seal(parts).payload


def upper(message: Message) -> Message:
    return user(message.text.upper())


def encoded(one: Record) -> Record:
    """Return the record as a backend reads it, with its payload only."""
    return one.with_payload(bytes(one.payload))


# The tests of `mapped` fail if `mapped` keeps the earlier payload, messages, parts or size, if it always returns a new
# record, or if it maps the messages of a sealed run as one round.


@pytest.mark.parametrize("stored", [False, True])
def test_a_record_is_mapped_message_by_message(stored: bool) -> None:
    one = Record.of((user("a"), user("B"), user("cc")), id="t", time=5.0, part=2, open=True)
    one = one.placed(number=7, rounds_until=9, messages_until=20, tip=b"tip")
    before = encoded(one) if stored else one
    after = before.mapped(upper)
    assert [message.text for message in after.messages] == ["A", "B", "CC"]
    assert encoded(after).messages == after.messages
    assert msgspec.structs.astuple(after)[:11] == msgspec.structs.astuple(one)[:11]
    assert before.messages == (user("a"), user("B"), user("cc"))
    assert one.mapped(lambda _: user("x" * 500)).size > 1_500


@pytest.mark.parametrize("stored", [False, True])
def test_a_sealed_run_is_mapped_round_by_round(stored: bool) -> None:
    whole, parts = sealed(1, 3, 2)
    before = encoded(whole) if stored else whole
    assert before.messages  # messages are kept after the first read
    after = before.mapped(lambda message: user(f"<{message.text}>"))
    expected = [f"<{message.text}>" for message in whole.messages]
    for one in (after, encoded(after)):
        assert [message.text for message in one.messages] == expected
        assert [(part.id, part.part, part.open, part.number, part.time) for part in one.split()] == [
            (part.id, part.part, part.open, part.number, part.time) for part in parts
        ]
        assert [message.text for part in one.split() for message in part.messages] == expected
    assert msgspec.structs.astuple(after)[:11] == msgspec.structs.astuple(whole)[:11]
    assert after.size > whole.size
    assert whole.sealed_at(parts[-1], 10).mapped(lambda message: user(f"<{message.text}>")).size > 10


@pytest.mark.parametrize("stored", [False, True])
def test_a_record_that_no_message_changes_is_the_same_object(stored: bool) -> None:
    for one in (record("A"), sealed(1, 3, 2)[0]):
        before = encoded(one) if stored else one
        assert before.mapped(lambda message: message) is before
        assert before.mapped(upper) is before


def test_a_record_that_cannot_be_read_is_not_mapped() -> None:
    for one in (record(), sealed(1, 2)[0]):
        with pytest.raises(CorruptRecord):
            one.with_payload(one.payload[:-1]).mapped(upper)
        with pytest.raises(CorruptRecord, match="the key is gone"):
            one.damaged("the key is gone").mapped(upper)


# ------------------------------------------------------------------------------------------------------------- metadata


def test_metadata_is_merged_name_by_name() -> None:
    before = Metadata.of({"a": {"x": 1}, "b": 2, "c": 3})
    after = before.merge(Metadata.of({"a": {"y": 2}, "b": None, "d": False, "nothing": None}))
    assert dict(after) == {"a": {"y": 2}, "c": 3, "d": False}
    assert dict(before) == {"a": {"x": 1}, "b": 2, "c": 3}


def test_metadata_of_a_reader_is_his_own() -> None:
    metadata = Metadata.of({"a": [1]})
    value: Any = metadata["a"]
    value.append(2)
    assert metadata["a"] == [1] and len(metadata) == 1 and list(metadata) == ["a"] and "b" not in metadata
    with pytest.raises(KeyError):
        metadata["b"]
    with pytest.raises(TypeError):
        metadata["a"] = 1  # type: ignore[index]


def test_metadata_looks_for_a_name_without_decoding_its_value() -> None:
    metadata = Metadata({"a": b"\xc1"})  # no value of MessagePack begins with this byte
    assert "a" in metadata and "b" not in metadata
    with pytest.raises(CorruptRecord):
        metadata["a"]


def test_layers_may_put_bytes_there() -> None:
    values: dict[str, Any] = {"a": b"\x00\xff", "b": [b"x"]}
    assert dict(Metadata.of(values)) == values


def test_metadata_is_small_also_when_it_is_merged() -> None:
    half = {"a": "x" * 600_000}
    with pytest.raises(TooLarge, match="1048576"):
        Metadata.of({**half, "b": "y" * 600_000})
    with pytest.raises(TooLarge, match="1048576"):
        Metadata.of(half).merge(Metadata.of({"b": "y" * 600_000}))
    assert len(Metadata.of(half).merge(Metadata.of({"a": None, "b": "y" * 600_000}))) == 1
    assert len(Metadata.of({"n" * 300_000: 1})) == 1
    with pytest.raises(TooLarge, match="metadata takes 1200001 bytes"):
        Metadata.of({"é" * 600_000: 1})


def test_metadata_have_few_values_also_when_they_are_merged() -> None:
    half: dict[str, Any] = {"a": [0] * (MAX_VALUES // 2)}
    assert len(Metadata.of({f"{n}": n % 100 for n in range(MAX_VALUES // 2)})) == MAX_VALUES // 2
    for wrong in ({**half, "b": half["a"]}, {f"{n}": 0 for n in range(MAX_VALUES // 2 + 1)}):
        with pytest.raises(TooLarge, match=f"more than {MAX_VALUES} values"):
            Metadata.of(wrong)
    with pytest.raises(TooLarge, match=f"more than {MAX_VALUES} values"):
        Metadata.of(half).merge(Metadata.of({"b": half["a"]}))


def test_a_long_text_of_metadata_has_one_canonical_form() -> None:
    """It is not decoded for a digest.  A forged length is still refused."""
    for size in (65_535, 65_536, 1_000_000):
        metadata = Metadata.of({"text": "é" * (size // 2) + "x" * (size % 2)})
        encoded = metadata.encoded["text"]
        assert metadata.canonical() == {"text": msgspec.msgpack.encode(metadata["text"])}
        assert metadata.checksum(Key("a", "b")) == metadata.pack(Key("a", "b"))[-4:]
        for forged in (encoded[:-1], encoded + b"x"):
            with pytest.raises(CorruptRecord):
                Metadata({"text": forged}).canonical()


# -------------------------------------------------------------------------------------------------- queries and reading


@pytest.mark.parametrize(
    "parts",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": 1_001},
        {"limit": 10**9},
        {"limit": True},
        {"limit": "5"},
        {"limit": 5.0},
        {"limit": None},
    ]
    + [{"cursor": bad} for bad in ("", "x", "é", "AAAA", "%", 5, b"x", "gqR" * 50)]
    + [{"owner": 5}, {"owner": "\x00"}],
    ids=short,
)
def test_a_bad_query_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Query(namespace="shop", **parts)


def test_a_limit_of_5001_digits_is_refused() -> None:
    with pytest.raises(InvalidInput):  # Python refuses to print it
        Query(namespace="shop", limit=10**5_000)


def test_a_cursor_serves_only_the_query_that_gave_it() -> None:
    infos = [
        SessionInfo(Key("shop", name), VERSION, 0, 0, 0, 0, 0.0, 1.0, "ann", Metadata({}), None, None) for name in "abc"
    ]
    cursor = page(infos, Query(namespace="shop", owner="ann", limit=1)).cursor
    assert cursor is not None
    assert Query(namespace="shop", owner="ann", limit=5, cursor=cursor).after == (1.0, "a")
    for other in (
        {"namespace": "bank", "owner": "ann"},
        {"namespace": "shop", "owner": "bob"},
        {"namespace": "shop", "owner": None},
        {"namespace": None, "owner": "ann"},
        {"namespace": "shop", "owner": "ann", "prefix": "a"},
        {"namespace": "shop", "owner": "ann", "prefix": ""},
    ):
        with pytest.raises(InvalidInput, match="another"):
            Query(cursor=cursor, **other)


def test_a_query_of_all_namespaces_is_refused_where_one_is_needed() -> None:
    assert Query(namespace="shop").one_namespace == "shop"
    with pytest.raises(Unsupported, match="one namespace only"):
        _ = Query(namespace=None).one_namespace


@pytest.mark.parametrize(
    "asked",
    [
        {"last": -1},
        {"last": True},
        {"last": "5"},
        {"last": 1.0},
        {"before": -1},
        {"before": False},
        {"before": "1"},
        {"since": str(VERSION)},
        {"since": 0},
        {"since": ABSENT},
        {"since": VERSION, "before": 1},
    ],
    ids=short,
)
def test_a_bad_read_is_refused_before_it_is_known_whether_there_is_a_session(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        SessionState.absent(Key("n", "s")).read(0.0, **asked)


def test_rounds_are_read_as_turns() -> None:
    rounds = (record("a", id="t", open=True), record("b", id="u", open=True), record("c", id="u", part=1, open=True))
    state, _ = SessionState.absent(Key("n", "s")).apply(Change(append=rounds), 0.0)
    session = state.read(0.0)[1]
    assert session.turns == (
        Turn(0, "t", 0.0, (user("a"),), open=True, interrupted=True),
        Turn(1, "u", 0.0, (user("b"), user("c")), open=True, interrupted=False),
    )
    assert session.messages == [user("a"), user("b"), user("c")]
    session.messages.clear()
    assert len(session.messages) == 3 and type(session) is Session


def test_a_turn_and_an_info_are_dictionaries_of_json() -> None:
    # Fails if `to_dict` omits a field, or returns a `Message` or a `Metadata`.
    change = Change(append=(record("a", id="t", time=2.5, open=True),), metadata={"a": [1]}, owner="ann", ttl=60)
    state, receipt = SessionState.absent(Key("n", "s")).apply(change, 10.0)
    session = state.read(15.0, touch=False)[1]
    assert json.loads(json.dumps(session.turns[0].to_dict())) == {
        "number": 0,
        "id": "t",
        "time": 2.5,
        "messages": [{"role": "user", "content": "a"}],
        "open": True,
        "interrupted": False,
    }
    info = session.info.to_dict()
    assert json.loads(json.dumps(info)) == {
        "session_id": "s",
        "namespace": "n",
        "version": str(receipt.version),
        "first": 0,
        "turns": 1,
        "messages": 1,
        "bytes": state.records[0].size,
        "created": 10.0,
        "updated": 10.0,
        "owner": "ann",
        "metadata": {"a": [1]},
        "ttl": 60.0,
        "expires_in": 55.0,
    }
    assert set(session.turns[0].to_dict()) == set(Turn.__struct_fields__)
    assert set(info) == {*SessionInfo.__struct_fields__, "session_id", "namespace"} - {"key"}
    info["metadata"]["a"].append(2)  # type: ignore[index]
    assert session.info.to_dict()["metadata"] == {"a": [1]}


# ------------------------------------------------------------------------------------------------------------------ ids


def test_ids_are_never_made_twice_nor_by_another_process() -> None:
    ids = [Change(owner="a").id for _ in range(1_000)]
    assert len(set(ids)) == 1_000 and all(id.isascii() and 20 < len(id) < 60 for id in ids)
    told = subprocess.run(
        [sys.executable, "-c", "from turnlog import Change; print(Change(owner='a').id)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert told[:24] != ids[0][:24]


def test_a_child_that_was_forked_makes_ids_of_its_own() -> None:
    code = """
import os
from turnlog import Change
Change(owner="a")
read, write = os.pipe()
if os.fork():
    os.wait()
    print(os.read(read, 100).decode() != Change(owner="a").id)
else:
    os.write(write, Change(owner="a").id.encode())
    os._exit(0)
"""
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "True"
    )


def test_session_ids_cannot_be_guessed() -> None:
    ids = {Store.new_session_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(len(id) >= 22 and set(id) <= set(string.ascii_letters + string.digits + "-_") for id in ids)
    assert len({id[:8] for id in ids}) == 1_000  # the first 8 characters differ

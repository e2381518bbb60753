"""The payload format: damage is detected, wrong headers are errors, and the specification suffices for a reader."""

from __future__ import annotations

import contextlib
import json
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlog import Change, Key, Message, Record, assistant, tool, user
from turnlog.errors import CorruptRecord, FormatTooNew
from turnlog.limits import MAX_DEPTH, MAX_VALUES
from turnlog.rules import SessionState
from turnlog.values import body as _body
from turnlog.values import json_value, to_json

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "format.md"
pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode  # a generic decoder, without turnlog's types


def envelope(
    body: bytes, *, magic: bytes = b"\xc1\x54", version: int = 1, codec: int = 0, size: int | None = None
) -> bytes:
    """Return an envelope by the specification, with a correct digest for any header."""
    start = magic + bytes([version, codec]) + struct.pack(">I", len(body) if size is None else size)
    return start + struct.pack(">I", crc32(start[4:] + body)) + body


def stored(payload: bytes, *, count: int = 1, rounds: int = 1, turns: int = 1, **head: Any) -> Record:
    """Return a record as a backend creates it."""
    return Record(
        **{
            "id": "t",
            "part": 0,
            "open": False,
            "time": 0.0,
            "number": 7,
            "rounds_until": 9,
            "messages_until": 9,
            **head,
        },
        count=count,
        rounds=rounds,
        turns=turns,
        _payload=payload,
    )


def conversations(how_many: int) -> list[tuple[Message, ...]]:
    """Return rounds of different kinds and sizes, up to about 2 KB."""
    dice = random.Random(7)
    made = []
    for place in range(how_many):
        words = " ".join(
            "".join(dice.choices("abcdefgéß日😀\n\x00", k=dice.randint(1, 9)))
            for _ in range(dice.randint(0, 12) * (place % 9 + 1))
        )
        call: dict[str, Any] = {"id": f"c{place}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        kinds = [
            (user(words),),
            (user(words), assistant(tool_calls=[call]), tool(words[:40], tool_call_id=f"c{place}"), assistant("ok")),
        ]
        made.append(kinds[place % 2])
    return made


def wrong(read: Callable[[bytes], object], payload: bytes, value: object) -> list[int]:
    """Return the bits whose flip gives another value without an error."""
    found = []
    data = bytearray(payload)
    for bit in range(len(payload) * 8):
        data[bit // 8] ^= 1 << bit % 8
        try:
            if read(bytes(data)) != value:
                found.append(bit)
        except CorruptRecord:
            pass
        data[bit // 8] ^= 1 << bit % 8
    return found


@pytest.mark.parametrize("place", range(40))
def test_every_flipped_bit_and_every_cut_is_noticed(place: int) -> None:
    messages = conversations(40)[place]
    record = Record.of(messages, id="t", time=0.0)
    payload = record.payload
    assert len(payload) < 3_000

    def read(data: bytes) -> object:
        return stored(data, count=len(messages)).messages

    assert read(payload) == messages
    assert wrong(read, payload, messages) == []
    for end in range(len(payload)):
        with pytest.raises(CorruptRecord):
            read(payload[:end])
    for more in (b"\x00", b"\xc1", payload):
        with pytest.raises(CorruptRecord):
            read(payload + more)


def test_a_codec_without_a_digest_would_be_found_out() -> None:
    messages = conversations(1)[0] + (user("hello"),)

    def read(data: bytes) -> object:
        try:
            return [Message.from_dict(one) for one in unpack(data, type=list[dict[str, Any]])]
        except Exception as error:
            raise CorruptRecord("damaged") from error

    payload = pack([message.to_dict() for message in messages])
    assert read(payload) == list(messages)
    assert wrong(read, payload, list(messages)) != []


def sealed() -> tuple[Record, tuple[Record, ...]]:
    rounds = [("a", 0, False), ("b", 0, True), ("b", 1, False), ("c", 0, True), ("d", 0, False)]
    records = tuple(
        Record.of((user(f"{id}{part}"), assistant(tool_calls=[])), id=id, part=part, open=open, time=5.0)
        for id, part, open in rounds
    )
    state, _ = SessionState.absent(Key("n", "s")).apply(Change(append=records), 0.0)
    return Record.seal(state.records), state.records


def test_a_sealed_run_comes_back_as_its_rounds() -> None:
    whole, parts = sealed()
    for record in (whole, stored_again(whole)):
        for found, part in zip(record.split(), parts, strict=True):
            for name in (
                "id",
                "part",
                "open",
                "time",
                "count",
                "rounds",
                "turns",
                "number",
                "rounds_until",
                "messages_until",
                "messages",
            ):
                assert getattr(found, name) == getattr(part, name)
        assert record.split()[-1].tip == parts[-1].tip
    assert stored_again(whole).messages == tuple(message for part in parts for message in part.messages)


def stored_again(record: Record) -> Record:
    """Return the record as a backend reads it, from its head and its payload."""
    names = (
        "id",
        "part",
        "open",
        "time",
        "count",
        "rounds",
        "turns",
        "number",
        "rounds_until",
        "messages_until",
        "tip",
    )
    return Record(**{name: getattr(record, name) for name in names}, _payload=bytes(record.payload))


def test_every_flipped_bit_of_a_sealed_run_is_noticed() -> None:
    whole, parts = sealed()

    def read(data: bytes) -> object:
        return [(one.id, one.part, one.open, one.messages) for one in whole.with_payload(data).split()]

    assert wrong(read, whole.payload, [(one.id, one.part, one.open, one.messages) for one in parts]) == []


HEAD_LIES: list[dict[str, Any]] = [
    {"count": 9},
    {"count": 11},
    {"rounds": 4},
    {"rounds": 6},
    {"turns": 3},
    {"turns": 5},
    {"rounds": 1},
]
HEAD_LIES += [{"id": "other"}, {"part": 1}, {"open": True}]


@pytest.mark.parametrize("lie", HEAD_LIES, ids=repr)
def test_a_head_that_lies_about_a_sealed_run_is_an_error(lie: dict[str, Any]) -> None:
    whole, _ = sealed()
    record = msgspec.structs.replace(stored_again(whole), **lie)
    with pytest.raises(CorruptRecord) as caught:
        record.split() if record.rounds > 1 else record.messages
    assert caught.value.turn == record.number


HELLO = [{"r": "user", "c": "hello"}]


@pytest.mark.parametrize(
    ("rounds", "turns"),
    [
        ([["t", 1, False, 0.0, HELLO], ["u", 0, False, 0.0, HELLO]], 1),  # starts inside a turn
        ([["t", 0, True, 0.0, HELLO], ["t", -1, False, 0.0, HELLO]], 1),
        ([["t", 0, True, 0.0, HELLO], ["t", 2, False, 0.0, HELLO]], 1),
        ([["t", 0, True, 0.0, HELLO], ["u", 1, False, 0.0, HELLO]], 1),  # continues another turn
        ([["t", 0, False, 0.0, HELLO], ["t", 1, False, 0.0, HELLO]], 1),  # continues a closed turn
        ([["t", 0, False, 0.0, []], ["u", 0, False, 0.0, HELLO + HELLO]], 2),  # has no messages
    ],
)
def test_rounds_that_do_not_follow_each_other_are_an_error(rounds: list[Any], turns: int) -> None:
    last = rounds[-1]
    record = stored(envelope(pack(rounds)), count=2, rounds=2, turns=turns, id=last[0], part=last[1], open=last[2])
    with pytest.raises(CorruptRecord):
        record.split()


def test_a_head_that_lies_about_one_round_is_an_error() -> None:
    for count in (0, 1, 3):
        with pytest.raises(CorruptRecord, match="turn 7"):
            _ = stored(envelope(pack(HELLO + HELLO)), count=count).messages


NOT_ENVELOPES: dict[str, tuple[bytes, type[CorruptRecord], str]] = {
    "nothing": (b"", CorruptRecord, "cut short"),
    "11 bytes": (envelope(b"")[:11], CorruptRecord, "cut short"),
    "bare MessagePack": (pack([{"role": "user", "content": "hello there"}]), CorruptRecord, "begins with"),
    "bare JSON": (b'[{"role":"user","content":"hello"}]', CorruptRecord, "begins with"),
    "wrong magic": (envelope(pack(HELLO), magic=b"\xc1\x55"), CorruptRecord, "begins with c155"),
    "format 0": (envelope(pack(HELLO), version=0), CorruptRecord, "format 0"),
    "format 2": (envelope(pack(HELLO), version=2), FormatTooNew, "upgrade"),
    "format 255": (envelope(pack(HELLO), version=255), FormatTooNew, "upgrade"),
    "newer and otherwise unknown": (b"\xc1\x54\x02" + b"\xff" * 60, FormatTooNew, "upgrade"),
    "gzip": (envelope(pack(HELLO), codec=1), CorruptRecord, "layers=gzip"),
    "zstd": (envelope(pack(HELLO), codec=2), CorruptRecord, "layers=zstd"),
    "zstd with a dictionary": (envelope(pack(HELLO), codec=3), CorruptRecord, "layers=zstd"),
    "codec 4": (envelope(pack(HELLO), codec=4), CorruptRecord, "codec 4"),
    "private codec": (envelope(pack(HELLO), codec=128), CorruptRecord, "codec 128"),
    "codec 255": (envelope(pack(HELLO), codec=255), CorruptRecord, "codec 255"),
    "a body shorter than it says": (envelope(pack(HELLO), size=len(pack(HELLO)) + 1), CorruptRecord, "bytes"),
    "a body longer than it says": (envelope(pack(HELLO), size=len(pack(HELLO)) - 1), CorruptRecord, "bytes"),
    "says 4 GiB": (envelope(pack(HELLO), size=2**32 - 1), CorruptRecord, "limit"),
    "says 16 MiB and a byte": (envelope(pack(HELLO), size=2**24 + 1), CorruptRecord, "limit"),
    "a digest over the body alone": (
        envelope(pack(HELLO))[:8] + struct.pack(">I", crc32(pack(HELLO))) + pack(HELLO),
        CorruptRecord,
        "its checksum does not match",
    ),
    "no messages": (envelope(b""), CorruptRecord, "messages"),
    "a map": (envelope(pack({"r": "user"})), CorruptRecord, "messages"),
    "numbers": (envelope(pack([1, 2])), CorruptRecord, "messages"),
    "a role that is no text": (envelope(pack([{"r": 1}])), CorruptRecord, "messages"),
    "rest that is no bytes": (envelope(pack([{"x": {"a": 1}}])), CorruptRecord, "messages"),
    "rest that is text": (envelope(pack([{"x": "abc"}])), CorruptRecord, "messages"),
    "bytes at the end": (envelope(pack(HELLO) + b"\x00"), CorruptRecord, "messages"),
    "no UTF-8": (envelope(b"\x91\x81\xa1r\xa2\xff\xff"), CorruptRecord, "messages"),
    "a surrogate": (envelope(b"\x91\x81\xa1r\xa3\xed\xa0\x80"), CorruptRecord, "messages"),
    "4 billion messages": (envelope(b"\xdd\xff\xff\xff\xff"), CorruptRecord, "messages"),
    "4 billion bytes of text": (envelope(b"\x91\x81\xa1r\xdb\xff\xff\xff\xff"), CorruptRecord, "messages"),
    "4 billion keys": (envelope(b"\x91\xdf\xff\xff\xff\xff"), CorruptRecord, "messages"),
    "100,000 lists in each other": (envelope(b"\x91" * 100_000 + b"\x90"), CorruptRecord, "messages"),
    "100,000 lists under an unknown key": (
        envelope(b"\x91\x81\xa1z" + b"\x91" * 100_000 + b"\x90"),
        CorruptRecord,
        "recursion",
    ),
    "the byte that MessagePack never uses": (envelope(b"\xc1"), CorruptRecord, "messages"),
    "a sealed run": (envelope(pack([["t", 0, False, 0.0, HELLO]])), CorruptRecord, "messages"),
}


@pytest.mark.parametrize("name", NOT_ENVELOPES)
def test_what_is_no_payload_is_an_error_that_says_why(name: str) -> None:
    payload, kind, why = NOT_ENVELOPES[name]
    with pytest.raises(kind, match=why) as caught:
        _ = stored(payload).messages
    assert type(caught.value) is kind


@pytest.mark.parametrize("name", NOT_ENVELOPES)
def test_an_error_names_the_turn(name: str) -> None:
    payload, _, _ = NOT_ENVELOPES[name]
    for read in (lambda: stored(payload).messages, lambda: stored(payload, rounds=2, turns=2).split()):
        with pytest.raises(CorruptRecord) as caught:
            read()
        assert caught.value.turn == 7


def test_an_error_of_a_session_names_the_session_and_hides_nothing_else() -> None:
    records = tuple(Record.of((user(id),), id=id, time=0.0) for id in "abc")
    records = (records[0], records[1].with_payload(envelope(b"\xc1")), records[2])
    session = SessionState.absent(Key("n", "s")).apply(Change(append=records), 0.0)[0].read(0.0)[1]
    for read in (lambda: session.messages, lambda: session.turns):
        with pytest.raises(CorruptRecord) as caught:
            read()
        assert (caught.value.key, caught.value.turn) == (Key("n", "s"), 1)
    assert [session.records[place].messages for place in (0, 2)] == [(user("a"),), (user("c"),)]


REST: dict[str, bytes] = {
    "not MessagePack": b"\xc1",
    "empty": b"",
    "cut short": pack({"a": "hello"})[:-1],
    "bytes at the end": pack({"a": 1}) + b"\x00",
    "a list": pack([1]),
    "a list of pairs": pack([["a", 1]]),
    "a number": pack(5),
    "a key that is a number": pack({1: 2}),
    "a binary key without UTF-8": b"\x81\xc4\x01\xff\x01",
    "an extension": pack({"a": msgspec.msgpack.Ext(5, b"x")}),
    "a time": b"\x81\xa1a\xd6\xff\x00\x00\x00\x00",
    "a wide integer": pack({"a": msgspec.msgpack.Ext(2, b"\x7f" * 2_000)}),
    "an extension without UTF-8": pack({"a": msgspec.msgpack.Ext(1, b"\xff")}),
    "deep": b"\x81\xa1a" + b"\x91" * 5_000 + b"\x90",
    "one level too deep": b"\x81\xa1a" + b"\x91" * (MAX_DEPTH - 1) + b"\x90",
    "no UTF-8": b"\x81\xa1a\xa1\xff",
}


@pytest.mark.parametrize("name", REST)
def test_a_message_whose_rest_is_not_json_is_corrupt(name: str) -> None:
    record = stored(envelope(pack([{"r": "user", "x": REST[name]}])))
    with pytest.raises(CorruptRecord):
        read_all(record)


TOO_MANY = MAX_VALUES + 1


@pytest.mark.parametrize(
    "value",
    [
        [0] * TOO_MANY,
        [[]] * TOO_MANY,
        [[{}] * 100] * 1_001,
        ["é" * 40] * TOO_MANY,
        {f"{n}": n for n in range(MAX_VALUES // 2 + 1)},
        [b"bytes"] * TOO_MANY,
        [
            msgspec.msgpack.Ext(1, b"x" * 70_000),
            *[msgspec.msgpack.Ext(1, b"x" * size) for size in (0, 1, 2, 3, 4, 8, 16, 300)] * (MAX_VALUES // 8),
        ],
        ["y" * 70_000, *[1.5, "x" * 300, -1, 2**40] * (MAX_VALUES // 4)],
    ],
)
def test_a_message_of_too_many_values_is_corrupt_before_they_are_made(value: Any, monkeypatch: Any) -> None:
    """No message that turnlog stores has this many values.  Their creation would block the event loop."""
    for name in ("_decode_common", "_decode_any", "_decode_raw"):
        monkeypatch.setattr(json_value, name, None)
    record = stored(envelope(pack([{"x": pack({"content": value})}])))
    for use in (lambda: record.messages[0].content, record.messages[0].to_dict, record.canonical):
        with pytest.raises(CorruptRecord, match=f"more than {MAX_VALUES} values"):
            use()


@pytest.mark.parametrize(
    "value",
    [
        [0] * (MAX_VALUES - 2),
        [[]] * (MAX_VALUES - 2),
        {f"{n}": n for n in range(MAX_VALUES // 2 - 1)},
        ["x" * 300, 1.5, "y" * 70_000] * 30,
    ],
)
def test_what_is_within_the_limit_of_values_is_read_back(value: Any) -> None:
    message = Message.from_dict({"content": value})
    (read,) = stored(Record.of((message,), id="t", time=0.0).payload).messages
    assert read.content == value


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b"\xdd" + struct.pack(">I", 10**7) + b"\x80" * 10**7, {}),
        (b"\xdd" + struct.pack(">I", 10**7) + b"\x80" * 10**7, {"count": 10**7}),
        (pack([{}] * 10_001).ljust(MAX_VALUES + 1, b"\x80"), {"count": 10_001}),
        (b"\xdd" + struct.pack(">I", 10**6) + b"\x80" * 10**6, {"rounds": 2, "turns": 2, "count": 2}),
        (b"\xdd" + struct.pack(">I", 10**6) + b"\x80" * 10**6, {"rounds": 10**6, "turns": 2, "count": 10**6}),
        (pack([["a", 0, False, 1.0, [{}] * 10**6], ["b", 0, False, 1.0, [{}]]]), {"rounds": 2, "turns": 2, "count": 2}),
        (
            pack([["a", 0, False, 1.0, [{}] * 10**6], ["b", 0, False, 1.0, [{}]]]),
            {"rounds": 2, "turns": 2, "count": 10**6 + 1},
        ),
    ],
)
def test_a_record_of_too_many_messages_is_corrupt_before_they_are_made(
    body: bytes, head: dict[str, Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr(_body, "decode_messages", None)
    monkeypatch.setattr(_body, "decode_rounds", None)
    with pytest.raises(CorruptRecord, match=r"it holds \d+ (messages|rounds), "):
        _ = stored(envelope(body), **head).messages


def test_a_message_as_deep_as_allowed_is_read_back() -> None:
    value: Any = []
    for _ in range(MAX_DEPTH - 2):
        value = [value]
    messages = (Message.from_dict({"a": value}),)
    assert stored(Record.of(messages, id="t", time=0.0).payload).messages == messages


def read_all(record: Record) -> None:
    """Read everything that a record offers."""
    for part in record.split():
        for message in part.messages:
            message.to_dict()
            repr(message)
            _ = hash(message), message.text, message.tool_calls, message.canonical()


bodies = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["r", "c", "x"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)
rests = st.binary(max_size=12) | bodies.map(pack) | st.dictionaries(st.text(max_size=3), bodies, max_size=2).map(pack)
messages = st.fixed_dictionaries({}, optional={"r": st.text(max_size=3), "c": st.text(max_size=3), "x": rests})
runs = st.lists(
    st.tuples(st.text(max_size=2), st.integers(-1, 2), st.booleans(), st.floats(), st.lists(messages, max_size=2)),
    max_size=3,
)
hostile = st.one_of(st.binary(max_size=40), bodies.map(pack), st.lists(messages, max_size=3).map(pack), runs.map(pack))


@given(body=hostile, count=st.integers(0, 4), rounds=st.integers(1, 3), turns=st.integers(0, 3))
def test_whatever_a_store_holds_it_is_messages_or_corrupt(body: bytes, count: int, rounds: int, turns: int) -> None:
    with contextlib.suppress(CorruptRecord):
        read_all(stored(envelope(body), count=count, rounds=rounds, turns=turns))


@given(st.binary(max_size=60))
def test_any_bytes_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptRecord):
        _ = stored(data).messages


# ---------------------------------------------------------------------------------------------------- the specification


def example(name: str) -> bytes:
    """Return the bytes of an example in the specification: a block of hexadecimal digits, with remarks after `#`."""
    block = (
        PAGE.read_text(encoding="utf-8")
        .partition(f"<!-- example: {name} -->")[2]
        .partition("```")[2]
        .partition("```")[0]
    )
    return bytes.fromhex("".join(re.sub(r"#.*", "", line) for line in block.splitlines()[1:]))


def by_hand(payload: bytes) -> Any:
    """Decode the body of a payload by the specification, with `struct`, CRC-32 and a generic MessagePack decoder."""
    magic, version, codec, size, digest = struct.unpack(">2sBBII", payload[:12])
    body = payload[12:]
    assert (magic, version, codec, size) == (b"\xc1\x54", 1, 0, len(body))
    assert digest == crc32(payload[4:8] + body)
    return unpack(body)


def message_by_hand(found: dict[str, Any]) -> dict[str, Any]:
    data = {}
    if "r" in found:
        data["role"] = found["r"]
    if "c" in found:
        data["content"] = found["c"]
    return data | (unpack(found["x"]) if "x" in found else {})


def test_the_example_of_a_round_can_be_read_by_hand() -> None:
    payload = example("round")
    data = [message_by_hand(found) for found in by_hand(payload)]
    assert data == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    assert [message.to_dict() for message in stored(payload, count=2).messages] == data
    assert Record.of(tuple(map(Message.from_dict, data)), id="t", time=0.0).payload == payload


def test_the_example_of_a_sealed_run_can_be_read_by_hand() -> None:
    payload = example("sealed run")
    rounds = [(*head, [message_by_hand(found) for found in said]) for *head, said in by_hand(payload)]
    assert rounds == [
        ("a", 0, True, 1.5, [{"role": "user", "content": "Hi"}]),
        ("a", 1, False, 2.0, [{"content": "Hello"}]),
    ]
    record = stored(payload, count=2, rounds=2, turns=1, id="a", part=1)
    assert [
        (one.id, one.part, one.open, one.time, [m.to_dict() for m in one.messages]) for one in record.split()
    ] == rounds


def test_what_is_written_can_be_read_by_hand() -> None:
    for said in conversations(6):
        found = by_hand(Record.of(said, id="t", time=0.0).payload)
        assert [message_by_hand(one) for one in found] == [message.to_dict() for message in said]
    whole, parts = sealed()
    found = by_hand(whole.payload)
    assert [one[:4] for one in found] == [[part.id, part.part, part.open, part.time] for part in parts]


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ({"a": "x\ud800"}, pack({"a": msgspec.msgpack.Ext(1, b"x\xed\xa0\x80")})),
        ({"a": 2**64}, pack({"a": msgspec.msgpack.Ext(2, b"\x01" + bytes(8))})),
        ({"a": -(2**63) - 1}, pack({"a": msgspec.msgpack.Ext(2, b"\xff\x7f" + b"\xff" * 7)})),
        ({"a": float("-inf")}, b"\x81\xa1a\xcb\xff\xf0" + bytes(6)),
        ({"a": b"\xff"}, b"\x81\xa1a\xc4\x01\xff"),
        ({"\ud800": 1}, b"\x81\xc4\x03\xed\xa0\x80\x01"),
    ],
)
def test_values_that_messagepack_lacks_are_encoded_as_specified(value: dict[str, Any], encoded: bytes) -> None:
    assert Record.of((Message.from_dict(value),), id="t", time=0.0).payload[12:] == pack([{"x": encoded}])
    assert stored(envelope(pack([{"x": encoded}]))).messages[0].to_dict() == value


def test_the_examples_of_the_json_form() -> None:
    values: list[Any] = [b"\xff", float("nan"), 2**64, "\ud800", {"$turnlog": None}]
    forms = re.findall(r"\| `(\{\"\$turnlog\": \"[^`]*)` \|", PAGE.read_text(encoding="utf-8"))
    assert [json.loads(form) for form in forms] == [to_json(value) for value in values]

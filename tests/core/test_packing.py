"""`pack` and `unpack`: stored bytes are read back, and damaged ones raise `CorruptRecord`.

Each test has failed with a bug in the core: `Key.is_sound` that always returns True, a checksum without the key, a
second checksum in `Record.pack` without the envelope, or `unpack` without one of its `except` clauses.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forged import forged, packed_head, with_records_inside
from turnlog import Change, Key, Metadata, Record, Version, assistant, user
from turnlog.errors import CorruptRecord
from turnlog.limits import MAX_NUMBER, MAX_TTL
from turnlog.payload import HEAD
from turnlog.rules import Header, Remembered, SessionState

EMPTY = Metadata({})
KEY = Key("shop", "älice")
OTHERS = [Key("shop", "alice"), Key("shöp", "älice"), Key("shopä", "lice"), Key("sho", "pälice"), Key("älice", "shop")]
"""Keys with similar texts."""

METADATA = Metadata.of({"title": "Zeit", "list": [1, {"a": None}], "raw": b"\x00\xff"})


def session() -> SessionState:
    """Return a session with a value in every field of its header: a sealed record, and an open round."""
    rounds = (
        Record.of((user("Wie spät?"),), id="t0", time=1.5, open=True),
        Record.of((assistant("12:30", tool_calls=[]), assistant("!")), id="t0", time=2.0, part=1),
        *(Record.of((user(f"q{n}"),), id=f"t{n}", time=3.0) for n in range(1, 4)),
    )
    change = Change(append=rounds, metadata=METADATA, owner="ann", ttl=60.0)
    state, _ = SessionState.absent(KEY).apply(change, 10.0)
    state, done = state.seal(Record.seal(state.records[:3]), 10.0)
    assert done
    end = Record.of((user("end"),), id="e", time=4.0, open=True)
    return state.apply(Change(keep=3, append=(end,)), 11.0)[0]


def head_of(record: Record) -> tuple[Any, ...]:
    """Return the fields without the body."""
    return msgspec.structs.astuple(record)[:11]


STATE = session()
SEALED, OPEN = STATE.records[0], STATE.records[-1]
REMEMBERED = Remembered(b"d" * 16, Version(b"e" * 16, 1, 2, b"t" * 8, b"s" * 8), 7)
assert STATE.header is not None
HEADER = STATE.header

PACKED: dict[str, tuple[bytes, Callable[[Key, bytes], object], object]] = {
    "header": (
        HEADER.pack(),
        lambda key, data: Header.unpack(key, data, updated=HEADER.updated, expires=HEADER.expires),
        msgspec.structs.replace(HEADER, metadata=EMPTY),
    ),
    "metadata": (METADATA.pack(KEY), Metadata.unpack, METADATA),
    "remembered change": (REMEMBERED.pack(KEY), Remembered.unpack, REMEMBERED),
    "head of a record": (SEALED.pack(KEY), lambda key, data: head_of(Record.unpack(key, data)), head_of(SEALED)),
    "record": (SEALED.pack(KEY), lambda key, data: Record.unpack(key, data, SEALED.payload), SEALED),
}
"""Packed bytes, the function that reads them, and the value that it returns."""

packed = pytest.mark.parametrize("name", PACKED)


def damaged(data: bytes) -> Iterator[bytes]:
    """Yield the data with every bit flipped, cut at every byte, and with bytes added or removed."""
    for place in range(len(data)):
        for bit in range(8):
            yield data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
        yield data[:place]
    yield from (data + b"\x00", b"\x00" + data, data + data, data[1:])


@packed
def test_packed_bytes_are_read_back(name: str) -> None:
    data, read, value = PACKED[name]
    assert read(KEY, data) == value


@packed
def test_every_flipped_bit_and_every_cut_is_corrupt(name: str) -> None:
    data, read, _ = PACKED[name]
    for wrong in damaged(data):
        if name == "head of a record" and wrong[:-4] == data[:-4]:
            continue  # the last four bytes are the checksum of the envelope, which is not checked without the payload
        with pytest.raises(CorruptRecord) as caught:
            read(KEY, wrong)
        assert caught.value.key == KEY


@packed
@pytest.mark.parametrize("key", OTHERS, ids=str)
def test_bytes_of_another_session_are_corrupt(name: str, key: Key) -> None:
    data, read, _ = PACKED[name]
    with pytest.raises(CorruptRecord) as caught:
        read(key, data)
    assert caught.value.key == key


@packed
@pytest.mark.parametrize("other", PACKED)
def test_bytes_of_another_kind_are_corrupt(name: str, other: str) -> None:
    if {name, other} != {"record", "head of a record"} and name != other:
        with pytest.raises(CorruptRecord):
            PACKED[name][1](KEY, PACKED[other][0])


@packed
@pytest.mark.parametrize("value", ["text", 5, 1.5, [], b""], ids=repr)
def test_a_column_that_holds_something_else_is_corrupt(name: str, value: Any) -> None:
    with pytest.raises(CorruptRecord):
        PACKED[name][1](KEY, value)


def test_times_that_are_no_numbers_are_corrupt() -> None:
    for times in ({"updated": "soon", "expires": None}, {"updated": 1.0, "expires": "x"}, {"updated": None}):
        wrong: Any = {"expires": None, **times}
        with pytest.raises(CorruptRecord):
            Header.unpack(KEY, HEADER.pack(), **wrong)


def test_metadata_that_are_not_the_last_ones_are_corrupt() -> None:
    """The metadata are missing, or valid but of another change or session."""
    header = msgspec.structs.replace(HEADER, metadata=EMPTY)
    assert header.with_metadata(HEADER.metadata.pack(KEY)) == HEADER
    for wrong in (None, EMPTY.pack(KEY), Metadata.of({"title": "old"}).pack(KEY), b"", HEADER.metadata.pack(OTHERS[0])):
        with pytest.raises(CorruptRecord, match="metadata") as caught:
            header.with_metadata(wrong)
        assert caught.value.key == KEY
    bare = msgspec.structs.replace(header, metadata_sum=b"")
    assert bare.with_metadata(None) == bare.with_metadata(EMPTY.pack(KEY)) == bare
    with pytest.raises(CorruptRecord, match="metadata"):
        bare.with_metadata(HEADER.metadata.pack(KEY))


def test_no_metadata_are_empty() -> None:
    assert len(Metadata.unpack(KEY, None)) == 0


def test_a_head_belongs_to_one_payload() -> None:
    """A head is refused with the payload of another record, and with a damaged envelope."""
    for record in (SEALED, OPEN):
        head, payload = record.pack(KEY), record.payload
        assert Record.unpack(KEY, head, payload).messages == record.messages
        other = OPEN if record is SEALED else SEALED
        for wrong in (other.payload, b"", payload[: HEAD - 1], *damaged(payload[:HEAD])):
            if wrong[:HEAD] == payload[:HEAD]:
                continue
            with pytest.raises(CorruptRecord):
                Record.unpack(KEY, head, wrong)


def test_a_damaged_body_is_found_when_the_messages_are_read() -> None:
    """The envelope has a checksum of the body, so a backend need not read the body."""
    head, payload = OPEN.pack(KEY), OPEN.payload
    for place in range(HEAD, len(payload)):
        body = payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]
        record = Record.unpack(KEY, head, body)
        with pytest.raises(CorruptRecord):
            _ = record.messages


# ------------------------------------------------------------------------------------------------------- any values

numbers = st.integers(0, 2) | st.integers(0, MAX_NUMBER)
seconds = st.floats(allow_nan=False, allow_infinity=False)
times = st.floats(0, MAX_NUMBER)
texts = st.text(st.characters(codec="utf-8"), max_size=5)
versions = st.builds(Version, st.binary(max_size=16), numbers, numbers, st.binary(max_size=8), st.binary(max_size=8))
headers = st.builds(
    Header,
    st.just(KEY),
    versions,
    first=numbers,
    turns=numbers,
    start=numbers,
    messages_until=numbers,
    tail=st.none() | st.tuples(texts, numbers, st.booleans()),
    bytes=numbers,
    created=seconds,
    updated=times,
    owner=texts,
    metadata=st.just(METADATA),
    ttl=st.none() | st.floats(0, MAX_TTL),
    expires=st.none() | seconds,
    changes=numbers,
    expiry_ttl=st.none() | st.floats(0, MAX_TTL),
    metadata_sum=st.binary(max_size=4),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | seconds | texts | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(headers)
def test_any_header_is_read_back(header: Header) -> None:
    bare = msgspec.structs.replace(header, metadata=EMPTY)
    assert Header.unpack(KEY, header.pack(), updated=header.updated, expires=header.expires) == bare


@given(st.dictionaries(texts.filter(bool), values, max_size=4))
def test_any_metadata_are_read_back(values: dict[str, Any]) -> None:
    assert dict(Metadata.unpack(KEY, Metadata.of(values).pack(KEY))) == values


@given(st.binary(max_size=16), versions, st.none() | numbers)
def test_any_remembered_change_is_read_back(digest: bytes, version: Version, number: int | None) -> None:
    one = Remembered(digest, version, number)
    assert Remembered.unpack(KEY, one.pack(KEY)) == one


def test_a_remembered_change_is_packed_as_its_digest() -> None:
    change = Change(owner="ann")
    whole = Remembered(change, REMEMBERED.version, None)
    assert Remembered.unpack(KEY, whole.pack(KEY)) == Remembered(change.digest, REMEMBERED.version, None)


@given(
    st.builds(Record, texts, numbers, st.booleans(), seconds, *[numbers.filter(bool)] * 2, *[numbers] * 4, st.binary())
)
def test_any_head_of_a_record_is_read_back(head: Record) -> None:
    record = head.with_payload(OPEN.payload)
    assert head_of(Record.unpack(KEY, record.pack(KEY))) == head_of(head)
    assert Record.unpack(KEY, record.pack(KEY), OPEN.payload).payload == OPEN.payload


@given(st.binary(max_size=30) | values.map(msgspec.msgpack.encode), st.sampled_from(sorted(PACKED)))
def test_any_bytes_with_a_right_checksum_are_a_value_or_corrupt(data: bytes, name: str) -> None:
    data += KEY.checksum(data)
    if name == "record":
        data += KEY.checksum(SEALED.payload[:HEAD] + data)
    elif name == "head of a record":
        data += b"\x00" * 4
    with contextlib.suppress(CorruptRecord):
        PACKED[name][1](KEY, data)


@packed
def test_what_is_forged_with_right_checksums_is_a_value_or_corrupt(name: str) -> None:
    """No other error occurs, also when the value is used.  A writer to a database can forge checksums."""
    data, read, value = PACKED[name]
    sizes = {"head of a record": 8, "record": 8}
    for body in forged(data[: -sizes.get(name, 4)]):
        wrong = packed_head(KEY, body, SEALED.payload) if name in sizes else body + KEY.checksum(body)
        try:
            found = read(KEY, wrong)
            _used(found)
        except CorruptRecord:
            continue
        assert type(found) is type(value)


def _used(value: Any) -> None:
    """Use a value as a store does."""
    if isinstance(value, Header):
        assert 0 <= value.first + value.turns + value.start + value.messages_until + value.changes <= 5 * MAX_NUMBER
        assert abs(value.bytes) <= MAX_NUMBER and isfinite(value.created)
        assert value.slide(9.0, 60.0).info(9.0).to_dict()
        assert Version.parse(str(value.version)) == value.version
    if isinstance(value, Record):
        assert list(value.messages) == Record.messages_of(value.split())
        assert max(value.number, value.rounds_until, value.messages_until, value.count, value.part) <= MAX_NUMBER
        assert isfinite(value.time)
    if isinstance(value, Metadata):
        json.dumps(dict(value), default=bytes.hex)
        value.canonical()


@pytest.mark.parametrize("depth", [0, 1, 400, 100_000])
def test_a_head_that_holds_records_in_each_other_is_corrupt(depth: int) -> None:
    """It is detected even if the stack of the reader is deeper than that of the decoder, as in another thread."""
    head = packed_head(KEY, with_records_inside(SEALED, depth), SEALED.payload)

    def messages(record: Record, frames: int) -> object:
        return messages(record, frames - 1) if frames else record.messages

    for payload in (None, SEALED.payload):
        with pytest.raises(CorruptRecord, match="stored record"):
            messages(Record.unpack(KEY, head, payload), 300)


@pytest.mark.parametrize(
    "wrong", [{"updated": -1.0}, {"updated": 1e300}, {"updated": float("nan")}, {"expires": float("inf")}]
)
def test_times_out_of_bounds_are_corrupt(wrong: dict[str, Any]) -> None:
    with pytest.raises(CorruptRecord) as caught:
        Header.unpack(KEY, HEADER.pack(), **{"updated": 1.0, "expires": None, **wrong})
    assert caught.value.key == KEY


def test_a_record_that_cannot_be_read_keeps_its_payload() -> None:
    record = Record.of((user("hi"),), id="t", time=0.0)
    encoded = record.with_payload(record.payload)
    assert encoded.unencoded()._payload is None
    assert encoded.unencoded().messages == (user("hi"),)
    broken = record.with_payload(record.payload[:HEAD] + b"\xc1")
    assert broken.unencoded() is broken

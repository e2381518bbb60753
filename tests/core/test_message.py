"""Messages: stored verbatim, immutable, and refused with the place of the error."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import enum
import json
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlog import Key, Message, Metadata, Record, Session, Store, assistant, system, tool, user
from turnlog.errors import InvalidInput, TooLarge
from turnlog.limits import MAX_DEPTH, MAX_DIGITS, MAX_VALUES
from turnlog.values import from_json, json_text, to_json
from turnlog.values.message import as_messages, as_turn
from turnlog_memory import MemoryBackend


class Text(str):
    """A subclass of str."""


class Odd(str):
    """A string that is not equal to itself as a plain string."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class Array:
    """An array whose comparison has no truth value, as in numpy."""

    def __init__(self, items: list[int]) -> None:
        self.items = items

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


class Plain(enum.Enum):
    A = "a"


class Role(enum.StrEnum):
    USER = "user"


class Level(enum.IntEnum):
    HIGH = 3


class Ratio(float):
    """A subclass of float."""


class Named(dict[str, Any]):
    """A subclass of dict."""


class Items(list[Any]):
    """A subclass of list."""


CALL: dict[str, Any] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
}

SAID: dict[str, dict[str, Any]] = {
    "chat user": {"role": "user", "content": "Hello"},
    "chat system": {"role": "system", "content": "Be brief.", "name": "policy"},
    "chat developer": {"role": "developer", "content": "Be brief."},
    "chat parts": {
        "role": "user",
        "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "x:y"}}],
    },
    "chat tool calls": {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
    "chat tool calls, no content": {"role": "assistant", "tool_calls": [CALL]},
    "chat tool": {"role": "tool", "content": "12 °C", "tool_call_id": "call_1"},
    "chat refusal": {"role": "assistant", "content": None, "refusal": "No.", "audio": None, "annotations": []},
    "old function call": {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
    "responses message": {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
    },
    "responses call": {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    "responses output": {"type": "function_call_output", "call_id": "c1", "output": "42"},
    "responses reasoning": {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
    "anthropic blocks": {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "…", "signature": "s"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        ],
    },
    "anthropic result": {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42", "is_error": False}],
    },
    "gemini": {"role": "model", "parts": [{"text": "Hi"}]},
    "no content": {"role": "assistant"},
    "content only": {"content": "Hi"},
    "None content only": {"content": None},
    "None role": {"role": None, "content": "Hi"},
    "empty content": {"role": "assistant", "content": ""},
    "empty list": {"role": "assistant", "content": []},
    "empty role": {"role": "", "content": "Hi"},
    "role and content that are no strings": {"role": 5, "content": {"a": True}},
    "unknown keys": {
        "role": "user",
        "content": "Hi",
        "": 0,
        "x-custom": {"deep": [None, 1.5, -1, 2**64 - 1, -(2**63)]},
        "r": 1,
        "c": 2,
        "x": 3,
    },
    "markers of other formats": {
        "role": "user",
        "content": "Hi",
        "lc": 1,
        "__enc__": "x",
        "__compressed_data__": "y",
        "$ref": "#/",
    },
    "NUL and odd signs": {"role": "user", "content": "a\x00b\u2028\ufeff\U0001f600", "n": "\x7f\x00"},
}

texts = st.text(st.characters(codec="utf-8"), max_size=12)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
names = st.sampled_from(["role", "content", "tool_calls", "name"]) | texts
said = st.dictionaries(names, values, min_size=1, max_size=6)


@pytest.mark.parametrize("name", SAID)
def test_every_provider_s_message_comes_back_as_it_was(name: str) -> None:
    data = SAID[name]
    message = Message.from_dict(data)
    assert message.to_dict() == data
    assert list(message.to_dict()) == [k for k in ("role", "content") if type(data.get(k)) is str] + [
        k for k in data if k not in ("role", "content") or type(data[k]) is not str
    ]
    assert (
        Record.of((message,), id="t", time=0.0)
        .with_payload(Record.of((message,), id="t", time=0.0).payload)
        .messages[0]
        .to_dict()
        == data
    )


@given(said)
def test_any_json_object_comes_back_as_it_was(data: dict[str, Any]) -> None:
    message = Message.from_dict(data)
    found = message.to_dict()
    assert found == data
    assert json.dumps(found, sort_keys=True) == json.dumps(
        data, sort_keys=True
    )  # also distinguishes 1 from 1.0, 0.0 from -0.0, True from 1
    assert Message.from_dict(found) == message and hash(Message.from_dict(found)) == hash(message)
    assert Message.from_dict(dict(reversed(data.items()))) == message
    assert hash(Message.from_dict(dict(reversed(data.items())))) == hash(message)
    assert message.get("role") == data.get("role") and message.content == data.get("content")
    assert pickle.loads(pickle.dumps(message)) == message == copy.deepcopy(message)


@given(said, said)
def test_messages_are_equal_exactly_where_their_dictionaries_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    equal = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (Message.from_dict(one) == Message.from_dict(other)) == equal
    assert (Message.from_dict(one).canonical() == Message.from_dict(other).canonical()) == equal


DIFFICULT = (
    st.integers(-(10**40), 10**40)
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=4)
    | st.text(st.sampled_from("a\ud800\udfff\u20ac"), max_size=4)
    | st.binary(max_size=4)
    | st.booleans()
    | st.none()
)
NAMES = st.sampled_from(["role", "content", "$turnlog", "a", "\ud800"]) | st.text(st.characters(), max_size=2)
VALUES = st.recursive(
    DIFFICULT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)


def plain(value: object) -> object:
    """Return a value with texts in place of floats, so that `==` distinguishes 0.0 from -0.0 and finds NaN."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return (type(value), repr(value))


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_every_value_of_json_and_bytes_come_back(data: dict[str, Any]) -> None:
    """They come back from the encoded form, from JSON text, and from metadata."""
    message = Message.from_dict(data)
    assert plain(message.to_dict()) == plain(data)
    record = Record.of((message,), id="t", time=0.0)
    read = msgspec.structs.replace(record, _messages=None, _payload=record.payload)
    assert plain(read.messages[0].to_dict()) == plain(data)
    assert message == Message.from_dict(dict(reversed(data.items()))) == read.messages[0]
    text = json_text(data)
    assert plain(from_json(json.loads(text))) == plain(from_json(msgspec.json.decode(text))) == plain(data)
    assert json.loads(text, parse_constant=pytest.fail) == to_json(data)
    assert plain(Metadata.of({"a": data})["a"]) == plain(data)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (Role.USER, "user"),
        (Text("x\ud800"), "x\ud800"),
        (Level.HIGH, 3),
        (Ratio(0.5), 0.5),
        (Named(a=Named()), {"a": {}}),
        (Items([Role.USER]), ["user"]),
        (OrderedDict(a=1), {"a": 1}),
        (10 ** (MAX_DIGITS - 1), 10 ** (MAX_DIGITS - 1)),
    ],
)
def test_a_value_of_a_subclass_comes_back_as_its_base(value: Any, kept: object) -> None:
    for name in ("role", "content", "a", Role.USER):
        found = Message.from_dict({name: value, "more": [value, {Text("k"): value}]}).to_dict()
        assert found == {name: value, "more": [value, {"k": value}]}
        for one in (found[name], found["more"][0]):  # type: ignore[index]
            assert type(one) is type(kept)
            assert one == kept
        assert [type(key) for key in found] == [str, str]
    assert Message.from_dict({"role": Role.USER, "content": Text("x")}) == user("x")


def test_an_empty_message_comes_back() -> None:
    message = Message.from_dict({})
    assert (message.to_dict(), message.role, message.content, message.text) == ({}, None, None, "")
    assert Record.of((message,), id="t", time=0.0).payload[12:] == b"\x91\x80"


@pytest.mark.parametrize("number", [10**MAX_DIGITS, -(10**MAX_DIGITS)], ids=["above", "below"])
def test_an_integer_of_too_many_digits_is_refused(number: int) -> None:
    with pytest.raises(TooLarge, match=r"message.a\[0\] is an integer of more than 4300 digits"):
        Message.from_dict({"a": [number]})


@pytest.mark.parametrize(
    "form",
    [
        {"$turnlog": "xAA=", "a": 1},
        {"$turnlog": 1},
        {"$turnlog": "?"},
        {"$turnlog": "wQ=="},
        {"$turnlog": "1AUA"},
        [{"$turnlog": None}],
    ],
)
def test_a_wrong_json_form_is_refused(form: object) -> None:
    with pytest.raises(ValueError, match=r"\$turnlog|base64"):
        from_json(form)


def test_equality_at_its_edges() -> None:
    assert user("a") != assistant("a")
    assert Message.from_dict({"role": "user"}) != Message.from_dict({"role": "user", "content": None})
    assert Message.from_dict({"content": ""}) != Message.from_dict({"content": None})
    assert user("a") != {"role": "user", "content": "a"}
    assert len({user("a"), user("a"), user("b")}) == 2


def test_a_key_order_that_differs_deep_inside_is_the_same_message() -> None:
    one, other = (
        user("a", meta={"x": {"b": 1, "a": [{"d": 1, "c": 2}]}}),
        user("a", meta={"x": {"a": [{"c": 2, "d": 1}], "b": 1}}),
    )
    assert one == other and hash(one) == hash(other) and one.canonical() == other.canonical()
    assert json.dumps(one.to_dict()["meta"]) == '{"x": {"b": 1, "a": [{"d": 1, "c": 2}]}}'  # in the given order


def test_what_a_reader_does_to_what_it_was_given_reaches_nobody() -> None:
    data = copy.deepcopy(SAID["anthropic blocks"] | {"tool_calls": [CALL]})
    message = Message.from_dict(data)
    for given_out in (
        message.to_dict(),
        message.to_dict()["content"],
        message.content,
        message.get("content"),
        message.tool_calls,
    ):
        assert isinstance(given_out, (dict, list))
        given_out.clear()
    inner: Any = message.content
    inner[1]["input"]["a"] = 2
    calls: Any = message.tool_calls
    calls[0]["function"]["name"] = "other"
    assert message.to_dict() == data


def test_what_happens_later_to_the_dictionary_it_was_made_from_does_not_reach_it() -> None:
    data = copy.deepcopy(SAID["anthropic blocks"])
    message = Message.from_dict(data)
    data["content"][1]["input"]["a"] = 2
    data["role"] = "user"
    data["more"] = 1
    assert message.to_dict() == SAID["anthropic blocks"]


@pytest.mark.parametrize("name", ["role", "content", "text", "_role", "_content", "_rest", "other"])
def test_nothing_can_be_assigned(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(user("a"), name, "b")


# ------------------------------------------------------------------------------------------------------- bad messages


def nested(levels: int, kind: type = list) -> dict[str, Any]:
    """Return a dictionary with nested lists or dictionaries, of a depth that includes the dictionary itself."""
    value: Any = kind()
    for _ in range(levels - 2):
        value = [value] if kind is list else {"a": value}
    return {"a": value}


def own_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def own_dict() -> dict[str, Any]:
    value: dict[str, Any] = {"a": 1}
    value["self"] = value
    return value


REFUSED: dict[str, tuple[Any, str]] = {
    "a deep set": ({"a": [1, {"b": {1}}]}, r"message.a\[1\].b.*set"),
    "an enum without a base": ({"a": Plain.A}, "message.a.*Plain"),
    "twins of two types": ({"a": {"x": 1, Odd("x"): 2}}, "message.a has two keys"),
    "an array": ({"a": Array([1])}, "message.a.*Array"),
    "a tuple": ({"content": (1, 2)}, "message.content.*tuple"),
    "a set": ({"a": {1}}, "message.a.*set"),
    "bytearray": ({"a": bytearray(b"x")}, "message.a.*bytearray"),
    "a time": ({"a": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, "message.a.*datetime"),
    "an object": ({"a": object()}, "message.a.*object"),
    "a generator": ({"a": (x for x in "ab")}, "message.a.*generator"),
    "a message inside": ({"a": user("x")}, "message.a.*Message"),
    "a key that is a number": ({"a": {1: 2}}, "message.a.*key of type int"),
    "a key that is None": ({None: 2}, "key of type NoneType"),
    "twin keys": ({"a": {1: 2, "1": 3}}, "message.a"),
    "not a mapping": ([("role", "user")], "dictionary"),
    "a str": ("hello", "dictionary"),
    "None": (None, "dictionary"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_json_is_refused_with_its_place(name: str) -> None:
    data, place = REFUSED[name]
    with pytest.raises(InvalidInput, match=place) as caught:
        Message.from_dict(data)
    assert not isinstance(caught.value, TooLarge)


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 50_000])
def test_what_is_too_deep_is_refused(kind: type, levels: int) -> None:
    with pytest.raises(TooLarge, match="deeper"):
        Message.from_dict(nested(levels, kind))


@pytest.mark.parametrize("kind", [list, dict])
def test_what_is_as_deep_as_allowed_comes_back(kind: type) -> None:
    data = nested(MAX_DEPTH, kind)
    assert Message.from_dict(data).to_dict() == data


@pytest.mark.parametrize("value", [own_list(), own_dict()], ids=["list", "dict"])
def test_what_holds_itself_is_refused(value: Any) -> None:
    with pytest.raises(TooLarge, match="holds itself"):
        Message.from_dict({"a": value})


@pytest.mark.parametrize(
    "value", [[0] * MAX_VALUES, [[]] * MAX_VALUES, {f"{n}": 0 for n in range(MAX_VALUES // 2)}, [[0] * 1_000] * 101]
)
def test_what_holds_too_many_values_is_refused(value: Any) -> None:
    with pytest.raises(TooLarge, match=f"message holds more than {MAX_VALUES} values .* store large data as JSON"):
        Message.from_dict({"role": "user", "content": value})


def test_a_value_that_is_there_many_times_counts_each_time() -> None:
    """Ten nested lists, each with the next one ten times: small in memory, but 10**10 values to encode."""
    value: list[Any] = []
    for _ in range(10):
        value = [value] * 10
    with pytest.raises(TooLarge, match="values"):
        Message.from_dict({"role": "user", "content": value})


def test_the_messages_of_a_turn_are_counted_together_and_the_rest_is_not_made() -> None:
    """Rounds count separately, and so do the turns of a saved history."""
    read: list[int] = []

    class Watched(Mapping[str, object]):
        def __init__(self, number: int) -> None:
            self.number = number

        def __getitem__(self, name: str) -> object:
            return {"role": "user", "content": [0] * 9_000}[name]

        def __iter__(self) -> Iterator[str]:
            read.append(self.number)
            return iter(("role", "content"))

        def __len__(self) -> int:
            return 2

    many = [Watched(number) for number in range(20)]
    with pytest.raises(TooLarge, match=r"messages\[11\] brings the turn to more than 100000 values .* in rounds"):
        as_turn(many)
    assert read == list(range(12))
    messages = as_messages(many)
    assert len(messages) == 20
    with pytest.raises(TooLarge, match=r"messages\[11\]"):
        Record.of(messages, id="t", time=0.0)
    assert Record.of(messages[:11], id="t", time=0.0).count == 11


def test_a_secret_is_not_in_the_message_of_an_error() -> None:
    with pytest.raises(InvalidInput) as caught:
        Message.from_dict({"content": "my password is hunter2", "a": bytearray(b"hunter2")})
    assert "hunter2" not in str(caught.value)


class Untouched(MemoryBackend):
    """Raises an error on any I/O."""

    async def commit(self, key: Any, change: Any) -> Any:
        raise AssertionError("a bad value reached the store")

    read = commit  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([], "at least one"),
        ((), "at least one"),
        ("hello", "list or tuple, not str"),
        ({"role": "user", "content": "x"}, "list or tuple, not dict"),
        (user("x"), "list or tuple, not Message"),
        ((m for m in [user("x")]), "list or tuple, not generator"),
        (None, "list or tuple, not NoneType"),
        ([user("x"), "hello"], r"messages\[1\]"),
        ([user("x"), None], r"messages\[1\]"),
        ([user("x"), user("y"), {"a": {1}}, user("z")], r"messages\[2\].*set"),
        ([{"role": "user", "content": "x"}, {"role": "user", "a": {"b": {3}}}], r"messages\[1\].*message.a.b"),
    ],
)
@pytest.mark.parametrize("method", ["append", "save"])
def test_bad_messages_are_refused_before_the_store_is_asked(method: str, messages: Any, place: str) -> None:
    if not isinstance(messages, (list, tuple, str, dict, Message, type(None))):
        messages = (m for m in [user("x")])
    with pytest.raises(InvalidInput, match=place):
        asyncio.run(getattr(Store(Untouched()), method)("alice", messages))


# ---------------------------------------------------------------------------------------------------------- the helpers


def test_helpers_make_what_they_say() -> None:
    assert user("hi").to_dict() == {"role": "user", "content": "hi"}
    assert user("hi", name="ann").to_dict() == {"role": "user", "content": "hi", "name": "ann"}
    assert user([{"type": "text", "text": "hi"}]).content == [{"type": "text", "text": "hi"}]
    assert system("be brief").to_dict() == {"role": "system", "content": "be brief"}
    assert assistant().to_dict() == {"role": "assistant", "content": None}
    assert assistant("hi").to_dict() == {"role": "assistant", "content": "hi"}
    assert assistant(tool_calls=[CALL]).to_dict() == {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert tool("12", tool_call_id="c").to_dict() == {"role": "tool", "content": "12", "tool_call_id": "c"}


@pytest.mark.parametrize("make", [user, assistant, system, lambda c: tool(c, tool_call_id="x")])
def test_helpers_check(make: Any) -> None:
    with pytest.raises(InvalidInput):
        make(bytearray(b"bytes"))


def test_text_is_what_can_be_read() -> None:
    assert user("hi").text == "hi"
    assert (
        assistant().text
        == ""
        == Message.from_dict({"role": "user"}).text
        == Message.from_dict({"content": {"a": 1}}).text
    )
    blocks = [
        {"type": "text", "text": "a"},
        {"type": "image"},
        "stray",
        {"text": 5},
        {"type": "output_text", "text": "b"},
    ]
    assert user(blocks).text == "ab"  # type: ignore[arg-type]


def test_tool_calls_are_a_list_whatever_is_there() -> None:
    assert assistant(tool_calls=[CALL]).tool_calls == [CALL]
    for message in (user("x"), assistant(tool_calls=None), assistant(tool_calls="x"), assistant()):
        assert message.tool_calls == []


# --------------------------------------------------------------------------------------------------- real conversations


def test_real_conversations_load_back_as_they_are(shared_data: list[dict[str, Any]]) -> None:
    async def run() -> None:
        async with Store(MemoryBackend()) as store:
            for line in shared_data:
                await store.save(line["session_id"], line["messages"])
            for line in shared_data:
                assert [message.to_dict() for message in await store.load(line["session_id"])] == line["messages"]
                session = await store.backend.read(Key("default", line["session_id"]))
                stored = [record.with_payload(record.payload) for record in session.records]
                assert [message.to_dict() for record in stored for message in record.messages] == line["messages"]

    asyncio.run(run())
    assert (len(shared_data), sum(len(line["messages"]) for line in shared_data)) == (200, 5_308)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (user("Hello"), "<Message user, 'Hello'>"),
        (user("x" * 10_000_000), f"<Message user, '{'x' * 39}…' (10000000 characters)>"),
        (assistant(None, tool_calls=[CALL]), "<Message assistant, content, tool_calls (96 bytes)>"),
        (Message.from_dict({"type": "reasoning", "data": "y" * 10_000_000}), "(10000026 bytes)>"),
        (Message.from_dict({"k" * 1_000_000: 1}), "…"),
        (Message(_rest=b"\xc1"), "<Message without a role, unreadable (1 bytes)>"),
    ],
)
def test_a_message_is_shown_in_a_few_characters(message: Message, text: str) -> None:
    assert text in repr(message)
    assert len(repr(message)) < 160


def test_a_session_and_a_turn_are_shown_in_a_few_characters() -> None:
    async def written() -> Session:
        store = Store(MemoryBackend())
        await store.append("s" * 255, [user("x" * 1_000_000), *[assistant("y")] * 9], turn_id="t", open=True)
        return await store.session("s" * 255)

    session = asyncio.run(written())
    assert repr(session) == f"<Session '{'s' * 255}' in namespace 'default', 1 turns, 10 messages; 1 records read>"
    assert repr(session.turns) == (
        "(<Turn 0, id 't', 10 messages: user, assistant, assistant, assistant, assistant, assistant, …, open>,)"
    )


async def test_a_forgotten_await_is_named() -> None:
    store = Store(MemoryBackend())
    coroutine: Any
    calls: list[Callable[[], Any]] = [
        lambda: store.append("s", coroutine),
        lambda: store.append("s", [coroutine]),
        lambda: store.load(coroutine),
        lambda: store.load("s", last=coroutine),
        lambda: store.append("s", [user("x")], expect=coroutine),
        lambda: store.merge_metadata("s", coroutine),
    ]
    for call in calls:
        coroutine = store.load("s")
        with (
            closing(coroutine),
            pytest.raises(InvalidInput, match="not a coroutine: write await before the call that returned it"),
        ):
            await call()


def test_a_message_and_a_record_are_equal_to_no_value_of_another_type() -> None:
    record = Record.of((user("hi"),), id="t", time=0.0)
    for value in (user("hi"), record):
        for other in (None, "hi", {"role": "user", "content": "hi"}):
            assert value != other
            assert value.__eq__(other) is NotImplemented

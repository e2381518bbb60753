"""Contract: returned values are immutable, or the caller's own."""

from __future__ import annotations

import dataclasses
from math import isnan
from typing import Any

import pytest

from ..store import Store
from ..values.change import Change
from ..values.json_value import JSON
from ..values.record import Record
from ._base import ContractBase
from ._material import ID, key, record, say, texts

_CALL: dict[str, Any] = {
    "role": "assistant",
    "content": [{"type": "text", "text": "a"}],
    "tool_calls": [{"id": "c1", "f": {"x": [1]}}],
}


def _call() -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": [{"type": "text", "text": "a"}],
        "tool_calls": [{"id": "c1", "f": {"x": [1]}}],
    }


_VALUES: dict[str, Any] = {
    "null": None,
    "numbers": [0, -1, 2**63, -(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 10**100, -(10**100), 0.1, -0.0, 1e308],
    "infinities": [float("inf"), {"least": float("-inf")}],
    "texts": ["", "\0", "\u20ac", "\U0001f600", "\ud800", "a\udfff", ["\ud83d", "\ude00"]],
    "bytes": [b"", bytes(range(256))],
    "empty": [{}, [], {"": {}}],
    "names": {"": 1, "\ud800": {"\udfff": 2}, "$turnlog": 3, "\0": 4},
    "reserved": [{"$turnlog": "xAA="}, {"$turnlog": {"$turnlog": None}}],
    "nested": [[[[[[[[[[b"deep", 2**70]]]]]]]]]],
}
"""Values of Python's `json` module, and bytes."""


class _Text(str):
    """A string of a subclass, as of an enum."""

    __slots__ = ()


class _Number(int):
    """An integer of a subclass."""


class Values(ContractBase):
    async def test_every_value_of_json_in_messages(self, store: Store) -> None:
        """Messages hold every value of `json`, and bytes, and come back equal; a repeated append stores them once."""
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": "lone \ud800"},
            {"role": "\udfff", "content": b"bytes"},
            {},
            {"role": "assistant", "content": None, **_VALUES},
            {"type": "item", "\ud800": 2**64, "not a number": float("nan")},
        ]
        for _ in range(2):
            await store.append(ID, messages, turn_id="t")
        await store.append(ID, say("b"))
        found = [message.to_dict() for message in await store.load(ID)]
        assert found[:4] == messages[:4]
        lost = found[4].pop("not a number")
        assert type(lost) is float
        assert isnan(lost)
        assert found[4] == {"type": "item", "\ud800": 2**64}
        assert len(found) == 6
        session = await store.backend.read(key(store))
        await store.backend.seal(key(store), Record.seal(session.records))
        assert [message.to_dict() for message in await store.load(ID)][:4] == messages[:4]
        await store.fork(ID, "bob")
        assert [message.to_dict() for message in await store.load("bob")][:4] == messages[:4]

    async def test_every_value_of_json_in_metadata(self, store: Store) -> None:
        """Metadata hold every value of `json`, and bytes, and come back equal; None removes a name."""
        await store.append(ID, say("a"), metadata=_VALUES)
        kept = {name: value for name, value in _VALUES.items() if value is not None}
        await store.merge_metadata(ID, {"more": "\udfff"})
        assert dict((await store.info(ID)).metadata) == {**kept, "more": "\udfff"}

    async def test_dictionaries_of_a_session(self, store: Store) -> None:
        """`Session.to_dicts` returns the dictionary of each message; a caller may change it."""
        await store.append(ID, [_call(), {"role": "user", "content": "a"}, {}, {"content": b"bytes"}, {"role": "tool"}])
        for _ in range(2):
            session = await store.session(ID)
            found = session.to_dicts()
            assert found == [_CALL, {"role": "user", "content": "a"}, {}, {"content": b"bytes"}, {"role": "tool"}]
            assert found == [message.to_dict() for message in session.messages]
            assert [list(one) for one in found[:2]] == [["role", "content", "tool_calls"], ["role", "content"]]
            found[0]["content"].clear()  # type: ignore[union-attr]
            found[1]["role"] = "system"

    async def test_values_of_subclasses(self, store: Store) -> None:
        """A `str` or an `int` of a subclass, such as an enum, is stored as its value."""
        await store.append(ID, [{"role": _Text("user"), "n": _Number(2**70), "m": [_Number(1)]}])
        (message,) = await store.load(ID)
        assert message.to_dict() == {"role": "user", "n": 2**70, "m": [1]}
        assert type(message.role) is str

    async def test_loaded_messages_are_the_callers_own(self, store: Store) -> None:
        """A caller may change loaded messages; no other caller sees it."""
        await store.append(ID, [_call()])
        for _ in range(2):
            messages = await store.load(ID)
            assert [message.to_dict() for message in messages] == [_CALL]
            data: dict[str, Any] = messages[0].to_dict()
            data["tool_calls"][0]["f"]["x"].append(2)
            data["role"] = "user"
            messages[0].tool_calls.clear()
            messages[0].content.append("more")  # type: ignore[union-attr]
            messages.clear()

    async def test_metadata_is_the_callers_own(self, store: Store) -> None:
        """A caller may change returned metadata values; no other caller sees it."""
        await store.merge_metadata(ID, {"tags": ["x"], "deep": {"a": {"b": 1}}})
        for _ in range(2):
            info = await store.info(ID)
            assert dict(info.metadata) == {"tags": ["x"], "deep": {"a": {"b": 1}}}
            info.metadata["tags"].append("y")  # type: ignore[union-attr]
            dict(info.metadata)["deep"]["a"].clear()  # type: ignore[index,call-overload,union-attr]
            with pytest.raises((TypeError, AttributeError)):
                info.metadata["new"] = 1  # type: ignore[index]

    async def test_given_values_are_copied(self, store: Store) -> None:
        """A store copies the messages and metadata that it is given: later changes to them are not stored."""
        tags: list[JSON] = ["x"]
        message = _call()
        messages = [message]
        await store.append(ID, messages, metadata={"tags": tags})
        message["tool_calls"].clear()
        message["role"] = "user"
        messages.append(_call())
        tags.append("y")
        session = await store.session(ID)
        assert [one.to_dict() for one in session.messages] == [_CALL]
        assert dict(session.info.metadata) == {"tags": ["x"]}

    async def test_a_session_is_a_snapshot(self, store: Store) -> None:
        """A session that was read does not change when the stored session does."""
        for text in "abcd":
            await store.append(ID, say(text))
        session = await store.backend.read(key(store))
        part = await store.backend.read(key(store), last=2)
        info = repr(session.info)
        for change in (
            Change(append=(record("e"),), metadata={"title": "x"}, owner="u1"),
            Change(keep=2, append=(record("x"), record("y"))),
            Change(retain=1),
        ):
            await store.backend.commit(key(store), change)
        await store.erase(ID)
        assert texts(session.messages) == ["a", "b", "c", "d"]
        assert texts(part.messages) == ["c", "d"]
        assert repr(session.info) == info

    async def test_returned_values_are_immutable(self, store: Store) -> None:
        """Sessions, infos, turns, records and receipts are immutable."""
        receipt = await store.append(ID, say("a"))
        session = await store.backend.read(key(store))
        turn, one = session.turns[0], session.records[0]
        for value, name in (
            (receipt, "turns"),
            (receipt.version, "rounds"),
            (session.info, "owner"),
            (session, "records"),
            (turn, "messages"),
            (one, "id"),
            (one.messages[0], "_role"),
        ):
            with pytest.raises((AttributeError, TypeError, dataclasses.FrozenInstanceError)):
                setattr(value, name, "changed")
        assert type(session.records) is tuple
        assert type(turn.messages) is tuple
        assert type(one.messages) is tuple

    async def test_one_message_in_two_sessions(self, store: Store) -> None:
        """A loaded message can be appended to another session as it is."""
        await store.append(ID, [_call()])
        await store.append("bob", await store.load(ID))
        await store.pop(ID)
        assert [message.to_dict() for message in await store.load("bob")] == [_CALL]

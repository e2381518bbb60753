"""Contract: returned values are immutable, or the caller's own."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ..store import Store
from ..values.change import Change
from ..values.json_value import JSON
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


class Values(ContractBase):
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

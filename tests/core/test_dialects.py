"""The starts of turns, and the calls and results of messages, in each dialect."""

from __future__ import annotations

from typing import Any

import pytest

from dialects import DIALECTS, Turns
from turnlog import Message
from turnlog.rules import begins_turn, outline_of, split_turns
from turnlog.rules.dialects import with_short_results

each = pytest.mark.parametrize("turns", DIALECTS.values(), ids=DIALECTS)
CALLS = ["call-Paris", "call-Rome"]


def _flat(turns: Turns) -> list[dict[str, Any]]:
    return [message for turn in turns for message in turn]


@each
def test_a_turn_begins_where_the_user_speaks(turns: Turns) -> None:
    """No result of a tool starts a turn, in any dialect."""
    messages = [Message.from_dict(data) for data in _flat(turns)]
    assert [[message.to_dict() for message in turn] for turn in split_turns(messages)] == turns
    assert sum(begins_turn(message) for message in messages) == 3


@each
def test_each_result_has_its_call_in_the_same_turn(turns: Turns) -> None:
    for turn in turns:
        outlines = [outline_of(Message.from_dict(data)) for data in turn]
        calls = sorted(call.id for outline in outlines for call in outline.calls)
        assert calls == sorted(id for outline in outlines for id in outline.results)
        assert calls in ([], CALLS)
    assert all(outline_of(Message.from_dict(data)).speaker or data["type"] == "reasoning" for data in _flat(turns))


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "sharegpt"])  # its calls have no ids
def test_the_calls_of_a_dialect_are_found(dialect: str) -> None:
    outlines = [outline_of(Message.from_dict(data)) for data in DIALECTS[dialect][1]]
    assert [call.id for outline in outlines for call in outline.calls] == CALLS
    assert {call.name for outline in outlines for call in outline.calls} == {"weather"}
    assert [id for outline in outlines for id in outline.results] == CALLS


def test_older_forms() -> None:
    """Functions before tools, Gemini's calls without ids and with Python's spelling, and a UI part without output."""
    call = Message.from_dict({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}})
    result = Message.from_dict({"role": "function", "name": "f", "content": "1"})
    assert ([one.id for one in outline_of(call).calls], outline_of(result).results) == (["f"], ("f",))
    call = Message.from_dict({"role": "model", "parts": [{"function_call": {"name": "f", "args": {}, "id": None}}]})
    result = Message.from_dict({"role": "user", "parts": [{"function_response": {"name": "f", "response": {}}}]})
    assert ([one.id for one in outline_of(call).calls], outline_of(result).results) == (["f"], ("f",))
    assert not begins_turn(result)
    part = {"type": "tool-f", "toolCallId": "c", "state": "input-available", "input": {}}
    outline = outline_of(Message.from_dict({"role": "assistant", "parts": [part]}))
    assert ([(one.id, one.name) for one in outline.calls], outline.results) == ([("c", "f")], ())


@pytest.mark.parametrize(
    "data",
    [{"content": "x"}, {"role": "narrator", "content": "x"}, {"type": 7}, {"sender": ["human"]}, {"parts": [1, None]}],
)
def test_what_no_dialect_knows_begins_no_turn(data: dict[str, Any]) -> None:
    message = Message.from_dict(data)
    assert outline_of(message) == (None, (), ())
    assert not begins_turn(message)


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "sharegpt"])
def test_a_longer_result_is_replaced_in_its_dialect(dialect: str) -> None:
    messages = [Message.from_dict(message) for message in DIALECTS[dialect][1]]
    shorter = [with_short_results(message, "-") for message in messages]
    assert "sunny" not in repr([message.to_dict() for message in shorter])
    assert [id for message in shorter for id in outline_of(message).results] == CALLS
    assert [with_short_results(message, "x" * 200) for message in messages] == messages


def test_a_call_that_is_not_an_object_is_no_call() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = Message.from_dict({"role": "assistant", "content": None, "tool_calls": ["f", None, call]})
    assert [one.id for one in outline_of(message).calls] == ["c"]

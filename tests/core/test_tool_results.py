"""A turn with missing results of calls is repaired for the model, in each dialect."""

from __future__ import annotations

from typing import Any

import pytest

from dialects import DIALECTS
from turnlog import Message
from turnlog.pipeline.tool_results import NO_RESULT, has_unanswered_calls, repaired
from turnlog.rules import outline_of

TOOLS = {name: turns[1] for name, turns in DIALECTS.items() if name not in ("sharegpt", "claude export", "vercel ui")}


def _messages(turn: list[dict[str, Any]]) -> list[Message]:
    return [Message.from_dict(data) for data in turn]


def _without_rome(turn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the turn without the result of its second call."""
    kept = []
    for data in turn:
        if outline_of(Message.from_dict(data)).results == ("call-Rome",):
            continue
        entry = "parts" if "parts" in data else "content"
        if isinstance(data.get(entry), list):
            parts = [part for part in data[entry] if _results({entry: [part]}) != ("call-Rome",)]
            data = {**data, entry: parts}  # noqa: PLW2901
        kept.append(data)
    return kept


def _results(data: dict[str, Any]) -> tuple[str, ...]:
    return outline_of(Message.from_dict(data)).results


@pytest.mark.parametrize("turn", TOOLS.values(), ids=TOOLS)
def test_a_turn_that_is_cut_anywhere(turn: list[dict[str, Any]]) -> None:
    """Each call has one result, directly after the calls.  The existing messages stay in their order."""
    for end in range(1, len(turn) + 1):
        cut = _messages(turn[:end])
        whole = repaired(cut)
        assert not has_unanswered_calls(whole)
        assert [message for message in whole if message in cut] == cut or end > len(turn) - 2
        calls = sum(len(outline_of(message).calls) for message in whole)
        assert sum(len(outline_of(message).results) for message in whole) == calls
        if has_unanswered_calls(cut):
            assert str([message.to_dict() for message in whole]).count(NO_RESULT) > 0
        else:
            assert whole == cut


@pytest.mark.parametrize("turn", TOOLS.values(), ids=TOOLS)
def test_one_of_two_results_is_missing(turn: list[dict[str, Any]]) -> None:
    """The result follows the existing one, or is in the same message, before other text."""
    cut = _messages(_without_rome(turn))
    assert has_unanswered_calls(cut)
    whole = repaired(cut)
    assert not has_unanswered_calls(whole)
    assert len(whole) == len(turn)
    assert [outline_of(message).speaker for message in whole] == [outline_of(m).speaker for m in _messages(turn)]
    assert [id for message in whole for id in outline_of(message).results] == ["call-Paris", "call-Rome"]
    assert str([message.to_dict() for message in whole]).count(NO_RESULT) == 1


def test_a_result_precedes_the_text_next_to_it() -> None:
    """Anthropic refuses a message in which a text precedes a result."""
    carrier = repaired(_messages(_without_rome(DIALECTS["anthropic"][1])))[2]
    assert isinstance(carrier.content, list)
    kinds = [part["type"] for part in carrier.content if isinstance(part, dict)]
    assert kinds == ["tool_result", "tool_result", "text"]


def test_a_part_of_a_ui_message_gets_an_error() -> None:
    part = {"type": "tool-weather", "toolCallId": "c", "state": "input-available", "input": {}}
    message = Message.from_dict({"id": "a", "role": "assistant", "parts": [{"type": "step-start"}, part]})
    (fixed,) = repaired([message])
    assert not has_unanswered_calls([fixed])
    assert fixed.get("parts") == [{"type": "step-start"}, {**part, "state": "output-error", "errorText": NO_RESULT}]


def test_calls_of_one_tool_without_ids() -> None:
    """Two calls of an old Gemini model, and one result."""
    call = {"functionCall": {"name": "f", "args": {}}}
    turn = [
        {"role": "user", "parts": [{"text": "x"}]},
        {"role": "model", "parts": [call, call]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": 1}}}]},
    ]
    whole = repaired(_messages(turn))
    assert len(whole) == 3
    assert outline_of(whole[2]).results == ("f", "f")


def test_a_message_with_calls_of_both_kinds_gets_both_kinds_of_results() -> None:
    part = {"type": "tool-weather", "toolCallId": "part", "state": "input-available", "input": {}}
    call = {"id": "call", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    message = Message.from_dict({"role": "assistant", "tool_calls": [call], "parts": [part]})
    fixed, added = repaired([message])
    assert not has_unanswered_calls([fixed, added])
    assert outline_of(fixed).results == ("part",)
    assert outline_of(added).results == ("call",)

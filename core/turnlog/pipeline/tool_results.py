"""Results of tool calls in any dialect, and the repair of calls without a result.  Stored messages do not change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ..rules.dialects import Call, Outline, outline_of, with_short_results
from ..values.message import Message

NO_RESULT: Final = "[This call was interrupted: it has no result, and may or may not have taken effect.]"
"""The result that is added to a call without a result."""

CLEARED: Final = "[This result was left out to save room; it is stored in turn {turn}.]"
"""The text that replaces an old tool result."""


def repaired(messages: Sequence[Message]) -> list[Message]:
    """Return the messages of a turn with a result for each call.

    Providers refuse a history in which a call has no result.  The dialect determines the place of an added result:
    after the existing results, or in the message that carries them.

    Args:
        messages: The messages of one turn.
    """
    outlines = [outline_of(message) for message in messages]
    results = Counter(id for outline in outlines for id in outline.results)
    repaired: list[Message] = []
    missing: list[Call] = []
    for message, outline in zip(messages, outlines, strict=True):
        if missing and not (outline.results and not outline.calls):
            add_results(repaired, _no_results(missing))
            missing = []
        for call in outline.calls:
            results[call.id] -= 1
            if results[call.id] < 0:
                missing.append(call)
        repaired.append(message)
    add_results(repaired, _no_results(missing))
    return repaired


def has_unanswered_calls(messages: Sequence[Message]) -> bool:
    """Return whether a turn has a call without a result."""
    outlines: list[Outline] = [outline_of(message) for message in messages]
    results = Counter(id for outline in outlines for id in outline.results)
    results.subtract(call.id for outline in outlines for call in outline.calls)
    return any(count < 0 for count in results.values())


def calls_of(answer: Message) -> list[Call]:
    """Return the calls of an answer that need a result.

    The answer itself contains the results of tools that the provider runs.
    """
    if answer.is_plain:
        return []
    _, calls, results = outline_of(answer)
    return [call for call in calls if call.id not in results]


def cleared(messages: Sequence[Message], turn: int) -> list[Message]:
    """Return the messages of a turn with a short text in place of each longer tool result."""
    return [with_short_results(message, CLEARED.format(turn=turn)) for message in messages]


class ToolResult(NamedTuple):
    """The result of a tool call.

    Attributes:
        call: The call.
        text: The text for the model.
        failed: Whether the call failed.
    """

    call: Call
    text: str
    failed: bool


def add_results(messages: list[Message], results: Iterable[ToolResult]) -> None:
    """Append the results of calls to the messages, in their dialect, or write them into the messages with the calls."""
    for call, text, failed in results:
        answer = call.answer
        if answer is None:
            place = next(at for at in reversed(range(len(messages))) if call in outline_of(messages[at]).calls)
            messages[place] = _with_result(messages[place], call.id, text, failed=failed)
            continue
        result = answer.make(call.id, call.name, text, failed)
        if answer.carrier is None:
            messages.append(Message.from_dict(result))
            continue
        last: dict[str, Any] = messages[-1].to_dict()
        held = last.get(answer.entry)
        held = held if isinstance(held, list) else []
        if places := [place for place, part in enumerate(held) if _holds_result(part)]:
            # insert before other parts: Anthropic refuses a text before a result
            last[answer.entry] = [*held[: places[-1] + 1], result, *held[places[-1] + 1 :]]
            messages[-1] = Message.from_dict(last)
        else:
            messages.append(Message.from_dict({**answer.carrier, answer.entry: [result]}))


def _no_results(calls: Iterable[Call]) -> Iterator[ToolResult]:
    return (ToolResult(call, NO_RESULT, failed=True) for call in calls)


def _holds_result(part: Any) -> bool:  # noqa: ANN401 - a part of any dialect
    return isinstance(part, dict) and bool(outline_of(Message.from_dict({"content": [part]})).results)


def _with_result(message: Message, id: str, text: str, *, failed: bool) -> Message:
    """Return a message of the Vercel AI UI with a result in the part of a call."""
    result = {"state": "output-error", "errorText": text} if failed else {"state": "output-available", "output": text}
    data: dict[str, Any] = message.to_dict()
    data["parts"] = [
        {**part, **result} if isinstance(part, dict) and part.get("toolCallId") == id else part
        for part in data["parts"]
    ]
    return Message.from_dict(data)

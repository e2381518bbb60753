"""Dialects: who speaks in a message and which tool calls and results it holds, as providers and frameworks write it.

The tables know Chat Completions, Responses items, Anthropic Messages, Bedrock Converse, Gemini, LangChain, pydantic-ai,
Vercel AI (UI and model messages), exports of Claude, and ShareGPT.  A new dialect is a few rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ..values.message import Message

Speaker: TypeAlias = Literal["user", "assistant", "system", "tool"]

_SPEAKERS: Final[dict[str, dict[str, Speaker]]] = {
    "role": {
        "user": "user",
        "assistant": "assistant",
        "model": "assistant",  # Gemini
        "system": "system",
        "developer": "system",
        "tool": "tool",
        "function": "tool",
    },
    "sender": {"human": "user", "assistant": "assistant"},  # exports of Claude
    "type": {  # LangChain
        "human": "user",
        "HumanMessageChunk": "user",
        "ai": "assistant",
        "AIMessageChunk": "assistant",
        "system": "system",
        "tool": "tool",
        "function": "tool",
    },
    "kind": {"response": "assistant"},  # pydantic-ai; the parts of a request tell who speaks
    "from": {  # ShareGPT
        "human": "user",
        "gpt": "assistant",
        "function_call": "assistant",
        "system": "system",
        "observation": "tool",
    },
}
"""Who speaks, by the entry that says so and its value.  The first entry that is there decides."""


class _Part(NamedTuple):
    """A kind of part that is a tool call, or a result.

    Attributes:
        entry: The entry that marks it.
        value: The value of that entry; None: the entry holds the call or result itself.
        ids: Where the id of the call is, the first that is there.
    """

    entry: str
    value: str | None
    ids: tuple[str, ...]

    def ids_in(self, parts: list[dict[str, Any]]) -> Iterator[str]:
        """Yield the ids of the calls in all parts of this kind."""
        for part in parts:
            held = part.get(self.entry)
            if isinstance(held, dict) if self.value is None else held == self.value and "state" not in part:
                source = held if isinstance(held, dict) else part
                yield next((str(source[entry]) for entry in self.ids if source.get(entry) is not None), "")


_CALLS: Final = (
    _Part("type", "tool_use", ("id",)),  # Anthropic
    _Part("toolUse", None, ("toolUseId",)),  # Bedrock Converse
    _Part("functionCall", None, ("id", "name")),  # Gemini; older models give no id
    _Part("function_call", None, ("id", "name")),
    _Part("type", "tool-call", ("toolCallId",)),  # Vercel model messages
    _Part("part_kind", "tool-call", ("tool_call_id",)),  # pydantic-ai
)

_RESULTS: Final = (
    _Part("type", "tool_result", ("tool_use_id",)),
    _Part("toolResult", None, ("toolUseId",)),
    _Part("functionResponse", None, ("id", "name")),
    _Part("function_response", None, ("id", "name")),
    _Part("type", "tool-result", ("toolCallId",)),
    _Part("part_kind", "tool-return", ("tool_call_id",)),
    _Part("part_kind", "retry-prompt", ("tool_call_id",)),
)

_REQUEST: Final[dict[str, Speaker]] = {"user-prompt": "user", "system-prompt": "system"}
"""Who speaks in a part of a pydantic-ai request."""


class Outline(NamedTuple):
    """A message, whatever its dialect.

    Attributes:
        speaker: Who speaks; None if no dialect tells.
        calls: The ids of the tool calls that it makes.
        results: The ids of the calls whose results it holds.
    """

    speaker: Speaker | None
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


_PLAIN: Final = {role: Outline(speaker) for role, speaker in _SPEAKERS["role"].items()}


def outline_of(message: Message) -> Outline:
    """Return who speaks in a message, and the tool calls and results that it holds."""
    if message.is_plain:
        return _PLAIN.get(message.role or "", Outline(None))
    data: Mapping[str, Any] = message.to_dict()
    if isinstance(inner := data.get("data"), dict):  # LangChain's message_to_dict
        data = {**data, **inner, "type": data.get("type")}
    parts = list(_parts(data))
    calls = [*_calls(data), *(id for kind in _CALLS for id in kind.ids_in(parts))]
    results = [*_results(data), *(id for kind in _RESULTS for id in kind.ids_in(parts))]
    for part in parts:
        if "toolCallId" in part and "state" in part:  # Vercel UI: a call and its result are one part
            calls.append(str(part["toolCallId"]))
            if str(part["state"]).startswith("output"):
                results.append(str(part["toolCallId"]))
    speaker = _speaker(data, parts)
    if speaker is None and (calls or results):  # an item of its own, as in Responses
        speaker = "assistant" if calls else "tool"
    return Outline(speaker, tuple(calls), tuple(results))


def begins_turn(message: Message) -> bool:
    """Return whether a message begins a turn: the user says something, other than the result of a tool."""
    outline = outline_of(message)
    return outline.speaker == "user" and not outline.results


def _speaker(data: Mapping[str, Any], parts: list[dict[str, Any]]) -> Speaker | None:
    for entry, speakers in _SPEAKERS.items():
        value = data.get(entry)
        if isinstance(value, str) and value in speakers:
            return speakers[value]
    if data.get("kind") == "request":
        kinds = [_REQUEST.get(str(part.get("part_kind"))) for part in parts]
        return "user" if "user" in kinds else "system" if "system" in kinds else "tool"
    return None


def _parts(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in ("content", "parts"):
        held = data.get(entry)
        if isinstance(held, list):
            yield from (part for part in held if isinstance(part, dict))


def _calls(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ids of the calls that are entries of the message itself."""
    calls = data.get("tool_calls")  # Chat Completions, LangChain
    if isinstance(calls, list):
        yield from (str(call.get("id")) for call in calls if isinstance(call, dict))
    if isinstance(call := data.get("function_call"), dict):  # Chat Completions before tools
        yield str(call.get("name"))
    kind = data.get("type")
    if isinstance(kind, str) and kind.endswith("_call") and isinstance(data.get("call_id"), str):  # Responses
        yield data["call_id"]


def _results(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ids of the calls whose results are entries of the message itself."""
    if isinstance(data.get("tool_call_id"), str):
        yield data["tool_call_id"]
    elif data.get("role") == "function":
        yield str(data.get("name"))
    kind = data.get("type")
    if isinstance(kind, str) and kind.endswith("_output") and isinstance(data.get("call_id"), str):
        yield data["call_id"]

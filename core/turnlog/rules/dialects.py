"""Dialects: the speaker, the tool calls and the tool results of messages of providers and frameworks.

The tables cover Chat Completions, Responses items, Anthropic Messages, Bedrock Converse, Gemini, LangChain,
pydantic-ai, Agent Framework, Vercel AI (UI and model messages), exports of Claude, and ShareGPT.  A new dialect needs a
few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ..values.json_value import encode
from ..values.message import Message

Speaker: TypeAlias = Literal["user", "assistant", "system", "tool"]
_Data: TypeAlias = Mapping[str, Any]

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
    "kind": {"response": "assistant"},  # pydantic-ai; the parts of a request name the speaker
    "from": {  # ShareGPT
        "human": "user",
        "gpt": "assistant",
        "function_call": "assistant",
        "system": "system",
        "observation": "tool",
    },
}
"""The speaker of a message, by the name and the value of an entry.  The first entry that is present decides."""

_REQUEST: Final[dict[str, Speaker]] = {"user-prompt": "user", "system-prompt": "system"}
"""The speaker of each kind of part in a pydantic-ai request."""


class Answer(NamedTuple):
    """The form of a tool result in a dialect.

    Attributes:
        make: Returns the result for the call's id, the tool's name, a text, and whether the call failed.
        carrier: The message that carries results as parts; None: each result is a separate message.
        entry: The entry of the carrier that holds the parts.
    """

    make: Callable[[str, str, str, bool], dict[str, Any]]
    carrier: dict[str, str] | None = None
    entry: str = "content"


class Call(NamedTuple):
    """A tool call.

    Attributes:
        id: The id of the call; the tool's name for old models of Gemini, which do not send ids.
        name: The name of the tool.
        answer: The form of its result; None: the part of the call also holds the result.
        arguments: The arguments, as JSON text or decoded.
    """

    id: str
    name: str
    answer: Answer | None
    arguments: object = None


class Outline(NamedTuple):
    """The speaker, the tool calls and the results of a message, in any dialect.

    Attributes:
        speaker: The speaker; None if unknown.
        calls: The tool calls in the message.
        results: The ids of the calls with results in the message.
    """

    speaker: Speaker | None
    calls: tuple[Call, ...] = ()
    results: tuple[str, ...] = ()


class _Part(NamedTuple):
    """A kind of part that is a tool call, or a result.

    Attributes:
        entry: The entry that marks it.
        value: The value of that entry; None: the entry holds the call or result itself.
        id: The entry with the id of the call.
        name: The entry with the name of the tool, which replaces a missing id.
        arguments: The entry with the arguments.
        answer: The form of the result of such a call.
        content: The entry with the content of a result.
        short: Returns the content of a result for a text.
    """

    entry: str
    value: str | None
    id: str
    name: str = ""
    arguments: str = ""
    answer: Answer | None = None
    content: str = "content"
    short: Callable[[str], object] = str

    def found_in(self, parts: list[dict[str, Any]]) -> Iterator[Call]:
        """Yield the call of each part of this kind; for a result, the call that it answers."""
        for part in parts:
            held = part.get(self.entry)
            if isinstance(held, dict) if self.value is None else held == self.value and "state" not in part:
                source = held if isinstance(held, dict) else part
                name = str(source.get(self.name) or "")
                yield Call(str(source.get(self.id) or name), name, self.answer, source.get(self.arguments))


def _gemini(entry: str) -> Answer:
    def make(id: str, name: str, text: str, failed: bool) -> dict[str, Any]:  # noqa: FBT001 - a row of the table
        response = {"error" if failed else "output": text}
        return {entry: {**({} if id == name else {"id": id}), "name": name, "response": response}}

    return Answer(make, {"role": "user"}, "parts")


def _langchain(id: str, name: str, text: str, failed: bool) -> dict[str, Any]:  # noqa: FBT001 - a row of the table
    status = "error" if failed else "success"
    return {"type": "tool", "content": text, "tool_call_id": id, "name": name, "status": status}


_CALLS: Final = (
    _Part(
        "type",
        "tool_use",
        "id",
        "name",
        "input",
        Answer(  # Anthropic: platform.claude.com, "Handle tool calls"
            lambda id, _, text, failed: {
                "type": "tool_result",
                "tool_use_id": id,
                "content": text,
                **({"is_error": True} if failed else {}),
            },
            {"role": "user"},
        ),
    ),
    _Part(
        "toolUse",
        None,
        "toolUseId",
        "name",
        "input",
        Answer(  # Bedrock Converse: ToolResultBlock
            lambda id, _, text, failed: {
                "toolResult": {
                    "toolUseId": id,
                    "content": [{"text": text}],
                    "status": "error" if failed else "success",
                }
            },
            {"role": "user"},
        ),
    ),
    _Part("functionCall", None, "id", "name", "args", _gemini("functionResponse")),  # Gemini: FunctionResponse
    _Part("function_call", None, "id", "name", "args", _gemini("function_response")),
    _Part(
        "type",
        "tool-call",
        "toolCallId",
        "toolName",
        "input",
        Answer(  # Vercel AI: ToolModelMessage
            lambda id, name, text, failed: {
                "type": "tool-result",
                "toolCallId": id,
                "toolName": name,
                "output": {"type": "error-text" if failed else "text", "value": text},
            },
            {"role": "tool"},
        ),
    ),
    _Part(
        "part_kind",
        "tool-call",
        "tool_call_id",
        "tool_name",
        "args",
        Answer(  # pydantic-ai: ToolReturnPart
            lambda id, name, text, _: {
                "part_kind": "tool-return",
                "tool_name": name,
                "content": text,
                "tool_call_id": id,
            },
            {"kind": "request"},
            "parts",
        ),
    ),
    _Part(
        "type",
        "function_call",
        "call_id",
        "name",
        "arguments",
        Answer(  # Agent Framework: Content.from_function_result
            lambda id, _, text, __: {"type": "function_result", "call_id": id, "result": text},
            {"role": "tool"},
        ),
    ),
)

_RESULTS: Final = (
    _Part("type", "tool_result", "tool_use_id"),
    _Part("toolResult", None, "toolUseId", short=lambda text: [{"text": text}]),
    _Part("functionResponse", None, "id", "name", content="response", short=lambda text: {"output": text}),
    _Part("function_response", None, "id", "name", content="response", short=lambda text: {"output": text}),
    _Part("type", "tool-result", "toolCallId", content="output", short=lambda text: {"type": "text", "value": text}),
    _Part("part_kind", "tool-return", "tool_call_id"),
    _Part("part_kind", "retry-prompt", "tool_call_id"),
    _Part("type", "function_result", "call_id", content="result"),
)

_CHAT: Final = Answer(lambda id, _, text, __: {"role": "tool", "tool_call_id": id, "content": text})
_FUNCTION: Final = Answer(lambda _, name, text, __: {"role": "function", "name": name, "content": text})
_LANGCHAIN: Final = Answer(_langchain)
_LANGCHAIN_NESTED: Final = Answer(lambda *result: {"type": "tool", "data": _langchain(*result)})

_PLAIN: Final = {role: Outline(speaker) for role, speaker in _SPEAKERS["role"].items()}


def outline_of(message: Message) -> Outline:
    """Return the speaker, the tool calls and the tool results of a message."""
    if message.is_plain:
        return _PLAIN.get(message.role or "", Outline(None))
    data: _Data = message.to_dict()
    nested = isinstance(data.get("data"), dict)
    if nested:  # LangChain's message_to_dict
        data = {**data, **data["data"], "type": data.get("type")}
    parts = list(_parts(data))
    calls = [*_calls(data, nested=nested)]
    named = {call.id for call in calls}  # LangChain keeps Anthropic's blocks, and so has each call twice
    calls += [call for kind in _CALLS for call in kind.found_in(parts) if call.id not in named]
    results = [*_results(data), *(call.id for kind in _RESULTS for call in kind.found_in(parts))]
    for part in parts:
        if "toolCallId" in part and "state" in part:  # Vercel UI: a call and its result are one part
            kind = str(part.get("type"))
            name = str(part.get("toolName") or kind.removeprefix("tool-"))
            calls.append(Call(str(part["toolCallId"]), name, None, part.get("input")))
            if str(part["state"]).startswith("output"):
                results.append(str(part["toolCallId"]))
    speaker = _speaker(data, parts)
    if speaker is None and (calls or results):  # a separate item, as in Responses
        speaker = "assistant" if calls else "tool"
    return Outline(speaker, tuple(calls), tuple(results))


def begins_turn(message: Message) -> bool:
    """Return whether a message begins a turn: the user speaks, and the message has no tool results."""
    outline = outline_of(message)
    return outline.speaker == "user" and not outline.results


def with_short_results(message: Message, text: str) -> Message:
    """Return a message with a text in place of each longer tool result, so that each call keeps a result."""
    if not outline_of(message).results:
        return message
    data: dict[str, Any] = message.to_dict()
    for holder in (data, data.get("data")):
        if isinstance(holder, dict) and [*_results(holder)]:  # the message is itself a result
            entry = "output" if "output" in holder else "content"
            if entry == "content" or _may_be_text(holder[entry]):
                holder[entry] = _shorter(holder.get(entry), text)
    for part in _parts(data):
        for kind in _RESULTS:
            if [*kind.found_in([part])]:
                held = part if kind.value is not None else part[kind.entry]
                held[kind.content] = _shorter(held.get(kind.content), kind.short(text))
                if kind.value == "function_result" and held[kind.content] == text:
                    held.pop("items", None)  # Agent Framework: the same result, as parts
        if "toolCallId" in part and "output" in part and "state" in part:  # Vercel UI
            part["output"] = _shorter(part["output"], text)
    return Message.from_dict(data)


def _may_be_text(output: object) -> bool:
    """Return whether Responses accepts a text in place of this output: not for a screenshot, or results of a shell."""
    return isinstance(output, str) or (
        isinstance(output, list) and all(isinstance(part, dict) and "type" in part for part in output)
    )


def _shorter(content: object, instead: object) -> object:
    return instead if len(encode(content, "content")) > len(encode(instead, "text")) else content


def _speaker(data: _Data, parts: list[dict[str, Any]]) -> Speaker | None:
    for entry, speakers in _SPEAKERS.items():
        value = data.get(entry)
        if isinstance(value, str) and value in speakers:
            return speakers[value]
    if data.get("kind") == "request":
        kinds = [_REQUEST.get(str(part.get("part_kind"))) for part in parts]
        return "user" if "user" in kinds else "system" if "system" in kinds else "tool"
    return None


def _parts(data: _Data) -> Iterator[dict[str, Any]]:
    for entry in ("content", "parts"):
        held = data.get(entry)
        if isinstance(held, list):
            yield from (part for part in held if isinstance(part, dict))


def _calls(data: _Data, *, nested: bool) -> Iterator[Call]:
    """Yield the calls that are entries of the message itself."""
    calls = data.get("tool_calls")  # Chat Completions, LangChain
    if isinstance(calls, list):
        answer = _CHAT if data.get("role") is not None else _LANGCHAIN_NESTED if nested else _LANGCHAIN
        for call in calls:
            if isinstance(call, dict):
                function = call.get("function")
                name = (function if isinstance(function, dict) else call).get("name")
                arguments = function.get("arguments") if isinstance(function, dict) else call.get("args")
                yield Call(str(call.get("id")), str(name), answer, arguments)
    if isinstance(call := data.get("function_call"), dict):  # Chat Completions before tools
        yield Call(str(call.get("name")), str(call.get("name")), _FUNCTION, call.get("arguments"))
    kind, id = data.get("type"), data.get("call_id")
    if isinstance(kind, str) and kind.endswith("_call") and isinstance(id, str):  # Responses
        answer = Answer(lambda id, _, text, __: {"type": f"{kind}_output", "call_id": id, "output": text})
        yield Call(id, str(data.get("name")), answer, data.get("arguments"))


def _results(data: _Data) -> Iterator[str]:
    """Yield the ids of the calls whose results are entries of the message itself."""
    if isinstance(data.get("tool_call_id"), str):
        yield data["tool_call_id"]
    elif data.get("role") == "function":
        yield str(data.get("name"))
    kind = data.get("type")
    if isinstance(kind, str) and kind.endswith("_output") and isinstance(data.get("call_id"), str):
        yield data["call_id"]

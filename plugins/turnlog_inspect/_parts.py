"""The parts of a message in any dialect: texts, images, tool calls, results of tools, and other data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from turnlog import Message
from turnlog.rules import outline_of

from ._image import Image, image_in

_REASONING: Final = frozenset({"reasoning", "thinking"})
_TEXTS: Final = frozenset(
    {"text", "input_text", "output_text", "summary_text", "reasoning_text", "user-prompt", "system-prompt"}
)
_FAILED: Final = frozenset({"error", "failed", "output-error", "error-text", "error-json", "incomplete"})
_CONTENT: Final = ("content", "output", "result", "response", "errorText", "value")
"""The entries that hold the content of a tool's result, in the order of preference."""

_ERRORS: Final = ("error", "exception:", "traceback (most recent", "an error occurred")
"""The beginnings of results that report an error, in lower case; the last one is that of the OpenAI Agents SDK."""

_HELD: Final = ("toolResult", "functionResponse", "function_response")
_PLUMBING: Final = frozenset({"role", "id", "type", "status", "name", "object", "created_at", "metadata"})
"""Entries that say nothing about what was said."""

_MOST: Final = 1_000_000
"""The largest text that is read as JSON, in characters."""


class Text(NamedTuple):
    """A text.

    Attributes:
        text: The text.
        kind: `reasoning` if the model thought it, `refusal` if the model refused with it, `system` if it is a system
            prompt in the message of another speaker.
    """

    text: str
    kind: Literal["text", "reasoning", "refusal", "system"] = "text"


class Data(NamedTuple):
    """A part that is neither text, image, call nor result.

    Attributes:
        value: A value of JSON, or bytes.
        label: Its kind, such as `file`; empty: it needs no label.
    """

    value: object
    label: str = ""
    kind: str = "data"


@dataclass
class Result:
    """The result of a tool.

    Attributes:
        id: The id of the call.
        content: Texts, images and other data.
        failed: Whether the tool reports an error.
    """

    id: str
    content: Sequence[Text | Image | Data]
    failed: bool
    kind: str = "result"


@dataclass
class Call:
    """A tool call, with its result once that is known."""

    id: str
    name: str
    arguments: object
    result: Result | None = None
    kind: str = "call"


Part: TypeAlias = Text | Image | Data | Call | Result


def unwrapped(message: Message) -> Message:
    """Return the message in an entry of a transcript of Claude Code; any other message as it is."""
    inner = message.get("message") if message.role is None else None
    return Message.from_dict(inner) if isinstance(inner, dict) and "role" in inner else message


def parts_of(message: Message) -> Iterator[Part]:
    """Yield the parts of a message, in order.  A message without any is one part with its other entries, if any."""
    data: dict[str, Any] = message.to_dict()
    if isinstance(data.get("data"), dict) and "type" in data:  # LangChain's message_to_dict
        data = {**data, **data["data"], "type": data["type"]}
    found = [*_known(data)]
    yield from found
    rest = {name: value for name, value in data.items() if name not in _PLUMBING and value not in (None, "", [], {})}
    if not found and rest and "role" in data:
        yield Data(rest)


def _known(data: dict[str, Any]) -> Iterator[Part]:
    """Yield the parts of a message that the tables of dialects know."""
    frame = {name: value for name, value in data.items() if name not in ("content", "parts")}
    found = outline_of(Message.from_dict(frame))
    for name in ("reasoning_content", "reasoning"):  # Chat Completions of several servers
        if isinstance(data.get(name), str) and data[name]:
            yield Text(data[name], "reasoning")
            break
    if found.results:  # the message is itself a result
        yield Result(found.results[0], [*_content(_first(data, _CONTENT))], _is_error(data))
        return
    shown: set[str] = set()
    for part in _body(data):
        if isinstance(part, Call):
            shown.add(part.id)
        yield part
    if isinstance(data.get("refusal"), str) and data["refusal"]:
        yield Text(data["refusal"], "refusal")
    for call in found.calls:
        if call.id not in shown:  # LangChain keeps Anthropic's blocks, and so has each call twice
            arguments = _first(data, ("action", "input", "code")) if call.arguments is None else call.arguments
            name = str(data.get("type")).removesuffix("_call") if call.name == "None" else call.name
            yield Call(call.id, name, decoded(arguments))


def decoded(value: object) -> object:
    """Return the object or list in a JSON text; any other value as it is."""
    if isinstance(value, str) and value[:1] in ("{", "[") and len(value) <= _MOST:
        with suppress(ValueError, RecursionError):
            return cast("object", json.loads(value))
    return value


def _body(data: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the parts that are the content of a message."""
    for name in ("content", "parts", "value", "text"):
        held = data.get(name)
        if isinstance(held, str) and held:
            yield Text(held)
            return
        if isinstance(held, list):
            for one in held:
                yield from _part(one)
            return
        if isinstance(held, dict) and name in ("content", "parts"):
            yield from _part(held)
            return
    kind = str(data.get("type", ""))
    if kind in _REASONING:  # Responses
        texts = [*_texts(data.get("summary")), *_texts(data.get("content"))]
        yield from (Text(text, "reasoning") for text in texts)
        return
    if image := image_in(data) if kind == "image_generation_call" else None:
        yield image
        return
    if not {"role", "tool_calls", "function_call", "call_id"} & data.keys():  # an item that no table knows
        yield Data(dict(data), kind)


def _part(part: object) -> Iterator[Part]:
    """Yield what a part of a message means; a part may hold both a call and its result."""
    if isinstance(part, str):
        yield Text(part)
        return
    if not isinstance(part, dict):
        yield Data(part)
        return
    kind = str(part.get("type") or part.get("part_kind") or "")
    found = outline_of(Message.from_dict({"content": [part]}))
    if found.calls or found.results:
        calls = [Call(call.id, call.name, decoded(call.arguments)) for call in found.calls]
        yield from calls
        held = next((part[name] for name in _HELD if isinstance(part.get(name), dict)), part)
        for id in found.results:
            yield Result(id, [*_content(_first(held, _CONTENT))], _is_error(held) or kind == "retry-prompt")
        return
    if image := image_in(part):
        yield image
        return
    yield from _written(part, kind)


def _written(part: Mapping[str, Any], kind: str) -> Iterator[Part]:
    """Yield the text of a part, or the part as data."""
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        yield Text(part["refusal"], "refusal")
        return
    inner = part.get("reasoningContent")  # Bedrock
    if isinstance(inner, dict) and isinstance(inner.get("reasoningText"), dict):
        yield Text(str(inner["reasoningText"].get("text", "")), "reasoning")
        return
    thinks = kind in _REASONING or part.get("thought") is True  # Gemini marks its thoughts
    text = _first(part, ("thinking", "text", "content") if kind in _TEXTS | _REASONING or not kind else ("text",))
    if isinstance(text, str):
        if text:
            yield Text(text, "reasoning" if thinks else "system" if kind == "system-prompt" else "text")
    elif isinstance(text, list):  # a prompt of pydantic-ai with several parts
        for one in text:
            yield from _part(one)
    elif set(part) == {"json"}:  # Bedrock
        yield Data(part["json"])
    elif kind not in ("step-start", "redacted_thinking"):
        yield Data(dict(part), kind)


def _content(value: object) -> Iterator[Text | Image | Data]:
    """Yield the content of a tool's result."""
    if isinstance(value, dict) and value.get("type") in {"text", "json", "content", "error-text", "error-json"}:
        value = value.get("value", value.get("text", value))  # Vercel AI
    if isinstance(value, dict) and len(value) == 1 and (value.keys() & {"output", "error", "result"}):
        (value,) = value.values()  # Gemini
    inner = decoded(value)
    if isinstance(inner, str):
        if inner:
            yield Text(inner)
    elif isinstance(value, str):
        yield Data(inner)
    elif isinstance(value, list) and any(isinstance(one, dict) and ("type" in one or "text" in one) for one in value):
        for one in value:
            for part in _part(one):
                if isinstance(part, Text):
                    held = decoded(part.text)
                    yield part if isinstance(held, str) else Data(held)
                elif isinstance(part, Image | Data):
                    yield part
    elif isinstance(value, dict) and (image := image_in(value)):
        yield image
    elif value is not None:
        yield Data(value)


def _is_error(data: Mapping[str, Any]) -> bool:
    """Return whether a result reports an error: by a mark of its dialect, or by the beginning of its content."""
    content = decoded(_first(data, _CONTENT))
    if data.get("is_error") is True or data.get("isError") is True or "errorText" in data:
        return True
    marks = [data.get("status"), data.get("state")]
    if isinstance(content, dict):
        marks += [content.get("type"), content.get("status")]
        if content.get("error") or content.get("isError") is True:
            return True
    if any(isinstance(mark, str) and mark in _FAILED for mark in marks):
        return True
    texts = [content] if isinstance(content, str) else [*_texts(content)]
    start = texts[0][:80].lstrip().lower() if texts else ""
    return start.startswith(_ERRORS)


def _texts(value: object) -> Iterator[str]:
    for part in value if isinstance(value, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]


def _first(data: Mapping[str, Any], names: Sequence[str]) -> object:
    return next((data[name] for name in names if data.get(name) is not None), None)

"""Convert messages, tools and answers to and from the format of the Messages API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from turnlog import Message, Tool, Usage
from turnlog.rules import outline_of

if TYPE_CHECKING:
    import anthropic


def split(messages: Sequence[Message]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return the blocks of all system messages, and the other messages.

    Messages without content are left out: the API may answer with such a message, but refuses it in a history.
    """
    blocks: list[Any] = []
    said: list[dict[str, Any]] = []
    for message in messages:
        if outline_of(message).speaker == "system":
            blocks += blocks_of(message.content)
        elif message.content:
            said.append(message.to_dict())
    return blocks, said


def blocks_of(content: object) -> list[Any]:
    """Return content as a list of blocks."""
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def answer_of(message: anthropic.types.Message) -> dict[str, Any]:
    """Return an answer as a message: its text if it is only a text, otherwise its blocks without None entries."""
    blocks = [
        {name: value for name, value in block.to_dict().items() if value is not None} for block in message.content
    ]
    match blocks:
        case [{"type": "text", "text": text, **more}] if not more:
            return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": blocks}


def usage_of(usage: anthropic.types.Usage) -> Usage:
    """Return the tokens of a request.

    `input_tokens` excludes tokens that were read from the cache or written to it (platform.claude.com, "Prompt
    caching", "Tracking cache performance").
    """
    cached = usage.cache_read_input_tokens or 0
    return Usage(usage.input_tokens + cached + (usage.cache_creation_input_tokens or 0), usage.output_tokens, cached)


def tool_of(tool: Tool) -> dict[str, Any]:
    """Return a tool in the format of the API (`ToolParam`)."""
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "input_schema": tool.schema}

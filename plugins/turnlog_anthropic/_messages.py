"""Messages, tools and answers in the form of the Messages API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from turnlog import Message, Tool, Usage
from turnlog.rules import outline_of

if TYPE_CHECKING:
    import anthropic


def split(messages: Sequence[Message]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return the blocks of all system messages, and the other messages.

    Messages without content are left out: an answer may have none, and the API refuses it in a history.
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
    """Return an answer as a message: its blocks without entries that are None, or the text if there is nothing else."""
    blocks = [
        {name: value for name, value in block.to_dict().items() if value is not None} for block in message.content
    ]
    match blocks:
        case [{"type": "text", "text": text, **more}] if not more:
            return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": blocks}


def usage_of(usage: anthropic.types.Usage) -> Usage:
    """Return the tokens of a request.

    `input_tokens` are those that were neither read from the cache nor written to it (platform.claude.com, "Prompt
    caching", "Tracking cache performance").
    """
    cached = usage.cache_read_input_tokens or 0
    return Usage(usage.input_tokens + cached + (usage.cache_creation_input_tokens or 0), usage.output_tokens, cached)


def tool_of(tool: Tool) -> dict[str, Any]:
    """Return a tool as the API takes it (`ToolParam`)."""
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "input_schema": tool.schema}

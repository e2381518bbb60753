"""The model and the tools of the example.  Two rules call tools, and `offline` answers all other messages."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

from msgspec import Meta

from turnlog import Message, assistant
from turnlog_offline import offline

_TIME: Final = re.compile(r"\bwhat(?: is|'s)? (?:the )?time\b", re.IGNORECASE)
_DIE: Final = re.compile(r"\broll a (?:(\d+)-sided )?die\b", re.IGNORECASE)
_PAUSE: Final = 0.02  # seconds between two words, about as fast as language models write


def clock() -> str:
    """Return the time of day in UTC."""
    return datetime.now(UTC).strftime("%H:%M UTC")


def roll(sides: Annotated[int, Meta(ge=2, le=100)] = 6) -> int:
    """Roll a die."""
    return 1 + secrets.randbelow(sides)


async def demo(messages: Sequence[Message], **options: object) -> AsyncIterator[str | Message]:
    """Answer in pieces, in the format of Chat Completions.  Call a tool for the time or a die."""
    last = messages[-1]
    if last.role == "tool":
        answer = assistant(f"The tool's answer is: {last.text}.")
    elif _TIME.search(last.text):
        answer = _call("One moment. ", "clock", "{}")
    elif die := _DIE.search(last.text):
        answer = _call("Here goes. ", "roll", f'{{"sides": {die[1]}}}' if die[1] else "{}")
    else:
        answer = await offline(messages, **options)
    for word in re.findall(r"\S+\s*", answer.text):
        await asyncio.sleep(_PAUSE)
        yield word
    yield answer


def _call(text: str, name: str, arguments: str) -> Message:
    function = {"name": name, "arguments": arguments}
    return assistant(
        text, tool_calls=[{"id": f"call-{secrets.token_hex(6)}", "type": "function", "function": function}]
    )

"""The content of a message for a model: its texts, and attachments such as images."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ..values.json_form import json_text
from ..values.json_value import JSON
from ..values.message import Message

_LISTS: Final = ("content", "parts")
"""The entries of a message that hold its parts."""

_PARTS: Final = frozenset({*_LISTS, "output", "value"})
"""The entries that hold parts, at any depth: `output` and `value` hold tool results in Responses and Vercel AI."""

_TEXTS: Final = ("text", "content")
"""The entries of a part that hold its text: `content` in pydantic-ai."""

_MARKS: Final = ("type", "kind")
"""The entries of a part that name its kind: `kind` in pydantic-ai."""

_KINDS: Final = frozenset(
    {
        *("audio", "document", "file", "image", "media", "video"),
        *("file-data", "image-data"),  # Vercel AI, results of tools
        *("image_url", "input_audio", "input_file", "input_image"),  # Chat Completions, Responses
        *("computer_screenshot", "image_generation_call"),  # Responses
        *("audio-url", "binary", "document-url", "image-url", "video-url"),  # pydantic-ai
    }
)
"""The kinds of parts that are attachments."""

_HOLDERS: Final = (
    *("audio", "document", "image", "video"),  # Bedrock Converse
    *("fileData", "file_data", "inlineData", "inline_data"),  # Gemini
)
"""The entries of a part that hold an attachment, in dialects whose parts have no kind."""

_OPAQUE: Final = frozenset({"encrypted_content", "signature", "thoughtSignature", "thought_signature"})
"""The entries that a provider does not pass on to the model: Responses, Anthropic, Gemini."""

_UNREAD: Final = re.compile(r"data:|https?://|[A-Za-z0-9+/_-]{64}")
"""The beginning of a URL or of base64.

A line of base64 has up to 76 characters (RFC 2045, section 6.8) and no spaces.
"""


class Content(NamedTuple):
    """The texts and attachments that a model reads in a message.

    Attributes:
        texts: The texts; tool calls and unknown entries are JSON.
        attachments: The number of images, sounds, videos and files.
    """

    texts: list[str]
    attachments: int


def content_of(message: Message) -> Content:
    """Return the content of a message, in any dialect, without its role.

    The texts include the entries of an attachment, such as a title, but not its encoded data.
    """
    if message.is_plain:
        return Content([message.text], 0)
    reader = _Reader()
    data = reader.part(message.to_dict())
    data.pop("role", None)
    texts: list[str] = []
    for name in _LISTS:
        held = data.get(name)
        if isinstance(held, (str, list)):
            del data[name]
            texts += [held] if isinstance(held, str) else map(_text_of, held)
    rest: dict[str, JSON] = {name: value for name, value in data.items() if value is not None}
    if rest:
        texts.append(json_text(rest))
    return Content(texts, reader.attachments)


class _Reader:
    """Removes opaque entries and encoded data from a message, and counts its attachments.

    Attributes:
        attachments: Number of attachments so far.
    """

    def __init__(self) -> None:
        self.attachments = 0

    def part(self, part: dict[str, JSON]) -> dict[str, JSON]:
        """Return a message, or a part of a message, without opaque entries and encoded data."""
        if _is_attachment(part):
            self.attachments += 1
            return {name: _without_data(value) for name, value in part.items()}
        return self._entries(part)

    def _entries(self, data: dict[str, JSON]) -> dict[str, JSON]:
        return {name: self._value(value, name in _PARTS) for name, value in data.items() if name not in _OPAQUE}

    def _value(self, value: JSON, holds_parts: bool) -> JSON:  # noqa: FBT001 - called for each value
        if isinstance(value, list):
            return [self._value(one, holds_parts) for one in value]
        if isinstance(value, dict):
            return self.part(value) if holds_parts else self._entries(value)
        return value


def _is_attachment(part: dict[str, JSON]) -> bool:
    kinds = (part.get(name) for name in _MARKS)
    return any(isinstance(kind, str) and kind in _KINDS for kind in kinds) or any(
        isinstance(part.get(name), dict) for name in _HOLDERS
    )


def _without_data(value: JSON) -> JSON:
    """Return a value of an attachment without encoded data and URLs."""
    if isinstance(value, dict):
        return {name: _without_data(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_without_data(one) for one in value]
    return "" if isinstance(value, str) and _UNREAD.match(value) else value


def _text_of(part: JSON) -> str:
    """Return the text of a part, or the part as JSON if it has none."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        for name in _TEXTS:
            text = part.get(name)
            if isinstance(text, str):
                return text
    return json_text(part)

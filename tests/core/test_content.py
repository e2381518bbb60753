"""The parts of a message that a model reads: texts and attachments, in every dialect."""

from __future__ import annotations

import base64
import json
from itertools import chain
from typing import Any

import pytest

from dialects import ASK, DIALECTS, WEATHER
from turnlog import Message, tool, user
from turnlog.pipeline import estimate
from turnlog.pipeline.content import content_of
from turnlog.values.json_value import JSON

DATA = base64.b64encode(bytes(range(256)) * 400).decode()
"""An attachment of 136 KB: if its bytes counted, it would exceed the 128,000 tokens of a large context."""
URL = f"data:image/png;base64,{DATA}"


def in_chat(part: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": "Look"}, part]}


def in_parts(part: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "user", **more, "parts": [{"text": "Look"}, part]}


ATTACHED: dict[str, dict[str, Any]] = {
    "chat image": in_chat({"type": "image_url", "image_url": {"url": URL, "detail": "auto"}}),
    "chat image elsewhere": in_chat({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}),
    "chat audio": in_chat({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}),
    "chat file": in_chat({"type": "file", "file": {"filename": "a.pdf", "file_data": URL}}),
    "responses image": in_chat({"type": "input_image", "image_url": URL}),
    "responses file": in_chat({"type": "input_file", "file_id": "file-1"}),
    "responses screenshot": {
        "type": "computer_call_output",
        "call_id": "call-1",
        "output": {"type": "computer_screenshot", "image_url": URL},
    },
    "responses made image": {"type": "image_generation_call", "id": "ig-1", "result": DATA},
    "responses tool": {
        "type": "function_call_output",
        "call_id": "call-1",
        "output": [{"type": "input_image", "image_url": URL}],
    },
    "anthropic image": in_chat(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}
    ),
    "anthropic tool": in_chat(
        {
            "type": "tool_result",
            "tool_use_id": "call-1",
            "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}],
        }
    ),
    "bedrock image": in_chat({"image": {"format": "png", "source": {"bytes": DATA}}}),
    "bedrock tool": in_chat(
        {
            "toolResult": {
                "toolUseId": "call-1",
                "content": [{"document": {"format": "pdf", "name": "a", "source": {"bytes": DATA}}}],
            }
        }
    ),
    "gemini image": in_parts({"inlineData": {"mimeType": "image/png", "data": DATA}}),
    "gemini image, Python": in_parts({"inline_data": {"mime_type": "image/png", "data": DATA}}),
    "gemini file": in_parts({"fileData": {"fileUri": "https://example.org/a.mp4"}}),
    "langchain image": {"type": "human", "data": {"type": "human", "content": [{"type": "image", "base64": DATA}]}},
    "pydantic-ai image": {
        "kind": "request",
        "parts": [
            {
                "part_kind": "user-prompt",
                "content": ["Look", {"kind": "binary", "media_type": "image/png", "data": DATA}],
            }
        ],
    },
    "vercel ui file": in_parts({"type": "file", "mediaType": "image/png", "url": URL}),
    "vercel tool": in_chat(
        {
            "type": "tool-result",
            "toolCallId": "call-1",
            "output": {"type": "content", "value": [{"type": "media", "data": DATA, "mediaType": "image/png"}]},
        }
    ),
    "base64 in lines": in_chat(
        {"type": "image", "source": {"type": "base64", "data": base64.encodebytes(DATA.encode()).decode()}}
    ),
}


@pytest.mark.parametrize("name", ATTACHED)
def test_an_attachment_counts_as_one_and_not_as_text(name: str) -> None:
    message = Message.from_dict(ATTACHED[name])
    texts, attachments = content_of(message)
    assert attachments == 1
    assert sum(map(len, texts)) < 250
    assert ("Look" in "".join(texts)) == ("Look" in json.dumps(ATTACHED[name]))
    assert 1_600 < estimate([message]).tokens < 1_700


def test_bytes_alone_would_fill_a_context_with_one_image() -> None:
    """The naive count, by bytes, would be wrong."""
    assert Message.from_dict(ATTACHED["chat image"]).size // 4 > 30_000


def said(value: Any) -> set[str]:
    """Return the known texts of the user, the model and the tools, anywhere in a message."""
    if isinstance(value, dict):
        return set().union(*map(said, value.values()))
    if isinstance(value, list):
        return set().union(*map(said, value))
    return {value} & {ASK, *WEATHER, *WEATHER.values(), "Hello", "Hi.", "Sunny; rain.", "Be brief.", "weather"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_said_is_among_the_texts(dialect: str) -> None:
    """A tool's name next to a text may be left out."""
    heard: set[str] = set()
    for data in chain(*DIALECTS[dialect]):
        texts, attachments = content_of(Message.from_dict(data))
        assert attachments == 0
        missing = {text for text in said(data) if text not in "\n".join(texts)}
        assert missing <= {"weather"}
        heard |= said(data)
    assert {ASK, "Hello", "Hi."} <= heard


def test_text_that_looks_like_an_attachment_is_text() -> None:
    """A model reads all of a tool's result, also base64 and lists of files."""
    assert content_of(tool(DATA, tool_call_id="call-1")).texts[0] == DATA
    assert content_of(user([{"type": "text", "text": URL}])) == ([URL], 0)
    files = [{"type": "file", "path": f"{number}.txt"} for number in range(50)]
    result = {"functionResponse": {"name": "list", "response": {"files": files}}}
    texts, attachments = content_of(Message.from_dict({"role": "user", "parts": [result]}))
    assert attachments == 0
    assert "49.txt" in texts[0]


def test_the_text_of_an_attachment_is_text() -> None:
    """A document of Anthropic may contain text and have a title."""
    source: JSON = {"type": "text", "media_type": "text/plain", "data": "All happy families are alike. " * 20}
    part: JSON = {"type": "document", "title": "A novel", "source": source}
    texts, attachments = content_of(user([part]))
    assert attachments == 1
    assert "A novel" in texts[0]
    assert "happy families" in texts[0]


@pytest.mark.parametrize(
    "data",
    [
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "So.", "signature": DATA}]},
        {"role": "model", "parts": [{"functionCall": {"name": "So.", "args": {}}, "thoughtSignature": DATA}]},
        {"type": "reasoning", "summary": [{"text": "So."}], "encrypted_content": DATA},
    ],
)
def test_signatures_and_encrypted_thoughts_are_not_read(data: dict[str, Any]) -> None:
    texts, attachments = content_of(Message.from_dict(data))
    assert attachments == 0
    assert "So." in "".join(texts)
    assert sum(map(len, texts)) < 100


@pytest.mark.parametrize(
    "data",
    [
        {"type": ["string", "null"], "content": None},
        {"content": [{"type": {"file": 1}}, {"kind": 7}, None, 3, "text", ["list"]]},
        {"parts": {"type": "image"}, "content": 5},
        {"output": {"output": {"output": []}}},
    ],
)
def test_strange_messages_are_counted(data: dict[str, Any]) -> None:
    assert estimate([Message.from_dict(data)]).tokens > 4


def test_the_estimate_is_four_bytes_a_token() -> None:
    assert estimate([]) == (0, False)
    assert estimate([user("")]) == (4, False)
    assert estimate([user("a" * 400)]) == (104, False)
    assert estimate([user("a")] * 3) == (15, False)
    assert estimate([user("日本語の文章" * 100)]) == (454, False)
    assert estimate([user([{"type": "text", "text": "a" * 400}])]) == (104, False)


def test_lists_in_an_attachment_are_read_without_their_data() -> None:
    part: JSON = {"type": "image", "labels": ["a cat", URL, [DATA]]}
    texts, attachments = content_of(user([part]))
    assert attachments == 1
    assert json.loads(texts[0]) == {"type": "image", "labels": ["a cat", "", [""]]}

"""`turnlog show`."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from turnlog import CorruptRecord, InvalidInput, Message, Session, SessionNotFound, Turn
from turnlog.config import open_existing
from turnlog.limits import MAX_NUMBER
from turnlog.rules import outline_of
from turnlog.values import JSON

from ._suggestion import not_found
from ._text import VERIFY, Code, Printer, as_json, complain, counted, line, note, time_of

STYLES: Final = {
    "user": "bold green",
    "assistant": "bold cyan",
    "system": "bold yellow",
    "developer": "bold yellow",
    "tool": "bold magenta",
}


def show_session(
    session_id: str, url: str | None, last: int | None, *, namespace: str | None = None, json: bool
) -> int:
    """Print a session.  No time to live is restarted.

    Args:
        session_id: The session.
        url: The URL of the store; None: the store in the configuration.
        last: Print the fewest whole turns at the end that hold at least this many messages; None: all.
        namespace: The namespace; None: the namespace in the configuration.
        json: Print one JSON document.
    """
    if last is not None and last < 0:
        raise InvalidInput(f"--last must be a whole number of at least 0, not {last}")
    if last is not None and last > MAX_NUMBER:
        raise InvalidInput(f"--last must be a whole number from 0 to {MAX_NUMBER}, not {last}")
    session = asyncio.run(_load(session_id, url, last, namespace))
    if json:
        print(as_json(_document(session)))
        return Code.FINE
    return _print(session)


async def _load(session_id: str, url: str | None, last: int | None, namespace: str | None) -> Session:
    async with open_existing(url, namespace=namespace) as store:
        try:
            return await store.session(session_id, last=last, touch=False)
        except SessionNotFound as error:
            raise await not_found(store, session_id, str(error)) from None


def _document(session: Session) -> dict[str, object]:
    turns = [{**turn.to_dict(), "messages": len(turn.messages)} for turn in session.turns]
    return {
        "info": session.info.to_dict(),
        "turns": turns,
        "messages": [message.to_dict() for message in session.messages],
    }


def _print(session: Session) -> int:
    out, info, code, damaged = Printer(), session.info, Code.FINE, False
    out.wrapped((f"session {line(info.key.session)}", "bold"), (_summary(session), "dim"))
    for name, value in info.metadata.items():
        out.wrapped((f"{line(name)}: ", "bold yellow"), (shortened(as_json(value)), "dim"))
    for turn in turns_of(session):
        out()
        if isinstance(turn, CorruptRecord):
            complain(turn)
            code, damaged = Code.FAILED, damaged or type(turn) is CorruptRecord
            continue
        state = ", interrupted" if turn.interrupted else ", open" if turn.open else ""
        out((f"turn {turn.number}", "bold"), (f", {time_of(turn.time)}{state}", "dim"))
        for message in turn.messages:
            _print_message(out, message)
    if damaged:
        note(f"turnlog: {VERIFY}")
    return code


def _summary(session: Session) -> str:
    info = session.info
    dropped = f" (the first {info.first} were dropped)" if info.first else ""
    owner = f", owner {line(info.owner)}" if info.owner else ""
    turns, messages = counted(info.turns, "turn"), counted(info.messages, "message")
    return f", {turns}{dropped}, {messages}{owner}, updated {time_of(info.updated)}"


def turns_of(session: Session) -> Iterator[Turn | CorruptRecord]:
    """Yield the turns one by one, so that damaged turns do not affect the others."""
    for _, records in groupby(session.records, key=lambda record: record.number):
        try:
            yield from Session(session.info, tuple(records)).turns
        except CorruptRecord as error:
            yield error


def _print_message(out: Printer, message: Message) -> None:
    style = STYLES.get(message.role or "", "bold")
    for label, text in parts_of(message):
        out.wrapped((f"  {label}", style), (indented(text), ""))


_PYDANTIC_AI: Final = {"user-prompt": "user", "system-prompt": "system", "text": "assistant", "tool-return": "tool"}
"""The speakers of the parts of pydantic-ai's messages."""


def parts_of(message: Message) -> Iterator[tuple[str, str]]:
    """Yield the text and the calls of a message, each with its label, such as `user: ` or `assistant calls `."""
    kind, output = message.get("type"), message.get("output")
    if kind == "function_call":  # an item of Responses
        function = {"name": message.get("name"), "arguments": message.get("arguments")}
        yield "assistant calls ", _call({"id": message.get("call_id"), "function": function})
        return
    if kind == "function_call_output" and isinstance(output, str):
        yield f"tool {line(str(message.get('call_id')))}: ", output
        return
    if message.get("kind") in ("request", "response"):  # pydantic-ai
        parts = message.get("parts")
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, dict):
                yield _part_of(part)
        return
    speaker = None if message.content is None else outline_of(message).speaker  # LangChain's messages have no role
    label = line(message.role or speaker or "item")
    for name in ("name", "tool_call_id"):
        if value := message.get(name):
            label += f" {line(str(value))}"
    text = text_of(message)
    if text or not message.tool_calls:
        yield f"{label}: ", text
    for call in message.tool_calls:
        yield f"{label} calls ", _call(call)


def _part_of(part: dict[str, JSON]) -> tuple[str, str]:
    """Return the label and the text of a part of a message of pydantic-ai."""
    kind, content = str(part.get("part_kind")).removeprefix("builtin-"), part.get("content")
    if kind == "tool-call":
        function = {"name": part.get("tool_name"), "arguments": part.get("args")}
        return "assistant calls ", _call({"id": part.get("tool_call_id"), "function": function})
    label = _PYDANTIC_AI.get(kind, kind)
    for name in ("tool_name", "tool_call_id"):
        if value := part.get(name):
            label += f" {value!s}"
    texts = content if isinstance(content, list) and kind == "user-prompt" else [content]
    return f"{line(label)}: ", "\n".join(text if isinstance(text, str) else as_json(text) for text in texts)


def text_of(message: Message) -> str:
    """Return the content of a message for people: its text, and other blocks as JSON."""
    content = message.get("parts") if message.content is None else message.content  # Gemini has parts
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (block.get("text") if isinstance(block, dict) else None for block in content)
        return "\n".join(
            text if isinstance(text, str) else as_json(block) for text, block in zip(texts, content, strict=True)
        )
    return "" if message.tool_calls else as_json(message.to_dict())


def not_text(message: Message) -> str:
    """Return the blocks of a message that are not text, as JSON."""
    content = message.content
    blocks = content if isinstance(content, list) else []
    return "\n".join(
        as_json(block) for block in blocks if not (isinstance(block, dict) and isinstance(block.get("text"), str))
    )


def _call(call: object) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    if isinstance(call, dict) and isinstance(function, dict):
        name, arguments = function.get("name"), function.get("arguments")
        shown = arguments if isinstance(arguments, str) else as_json(arguments)
        return f"{name}({shown})" + (f" as {call['id']}" if isinstance(call.get("id"), str) else "")
    if isinstance(call, dict) and call.get("type") == "tool_call":  # LangChain
        return f"{call.get('name')}({as_json(call.get('args'))}) as {call.get('id')}"
    return as_json(call)


def indented(text: str) -> str:
    """Indent every line except the first, so that no message can imitate the next turn."""
    return textwrap.indent(text, "    ", lambda _: True)[4:] if "\n" in text else text


def shortened(text: str, length: int = 200) -> str:
    """Return the text, or its beginning and its length."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"

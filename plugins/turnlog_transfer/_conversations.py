"""Parse the conversations that other programs write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from turnlog import InvalidInput, Key, Message, Metadata, Times
from turnlog.errors import TooLarge
from turnlog.limits import MAX_NUMBER

from ._documents import kind_of

_Data = Mapping[str, Any]
_EXAMPLE: Final = 'an object such as {"session_id": ..., "messages": [...]}'


class Conversation(NamedTuple):
    """A valid conversation.

    Attributes:
        session_id: The session to store it in.
        messages: The messages; empty: there is nothing to store.
        metadata: The session's metadata.
        times: The time of each message in seconds since 1970, or None; empty if no time is known.
        notice: A note for people.
        created: The time of its creation in seconds since 1970; None: unknown.
        updated: The time of its last change in seconds since 1970; None: unknown.
    """

    session_id: str
    messages: tuple[Message, ...]
    metadata: Metadata
    times: tuple[float | None, ...] = ()
    notice: str = ""
    created: float | None = None
    updated: float | None = None

    def session_times(self) -> Times | None:
        """Return the session's times; None if the conversation does not have them."""
        if self.created is None or self.updated is None:
            return None
        return Times(self.created, self.updated)

    def time_of(self, start: int, end: int) -> float | None:
        """Return the first known time of the messages from `start` to `end`; None if all are unknown."""
        return next((time for time in self.times[start:end] if time is not None), None)


def is_message(item: object) -> bool:
    """Return whether an item of an array is a message of OpenAI, LangChain or another dialect, not a conversation."""
    return isinstance(item, dict) and not any(name in item for name in ("messages", *_EXPORTS))


def parse_conversation(item: object) -> Conversation:
    """Return the conversation of a line or of an item of an array; its keys determine the format.

    Raises:
        InvalidInput: The format is unknown, or the conversation breaks its rules.
    """
    if isinstance(item, dict):
        for name, parse in _EXPORTS.items():
            if name in item:
                return parse(item)
    return _line(item)


def conversation_of(session_id: str, items: Sequence[object]) -> Conversation:
    """Return the conversation of a list of messages.

    Args:
        session_id: The session to store it in.
        items: The messages, as dictionaries.

    Raises:
        InvalidInput: An item is not a message.
    """
    return _with_system(session_id, _messages(items), {})


def _line(line: object) -> Conversation:
    if not isinstance(line, dict):
        raise InvalidInput(f"a conversation must be {_EXAMPLE}, not {kind_of(line)}")
    for name in ("session_id", "messages"):
        if name not in line:
            keys = ", ".join(sorted(line)) or "no keys"
            raise InvalidInput(f"{name} is missing, found: {keys}; a conversation must be {_EXAMPLE}")
    items = line.pop("messages")
    if not isinstance(items, list) or not items:
        raise InvalidInput(f"messages must be a list with at least one message, not {kind_of(items)}")
    messages = _messages(items)
    session_id = Key("default", line.pop("session_id")).session
    return _with_system(session_id, messages, {name: value for name, value in line.items() if value is not None})


def _with_system(session_id: str, messages: tuple[Message, ...], values: dict[str, Any]) -> Conversation:
    """Return a conversation; a system message at its beginning also becomes metadata."""
    if messages[0].role != "system" or "system" in values:
        return Conversation(session_id, messages, Metadata.of(values))
    try:
        return Conversation(session_id, messages, Metadata.of({**values, "system": messages[0].content}))
    except TooLarge:
        notice = f"the system message of session {session_id!r} is too long for metadata: only the first turn has it"
        return Conversation(session_id, messages, Metadata.of(values), notice=notice)


def _messages(items: Sequence[object]) -> tuple[Message, ...]:
    return tuple([_message(item, f"messages[{place}]") for place, item in enumerate(items)])


def _message(item: object, where: str) -> Message:
    if not isinstance(item, dict):
        raise InvalidInput(f"{where} must be an object, not {kind_of(item)}")
    try:
        return Message.from_dict(item)
    except InvalidInput as error:
        raise type(error)(f"{where}: {error}") from None


# -------------------------------------------------------------------------------------------------------------- ChatGPT


def _chatgpt(data: _Data) -> Conversation:
    """Return the branch that ends at `current_node`, from a conversation in ChatGPT's `conversations.json`."""
    session_id = _text(data, "conversation_id", "id")
    nodes, name = data["mapping"], data.get("current_node")
    if not isinstance(nodes, dict) or not isinstance(name, str) or name not in nodes:
        raise InvalidInput(f"conversation {session_id!r} has no node {name!r}, its current_node: export it again")
    branch: dict[str, _Data] = {}
    while name is not None:
        node = nodes.get(name)
        if not isinstance(node, dict) or name in branch:
            raise InvalidInput(f"conversation {session_id!r} has no path from node {name!r} to its beginning")
        branch[name] = node
        name = node.get("parent")
    said = [node["message"] for node in reversed(branch.values()) if isinstance(node.get("message"), dict)]
    made = [(message, _seconds(one.get("create_time"))) for one in said if (message := _from_chatgpt(one))]
    return _export(session_id, made, data.get("title"), data.get("create_time"), data.get("update_time"))


def _from_chatgpt(data: _Data) -> Message | None:
    """Return a message with the role and the text of a node's message; None if it is empty or hidden."""
    author, content, about = (data.get(name) for name in ("author", "content", "metadata"))
    if isinstance(about, dict) and about.get("is_visually_hidden_from_conversation"):
        return None
    if not isinstance(author, dict) or not isinstance(author.get("role"), str) or not isinstance(content, dict):
        raise InvalidInput(f"message {data.get('id')!r} has no author.role, or no content: export it again")
    parts = content.get("parts", [content["text"]] if isinstance(content.get("text"), str) else [content])
    said = _content(parts if isinstance(parts, list) else [parts], "\n")
    if not said:
        return None
    named = {"name": author["name"]} if isinstance(author.get("name"), str) else {}
    to = data.get("recipient")
    return Message.from_dict(
        {"role": author["role"], "content": said, **named, **({"recipient": to} if to not in (None, "all") else {})}
    )


# --------------------------------------------------------------------------------------------------------------- Claude


def _claude(data: _Data) -> Conversation:
    """Return a conversation of Claude's `conversations.json`."""
    session_id, items = _text(data, "uuid"), data["chat_messages"]
    if not isinstance(items, list):
        raise InvalidInput(f"chat_messages must be a list, not {kind_of(items)}")
    made = []
    for place, item in enumerate(items):
        if not isinstance(item, dict) or item.get("sender") not in _SENDERS:
            raise InvalidInput(f"chat_messages[{place}].sender must be one of {', '.join(_SENDERS)}: export it again")
        if message := _from_claude(item):
            made.append((message, _seconds(item.get("created_at"))))
    return _export(session_id, made, data.get("name"), data.get("created_at"), data.get("updated_at"))


_SENDERS: Final = {"human": "user", "assistant": "assistant"}


def _from_claude(data: _Data) -> Message | None:
    """Return a message with the role and the text; None if it is empty."""
    blocks = data.get("content")
    texts = [block.get("text") if _is_text(block) else block for block in blocks] if isinstance(blocks, list) else []
    said = _content(texts or [data.get("text")], "\n\n")
    held = {name: data[name] for name in ("attachments", "files") if data.get(name)}
    if not said and not held:
        return None
    return Message.from_dict({"role": _SENDERS[data["sender"]], "content": said, **held})


def _is_text(block: object) -> bool:
    return isinstance(block, dict) and block.get("type") == "text"


# --------------------------------------------------------------------------------------------------------------- shared

_EXPORTS: Final[dict[str, Callable[[dict[str, Any]], Conversation]]] = {"mapping": _chatgpt, "chat_messages": _claude}
"""The parsers of exports, by the key that identifies the format."""


def _export(
    session_id: str, made: Sequence[tuple[Message, float | None]], title: object, created: object, updated: object
) -> Conversation:
    """Return a conversation; unknown times are replaced by the times of its first and its last message."""
    metadata = Metadata.of({"title": title} if isinstance(title, str) and title else {})
    notice = "" if made else f"conversation {session_id!r} has no messages: no session is created"
    times = [time for _, time in made]
    return Conversation(
        session_id,
        tuple([message for message, _ in made]),
        metadata,
        tuple(times),
        notice,
        _first_moment(created, *times),
        _first_moment(updated, *reversed(times)),
    )


def _first_moment(*times: object) -> float | None:
    """Return the first valid time of a session among some values; None if no value is valid."""
    return next((time for one in times if (time := _seconds(one)) is not None and 0 < time <= MAX_NUMBER), None)


def _text(data: _Data, *names: str) -> str:
    found = next((data[name] for name in names if data.get(name) is not None), None)
    if found is None:
        raise InvalidInput(f"the conversation has no {' or '.join(names)}, found: {', '.join(sorted(data))}")
    return Key("default", found).session


def _content(parts: Sequence[object], separator: str) -> str | list[Any]:
    """Return texts as one string; if a part is not text, such as an image, return a list of blocks."""
    parts = [part for part in parts if part not in ("", None)]
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) == len(parts):
        return separator.join(texts)
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]


def _seconds(time: object) -> float | None:
    """Return a time in seconds since 1970, from a number of seconds or a text in ISO 8601; None: not a time."""
    if isinstance(time, int | float) and not isinstance(time, bool):
        return float(time)
    try:
        return datetime.fromisoformat(time).timestamp() if isinstance(time, str) else None
    except ValueError:
        return None

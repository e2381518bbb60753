"""The messages of a conversation: LangChain's classes, and the messages that store them."""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from turnlog import InvalidInput, Message

_CLASSES: Final[dict[str, type[BaseMessage]]] = {
    "ai": AIMessage,
    "chat": ChatMessage,
    "function": FunctionMessage,
    "human": HumanMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
}
"""The classes by their `type`.  No other class is constructed from stored messages."""

_PLAIN: Final = {str, int, float, bool, bytes, type(None)}


def is_message(item: object) -> TypeGuard[BaseMessage]:
    """Return whether an item is a message of one of LangChain's six classes."""
    return isinstance(item, BaseMessage) and type(item) is _CLASSES.get(item.type)


def as_message(item: object) -> Message | None:
    """Return the message that stores a LangChain message, without the fields that have their default values.

    Returns:
        None if the message would not be loaded as it is.
    """
    if not is_message(item):
        return None
    data = {"type": item.type, **item.model_dump(exclude_defaults=True)}
    try:
        return Message.from_dict(data) if _is_plain(data) else None
    except InvalidInput:  # it is nested too deeply, or too large
        return None


def _is_plain(value: object) -> bool:
    """Return whether a value has only types of JSON, and bytes: a subclass, such as an enum, would lose its type."""
    if type(value) is dict:
        return all(type(name) is str and _is_plain(held) for name, held in value.items())
    if type(value) is list:
        return all(_is_plain(held) for held in value)
    return type(value) in _PLAIN


def from_message(message: Message) -> BaseMessage:
    """Return the LangChain message.  As in LangGraph's serializer, a message that is not valid is made unchecked."""
    data: dict[str, Any] = message.to_dict()
    kind = _CLASSES[data["type"]]
    try:
        return kind(**data)
    except ValueError:
        return kind.model_construct(**data)

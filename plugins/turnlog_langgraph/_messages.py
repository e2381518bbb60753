"""The messages of a conversation: LangChain's classes, and the messages that store them."""

from __future__ import annotations

from typing import Any, Final

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from turnlog import Message

_CLASSES: Final[dict[str, type[BaseMessage]]] = {
    "ai": AIMessage,
    "chat": ChatMessage,
    "function": FunctionMessage,
    "human": HumanMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
}
"""The classes by their `type`.  No other class is constructed from stored messages."""


def as_message(item: object) -> Message | None:
    """Return the message that stores a LangChain message; None: it would not be loaded as it is."""
    if not isinstance(item, BaseMessage) or type(item) is not _CLASSES.get(item.type):
        return None
    try:
        message = Message.from_dict(item.model_dump())
        return message if from_message(message) == item else None
    except ValueError:  # it holds values that are not JSON
        return None


def from_message(message: Message) -> BaseMessage:
    """Return the LangChain message.  As in LangGraph's serializer, a message that is not valid is made unchecked."""
    data: dict[str, Any] = message.to_dict()
    kind = _CLASSES[data["type"]]
    try:
        return kind(**data)
    except ValueError:
        return kind.model_construct(**data)

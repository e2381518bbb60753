"""The errors of LangGraph's tasks, which the adapter stores in LangGraph's own serialization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from turnlog import Message

_CHANNEL: Final = "__error__"
"""The channel to which LangGraph writes the error of a task."""


def error_of(messages: Sequence[Message]) -> str:
    """Return the error of the task whose writes are these messages of a turn; empty if they are no such writes."""
    if len(messages) < 2 or messages[0].role != "writes":
        return ""
    channels: Any = messages[0].get("channels")
    values: Any = messages[1].get("values")
    if not isinstance(channels, list) or _CHANNEL not in channels or not isinstance(values, list):
        return ""
    try:
        kind, data = values[channels.index(_CHANNEL)]
        found = msgspec.msgpack.decode(data) if kind == "msgpack" else None
    except (IndexError, TypeError, ValueError, msgspec.MsgspecError):
        found = None
    return found if isinstance(found, str) else "The error of the task cannot be shown."

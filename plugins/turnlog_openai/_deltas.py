"""Build the message of a streamed answer from its deltas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_WHOLE: Final = frozenset({"id", "index", "name", "role", "type"})
"""Entries that are sent whole, not in pieces; some servers repeat them in each delta."""


def add_delta(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add a delta to a message: append to texts, and find items of lists by their `index`."""
    for name, value in delta.items():
        held = message.get(name)
        if value is None:
            continue
        if isinstance(held, str) and isinstance(value, str):
            message[name] = (value or held) if name in _WHOLE else held + value
        elif isinstance(held, dict) and isinstance(value, dict):
            add_delta(held, value)
        elif isinstance(value, list):
            _add_items(message.setdefault(name, []), value)
        else:
            message[name] = value


def finished(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message for a request: without entries that are None or an empty list.

    Answers that were not streamed have such entries, and OpenAI refuses an empty list of tool calls.  The `index` of
    tool calls in deltas is removed.
    """
    kept = {name: value for name, value in message.items() if value is not None and value != []}
    if calls := kept.get("tool_calls"):
        kept["tool_calls"] = [{name: value for name, value in call.items() if name != "index"} for call in calls]
    return {"role": "assistant", **kept}


def _add_items(held: list[Any], items: list[Any]) -> None:
    for item in items:
        same = [one for one in held if isinstance(item, dict) and "index" in item and one.get("index") == item["index"]]
        if same:
            add_delta(same[0], item)
        else:
            held.append(item)

"""The stored form of the entries of a transcript, and the names of entries and batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, cast

from claude_agent_sdk import SessionStoreEntry

from turnlog import InvalidInput, Message


def as_message(entry: SessionStoreEntry) -> Message:
    """Return the stored form of an entry.

    An entry with a message of Anthropic is stored as this message, so that every part of turnlog can read it, with the
    other fields of the entry under `envelope`.  Any other entry is stored whole under `entry`, with its type as the
    content.  An entry that a message of turnlog cannot hold, such as one of more than 100 levels, is stored as JSON
    text.

    Raises:
        InvalidInput: The entry is not JSON.
    """
    envelope: dict[str, Any] = dict(entry)
    message = envelope.pop("message", None)
    kind = str(entry.get("type"))
    try:
        if isinstance(message, dict) and "envelope" not in message:
            return Message.from_dict({**message, "envelope": envelope})
        return Message.from_dict({"content": kind, "entry": entry})
    except InvalidInput:
        if (text := _json_of(entry)) is None:
            raise
        return Message.from_dict({"content": kind, "entry": text})


def as_entry(message: dict[str, Any]) -> SessionStoreEntry:
    """Return the entry of a stored message; the message may be changed."""
    if "envelope" in message:
        envelope = message.pop("envelope")
        return cast("SessionStoreEntry", {**envelope, "message": message})
    entry = message["entry"]
    return cast("SessionStoreEntry", json.loads(entry) if isinstance(entry, str) else entry)


def uuid_of(entry: SessionStoreEntry) -> str | None:
    """Return the uuid of an entry, by which a repeat is found; None: the entry is never a repeat.

    Raises:
        InvalidInput: The entry is not a dictionary.
    """
    if not isinstance(entry, dict):
        raise InvalidInput(f"an entry of a transcript must be a dict, not {type(entry).__name__}")
    uuid = entry.get("uuid")
    return uuid if isinstance(uuid, str) and uuid else None


def batch_id(entries: Sequence[SessionStoreEntry]) -> str | None:
    """Return the turn id of a batch, the same for each attempt to store it; None if no entry has a uuid."""
    names = [uuid_of(entry) for entry in entries]
    if not any(names):
        return None
    parts = [name or json.dumps(entry, default=repr) for name, entry in zip(names, entries, strict=True)]
    return sha256(json.dumps(parts).encode()).hexdigest()


def _json_of(entry: SessionStoreEntry) -> str | None:
    """Return an entry as JSON text; None if the text would stand for another value."""
    try:
        text = json.dumps(entry)
        return text if json.loads(text) == entry else None
    except (TypeError, ValueError, RecursionError):
        return None

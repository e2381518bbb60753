"""The stored form of entries and records.

A message is stored as the JSON of pydantic-ai, with one more entry, `turnlog`: the ids of the entry and of the entry
before it.  The last message of a save also holds the record of the conversation, so a session that is cut or copied
after any turn ends with the record of that save.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pydantic import ConfigDict, TypeAdapter
from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
from pydantic_core import to_json

from turnlog import InvalidInput, Message, Session

_OURS: Final = "turnlog"

_RECORDS: Final = TypeAdapter(
    list[ConversationRecord],  # a list, because the adapter of a dataclass takes no config
    config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64"),  # as in `ModelMessagesTypeAdapter`
)

JsonObject = dict[str, Any]


class StoredEntry(NamedTuple):
    """An entry whose message is not decoded yet."""

    id: str
    parent_id: str | None
    message: JsonObject


def encode_record(record: ConversationRecord) -> JsonObject:
    """Return the JSON of a record.

    Raises:
        InvalidInput: The record has a value that pydantic-ai could not read again.
    """
    try:
        data: JsonObject = _RECORDS.dump_python([record], mode="json", exclude_defaults=True)[0]
        data["format_version"] = record.format_version  # a later pydantic-ai may have another default
        decode_record(data)
    except ValueError as error:
        raise InvalidInput(f"conversation {record.conversation_id!r} cannot be stored as JSON: {error}") from error
    return data


def decode_record(data: object) -> ConversationRecord:
    """Return the record for its JSON."""
    return _RECORDS.validate_json(to_json([data]))[0]


def encode_save(entries: Sequence[ConversationEntry], record: JsonObject) -> list[JsonObject]:
    """Return the messages of a save: those of its entries, or an empty one, with the record in the last of them.

    Raises:
        InvalidInput: A message has a value that pydantic-ai could not read again.
    """
    try:
        messages: list[JsonObject] = ModelMessagesTypeAdapter.dump_python(
            [entry.message for entry in entries], mode="json"
        )
        _decode_messages(messages)
    except ValueError as error:
        raise InvalidInput(f"a message cannot be stored as JSON: {error}") from error
    for entry, message in zip(entries, messages, strict=True):
        message[_OURS] = {"entry": entry.id, "parent": entry.parent_id}
    messages = messages or [{_OURS: {}}]
    messages[-1][_OURS]["record"] = record
    return messages


def last_record(messages: Sequence[Message]) -> ConversationRecord | None:
    """Return the record of the last save in a part of a session; None if the part contains no save."""
    for message in reversed(messages):
        ours = message.get(_OURS)
        if isinstance(ours, dict) and "record" in ours:
            return decode_record(ours["record"])
    return None


def entries_of(session: Session) -> dict[str, StoredEntry]:
    """Return the entries in a part of a session, by their ids.  The messages of other programs are left out."""
    found: dict[str, StoredEntry] = {}
    for message in session.to_dicts():
        ours: Any = message.pop(_OURS, None)
        if isinstance(ours, dict) and "entry" in ours:
            found[ours["entry"]] = StoredEntry(ours["entry"], ours["parent"], message)
    return found


def decode_entries(entries: Sequence[StoredEntry]) -> list[ConversationEntry]:
    """Return entries with their messages."""
    messages = _decode_messages([entry.message for entry in entries])
    return [
        ConversationEntry(id=entry.id, parent_id=entry.parent_id, message=message)
        for entry, message in zip(entries, messages, strict=True)
    ]


def _decode_messages(messages: list[JsonObject]) -> list[ModelMessage]:
    return ModelMessagesTypeAdapter.validate_json(to_json(messages))  # `validate_python` would not read base64

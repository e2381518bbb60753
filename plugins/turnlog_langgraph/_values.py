"""The serialized form of values, and the digests of the items of lists."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from turnlog import Message

from ._messages import as_message, from_message, is_message

Blob: TypeAlias = "list[Any]"
"""A serialized value: the kind, as text, and the bytes."""

_MESSAGES: Final = "turnlog.messages"
"""The kind of a list of LangChain's messages: the bytes are the stored messages in MessagePack.

The bytes take two thirds of those of LangGraph's serializer, and are loaded in about 60 % of its time."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Message, ...]).decode


def dump(value: object, serde: SerializerProtocol) -> Blob:
    """Return a serialized value."""
    messages = as_messages(value, serde) if type(value) is list and value else None
    if messages is not None:
        return [_MESSAGES, _encode(messages)]
    kind, data = serde.dumps_typed(value)
    return [kind, bytes(data)]


def load(blob: Blob, serde: SerializerProtocol) -> Any:  # noqa: ANN401 - a value of the application
    """Return the value of a serialized one."""
    kind, data = blob
    if kind == _MESSAGES:
        return [from_message(message) for message in _decode(data)]
    return serde.loads_typed((kind, data))


def as_messages(items: list[Any], serde: SerializerProtocol) -> list[Message] | None:
    """Return the messages that store the items of a list; None: at least one item must be serialized."""
    if type(serde) is not JsonPlusSerializer:  # another serializer, also one derived from it, may encrypt
        return None
    messages: list[Message] = []
    for item in items:
        message = as_message(item)
        if message is None:
            return None
        messages.append(message)
    return messages


_FIELDS: Final = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_REPLACE_SURROGATES
    | ormsgpack.OPT_SERIALIZE_PYDANTIC
)
"""The options of LangGraph's serializer, and one to encode the fields of messages in a tenth of its time."""


class Digests(NamedTuple):
    """A digest of each item of a list, and about the number of bytes of all serialized items.

    A digest is Python's hash of bytes: 64 bits, with a key of the process.
    """

    items: list[int]
    size: int


def digests_of(items: list[Any], serde: SerializerProtocol) -> Digests:
    """Return the digests of a list."""
    found, size, default, plain = list[int](), 0, serde.dumps_typed, type(serde) is JsonPlusSerializer
    for item in items:
        if plain and is_message(item):
            data = ormsgpack.packb(item, default=default, option=_FIELDS)
            found.append(hash(data))
        else:
            kind, data = default(item)
            found.append(hash((kind, bytes(data))))
        size += len(data)
    return Digests(found, size)

"""`Message`: a message of a provider, stored verbatim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from sys import getsizeof

import msgspec

from ..errors import CorruptRecord, InvalidInput, TooLarge
from ..limits import MAX_VALUES
from .checks import check_mapping, kind_of
from .json_value import JSON, count, decode, decode_object, encode, recoded, text_of
from .stored import UNREADABLE


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, repr_omit_defaults=True):
    """A message of a provider: a role, content, tool calls and any other entries, stored verbatim.

    `user`, `assistant`, `system`, `tool` and `Message.from_dict` make and check messages.  Messages of every provider
    round-trip: `Message.from_dict(d).to_dict() == d`, with or without a role, unknown keys included.

    A message is immutable.  It keeps a role and a content that are strings as they are, and all other entries encoded.
    A string with lone surrogates is encoded.  Each access decodes an entry again, so callers never share a list of tool
    calls.  The fields with an underscore are the wire format (`docs/reference/format.md`); the constructor does not
    check them.
    """

    _role: str | None = msgspec.field(default=None, name="r")
    _content: str | None = msgspec.field(default=None, name="c")
    _rest: bytes | None = msgspec.field(default=None, name="x")

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Message:
        """Return the message for a provider's dictionary.

        Args:
            data: Values of `json`: strings, numbers, booleans, None, lists and dictionaries with string keys; or bytes.
                Values of subclasses, such as enums, become values of their base class.

        Raises:
            InvalidInput: `data` contains a value of another type; the error names the place.
            TooLarge: `data` is nested more than 100 levels deep, or contains more than 100,000 values, or an integer
                of more than 4,300 digits.
        """
        if type(data) is not dict:
            check_mapping(data, "a message", "{'role': 'user', 'content': 'Hello'}")
        rest = dict(data)
        role, content = rest.get("role"), rest.get("content")
        if type(role) is not str or not role.isascii():
            role = text_of(role)
        if role is not None:
            del rest["role"]
        if type(content) is not str or not content.isascii():
            content = text_of(content)
        if content is not None:
            del rest["content"]
        return cls(_role=role, _content=content, _rest=encode(rest, "message") if rest else None)

    def to_dict(self) -> dict[str, JSON]:
        """Return a new dictionary, equal to the dictionary from which the message was made."""
        if self._rest is not None:
            return to_dicts((self,))[0]
        data: dict[str, JSON] = {}
        if self._role is not None:
            data["role"] = self._role
        if self._content is not None:
            data["content"] = self._content
        return data

    def get(self, name: str, default: JSON = None) -> JSON:
        """Return one entry of the dictionary, or the default; a list or dictionary is a new object."""
        if self._rest is not None:
            rest = _entries(self._rest)
            if name in rest:
                return rest[name]
        value = self._role if name == "role" else self._content if name == "content" else None
        return default if value is None else value

    @property
    def is_plain(self) -> bool:
        """Whether the message has only a role and a text."""
        return self._rest is None

    @property
    def role(self) -> str | None:
        """The role; None if the provider's item has no role, or if UTF-8 cannot encode it."""
        return self._role

    @property
    def content(self) -> JSON:
        """The content: a string, or the provider's list of blocks; None if the message has no content."""
        return self._content if self._content is not None or self._rest is None else self.get("content")

    @property
    def text(self) -> str:
        """The content as plain text: the string, or the joined texts of the blocks; empty if it has no text."""
        content = self.content
        if isinstance(content, list):
            texts = (block.get("text") for block in content if isinstance(block, dict))
            return "".join(text for text in texts if isinstance(text, str))
        return content if isinstance(content, str) else ""

    @property
    def tool_calls(self) -> list[JSON]:
        """The tool calls in Chat Completions form; empty if the message has none."""
        calls = self.get("tool_calls") if self._rest is not None else None
        return calls if isinstance(calls, list) else []

    @property
    def size(self) -> int:
        """Estimated size of the encoded message in bytes: texts in UTF-8, other entries, and about 8 for the frame."""
        return size_of((self,))

    @property
    def memory(self) -> int:
        """Estimated size of the texts in the memory of this process, in bytes.

        A string takes one byte per character if it is ASCII, otherwise up to four, and more after it was encoded once.
        """
        size = getsizeof(self._role) + getsizeof(self._content)
        return size if self._rest is None else size + len(self._rest)

    def canonical(self) -> tuple[str | None, str | None, bytes | None]:
        """Return a value for digests, which is equal for equal dictionaries with any order of keys."""
        rest = self._rest
        return self._role, self._content, None if rest is None else recoded(rest)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        if self._role != other._role or self._content != other._content:
            return False
        return self._rest == other._rest or self.canonical() == other.canonical()

    def __hash__(self) -> int:
        return hash((self._role, self._content, self._rest is None))

    def __repr__(self) -> str:
        """Return a short text: the role, the beginning of the content, and the names of other entries."""
        parts = [self._role or "without a role"]
        if self._content is not None:
            size = len(self._content)
            parts.append(repr(self._content) if size <= 40 else f"{self._content[:39] + '…'!r} ({size} characters)")
        if self._rest is not None:
            parts.append(f"{_names_in(self._rest)} ({len(self._rest)} bytes)")
        return f"<Message {', '.join(parts)}>"


def _names_in(rest: bytes) -> str:
    """Return the names of encoded entries, without decoding their values."""
    try:
        names = ", ".join(_decode_names(rest))
    except UNREADABLE:
        return "unreadable"
    return names if len(names) <= 40 else f"{names[:39]}…"


_decode_names = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode


def to_dicts(messages: Iterable[Message]) -> list[dict[str, JSON]]:
    """Return a new dictionary for each message, equal to the dictionary from which it was made.

    Raises:
        CorruptRecord: A message cannot be decoded.
    """
    found: list[dict[str, JSON]] = []
    add = found.append
    for message in messages:  # a call for each message would double the time
        rest = message._rest
        if rest is None:
            add(message.to_dict())
            continue
        try:
            data = decode_object(rest) if len(rest) <= MAX_VALUES else _entries(rest)
        except UNREADABLE:
            data = _entries(rest)
        if message._content is not None:
            data = {"content": message._content, **data}
        if message._role is not None:
            data = {"role": message._role, **data}
        add(data)
    return found


def _entries(rest: bytes) -> dict[str, JSON]:
    """Return the encoded entries of a message.

    Raises:
        CorruptRecord: The bytes are not an encoded dictionary.
    """
    data = decode(rest)
    if type(data) is not dict:
        raise CorruptRecord(f"a message is not an object, but of type {type(data).__name__}")
    return data


MessageLike = Message | Mapping[str, object]
"""A `Message`, or its dictionary: methods that take messages accept both."""


def user(content: str | list[JSON], **more: object) -> Message:
    """Return a message of the user; `more` are further entries, such as `name`."""
    return Message.from_dict({"role": "user", "content": content, **more})


def assistant(content: str | list[JSON] | None = None, **more: object) -> Message:
    """Return a message of the model; `more` are further entries, such as `tool_calls`."""
    return Message.from_dict({"role": "assistant", "content": content, **more})


def system(content: str | list[JSON], **more: object) -> Message:
    """Return a system message: an instruction of the application to the model."""
    return Message.from_dict({"role": "system", "content": content, **more})


def tool(content: str | list[JSON], *, tool_call_id: str, **more: object) -> Message:
    """Return the result of a tool for the call with this id."""
    return Message.from_dict({"role": "tool", "content": content, "tool_call_id": tool_call_id, **more})


def as_message(item: MessageLike, where: str) -> Message:
    """Return a message, or the message for a dictionary; errors name `where`."""
    if type(item) is Message:
        return item
    if not isinstance(item, Mapping):
        hint = ": pass its model_dump()" if hasattr(item, "model_dump") else ""  # an object of an SDK with pydantic
        raise InvalidInput(
            f"{where} must be a Message such as user('Hello'), or a dictionary such as "
            f"{{'role': 'user', 'content': 'Hello'}}, not {kind_of(item)}{hint}"
        )
    try:
        return Message.from_dict(item)
    except InvalidInput as error:
        raise type(error)(f"{where}: {error}") from None


def as_messages(messages: Sequence[MessageLike]) -> tuple[Message, ...]:
    """Return messages as a tuple, with a message in place of each dictionary.

    Raises:
        InvalidInput: `messages` is not a list or tuple, or an item is not a message.
    """
    return tuple(_each(messages))


def as_turn(messages: Sequence[MessageLike]) -> tuple[Message, ...]:
    """Return the messages of one turn as `as_messages` does; refuse more values than a record may have.

    Raises:
        InvalidInput: `messages` is not a list or tuple, or an item is not a message.
        TooLarge: The messages have more than 100,000 values.
    """
    each = _each(messages)
    return tuple(each) if each is messages else _counted(each)


def size_of(messages: tuple[Message, ...]) -> int:
    """Return the sum of the sizes of messages (`Message.size`)."""
    size = 8 * len(messages)
    for message in messages:
        role, content, rest = message._role, message._content, message._rest
        if role is not None:
            size += len(role) if role.isascii() else len(role.encode())
        if content is not None:
            size += len(content) if content.isascii() else len(content.encode())
        if rest is not None:
            size += len(rest)
    return size


def check_messages(messages: tuple[Message, ...]) -> None:
    """Refuse messages that cannot be in one record.

    Raises:
        InvalidInput: An item is not a message.
        TooLarge: The messages have more than 100,000 values.
    """
    size = 0
    for message in messages:
        if type(message) is not Message:
            raise InvalidInput(f"messages must hold messages, not {type(message).__name__}")
        if message._rest is not None:
            size += len(message._rest)
    if size > MAX_VALUES:  # a value takes at least one byte
        _counted(messages)


def _each(messages: Sequence[MessageLike]) -> Iterable[Message]:
    if type(messages) is not list and type(messages) is not tuple:
        hint = ": put one message into [ ]" if isinstance(messages, Message | Mapping) else ""
        if isinstance(messages, str):
            hint = ": pass a list such as [user('Hello')]"
        raise InvalidInput(f"messages must be a list or tuple, not {kind_of(messages)}{hint}")
    for message in messages:
        if type(message) is not Message:
            return (as_message(item, f"messages[{place}]") for place, item in enumerate(messages))
    return messages


def _counted(messages: Iterable[Message]) -> tuple[Message, ...]:
    found: list[Message] = []
    size = counted = values = 0
    for message in messages:
        found.append(message)
        size += len(message._rest or b"")
        if size > MAX_VALUES:
            values += sum([count(one._rest) for one in found[counted:] if one._rest is not None])
            counted = len(found)
            if values > MAX_VALUES:
                raise TooLarge(
                    f"messages[{counted - 1}] brings the turn to more than {MAX_VALUES} values and names of values, "
                    "the limit: write the turn in rounds, or store large data as JSON in a string"
                )
    return tuple(found)

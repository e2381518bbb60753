"""A session as lines of JSON: how `SessionState` is kept in a file.

The first line is the header, the second the remembered changes as `[id, digest, version, number]`, then comes a line a
record: its head, and `messages` as they were given, or `payload` in base64 where a layer has changed the encoding.
Bytes are base64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from ._header import Header
from ._key import Key
from ._metadata import Metadata
from ._record import Record
from .errors import CorruptRecord, FormatTooNew, InvalidInput
from .message import Message

FORMAT = 1
"""The format of the lines; it stands in the first one."""

Changes: TypeAlias = "list[tuple[str, bytes, str, int | None]]"


class _Format(msgspec.Struct, frozen=True):
    turnlog: int


class _First(msgspec.Struct, frozen=True):
    turnlog: int
    header: Header


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    part: int
    open: bool
    time: float
    count: int
    rounds: int
    turns: int
    number: int
    end: int
    upto: int
    tip: bytes
    size: int
    messages: list[dict[str, Any]] | None = None
    payload: bytes | None = None


def _to_json(value: object) -> object:
    if isinstance(value, Metadata):
        return value.encoded
    raise NotImplementedError(type(value))


def _from_json(kind: type, value: object) -> object:
    if kind is Metadata:
        return Metadata(msgspec.convert(value, dict[str, bytes]))
    raise NotImplementedError(kind)


_encode = msgspec.json.Encoder(enc_hook=_to_json).encode
_decode_format = msgspec.json.Decoder(_Format).decode
_decode_first = msgspec.json.Decoder(_First, dec_hook=_from_json).decode
_decode_changes = msgspec.json.Decoder(list[tuple[str, bytes, str, int | None]]).decode
_decode_line = msgspec.json.Decoder(_Line).decode


def header(header: Header) -> bytes:
    """The first line."""
    return _encode(_First(FORMAT, header))


def changes(changes: Changes) -> bytes:
    """The second line."""
    return _encode(changes)


def record(record: Record) -> bytes:
    """The line of a record."""
    head = (record.id, record.part, record.open, record.time, record.count, record.rounds, record.turns)
    place = (record.number, record.end, record.upto, record.tip, record.size)
    if record.decoded and record.rounds == 1:
        return _encode(_Line(*head, *place, messages=[message.to_dict() for message in record.messages]))
    return _encode(_Line(*head, *place, payload=record.payload))


def parse(key: Key | None, lines: Sequence[bytes]) -> tuple[Header, Changes, list[Record]]:
    """Header, remembered changes and records behind the lines of a session.

    Raises:
        CorruptRecord: A line cannot be read, the lines belong to another session, or some are missing.
    """
    try:
        form = _decode_format(lines[0]).turnlog
        if form > FORMAT:
            raise FormatTooNew(f"it is kept in format {form}, this turnlog reads up to {FORMAT}", key=key)
        found = _decode_first(lines[0]).header
        changes = _decode_changes(lines[1])
    except (msgspec.MsgspecError, InvalidInput, IndexError) as error:
        raise CorruptRecord(f"its first lines cannot be read: {error}", key=key) from None
    if key is not None and found.key != key:
        raise CorruptRecord(f"what is kept in its place belongs to {found.key}", key=key)
    records = [_record(found.key, line) for line in lines[2:]]
    if (records[-1].end if records else 0) != found.version.rounds:
        raise CorruptRecord("its last records are missing", key=found.key)
    return found, changes, records


def _record(key: Key, text: bytes) -> Record:
    try:
        line = _decode_line(text)
        messages = None if line.messages is None else tuple(Message.from_dict(data) for data in line.messages)
    except (msgspec.MsgspecError, InvalidInput) as error:
        raise CorruptRecord(f"a record's line cannot be read: {error}", key=key) from None
    head = (line.id, line.part, line.open, line.time, line.count, line.rounds, line.turns)
    return Record(
        *head, line.number, line.end, line.upto, line.tip, _payload=line.payload, _messages=messages, _size=line.size
    )

"""The form of a `SessionState` in a file: lines of JSON.

The first line is the header.  The second line has the remembered changes as `[id, digest, version, number]`.  Each
further line is a record: its head, and `messages`, or `payload` if a layer has changed the encoding.  Bytes are base64.

Each line is an object whose last member is `crc32`: zlib's CRC-32, in 8 hexadecimal digits, over the text before the
comma that precedes this member.  The CRC-32 starts with the key, except in the first line, which contains the key.
`docs/reference/format.md` specifies the form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, cast
from zlib import crc32

import msgspec

from ..errors import CorruptRecord, FormatTooNew
from ..values.json_form import from_json, to_json
from ..values.json_value import JSON
from ..values.key import Key, start_of
from ..values.message import Message, as_message, to_dicts
from ..values.metadata import Metadata
from ..values.record import HEAD_FIELDS, Record
from ..values.stored import UNREADABLE, Count, Finite, Several
from ..values.version import Version
from .header import Header
from .plan import Remembered

FORMAT: Final = 1
"""The version of the format, which the first line contains."""

Changes: TypeAlias = "list[tuple[str, Remembered]]"

_DIGEST: Final = b',"crc32":"%08x"}'
_DIGEST_SIZE: Final = len(_DIGEST % 0)


class _Format(msgspec.Struct, frozen=True):
    turnlog: int


class _First(msgspec.Struct, frozen=True):
    turnlog: int
    header: Header


class _Second(msgspec.Struct, frozen=True):
    changes: list[tuple[str, bytes, str, Count | None]]


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    part: Count
    open: bool
    time: Finite
    count: Count
    rounds: Several
    turns: Count
    number: Count
    rounds_until: Count
    messages_until: Count
    tip: bytes
    size: Count
    messages: list[dict[str, Any]] | None = None
    payload: bytes | None = None


def _to_json(metadata: Metadata) -> Mapping[str, bytes]:
    """Encode metadata, the only value of a line that msgspec cannot encode."""
    return metadata.encoded


def _from_json(_: type, value: object) -> Metadata:
    return Metadata(msgspec.convert(value, dict[str, bytes]))


_encode_object = msgspec.json.Encoder(enc_hook=_to_json).encode
_decode_format = msgspec.json.Decoder(_Format).decode
_decode_first = msgspec.json.Decoder(_First, dec_hook=_from_json).decode
_decode_second = msgspec.json.Decoder(_Second).decode
_decode_line = msgspec.json.Decoder(_Line).decode


def _encode(value: _First | _Second | _Line, start: int) -> bytes:
    body = _encode_object(value)[:-1]
    return body + _DIGEST % crc32(body, start)


def _check(line: bytes, start: int) -> None:
    if line[-_DIGEST_SIZE:] != _DIGEST % crc32(line[:-_DIGEST_SIZE], start):
        raise ValueError("its digest does not match its contents: it was damaged, or belongs to another session")


def header(header: Header) -> bytes:
    """Return the first line."""
    return _encode(_First(FORMAT, header), 0)


def changes(key: Key, changes: Changes) -> bytes:
    """Return the second line."""
    return _encode(_Second([(id, one.digest, str(one.version), one.number) for id, one in changes]), start_of(key))


def record(key: Key, record: Record) -> bytes:
    """Return the line of a record."""
    head: dict[str, Any] = {name: getattr(record, name) for name in HEAD_FIELDS}
    if record.decoded and record.rounds == 1:
        head["messages"] = [to_json(data) for data in to_dicts(record.messages)]
    else:
        head["payload"] = record.payload
    return _encode(_Line(**head, size=record.size), start_of(key))


def parse(header: Header, lines: Sequence[bytes]) -> tuple[Changes, list[Record]]:
    """Return the remembered changes and the records from the lines of a session.

    Args:
        header: The header, from `parse_header`.
        lines: All lines, the header included.

    Raises:
        CorruptRecord: A line cannot be read or belongs to another session, or lines are missing.
    """
    start = start_of(header.key)
    try:
        _check(lines[1], start)
        second = _decode_second(lines[1]).changes
        changes = [(id, Remembered(digest, Version.parse(version), number)) for id, digest, version, number in second]
    except UNREADABLE as error:
        raise CorruptRecord(f"the changes that it remembers cannot be read: {error}", key=header.key) from None
    return changes, _records(header, lines[2:], start)


def parse_header(key: Key | None, lines: Sequence[bytes]) -> Header:
    """Return the header from the lines of a session.

    Args:
        key: The session that the lines must belong to; None: any session.
        lines: The lines; only the first line is read.

    Raises:
        CorruptRecord: The first line cannot be read, or belongs to another session.
    """
    try:
        _check(lines[0], 0)
        form = _decode_format(lines[0]).turnlog
        if form > FORMAT:
            raise FormatTooNew(f"it has format {form}, this turnlog reads up to {FORMAT}: upgrade turnlog", key=key)
        found = _decode_first(lines[0]).header
    except UNREADABLE as error:
        raise CorruptRecord(f"its first line cannot be read: {error}", key=key) from None
    if key is not None and found.key != key:
        raise CorruptRecord(f"its place holds another session, {found.key}", key=key)
    return found


def _records(header: Header, lines: Sequence[bytes], start: int) -> list[Record]:
    records: list[Record] = []
    until = header.start
    turn: int | None = header.first
    for line in lines:
        record = _record(line, header.key, turn, start)
        if record.messages_until - record.count != until:
            raise CorruptRecord("lines before it are missing, or not in order", key=header.key, turn=record.number)
        records.append(record)
        until = record.messages_until
        turn = None if record.open else record.next_turn  # another round may follow an open round
    if until != header.messages_until:
        raise CorruptRecord("its last lines are missing", key=header.key, turn=turn)
    return records


def _message(form: dict[str, Any]) -> Message:
    return as_message(cast("dict[str, JSON]", from_json(form)), "a message")


def _record(text: bytes, key: Key, turn: int | None, start: int) -> Record:
    try:
        _check(text, start)
        line = _decode_line(text)
        messages = None
        if line.messages is not None:
            messages = tuple(map(_message, line.messages))
        if messages is not None and (line.rounds, line.count) != (1, len(messages)):
            raise ValueError(f"it holds {len(messages)} messages, its head states {line.count}")
        head = {name: getattr(line, name) for name in HEAD_FIELDS}
        return Record.from_parts(head, messages=messages, payload=line.payload, size=line.size)
    except UNREADABLE as error:
        raise CorruptRecord(f"a record's line cannot be read: {error}", key=key, turn=turn) from None

"""The lines of an export (`docs/reference/export-format.md`)."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from turnlog import InvalidInput, Message, Metadata, Record, SessionInfo, Times
from turnlog.errors import TooLarge
from turnlog.limits import MAX_DEPTH
from turnlog.values import JSON, as_message, from_json, to_json

NAME: Final = "turnlog-export"
"""The name of the format, in the first line."""

VERSION: Final = 1
"""The version of the format, in the first line.  A reader refuses a higher one."""


class First(msgspec.Struct):
    """The first line."""

    format: str
    version: int


class SessionLine(msgspec.Struct, tag="session", tag_field="kind", omit_defaults=True):
    """The line of a session; the lines of its rounds follow.

    Attributes:
        session: The session id.
        first: The number of the first turn that follows.
        turns: One more than the number of the last turn.
        messages: The number of messages that follow.
        owner: The owner; empty: none.
        ttl: The session's own time to live in seconds; None: none.
        metadata: The metadata, each value in its JSON form.
        namespace: The namespace, in an export of all namespaces.
        created: The time of the session's creation, in seconds since 1970.
        updated: The time at which turns were last written or cut, in seconds since 1970.
        expires: The time at which the session expires unless it is used, in seconds since 1970; None: never, or
            unknown.
    """

    session: str
    first: int
    turns: int
    messages: int
    owner: str = ""
    ttl: float | None = None
    metadata: dict[str, Any] = {}
    namespace: str | None = None
    created: float | None = None
    updated: float | None = None
    expires: float | None = None

    @classmethod
    def of(cls, info: SessionInfo, namespace: str | None, now: float) -> SessionLine:
        """Return the line of a session.

        Args:
            info: The session.
            namespace: The namespace for the line; None: none.
            now: The time of the read, in seconds since 1970.
        """
        return cls(
            session=info.key.session,
            first=info.first,
            turns=info.turns,
            messages=info.messages,
            owner=info.owner,
            ttl=info.ttl,
            metadata={name: to_json(value) for name, value in info.metadata.items()},
            namespace=namespace,
            created=info.created,
            updated=info.updated,
            expires=None if info.expires_in is None else now + info.expires_in,
        )

    def times(self) -> Times | None:
        """Return the session's times; None if the line does not have them.

        Raises:
            InvalidInput: A time is out of bounds.
        """
        if self.created is None or self.updated is None:
            return None
        return Times(self.created, self.updated, self.expires)

    def all_metadata(self) -> Metadata:
        """Return all metadata.

        Raises:
            InvalidInput: A value breaks a rule.
        """
        return Metadata.of({name: _value(value, f"metadata.{name}") for name, value in self.metadata.items()})


class RoundLine(msgspec.Struct, tag="round", tag_field="kind", omit_defaults=True):
    """The line of one round of a turn.

    Attributes:
        turn: The number of the turn.
        id: The turn's id.
        time: The time of the turn, in seconds since 1970.
        messages: The messages, in their JSON form.
        part: The number of the round within the turn, from 0.
        open: Whether the turn was open for more rounds.
    """

    turn: int
    id: str
    time: float
    messages: list[dict[str, Any]]
    part: int = 0
    open: bool = False

    @classmethod
    def of(cls, record: Record) -> RoundLine:
        """Return the line of a round."""
        messages: list[Any] = [to_json(message.to_dict()) for message in record.messages]
        return cls(record.number, record.id, record.time, messages, record.part, record.open)

    def record(self) -> Record:
        """Return the round as a record.

        Raises:
            InvalidInput: A value breaks a rule.
        """
        messages = tuple([_message(item, place) for place, item in enumerate(self.messages)])
        record = Record.of(messages, id=self.id, time=self.time, part=self.part, open=self.open)
        return record.placed(number=self.turn, rounds_until=0, messages_until=0, tip=b"")


class EndLine(msgspec.Struct, tag="end", tag_field="kind", omit_defaults=True):
    """The last line; an export without it is incomplete.

    Attributes:
        sessions: The number of sessions in the export.
        damaged: The number of sessions that are left out because they cannot be read.
    """

    sessions: int
    damaged: int = 0


Line = SessionLine | RoundLine | EndLine

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode
_decode_first = msgspec.json.Decoder(First).decode

FIRST: Final = _encode(First(NAME, VERSION)) + b"\n"
"""The encoded first line."""


def encode_line(line: Line) -> bytes:
    """Return a line as UTF-8, with its end."""
    return _encode(line) + b"\n"


def is_export(text: bytes) -> bool:
    """Return whether a file that begins with this line is an export.

    Raises:
        InvalidInput: It is an export in a newer version of the format.
    """
    try:
        first = _decode_first(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    if first.format != NAME:
        return False
    if first.version > VERSION:
        raise InvalidInput(
            f"the export has version {first.version} of the format, but this turnlog reads only up to version "
            f"{VERSION}: upgrade turnlog"
        )
    return True


class CutOff(InvalidInput):
    """The file ends in the middle of a line."""


def decode_line(text: bytes) -> Line:
    """Decode a line of an export.

    Raises:
        CutOff: The text is not a line of an export, and does not end with the end of a line.
        InvalidInput: The text is not a line of an export.
    """
    try:
        return _decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        if not text.endswith(b"\n"):
            raise CutOff("the file ends in the middle of this line, so it is incomplete: export it again") from None
        raise InvalidInput(f"this is not a line of an export ({error}): export it again") from None


def _message(item: dict[str, Any], place: int) -> Message:
    where = f"messages[{place}]"
    return as_message(cast("dict[str, JSON]", _value(item, where)), where)


def _value(form: object, where: str) -> JSON:
    try:
        return from_json(form)
    except ValueError as error:
        raise InvalidInput(f"{where}: {error}") from None
    except RecursionError:
        raise TooLarge(f"{where} is nested deeper than {MAX_DEPTH} levels") from None

"""Read the lines of an export, and check that none is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from turnlog import InvalidInput, Record
from turnlog.errors import TooLarge, TurnlogError

from . import _documents
from ._documents import Line
from ._format import CutOff, EndLine, RoundLine, SessionLine, decode_line

_MESSAGES: Final = 1_000
"""Largest number of messages in a part, approximately."""

_BYTES: Final = 4 * 1024 * 1024
"""Largest size of the lines of a part in bytes, approximately."""


class Part(NamedTuple):
    """A part of a session.

    Attributes:
        head: The session's line.
        records: The next rounds.
        begins: Whether this is the first part.
        ends: Whether this is the last part.
    """

    head: SessionLine
    records: tuple[Record, ...]
    begins: bool
    ends: bool


class _Session:
    """A session whose lines are being read."""

    def __init__(self, number: int, head: SessionLine) -> None:
        self.number = number
        self.head = head
        self.records: list[Record] = []
        self.size = 0
        self._begins = True
        self._last: Record | None = None
        self._messages = 0

    def add(self, record: Record, size: int) -> None:
        """Add a round.

        Raises:
            InvalidInput: The round does not follow the one before.
        """
        last, number = self._last, record.number
        wanted = self.head.first if last is None else last.number + record.turns
        if number != wanted or (not record.turns and (last is None or not record.follows(last))):
            after = "the session's line" if last is None else f"round {last.part} of turn {last.number}"
            raise InvalidInput(
                f"round {record.part} of turn {number} does not follow {after}: a line is missing or out of place"
            )
        self._last = record
        self._messages += record.count
        self.records.append(record)
        self.size += size

    @property
    def is_full(self) -> bool:
        """Whether the rounds are enough for a part."""
        return self.size > _BYTES or sum([record.count for record in self.records]) > _MESSAGES

    def part(self, *, ends: bool) -> Part:
        """Return the rounds since the last part.

        Raises:
            InvalidInput: This is the last part, and rounds are missing.
        """
        turns = self.head.first if self._last is None else self._last.next_turn
        if ends and (turns, self._messages) != (self.head.turns, self.head.messages):
            raise InvalidInput(
                f"session {self.head.session!r} ends after turn {turns - 1} and {self._messages} messages, but its "
                f"line states turn {self.head.turns - 1} and {self.head.messages} messages: lines are missing"
            )
        part = Part(self.head, tuple(self.records), self._begins, ends)
        self.records, self.size, self._begins = [], 0, False
        return part


def read_export(lines: Iterator[Line]) -> Iterator[tuple[int, int, Part | TurnlogError | None]]:
    """Yield for each line its number, its size in bytes, and a part of a session, an error, or None.

    After an error, the rest of the session is skipped.

    Args:
        lines: The lines after the first.
    """
    session: _Session | None = None
    number, sessions, end = 1, 0, False
    for number, text, size in lines:
        try:
            if text is None:
                raise TooLarge(
                    f"the line has more than {_documents.MAX_LINE_BYTES} bytes: no export writes such a line"
                )
            if not text.strip():
                yield number, size, None
                continue
            if end:
                raise InvalidInput("a line follows the last line of the export")
            line = decode_line(text)
            if isinstance(line, RoundLine):
                if session is None:
                    if not sessions:
                        raise InvalidInput("a round comes before the line of its session")
                    yield number, size, None  # a round of a failed session
                    continue
                session.add(line.record(), size)
                yield (session.number, size, session.part(ends=False)) if session.is_full else (number, size, None)
                continue
            if session is not None:
                begun, session = session, None
                try:
                    yield begun.number, 0, begun.part(ends=True)
                except InvalidInput as error:
                    yield begun.number, 0, error
            if isinstance(line, EndLine):
                end = True
                if line.sessions != sessions:
                    raise InvalidInput(f"the last line states {line.sessions} sessions, but the file has {sessions}")
                if line.damaged:
                    raise InvalidInput(
                        f"{line.damaged} sessions are missing in the export, because they could not be read"
                    )
                yield number, size, None
            else:
                sessions += 1
                session = _Session(number, line)
                yield number, size, None
        except TurnlogError as error:
            session = None
            end = end or isinstance(error, CutOff)  # one error is enough for both the line and the file
            yield number, size, error
    if session is not None or not end:
        yield number, 0, InvalidInput("the export is incomplete, its last line is missing: export it again")

"""Parts of a session: a page of turns, and the form in which the backend stores them.  No time to live is restarted."""

from __future__ import annotations

from typing import Final, NamedTuple

from turnlog import CorruptRecord, Record, Session, SessionInfo, Store, TooLarge, Turn
from turnlog.layers import stack_of
from turnlog.limits import MAX_NUMBER
from turnlog.payload import CODECS, PLAIN, unwrap

from ._conversation import turns_of

AT_ONCE: Final = 60
"""Number of messages on a page; a page holds whole turns."""

TURNS: Final = 20
"""The largest number of turns on a page that begins at a turn."""

_LARGEST: Final = 64_000_000
"""The largest session that is read whole, in bytes."""


class Window(NamedTuple):
    """Successive turns of a session.

    Attributes:
        info: The info of the session.
        turns: The turns, and an error for each damaged one.
    """

    info: SessionInfo
    turns: list[Turn | CorruptRecord]

    @property
    def first(self) -> int:
        """The number of the first turn; the number of the next turn if there are none."""
        return number_of(self.turns[0]) if self.turns else self.info.turns

    @property
    def has_earlier(self) -> bool:
        """True if the session has earlier turns."""
        return bool(self.turns) and self.first > self.info.first

    @property
    def next(self) -> int | None:
        """The number of the turn after these; None: these are the last turns."""
        last = number_of(self.turns[-1]) if self.turns else self.info.turns
        return last + 1 if last + 1 < self.info.turns else None


def number_of(turn: Turn | CorruptRecord) -> int:
    """Return the number of a turn, also if it is damaged."""
    return turn.number if isinstance(turn, Turn) else turn.turn or 0


async def newest(view: Store, session_id: str, *, before: int | None = None) -> Window:
    """Return the last turns, or the last turns before a turn.

    If one of them is damaged, return this one and the turns after it.

    Raises:
        SessionNotFound: The session does not exist, or has expired.
        CorruptRecord: The header of the session is damaged.
    """
    try:
        session = await view.session(session_id, last=AT_ONCE, before=before, touch=False)
    except CorruptRecord as error:
        return await _after_damage(view, session_id, before, error)
    return Window(session.info, [*turns_of(session)])


async def _after_damage(view: Store, session_id: str, before: int | None, error: CorruptRecord) -> Window:
    """Return the last damaged turn, and the turns after it: search the largest window that can be read."""
    session = await view.session(session_id, last=0, before=before, touch=False)
    readable, damaged = 0, AT_ONCE
    while damaged - readable > 1:
        middle = (readable + damaged) // 2
        try:
            session = await view.session(session_id, last=middle, before=before, touch=False)
        except CorruptRecord as found:
            damaged, error = middle, found
        else:
            readable = middle
    turns = [*turns_of(session)]
    end = number_of(turns[0]) if turns else session.info.turns if before is None else before
    error.turn = end - 1 if error.turn is None else min(error.turn, end - 1)  # a sealed run begins earlier
    return Window(session.info, [error, *turns])


async def beginning_at(view: Store, session_id: str, number: int, *, most: int = TURNS) -> Window:
    """Return the turns from a number on, `most` at the most.

    Raises:
        SessionNotFound: The session does not exist, or has expired.
    """
    before = min(number + most, MAX_NUMBER)
    found = await newest(view, session_id, before=before)
    while found.has_earlier and found.first > number:
        earlier = await newest(view, session_id, before=found.first)
        found = Window(earlier.info, earlier.turns + found.turns)
    return Window(found.info, [turn for turn in found.turns if number_of(turn) >= number])


async def whole(view: Store, session_id: str) -> Session:
    """Return a session with all turns.

    Raises:
        SessionNotFound: The session does not exist, or has expired.
        TooLarge: The session is too large for a page.
        CorruptRecord: A turn is damaged.
    """
    info = await view.info(session_id)
    if info.bytes > _LARGEST:
        raise TooLarge(
            f"session {session_id!r} has {info.bytes:,} bytes, and the limit of a page with all turns is {_LARGEST:,}: "
            "use the commands 'turnlog show' and 'turnlog export'"
        )
    return await view.session(session_id, touch=False)


class Stored(NamedTuple):
    """The form in which the backend stores some turns.

    Attributes:
        records: Number of records.
        sealed: The first and the last turn of each sealed run.
        codecs: The names of their codecs.
        stored: Size in bytes.
        plain: Size in bytes before compression.
    """

    records: int
    sealed: tuple[tuple[int, int], ...]
    codecs: tuple[str, ...]
    stored: int
    plain: int


async def stored_form(view: Store, window: Window) -> Stored | None:
    """Return the form of the records with the turns of a window, below all layers; None if one is damaged."""
    *_, backend = stack_of(view.backend)
    try:
        session = await backend.read(window.info.key, last=AT_ONCE, before=window.next, touch=False)
    except CorruptRecord:
        return None
    records = [record for record in session.records if record.next_turn > window.first]
    sealed = tuple((record.number, record.next_turn - 1) for record in records if record.rounds > 1)
    codecs = sorted({_codec_of(record) for record in records})
    stored, plain = sum(_length(record) for record in records), sum(record.size for record in records)
    return Stored(len(records), sealed, tuple(codecs), stored, plain)


def _codec_of(record: Record) -> str:
    if record.decoded:
        return "none"
    try:
        codec = unwrap(record.payload).codec
    except CorruptRecord:
        return "unknown"
    return "none" if codec == PLAIN else CODECS.get(codec, f"codec {codec}")


def _length(record: Record) -> int:
    return record.size if record.decoded else len(record.payload)


def parting(ours: list[Turn | CorruptRecord], theirs: list[Turn | CorruptRecord]) -> int:
    """Return the number of equal turns at the beginning of two lists."""
    for place, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if isinstance(one, CorruptRecord) or isinstance(other, CorruptRecord) or one.messages != other.messages:
            return place
    return min(len(ours), len(theirs))

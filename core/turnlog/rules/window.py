"""Windows, the fewest whole turns at the end that hold a number of messages, and the check that a read is complete."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter

from ..errors import CorruptRecord
from ..values.record import Record
from ..values.session import Session
from ..values.version import Version
from .header import Header, gap

_messages_until = attrgetter("messages_until")


def window(records: Sequence[Record], last: int, start: int = 0, stop: int | None = None) -> int:
    """Return the index of the first record of the fewest whole turns that end at `stop` and hold `last` messages.

    Args:
        records: The records of a session, in order.
        last: Minimum number of messages in the turns; 0: no turns.
        start: The smallest index to return, which should begin a turn.
        stop: The end of the window; None: the end of the records.
    """
    if stop is None:
        stop = len(records)
    if last == 0 or start == stop:
        return stop
    wanted = records[stop - 1].messages_until - last
    if wanted <= records[start].messages_until - records[start].count:
        return start
    place = stop - (last + 1) // 2  # most turns are a question and an answer: look there first
    if place <= start or not records[place - 1].messages_until <= wanted < records[place].messages_until:
        # an empty round, which closes its turn, follows a round with messages
        place = bisect_right(records, wanted, max(start, stop - 2 * last), stop, key=_messages_until)
    while not records[place].turns and place > start:
        place -= 1
    return place


def newest(records: Iterable[Record], last: int) -> list[Record]:
    """Return the same window from records that are read backwards, and read no more records than it needs.

    Args:
        records: The records of a session, the last record first.
        last: Minimum number of messages in the turns, from 1.
    """
    found: list[Record] = []
    for record in records:
        found.append(record)
        last -= record.count
        if last <= 0 and record.turns:
            break
    found.reverse()
    return found


def exact(session: Session, last: int | None, before: int | None) -> Session:
    """Return the session with only the requested turns: sealed records are split and cut.

    Args:
        session: The answer of `Backend.read`.
        last: As in `Backend.read`.
        before: As in `Backend.read`.

    Returns:
        The session itself, if it holds only these turns.

    Raises:
        CorruptRecord: A sealed record cannot be read.
    """
    stored = session.records
    if not stored:
        return session
    first, final = stored[0], stored[-1]
    plain = final.rounds_until - first.rounds_until == len(stored) - first.rounds  # nothing is sealed
    if plain and (last is None or final.messages_until - first.messages_until < last):
        return session  # without its first record it would hold too few messages
    parts = [part for record in stored for part in _split(session, record)]
    records = [part for part in parts if before is None or part.number < before]
    if last is not None:
        del records[: window(records, last)]
    return Session(session.info, tuple(records), session.continues)


def cut_off(session: Session, before: int) -> int:
    """Return the number of messages that `exact` cuts off the end.

    If `before` falls inside a sealed record, these are the messages from turn `before` on.
    """
    if not session.records or session.records[-1].next_turn <= before:
        return 0
    return sum(part.count for part in _split(session, session.records[-1]) if part.number >= before)


def _split(session: Session, record: Record) -> tuple[Record, ...]:
    try:
        return record.split()
    except CorruptRecord as error:
        error.key = session.info.key
        raise


def check_whole(
    header: Header, records: Sequence[Record], last: int | None, before: int | None, since: Version | None
) -> None:
    """Refuse an incomplete answer, which comes from a damaged session.

    Args:
        header: The header of the session.
        records: The records that were read.
        last: As in `Backend.read`.
        before: As in `Backend.read`.
        since: As in `Backend.read`, if `records` continue this version; otherwise None.

    Raises:
        CorruptRecord: A record is missing, or is in the wrong place.
    """
    if last == 0 and since is None:
        return
    if not records:
        if since is not None:
            stored = since.rounds < header.version.rounds
        else:
            stored = header.messages_until > header.start and (before is None or before > header.first)
        if stored:
            raise gap(header, header.first)
        return
    first, end = records[0], records[0].rounds_until - records[0].rounds
    if since is not None:
        begins = end == since.rounds
    elif last is None or first.number <= header.first:
        begins = first.number == header.first and first.messages_until - first.count == header.start
    else:
        begins = first.turns > 0 and records[-1].messages_until - first.messages_until + first.count >= last
    if not begins:
        raise gap(header, header.first if since is None else first.number - 1)
    for record in records:
        end += record.rounds
        if record.rounds_until != end:
            raise gap(header, record.number - 1)
    final = records[-1]
    if before is not None and final.number >= before:
        raise gap(header, before)
    if before is None or final.next_turn >= header.turns:
        version = header.version
        if (end, final.messages_until, final.tip) != (version.rounds, header.messages_until, version.tip):
            raise gap(header, final.next_turn)
    elif before > final.next_turn:
        raise gap(header, final.next_turn)

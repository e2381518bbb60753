"""`copy_change`: the change that creates a copy of a session."""

from __future__ import annotations

from ..errors import CorruptRecord, SplitsSealed
from ..values.change import ABSENT, Change, copy_digest
from ..values.key import Key
from ..values.session import Session

__all__ = ["copy_change"]


def copy_change(source: Key, session: Session, at: int | None, change_id: str, for_owner: str | None) -> Change:
    """Return the change that creates the copy.

    Args:
        source: The session to copy.
        session: The snapshot of the source, up to `at`.
        at: As in `Backend.copy`.
        change_id: As in `Backend.copy`.
        for_owner: As in `Backend.copy`.

    Raises:
        SplitsSealed: `at` falls inside a sealed record that only a layer can open.
        CorruptRecord: `at` falls inside a sealed record that cannot be read.
    """
    info, records = session.info, session.records
    if at is not None and records and records[-1].next_turn > at:
        last = records[-1]
        if not last.plain:
            raise SplitsSealed(
                f"turns {last.number} to {last.next_turn - 1} of session {source} are sealed in one record, and "
                f"turn {at} is inside: put the layer that wrote it over the backend",
                boundary=last.number,
            )
        try:
            records = (*records[:-1], last.until(at))
        except CorruptRecord as error:
            error.key = source
            raise
    return Change(
        id=change_id,
        append=records,
        metadata=info.metadata,
        owner=info.owner,
        ttl=info.ttl,
        expect=ABSENT,
        for_owner=for_owner,
        first=info.first if at is None else min(at, info.first),
        asked=copy_digest(source, at),
    )

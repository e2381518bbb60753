"""The result of importing one session."""

from __future__ import annotations

from typing import Literal, NamedTuple

from turnlog import TurnlogError


class ImportResult(NamedTuple):
    """The result of importing one session, or of a part of the file that cannot be read.

    Attributes:
        line: The number of the line where it begins, from 1.
        session: The session id; None if it cannot be read.
        outcome: `stored`, `extended`, `unchanged`; `empty`: the conversation has no messages, so no session is created;
            `expired`: the time to live of the session is over, nothing was stored; `different`: the stored session does
            not fit, nothing was changed; or `failed`.
        written: How many messages were written.
        dropped: How many turns the store's `retain` has dropped of those that were written.
        notices: Notes for people.
        error: Why it is different or has failed.
    """

    line: int
    session: str | None
    outcome: Literal["stored", "extended", "unchanged", "empty", "expired", "different", "failed"]
    written: int = 0
    dropped: int = 0
    notices: tuple[str, ...] = ()
    error: TurnlogError | None = None

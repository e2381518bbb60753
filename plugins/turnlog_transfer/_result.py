"""The result of importing one session."""

from __future__ import annotations

from typing import Literal, NamedTuple

from turnlog import TurnlogError


class ImportResult(NamedTuple):
    """The result of importing one session, or of a part of the file that cannot be read.

    Attributes:
        line: The number of its first line, from 1.
        session: The session id; None if it cannot be read.
        outcome: `stored`, `extended`, `unchanged`; `empty`: the conversation has no messages, so no session is created;
            `expired`: the session has expired, nothing was stored; `different`: the existing session differs, nothing
            was changed; or `failed`.
        written: The number of written messages.
        dropped: The number of written turns that the store's `retain` has dropped.
        notices: Notes for people.
        error: The reason for `different` or `failed`.
    """

    line: int
    session: str | None
    outcome: Literal["stored", "extended", "unchanged", "empty", "expired", "different", "failed"]
    written: int = 0
    dropped: int = 0
    notices: tuple[str, ...] = ()
    error: TurnlogError | None = None

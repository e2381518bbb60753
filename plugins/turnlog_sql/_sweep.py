"""The removal of expired sessions as steps."""

from __future__ import annotations

from ._operations import Steps
from ._statements import Statements


def any_expired(statements: Statements, now: float) -> Steps[bool]:
    """Return whether a sweep would remove a session."""
    rows = yield statements.expired, statements.expired.bind({"now": now, "limit": 1})
    return bool(rows)


def count_expired(statements: Statements, now: float) -> Steps[tuple[int, float]]:
    """Return the number of expired sessions that are still stored, and the time of the last expiry among them.

    Args:
        statements: The statements of the database.
        now: As in `read`.
    """
    ((count, last),) = yield statements.count_expired, statements.count_expired.bind({"now": now})
    return count, last or 0.0


def sweep(statements: Statements, now: float, limit: int) -> Steps[int]:
    """Remove expired sessions; return their number.

    Args:
        statements: The statements of the database.
        now: As in `read`.
        limit: The largest number of sessions to remove.
    """
    rows = yield statements.expired, statements.expired.bind({"now": now, "limit": limit})
    if rows:
        for statement in statements.delete:
            yield statement, [statement.bind({"row": row[0]}) for row in rows]
    return len(rows)

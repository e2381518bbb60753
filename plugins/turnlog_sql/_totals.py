"""The number and the size of the sessions of a namespace as steps."""

from __future__ import annotations

from typing import Final

from turnlog import CorruptRecord, Totals

from ._operations import Steps
from ._rows import Row
from ._statements import Statements, Value

_AFTER_ALL: Final = b"\xff"  # sorts after every session id, because it is not valid UTF-8


def totals(
    statements: Statements, namespace: str, now: float, after: bytes, many: int
) -> Steps[tuple[Totals, bytes | None]]:
    """Return the totals of a part of a namespace, and the last session id of the part; None: it is the last part.

    Args:
        statements: The statements of the database.
        namespace: The tenant.
        now: As in `read`.
        after: The last session id of the part before; empty: this is the first part.
        many: The number of sessions in a part.

    Raises:
        CorruptRecord: The database cannot read a row, or a sum is not a number.
    """
    values: dict[str, Value] = {"namespace": namespace.encode(), "now": now, "after": after, "part": many - 1}
    marks = yield statements.mark, statements.mark.bind(values)
    end = marks[0][0] if marks else None
    values["until"] = _AFTER_ALL if end is None else end
    rows = yield statements.totals, statements.totals.bind(values)
    sessions, messages, size = _whole(namespace, rows[0])
    return Totals(sessions=sessions, messages=messages, bytes=size), end


def stored(statements: Statements, namespace: str) -> Steps[int]:
    """Return the size of the tables in bytes."""
    rows = yield statements.stored, ()
    return _whole(namespace, rows[0])[0]


def _whole(namespace: str, sums: Row) -> list[int]:
    try:  # servers return a sum as a `Decimal`
        return [int(number) for number in sums]
    except (TypeError, ValueError, OverflowError):
        raise CorruptRecord(f"the sizes of the sessions of namespace {namespace!r} are damaged") from None

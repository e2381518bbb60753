"""The removal of a session as steps."""

from __future__ import annotations

from contextlib import suppress

from turnlog import CorruptRecord, Expect, Key
from turnlog.rules import Header, check_delete

from ._operations import Steps, lock_and_read, remove, row_of_new
from ._rows import Row, key_values, seen_from
from ._statements import WIDTH, Statements, Value


def delete(statements: Statements, key: Key, now: float, expect: Expect, for_owner: str | None) -> Steps[bool]:
    """Execute `Backend.delete`."""
    values: dict[str, Value] = {**key_values(key), "now": now}
    rows = yield from lock_and_read(statements, statements.header, values)
    if not rows:
        yield from row_of_new(statements, key)
        return check_delete(key, None, expect, for_owner, now)
    try:
        now, seen = seen_from(key, rows[0])
    except CorruptRecord:
        row, found = rows[0][1], True
        if expect is not None:
            raise
        owners = yield from _owners_of_damaged(statements, key, rows[0])
        if for_owner is not None:
            if len(owners) > 1:
                raise
            if owners != {for_owner.encode()}:
                return False
    else:
        row, found = seen.row, check_delete(key, seen.header, expect, for_owner, now)
    if found or for_owner is None:
        yield from remove(statements, row)
    return found


def _owners_of_damaged(statements: Statements, key: Key, row: Row) -> Steps[set[object]]:
    """Return the owners that a damaged session names, in its column and in its header if that can be read.

    Args:
        statements: The statements of the database.
        key: The session.
        row: The row that an index returned for the key.

    Raises:
        CorruptRecord: The row belongs to another session: the index is damaged.
    """
    found = yield statements.whose, statements.whose.bind({"row": row[1]})
    if len(found) != 1 or tuple(found[0][:2]) != (key.namespace.encode(), key.session.encode()):
        text = "an index of the database leads to the row of another session: check and repair the database"
        raise CorruptRecord(text, key=key)
    owners = {found[0][2]}
    with suppress(CorruptRecord):
        owners.add(Header.unpack(key, row[WIDTH - 1], updated=0.0, expires=None).owner.encode())
    return owners

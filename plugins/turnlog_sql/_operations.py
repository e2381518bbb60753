"""The operations of a backend as steps: generators that yield statements and receive their rows.

Steps do no I/O, so the same steps serve every database and every driver, blocking or not.  The caller that drives them
controls the transaction.  `commit`, `seal`, `delete` and `sweep` need a transaction, because they lock a session before
they read it.  `read`, `page` and `append` need none.  On databases without round trips, `read` opens and ends a
snapshot itself.

This module has the steps that several operations share.  Each operation has a module with its name.

The rules are those of `turnlog.rules`: `needs` names the stored records that a change touches, the steps read them,
`plan` computes the result, and the steps write it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from hashlib import blake2b
from typing import Any, Final, TypeAlias, TypeVar

from turnlog import CorruptRecord, Key

from ._rows import Row, Seen, key_values
from ._statements import Statement, Statements, Value

T = TypeVar("T")

Steps: TypeAlias = "Generator[tuple[Statement, tuple[Value, ...] | list[tuple[Value, ...]]], Any, T]"
"""A generator of steps: it yields statements, receives their rows, and returns the answer.

A statement comes with its parameters, or with a list of parameters to execute it several times.  The rows are a
sequence, for a lazy statement an iterator.
"""

_UNUSED_BITS: Final = 17
"""Number of unused bits of a 64-bit hash: SQLite stores a number of 47 bits in 6 bytes.  In one of 280 databases with a
million sessions, two sessions get the same number.  The second one then gets another number, and can only be found by
the index of keys."""


def lock(statements: Statements, key: Key) -> Steps[None]:
    """Lock a session until the transaction ends, if it exists."""
    statement = statements.lock if statements.locks else statements.header
    yield statement, statement.bind({**key_values(key), "now": 0.0})


def lock_and_read(statements: Statements, statement: Statement, values: dict[str, Value]) -> Steps[Sequence[Row]]:
    """Lock a session, and return the rows of a statement that reads it."""
    locked: Sequence[Row] = ((),)
    while True:
        if statements.locks:
            locked = yield statements.lock, statements.lock.bind(values)
        rows: Sequence[Row] = yield statement, statement.bind(values)
        if locked or not rows:
            return rows
        # another transaction has created the session between the two statements: it is not locked yet


def row_of_new(statements: Statements, key: Key) -> Steps[int | None]:
    """Return the row number for a new session; None: the next free number.

    On SQLite the row number is a hash of the key.  If a damaged index of keys lacks a session, the session is found by
    its number.  It is then neither reported as missing nor created a second time.

    One statement queries both the table and the index.  Outside a transaction, another process may have created the
    session after the first query of the index.

    Raises:
        CorruptRecord: The session exists, but the index does not contain it.
    """
    if statements.served:
        return None
    namespace, session = key.namespace.encode(), key.session.encode()
    digest = blake2b(b"%d:%b%b" % (len(namespace), namespace, session), digest_size=8).digest()
    number = 1 + (int.from_bytes(digest) >> _UNUSED_BITS)
    found = yield statements.led_to, statements.led_to.bind({**key_values(key), "row": number})
    if not found:
        return number
    if tuple(found[0]) == (namespace, session, 0):
        raise CorruptRecord("an index of the database does not contain it: check and repair the database", key=key)
    return None


def slide(statements: Statements, seen: Seen, now: float, ttl: float | None) -> Steps[Seen]:
    """Move the expiry if this is due, unless another writer has changed the session since the read."""
    header = seen.header.slide(now, ttl)
    if header is seen.header:
        return seen
    times = header.updated + (header.expires or 0.0)
    head = header.pack()  # differs only if the time to live has changed
    values: dict[str, Value] = {"row": seen.row, "was": seen.header.expires, "seen": seen.head, "now": now}
    yield statements.slide, statements.slide.bind(values | {"expires": header.expires, "times": times, "head": head})
    return Seen(seen.row, header, head)


def remove(statements: Statements, row: int) -> Steps[None]:
    """Remove a session."""
    for statement in statements.delete:
        yield statement, statement.bind({"row": row})

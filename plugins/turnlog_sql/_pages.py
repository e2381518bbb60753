"""The pages of sessions, and the list of namespaces, as steps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from turnlog import CorruptRecord, Key, Page, Query, SessionInfo
from turnlog.errors import TurnlogError
from turnlog.rules import listed_key, page_of
from turnlog.runtime import BoundedMap

from ._operations import Steps
from ._rows import Row, Seen, seen_from
from ._statements import WIDTH, Pages, Prefix, Statement, Statements, Value

_FEW: Final = 2_000
"""Largest number of sessions with a prefix that SQLite sorts for a page: 2 to 5 ms.  Among a million sessions, it finds
100 of 2,000 others within about 50,000 entries of an index, which takes about 7 ms."""


def page(statements: Statements, query: Query, now: float, seen: BoundedMap[Key, Seen] | None = None) -> Steps[Page]:
    """Execute `Backend.page`.

    Args:
        statements: The statements of the database.
        query: The query.
        now: As in `read`.
        seen: The last seen states of sessions, whose headers are not decoded again; None: decode each header.

    Raises:
        CorruptRecord: The database cannot read a row; the caller then reads the page with `listed_keys` and `listed`.
    """
    way = yield from _way(statements, query)
    statement, values = _page(statements.pages, query, way)
    values["now"] = now
    limit, after = query.limit + 1, query.after
    while True:
        rows = yield statement, statement.bind(values | {"limit": limit})
        found = [_info(query, after, row, seen) for row in rows]
        is_last = len(rows) < limit
        if is_last and not query.owner and way is not Prefix.SEARCHED:
            found += yield from _uncounted(statements, query)
        page = page_of(query, found, is_last=is_last)
        if page is not None:
            return page
        limit += sum(isinstance(one, CorruptRecord) for one in found)  # damaged sessions do not count


def _uncounted(statements: Statements, query: Query) -> Steps[list[CorruptRecord]]:
    """Return an error if the index of pages has more or fewer sessions than the index of keys."""
    if statements.counts is None:
        return []
    ((by_key, by_time),) = yield statements.counts, statements.counts.bind({"namespace": query.one_namespace.encode()})
    if by_key == by_time:
        return []
    return [
        CorruptRecord(
            f"one index of the database has {by_key} sessions of namespace {query.namespace!r}, another one has "
            f"{by_time}: check and repair the database"
        )
    ]


def listed_keys(statements: Statements, query: Query, limit: int) -> Steps[Sequence[Row]]:
    """Return session ids and rows in the order of a page, including expired sessions; only an index is read."""
    # the index of owners omits no owner
    way = yield from _way(statements, query)
    statement, values = _page(statements.keys, query, way, owned=bool(query.owner))
    rows: Sequence[Row] = yield statement, statement.bind(values | {"limit": limit})
    return rows


def every_key(statements: Statements, query: Query) -> Steps[Sequence[Row]]:
    """Return the session ids and the rows of a namespace from the index of keys, not from an index of pages."""
    rows: Sequence[Row] = yield (
        statements.every_key,
        statements.every_key.bind({"namespace": query.one_namespace.encode()}),
    )
    return rows


def listed(
    statements: Statements, query: Query, session: bytes, row: int, now: float
) -> Steps[SessionInfo | CorruptRecord | None]:
    """Return the info of a session, or an error; None if it does not exist any more or does not match the query."""
    rows = yield statements.listed, statements.listed.bind({"row": row, "now": now})
    if not rows:  # the session was deleted, or the row's number in the index is damaged
        values: dict[str, Value] = {"namespace": query.one_namespace.encode(), "session": session, "now": now}
        rows = yield statements.info, statements.info.bind(values)
    found = _info(query, query.after, (session, *rows[0]), owned=False) if rows else None
    if not isinstance(found, SessionInfo):
        return found
    expired = found.expires_in is not None and found.expires_in <= 0
    return found if not expired and query.matches(found) else None


def unreadable(query: Query, session: bytes, error: CorruptRecord) -> CorruptRecord:
    """Add the session to an error of the database, if its id can be read; return the error."""
    with suppress(CorruptRecord):
        error.key = listed_key(query.one_namespace, session)
    return error


def namespaces(statements: Statements, after: str | None, limit: int) -> Steps[list[str]]:
    """Execute `Backend.namespaces`.

    Raises:
        CorruptRecord: The index has an entry that is not a namespace.
    """
    statement = statements.namespaces[after is not None]
    rows = yield statement, statement.bind({"after": None if after is None else after.encode(), "limit": limit})
    try:
        return [Key(row[0].decode(), "-").namespace for row in rows]  # `Key` checks the namespace; the id is arbitrary
    except (TurnlogError, ValueError, AttributeError):
        text = "an index of the database has an entry that is not a namespace: check and repair the database"
        raise CorruptRecord(text) from None


def _way(statements: Statements, query: Query) -> Steps[Prefix]:
    """Choose the way to find the sessions with the query's prefix."""
    if not query.prefix:
        return Prefix.NONE
    if statements.further is None or query.owner:  # the sessions of an owner are few
        return Prefix.SCANNED
    further = yield statements.further, statements.further.bind(_values_of(query) | {"many": _FEW})
    return Prefix.SCANNED if further else Prefix.SEARCHED


def _values_of(query: Query) -> dict[str, Value]:
    values: dict[str, Value] = {"namespace": query.one_namespace.encode()}
    if query.prefix:
        start = query.prefix.encode()
        values["prefix"], values["prefix_end"] = start, start[:-1] + bytes([start[-1] + 1])  # UTF-8 has no byte 255
    return values


def _page(pages: Pages, query: Query, way: Prefix, *, owned: bool = True) -> tuple[Statement, dict[str, Value]]:
    """Return the statement for a page, and its values.

    Args:
        pages: The statements to choose from.
        query: The query.
        way: The way to find the sessions with the query's prefix.
        owned: Whether to select by the query's owner.
    """
    values = _values_of(query)
    owned = owned and query.owner is not None
    if owned and query.owner is not None:
        values["owner"] = query.owner.encode()
    after = query.after
    if after is not None:
        values["updated"], values["session"] = after[0], after[1].encode()
    chosen = pages.statement(owned=bool(query.owner) if owned else None, later=after is not None, prefix=way)
    return chosen, values


def _info(
    query: Query,
    after: tuple[float, str] | None,
    row: Row,
    states: BoundedMap[Key, Seen] | None = None,
    *,
    owned: bool = True,
) -> SessionInfo | CorruptRecord:
    """Return the info of a row of a page, or an error.

    Args:
        query: The query.
        after: `query.after`, which would be decoded at each access.
        row: The session id, and the columns of a header with the metadata.
        states: As `seen` in `page`.
        owned: Whether the session must belong to the query's owner.
    """
    try:
        key = listed_key(query.one_namespace, row[0])
        now, seen = seen_from(key, row[1:], None if states is None else states.get(key))
        info = seen.header.with_metadata(row[WIDTH + 1]).info(now)
    except CorruptRecord as error:
        return error
    if owned and query.owner not in (None, info.owner):  # a damaged index: do not name another owner's session
        return CorruptRecord(f"the index entry of a session of owner {query.owner!r} leads to another session")
    if after is not None and (-info.updated, row[0]) <= (-after[0], after[1].encode()):  # its cursor would lead back
        return CorruptRecord("its index entry does not have the time of the session", key=key)
    return info

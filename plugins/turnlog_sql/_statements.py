"""The SQL statements, written with SQLAlchemy and compiled once for each dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from operator import itemgetter
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Dialect,
    Double,
    LargeBinary,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.dml import ReturningUpdate, Update
from sqlalchemy.sql.expression import ClauseElement, ScalarSelect

from turnlog.limits import MAX_NUMBER

from ._schema import changes, records, schema, session_metadata, sessions

Value: TypeAlias = "int | float | str | bytes | None"
Columns: TypeAlias = "ReadOnlyColumnCollection[str, Column[Any]]"

WIDTH = 7
"""Number of columns of a header without its metadata: the clock, and the columns of `_HEADER`."""
_HEADER = [sessions.c[name] for name in ("row", "updated", "owner", "expires", "times", "head")]
_MOVED = (
    "generation",
    "rounds",
    "start",
    "messages_until",
    "bytes",
    "updated",
    "expires",
    "times",
    "head",
)  # the columns that any change may write

_STORED: Final = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    "postgresql": "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE pg_table_is_visible(oid) AND relname IN "
    "('turnlog_sessions', 'turnlog_metadata', 'turnlog_records', 'turnlog_changes')",
    "mysql": "SELECT sum(data_length + index_length) FROM information_schema.tables WHERE table_schema = database() "
    "AND table_name IN ('turnlog_sessions', 'turnlog_metadata', 'turnlog_records', 'turnlog_changes')",
}
"""Statements for the size of the tables and their indexes in bytes, by dialect; on SQLite of the file, without its
log."""

SNAPSHOT: Final = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY;"
)
"""The beginning of a statement that reads a snapshot on MySQL; such a statement ends with `;COMMIT`."""

_ROW = bindparam("row", type_=BigInteger)
_ONE: ColumnElement[int] = literal_column("1")  # a literal, because a planner does not know the value of a parameter
_METADATA = session_metadata.c.metadata


def _is_key(s: Columns) -> ColumnElement[bool]:
    return and_(s.namespace == bindparam("namespace"), s.session == bindparam("session"))


_IS_KEY = _is_key(sessions.c)


def _of_it(query: Select[Any]) -> ScalarSelect[Any]:
    """Return a column of the session's row in another table, as a subquery.

    With a join, a planner that takes a table for empty may scan the whole table.
    """
    return query.correlate(sessions).scalar_subquery()


_ITS_METADATA = _of_it(select(_METADATA).where(session_metadata.c.row == sessions.c.row))


class Prefix(Enum):
    """The ways to find the sessions with a prefix."""

    NONE = auto()
    """The page has no prefix."""
    SEARCHED = auto()
    """In the index of keys, for few sessions, which are then sorted."""
    SCANNED = auto()
    """In the index of the page, which is read until the page is full."""


class Statement:
    """A compiled statement that binds its parameters in the driver's order.

    Args:
        statement: The statement to compile.
        dialect: The dialect to compile it for.
        counts: Whether the statement returns one row if it has changed a row, and no row otherwise.
        lazy: Whether the rows are fetched one by one, so that the caller can stop early.
    """

    __slots__ = ("_constants", "_pick", "counts", "lazy", "names", "sql")

    def __init__(self, statement: ClauseElement, dialect: Dialect, *, counts: bool = False, lazy: bool = False) -> None:
        self.counts, self.lazy = counts, lazy
        compiled = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        self.names: tuple[str, ...] = tuple(getattr(compiled, "positiontup", None) or ())
        self._pick = _picker(self.names)
        self._constants: dict[str, Value] = {
            name: value for name, value in (compiled.params or {}).items() if value is not None
        }

    @classmethod
    def joined(cls, *parts: str | Statement) -> Statement:
        """Join several statements to a single one, for a dialect with parameters as `%s`."""
        made = cls.__new__(cls)
        made.counts = made.lazy = False
        statements = [part for part in parts if isinstance(part, Statement)]
        made.sql = "".join(part if isinstance(part, str) else part.sql for part in parts)
        made.names = tuple(name for part in statements for name in part.names)
        made._pick = _picker(made.names)  # noqa: SLF001
        made._constants = {}  # noqa: SLF001
        for part in statements:
            made._constants |= part._constants  # noqa: SLF001
        return made

    def bind(self, values: Mapping[str, Value]) -> tuple[Value, ...]:
        """Return the values of its parameters in the driver's order.

        Args:
            values: The values by name.
        """
        if self._constants:
            values = {**self._constants, **values}
        return self._pick(values)


def _picker(names: tuple[str, ...]) -> Callable[[Mapping[str, Value]], tuple[Value, ...]]:
    """Return a function that picks values by name; `itemgetter` is four times faster than a loop."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)


class Statements:
    """Every statement of the backend, for one dialect.

    Args:
        dialect: The dialect to compile for.
        clock: Seconds since 1970 by the server's clock; None: by the backend's clock, as the parameter `now`.
        later: The same, after a statement has waited for its locks, for a server whose locking reads see the latest
            commit.  None: a statement sees only commits before its beginning, so a separate statement acquires locks.
    """

    def __init__(
        self,
        dialect: Dialect,
        clock: ColumnElement[float] | None = None,
        later: ColumnElement[float] | None = None,
    ) -> None:
        s, r, c = sessions.c, records.c, changes.c
        self.dialect = dialect
        now: ColumnElement[float] = bindparam("now", type_=Double) if clock is None else clock
        header = [now, *_HEADER]

        def compiled(statement: ClauseElement) -> Statement:
            return Statement(statement, dialect)

        self.version = compiled(select(func.max(schema.c.version)))
        self.set_version = compiled(insert(schema).values(version=bindparam("version")))
        self.clock = compiled(select(now))
        self.served = clock is not None
        """Whether the database is a server with a clock."""
        self.locks = self.served and later is None
        """Whether a separate statement locks rows."""

        # The header, and the remembered change.  On PostgreSQL an earlier statement locks the row: a statement that
        # has waited for the lock would still see the changes from before its beginning.
        known = and_(c.row == s.row, c.id == bindparam("id", type_=LargeBinary))
        # PostgreSQL stores rows separately from their indexes.  Later statements find the row by its number, so the
        # header is also read by the number: a damaged number leads to the header of another session, which is detected.
        key = sessions.alias()
        its_row = select(key.c.row).where(_is_key(key.c)).scalar_subquery()
        alone = select(now if later is None else later, *_HEADER).where(s.row == its_row if self.locks else _IS_KEY)
        self.lock = compiled(select(s.row).where(_IS_KEY).with_for_update())
        if later is None:
            found = alone.add_columns(_of_it(select(c.answer).where(known)))
        else:  # the joined row is also locked
            found = alone.add_columns(c.answer).select_from(sessions.outerjoin(changes, known)).with_for_update()
            alone = alone.with_for_update()
        self.find = compiled(found)
        self.header = compiled(alone)
        self.find_row = compiled(select(s.row).where(_IS_KEY))
        self.whose = compiled(select(s.namespace, s.session, s.owner).where(s.row == _ROW))
        by_key = sessions.alias()
        led_to = select(func.count()).select_from(by_key).where(_is_key(by_key.c)).scalar_subquery()
        self.led_to = compiled(select(s.namespace, s.session, led_to).where(s.row == _ROW))
        self.info = compiled(select(*header, _ITS_METADATA).where(_IS_KEY))
        self.metadata = compiled(select(_METADATA).where(session_metadata.c.row == _ROW))

        one_session = update(sessions).where(s.row == _ROW)
        inserted = _bound("namespace", "session", "epoch", "owner", *_MOVED)
        self.insert_session = compiled(insert(sessions).values(inserted))
        self.insert_session_at = compiled(insert(sessions).values({"row": _ROW, **inserted}))
        self.update_session = compiled(one_session.values(_bound("owner", *_MOVED)))
        self.move_session = compiled(one_session.values(_bound(*_MOVED)))
        was = _unmoved(bindparam("was", type_=Double))
        unmoved = s.head == bindparam("seen")
        alive = or_(s.expires.is_(None), s.expires > now)  # an expired session does not come back
        self.slide = compiled(one_session.where(was, unmoved, alive).values(_bound("expires", "times", "head")))
        self.delete_metadata = compiled(delete(session_metadata).where(session_metadata.c.row == _ROW))
        self.insert_metadata = compiled(insert(session_metadata).values(_bound("row", "metadata")))
        self.insert_record = compiled(insert(records).values(_bound(*(column.name for column in r))))
        self.insert_change = compiled(insert(changes).values(_bound(*(column.name for column in c))))
        # The append to a session in the last seen state takes one round trip to a server.
        self.append: Statement | None = None
        if dialect.name == "postgresql":
            self.append = compiled(_append(now))
        elif dialect.name == "mysql":
            parts = (part for statement in _append_in_turn(now) for part in (compiled(statement), ";"))
            self.append = Statement.joined("START TRANSACTION;", *parts, "COMMIT")
        else:
            self.move = Statement(one_session.where(was, unmoved).values(_bound(*_MOVED)), dialect, counts=True)
        self.forget = compiled(delete(changes).where(c.row == _ROW, c.place < bindparam("place")))
        every = (records, changes, session_metadata, sessions)
        self.delete = [compiled(delete(table).where(table.c.row == _ROW)) for table in every]
        over = (
            select(s.row)
            .where(s.expires <= now, s.times == s.updated + s.expires)
            .order_by(s.expires)
            .limit(bindparam("limit", type_=BigInteger))
        )
        self.expired = compiled(over.with_for_update(skip_locked=True))
        still = select(func.count(), func.max(s.expires)).where(s.expires <= now, s.times == s.updated + s.expires)
        self.count_expired = compiled(still)

        # Cuts, retention and seals need the heads of the neighbouring records, and the sizes of the removed records.
        below, above, until = (
            r.number < bindparam("number"),
            r.number >= bindparam("number"),
            r.number < bindparam("until"),
        )
        head = select(r.head).where(r.row == _ROW).limit(_ONE)
        size = select(func.coalesce(func.sum(r.size), 0)).where(r.row == _ROW)
        # A sealed run may end with an open turn.  The later rounds of this turn have a number inside the run.  The
        # statements therefore search for the record with the beginning of a turn.
        begins = and_(r.number <= bindparam("number"), r.begin.is_not(None))
        self.head_below = compiled(head.where(below).order_by(r.number.desc(), r.part.desc()))
        self.head_at = compiled(head.where(begins).order_by(r.number.desc(), r.part.desc()))
        self.number = compiled(select(r.number).where(r.row == _ROW, r.head == bindparam("head")).limit(_ONE))
        self.heads = compiled(select(r.head, r.size).where(r.row == _ROW, above, until).order_by(r.number, r.part))
        self.size_below = compiled(size.where(below))
        self.size_above = compiled(size.where(above))
        self.cut_below = compiled(delete(records).where(r.row == _ROW, below))
        self.cut_above = compiled(delete(records).where(r.row == _ROW, above))
        self.cut_between = compiled(delete(records).where(r.row == _ROW, above, until))

        # On SQLite, where statements need no round trip, records are read backwards until they are enough.
        self.newest: dict[bool, Statement] = {}
        if clock is None:
            newest = select(r.head, r.payload).where(r.row == _ROW).order_by(r.number.desc(), r.part.desc())
            self.newest[False] = Statement(newest, dialect, lazy=True)
            self.newest[True] = Statement(newest.where(r.number < bindparam("before")), dialect, lazy=True)
            self.begin, self.end = compiled(text("BEGIN")), compiled(text("COMMIT"))
            self.check = compiled(text("PRAGMA integrity_check"))
            self.quick_check = compiled(text("PRAGMA quick_check"))
        self.reads = {
            (last, before, since): _reading(header, dialect, last=last, before=before, since=since)
            for last in (False, True)
            for before in (False, True)
            for since in (False, True)
            if not (before and since)
        }
        alive = or_(s.expires.is_(None), s.expires > now, s.times != s.updated + s.expires)
        listed = select(s.session, *header, _ITS_METADATA)
        self.pages = Pages(listed.where(alive), dialect)
        # The same in parts, for a damaged table: the keys from the index of the page or from the index of keys, and
        # each session by its row or by its key.
        self.keys = Pages(select(s.session, s.row), dialect)
        of_namespace = s.namespace == bindparam("namespace")
        # One row if more than `many` sessions have a prefix.  A server estimates their number from its statistics, and
        # chooses the index itself; SQLite has no statistics, and would search the index of keys for any number.
        matching = select(_ONE).where(of_namespace, _has_prefix(s.session)).order_by(s.session)
        many = bindparam("many", type_=BigInteger)
        self.further = None if self.served else compiled(matching.limit(_ONE).offset(many))
        self.every_key = compiled(select(s.session, s.row).where(of_namespace).order_by(s.session))
        self.namespaces = _namespaces(dialect)
        self.listed = compiled(select(*header, _ITS_METADATA).where(s.row == _ROW))
        # The number of sessions of a namespace in two indexes; only SQLite, in this process, counts them quickly.
        counts = text(
            "SELECT "
            "(SELECT count(*) FROM turnlog_sessions INDEXED BY turnlog_sessions_key WHERE namespace = :namespace), "
            "(SELECT count(*) FROM turnlog_sessions INDEXED BY turnlog_sessions_updated WHERE namespace = :namespace)"
        )
        self.counts = None if self.served else compiled(counts)
        living = or_(s.expires.is_(None), s.expires > now)
        sums = (func.coalesce(func.sum(_counted(one)), 0) for one in (s.messages_until - s.start, s.bytes))
        # In parts, because other operations wait for SQLite's only thread.
        beyond, up_to = s.session > bindparam("after"), s.session <= bindparam("until")
        self.totals = compiled(select(func.count(), *sums).where(of_namespace, beyond, up_to, living))
        part = bindparam("part", type_=BigInteger)
        self.mark = compiled(select(s.session).where(of_namespace, beyond).order_by(s.session).limit(_ONE).offset(part))
        self.stored = compiled(text(_STORED[dialect.name]))


def _counted(number: ColumnElement[int]) -> ColumnElement[int]:
    """Return a number for a sum: 0 in place of a damaged, too large number."""
    return case((number.between(-MAX_NUMBER, MAX_NUMBER), number), else_=0)


def _unmoved(was: BindParameter[float]) -> ColumnElement[bool]:
    """Return the condition that a session's expiry has not been moved.

    The addition of 0 prevents MySQL from using the index of the column.  With the index, MySQL would lock the index
    entry first.  Other statements lock it last, so a deadlock would be possible.
    """
    return (sessions.c.expires + literal_column("0")).is_not_distinct_from(was)


def _bound(*names: str) -> dict[str, object]:
    return {name: bindparam(name) for name in names}


def _move(now: ColumnElement[float], *others: str) -> Update:
    """Return the update of a header that is still the last seen one and has not expired.

    Args:
        now: The clock.
        others: Further columns to write.
    """
    s = sessions.c
    ttl, was = bindparam("ttl", type_=Double), bindparam("was", type_=Double)
    left = s.expires - now
    written = _bound(*(name for name in _MOVED if name not in ("updated", "expires", "times")), *others)
    expires = case((ttl.is_(None), None), (left > bindparam("latest_due", type_=Double), s.expires), else_=now + ttl)
    there = and_(s.row == _ROW, s.head == bindparam("seen"), _unmoved(was))
    alive = or_(s.expires.is_(None), s.expires > now)
    times = now + func.coalesce(expires, literal_column("0e0"))
    return update(sessions).where(there, alive).values(**written, updated=now, expires=expires, times=times)


def _returning(moved: Update) -> ReturningUpdate[tuple[float, float | None, int]]:
    return moved.returning(sessions.c.updated, sessions.c.expires, sessions.c.row)


def _append(now: ColumnElement[float]) -> ClauseElement:
    """Return one statement that appends one record; it changes no row if the session is not in the last seen state.

    A repeat violates the primary key of `turnlog_changes`, so the whole statement fails.
    """
    moved = _returning(_move(now, "owner")).cte("moved")
    stored, known = (
        insert(table)
        .from_select(
            [column.name for column in table.c],
            select(moved.c.row, *(bindparam(_named(column), type_=column.type) for column in list(table.c)[1:])),
        )
        .cte(table.name)
        for table in (records, changes)
    )
    return select(moved).add_cte(stored, known)


def _append_in_turn(now: ColumnElement[float]) -> list[ClauseElement]:
    """Return the statements of one transaction that does the same, for a dialect that cannot nest them.

    The first statement updates the header; the others require the new head.  If another writer has written an equal
    head, it has stored the same change, because a tip depends on all earlier change ids.  In this case the primary keys
    are violated, and nothing is committed.  `row_count()` cannot be used, because MariaDB loses it when the client
    disconnects.
    """
    s = sessions.c
    moved = and_(s.row == _ROW, s.head == bindparam("head"))
    stored, known = (
        insert(table).from_select(
            [column.name for column in table.c],
            select(s.row, *(bindparam(_named(column), type_=column.type) for column in list(table.c)[1:])).where(moved),
        )
        for table in (records, changes)
    )
    return [_move(now, "owner"), stored, known, select(s.updated, s.expires).where(moved)]


def _named(column: Column[Any]) -> str:
    """Return the name of a column's parameter in a statement that writes both kinds of heads."""
    return "record_head" if column is records.c.head else column.name


def _nearest(
    row: ColumnElement[int],
    column: str,
    *,
    number: str | None = None,
    rounds: str | None = None,
    begin: ColumnElement[int] | None = None,
) -> ScalarSelect[int]:
    """Return a column of the last record that meets the conditions; the search goes backwards from the end.

    Args:
        row: The session's row.
        column: The column to return.
        number: The parameter with an upper bound of the turn number, exclusive.
        rounds: The parameter with an upper bound of `rounds_until`, inclusive.
        begin: The record must begin a turn, and this is the largest number of messages before it.
    """
    b = records.alias()
    query = select(b.c[column]).where(b.c.row == row)
    if number is not None:
        query = query.where(b.c.number < bindparam(number))
    if rounds is not None:
        query = query.where(b.c.rounds <= bindparam(rounds))
    if begin is not None:
        query = query.where(b.c.begin <= begin)
    return _of_it(query.order_by(b.c.number.desc(), b.c.part.desc()).limit(_ONE))


_VARIABLES: Final[tuple[ColumnElement[int], ColumnElement[int]]] = (
    literal_column("@turnlog_row", BigInteger),
    literal_column("@turnlog_start", BigInteger),
)


def _reading(
    columns: list[ColumnElement[Any]], dialect: Dialect, *, last: bool, before: bool, since: bool
) -> Statement:
    """Return the statement that reads the header and the requested records, in one round trip and one snapshot.

    MySQL scans a range of an index only if the bounds are known before; otherwise it would read the whole session.  On
    MySQL, variables therefore hold the row and the start.  They are set in the same snapshot.
    """
    s = sessions.c
    its_row = select(s.row).where(_IS_KEY)
    by_variables = dialect.name == "mysql" and (last or before or since)
    row = _VARIABLES[0] if by_variables else s.row
    found = _start(row, last=last, before=before, since=since)
    its_start = None if found is None else select(found).select_from(sessions).where(_IS_KEY)
    at = _nearest(row, "head", rounds="rounds") if since else null()
    if not by_variables:
        start = None if its_start is None else its_start.scalar_subquery()
        return Statement(_read(columns, its_row.scalar_subquery(), start, at, before=before), dialect)
    # not SET @variable = (...), which ignores the snapshot and locks the rows
    setting: list[str | Statement] = ["SELECT (", Statement(its_row, dialect), ") INTO @turnlog_row;"]
    if its_start is not None:
        setting += ["SELECT (", Statement(its_start, dialect), ") INTO @turnlog_start;"]
    return Statement.joined(
        SNAPSHOT,
        *setting,
        Statement(_read(columns, row, None if its_start is None else _VARIABLES[1], at, before=before), dialect),
        ";COMMIT",
    )


def _start(row: ColumnElement[int], *, last: bool, before: bool, since: bool) -> ColumnElement[int] | None:
    """Return the number of the first turn to read; None: read all turns.

    Args:
        row: The session's row.
        last: Read only the last messages.
        before: Read only turns below a number.
        since: Read only the turns after a version, from the turn in which the version ends.
    """
    s = sessions.c
    start: ColumnElement[int] | None = None
    if last:
        anchor = (
            func.coalesce(_nearest(row, "messages_until", number="before"), s.start) if before else s.messages_until
        )
        most = anchor - bindparam("last", type_=BigInteger)
        start = func.coalesce(_nearest(row, "number", number="before" if before else None, begin=most), 0)
    if since:
        rounds = bindparam("rounds", type_=BigInteger)
        same = and_(s.epoch == bindparam("epoch"), s.generation == bindparam("generation"))
        there = _nearest(row, "rounds", rounds="rounds") == rounds
        start = case(
            (and_(same, s.rounds == rounds), MAX_NUMBER),
            (and_(same, rounds == 0, s.start == 0), 0),
            (and_(same, there), _nearest(row, "number", rounds="rounds")),
            else_=0 if start is None else start,
        )
    return start


def _read(
    columns: list[ColumnElement[Any]],
    row: ColumnElement[int],
    start: ColumnElement[int] | None,
    at: ColumnElement[Any],
    *,
    before: bool,
) -> ClauseElement:
    """Return the statement that reads the header and the records from a turn on.

    One row is the header, with its metadata and the head of the record that ends at `since`.  Each other row is the
    head and the payload of a record, after NULLs for the other columns.  The order of the rows is undefined.
    """
    r = records.c
    header = select(*columns, _ITS_METADATA, at).where(_IS_KEY)
    body = select(*(null() for _ in columns), r.head, r.payload).where(r.row == row)
    if before:
        body = body.where(r.number < bindparam("before"))
    if start is not None:
        body = body.where(r.number >= start)
    return union_all(header, body)


class Pages:
    """The statements that read one page of a namespace's sessions, most recently updated first.

    Each statement is compiled when it is first needed.

    Args:
        query: The query for the columns of each session.
        dialect: The dialect to compile for.
    """

    def __init__(self, query: Select[Any], dialect: Dialect) -> None:
        self._query, self._dialect = query.where(sessions.c.namespace == bindparam("namespace")), dialect
        self._compiled: dict[tuple[bool | None, bool, Prefix], Statement] = {}

    def statement(self, *, owned: bool | None, later: bool, prefix: Prefix) -> Statement:
        """Return a statement.

        Args:
            owned: Whether to read the sessions of one owner, or those without an owner; None: all sessions.
            later: Whether to read only sessions after another one.
            prefix: The way to find the sessions with a prefix.
        """
        wanted = owned, later, prefix
        if wanted not in self._compiled:
            self._compiled[wanted] = self._compile(*wanted)
        return self._compiled[wanted]

    def _compile(self, owned: bool | None, later: bool, prefix: Prefix) -> Statement:  # noqa: FBT001 - see `statement`
        s, query = sessions.c, self._query
        is_sqlite = self._dialect.name == "sqlite"
        if owned is not None:
            query = query.where(s.owner == bindparam("owner"))
        if owned:
            # Without this condition a planner could not use the partial index, which has no entries with an empty
            # owner.
            query = query.where(s.owner != text("x''" if is_sqlite else "''"))
        if prefix is not Prefix.NONE:
            # SQLite uses no index for a column with a unary plus
            by_index = prefix is Prefix.SEARCHED or not is_sqlite
            session = s.session if by_index else literal_column("+turnlog_sessions.session", LargeBinary)
            query = query.where(_has_prefix(session))
        if later:
            updated: BindParameter[float] = bindparam("updated")
            after = or_(s.updated < updated, s.session > bindparam("session"))
            query = query.where(and_(s.updated <= updated, after))
        query = query.order_by(s.updated.desc(), s.session).limit(bindparam("limit"))
        return Statement(query, self._dialect)


def _has_prefix(session: ColumnElement[bytes]) -> ColumnElement[bool]:
    """Return the condition that a session id begins with a prefix: it is in a range of the index of keys.

    `LIKE` would depend on the database: its wildcards, its escapes, and whether it can use an index.
    """
    return and_(session >= bindparam("prefix"), session < bindparam("prefix_end"))


def _namespaces(dialect: Dialect) -> dict[bool, Statement]:
    """Return the statements that read the next namespaces, from the beginning (False) or after another one (True).

    Each namespace takes one search in an index, regardless of its number of sessions.  MySQL already does this for
    DISTINCT (a loose index scan); it would scan the whole index for each step of the recursion.
    """
    name, limit = sessions.c.namespace, bindparam("limit", type_=BigInteger)

    def later(than: ColumnElement[bytes]) -> Select[tuple[bytes]]:
        return select(name).where(name > than).order_by(name).limit(_ONE)

    after: BindParameter[bytes] = bindparam("after", type_=LargeBinary)
    if dialect.name == "mysql":
        query = select(name).distinct().order_by(name).limit(limit)
        return {False: Statement(query, dialect), True: Statement(query.where(name > after), dialect)}
    found = {}
    for follows, first in ((False, select(name).order_by(name).limit(_ONE)), (True, later(after))):
        names = select(first.scalar_subquery().label("namespace")).cte("names", recursive=True)
        following = later(names.c.namespace).correlate(names).scalar_subquery()
        names = names.union_all(select(following).where(names.c.namespace.is_not(None)))
        query = select(names.c.namespace).where(names.c.namespace.is_not(None)).limit(limit)
        found[follows] = Statement(query, dialect)
    return found

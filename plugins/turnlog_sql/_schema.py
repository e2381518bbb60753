"""The tables, version 1.

The columns `head`, `metadata`, `payload` and `answer` contain values that the core packs, with a checksum
(`docs/reference/format.md`).  The other columns repeat the values that statements compare, count and sort.  Their
number is small, because a driver takes about as long for each column of a row as for decoding a whole head.

Each session has one row in `turnlog_sessions`, its header.  Its metadata are one row of `turnlog_metadata`, so that an
append never rewrites them.  A row of `turnlog_records` is a record.  A row of `turnlog_changes` is a remembered change,
by which repeats are recognized.  Namespaces, session ids, owners and change ids are bytes of UTF-8: no collation treats
two of them as equal.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Identity, Index, Integer, LargeBinary, MetaData, Table, text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

tables = MetaData()


def _bytes(limit: int | None = None) -> TypeEngine[bytes]:
    """Return the type of at most `limit` bytes; None: the longest type of the database."""
    kind = LargeBinary(limit)
    return kind.with_variant(mysql.LONGBLOB() if limit is None else mysql.VARBINARY(limit), "mysql")


def _number() -> TypeEngine[int]:
    return BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows automatically only with this type name


def _row() -> Column[int]:
    return Column("row", BigInteger, primary_key=True, autoincrement=False)  # the session's row


schema = Table(
    "turnlog_schema", tables, Column("version", Integer, primary_key=True, autoincrement=False), mysql_engine="InnoDB"
)

sessions = Table(
    "turnlog_sessions",
    tables,
    # an identity column: PostgreSQL requires no rights to its sequence
    Column("row", _number(), Identity(), primary_key=True, autoincrement=True),
    Column("namespace", _bytes(255), nullable=False),
    Column("session", _bytes(255), nullable=False),
    Column("epoch", _bytes(16), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("rounds", BigInteger, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("messages_until", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("updated", Double, nullable=False),
    Column("owner", _bytes(255), nullable=False),
    Column("expires", Double),
    Column(
        "times", Double, nullable=False
    ),  # `updated` plus `expires`, as a checksum: a server sets both, so `head` cannot cover them
    Column("head", _bytes(1024), nullable=False),  # `Header.pack`
    mysql_engine="InnoDB",
)
Index("turnlog_sessions_key", sessions.c.namespace, sessions.c.session, unique=True)
Index("turnlog_sessions_updated", sessions.c.namespace, sessions.c.updated.desc(), sessions.c.session)
# if the database has partial indexes, these do not contain sessions without an owner, or without an expiry
_OWNED, _EXPIRING = sessions.c.owner != text("''"), sessions.c.expires.is_not(None)
Index(
    "turnlog_sessions_owner",
    sessions.c.namespace,
    sessions.c.owner,
    sessions.c.updated.desc(),
    sessions.c.session,
    sqlite_where=sessions.c.owner != text("x''"),
    postgresql_where=_OWNED,
)
Index("turnlog_sessions_expires", sessions.c.expires, sqlite_where=_EXPIRING, postgresql_where=_EXPIRING)

session_metadata = Table(
    "turnlog_metadata",
    tables,
    _row(),
    Column("metadata", _bytes(), nullable=False),  # `Metadata.pack`
    mysql_engine="InnoDB",
)

records = Table(
    "turnlog_records",
    tables,
    _row(),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("part", BigInteger, primary_key=True, autoincrement=False),
    Column("rounds", BigInteger, nullable=False),  # `Record.rounds_until`
    Column("begin", BigInteger),  # the number of messages before it, if it begins a turn
    Column("messages_until", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("head", _bytes(1024), nullable=False),  # `Record.pack`
    Column("payload", _bytes(), nullable=False),  # the last column: statements that read only heads skip it
    mysql_engine="InnoDB",
)

changes = Table(
    "turnlog_changes",
    tables,
    _row(),
    Column("id", _bytes(255), primary_key=True),
    Column("place", BigInteger, nullable=False),
    Column("answer", _bytes(255), nullable=False),  # `Remembered.pack`
    sqlite_with_rowid=False,
    mysql_engine="InnoDB",
)

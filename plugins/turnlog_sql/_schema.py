"""The tables, version 1.

What statements compare, count and sort by has a column of its own; the rest of a header, and all of a record's head, is
one column of MessagePack: a driver takes about as long for each column of each row as for decoding the whole.

A session is one row of `turnlog_sessions`, its header; what it has of metadata is one row of `turnlog_metadata`,
apart, so that an append never rewrites it; a row of `turnlog_records` is a record; and a row of `turnlog_changes` is
one of the last changes, by which a repeat is recognised.  Namespaces, session ids, owners and change ids are bytes of
UTF-8, so that no collation folds two of them into one.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Identity, Index, Integer, LargeBinary, MetaData, Table, text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

tables = MetaData()


def _bytes(limit: int | None = None) -> TypeEngine[bytes]:
    """So many bytes at the most; None: as many as a database takes."""
    kind = LargeBinary(limit)
    return kind.with_variant(mysql.LONGBLOB() if limit is None else mysql.VARBINARY(limit), "mysql")


def _number() -> TypeEngine[int]:
    return BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows by itself only under this name


def _row() -> Column[int]:
    return Column("row", BigInteger, primary_key=True, autoincrement=False)  # the session's


schema = Table(
    "turnlog_schema", tables, Column("version", Integer, primary_key=True, autoincrement=False), mysql_engine="InnoDB"
)

sessions = Table(
    "turnlog_sessions",
    tables,
    # an identity, because PostgreSQL asks for no rights to its sequence
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
    Column("head", _bytes(1024), nullable=False),  # MessagePack: all that a header is beside key, metadata and these
    mysql_engine="InnoDB",
)
Index("turnlog_sessions_key", sessions.c.namespace, sessions.c.session, unique=True)
Index("turnlog_sessions_updated", sessions.c.namespace, sessions.c.updated.desc(), sessions.c.session)
# who does without owners, or without a time to live, does without the index, too, where a database can leave rows out
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
    Column("metadata", _bytes(), nullable=False),  # MessagePack: names to encoded values
    mysql_engine="InnoDB",
)

records = Table(
    "turnlog_records",
    tables,
    _row(),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("part", BigInteger, primary_key=True, autoincrement=False),
    Column("rounds", BigInteger, nullable=False),  # the session's, up to its end
    Column("begin", BigInteger),  # how many messages lie before it, if it begins a turn
    Column("messages_until", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("head", _bytes(1024), nullable=False),  # MessagePack: all of a record but its body
    Column("payload", _bytes(), nullable=False),  # the last column: what looks at heads alone never reads it
    mysql_engine="InnoDB",
)

changes = Table(
    "turnlog_changes",
    tables,
    _row(),
    Column("id", _bytes(255), primary_key=True),
    Column("place", BigInteger, nullable=False),
    Column("answer", _bytes(255), nullable=False),  # MessagePack: digest, version and number
    sqlite_with_rowid=False,
    mysql_engine="InnoDB",
)

"""The statements of the SQL store over a database in memory, without a thread: for tests of single statements."""

from __future__ import annotations

import sqlite3
from asyncio import Future
from copy import copy
from typing import TypeVar, cast

from turnlog_sql import _migrations
from turnlog_sql._operations import Steps
from turnlog_sql._sqlite_connection import Connection
from turnlog_sql._sqlite_file import sqlite_statements
from turnlog_sql._sqlite_transactions import _drive, _transact

T = TypeVar("T")


class Database:
    """A database in memory, with the tables."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
        self.statements = copy(sqlite_statements())
        for _, step in _migrations.missing(None, self.statements.dialect):
            for statement in step:
                self.connection.execute(statement)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def read(self, steps: Steps[T]) -> T:
        """Run the operation without a transaction, unless it begins one."""
        nobody = cast("Future[object]", None)
        return cast("T", _drive(self.connection, (nobody, False, lambda: steps, None, 0.0)))

    def write(self, steps: Steps[T], *, first: Steps[T | None] | None = None) -> T:
        """Run the operation in one transaction."""
        nobody = cast("Future[object]", None)
        made = None if first is None else lambda: first
        return cast("T", _transact(self.connection, (nobody, True, lambda: steps, made, 0.0)))

    def rows(self, table: str) -> int:
        """Return the number of rows in a table."""
        (found,) = self.connection.execute(f"SELECT count(*) FROM turnlog_{table}").fetchone()
        return int(found)

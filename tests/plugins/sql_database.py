"""The SQL store's statements over a database in memory, without a thread: for tests that look closely."""

from __future__ import annotations

import sqlite3
from copy import copy
from typing import TypeVar

from turnlog_sql._sqlite import SQLite, _drive, _transact
from turnlog_sql._steps import Steps

T = TypeVar("T")


class Database:
    """A database in memory, with the tables."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        sqlite = SQLite(":memory:", synchronous="FULL", timeout=0)
        self.statements = copy(sqlite.statements)
        _transact(self.connection, sqlite._create(self.connection))

    def close(self) -> None:
        """Free it."""
        self.connection.close()

    def read(self, steps: Steps[T]) -> T:
        """Without a transaction."""
        return _drive(self.connection, steps)

    def write(self, steps: Steps[T]) -> T:
        """In one."""
        return _transact(self.connection, steps)

    def rows(self, table: str) -> int:
        """How many rows a table has."""
        (found,) = self.connection.execute(f"SELECT count(*) FROM turnlog_{table}").fetchone()
        return int(found)

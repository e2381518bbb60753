"""Migrations: the steps from each version of the tables to the next.  Each step can be repeated, but not reverted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Dialect, false, select
from sqlalchemy.schema import CreateIndex, CreateTable

from ._schema import tables


def _first(dialect: Dialect) -> list[str]:
    """Return the statements that create all tables of `_schema`."""
    made = []
    for table in tables.sorted_tables:
        made.append(str(CreateTable(table, if_not_exists=True).compile(dialect=dialect)))
        if dialect.name == "postgresql":  # the server must not compress these columns, because a layer may
            blobs = [column.name for column in table.c if column.name in ("payload", "metadata")]
            made += [f"ALTER TABLE {table.name} ALTER COLUMN {name} SET STORAGE EXTERNAL" for name in blobs]
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            statement = CreateIndex(
                index, if_not_exists=dialect.name != "mysql"
            )  # on MySQL the caller ignores the error of an existing index
            made.append(str(statement.compile(dialect=dialect)))
    return made


MIGRATIONS: Final[Sequence[Callable[[Dialect], list[str]]]] = [_first]
"""The statements of each upgrade: `MIGRATIONS[n]` upgrades version n to n + 1; version 0 has no tables.

A database that can roll back a change of its tables executes all steps in one transaction.  On other databases, an
interrupted step is repeated from its beginning.
"""


def newest() -> int:
    """Return the version of the tables that this turnlog needs."""
    return len(MIGRATIONS)


def names() -> set[str]:
    """Return the names of the tables."""
    return set(tables.tables)


def missing(found: int | None, dialect: Dialect) -> list[tuple[int, list[str]]]:
    """Return the steps that tables of a version need, each with the version that it produces."""
    return [(n + 1, step(dialect)) for n, step in enumerate(MIGRATIONS) if n >= (found or 0)]


def probe(dialect: Dialect) -> str:
    """Return a statement that fails if a table or a column is missing, and otherwise returns no rows."""
    columns = [column for table in tables.sorted_tables for column in table.c]
    return str(select(*columns).where(false()).compile(dialect=dialect))

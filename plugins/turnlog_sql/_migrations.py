"""The way from each version of the tables to the next: forward only, and each step can be done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Dialect, false, select
from sqlalchemy.schema import CreateIndex, CreateTable

from ._schema import tables


def _first(dialect: Dialect) -> list[str]:
    """All tables, as `_schema` has them."""
    made = []
    for table in tables.sorted_tables:
        made.append(str(CreateTable(table, if_not_exists=True).compile(dialect=dialect)))
        if dialect.name == "postgresql":  # not compressed by the server: layers do that, or nobody
            blobs = [column.name for column in table.c if column.name in ("payload", "metadata")]
            made += [f"ALTER TABLE {table.name} ALTER COLUMN {name} SET STORAGE EXTERNAL" for name in blobs]
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            statement = CreateIndex(index, if_not_exists=dialect.name != "mysql")  # MySQL says that it is there already
            made.append(str(statement.compile(dialect=dialect)))
    return made


MIGRATIONS: Final[Sequence[Callable[[Dialect], list[str]]]] = [_first]
"""The statements that lead to version 1, 2, ...: `MIGRATIONS[n]` leads from version n to n + 1.

A database that can roll back a change of its tables does all steps and the notes of their versions in one transaction;
on one that cannot, a step that was cut short is done again from its beginning.
"""


def newest() -> int:
    """The version of the tables that this turnlog needs."""
    return len(MIGRATIONS)


def missing(found: int | None, dialect: Dialect) -> list[tuple[int, list[str]]]:
    """The steps that tables of a version still need, and the version that each leads to."""
    return [(n + 1, step(dialect)) for n, step in enumerate(MIGRATIONS) if n >= (found or 0)]


def probe(dialect: Dialect) -> str:
    """A statement that fails where a table or a column is not there, and answers nothing."""
    columns = [column for table in tables.sorted_tables for column in table.c]
    return str(select(*columns).where(false()).compile(dialect=dialect))

"""Two statements of one read on SQLite see the same state, even if another process writes between them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from copy import copy
from pathlib import Path
from typing import Any, cast

import pytest

from turnlog import Change, CorruptRecord, Key, Record, Session, user
from turnlog_sql import _commit, _migrations, _operations, _read
from turnlog_sql._sqlite_connection import Connection
from turnlog_sql._sqlite_file import sqlite_statements
from turnlog_sql._sqlite_transactions import _drive, _transact
from turnlog_sql._statements import Statement, Statements

KEY = Key("shop", "alice")
NOBODY = cast("Any", Future())


@pytest.fixture
def connections(tmp_path: Path) -> Iterator[tuple[Connection, Connection]]:
    """Yield two connections to one file with a session of ten turns."""
    path = tmp_path / "turnlog.db"
    with (
        closing(sqlite3.connect(path, isolation_level=None, factory=Connection)) as one,
        closing(sqlite3.connect(path, isolation_level=None, factory=Connection)) as other,
    ):
        one.execute("PRAGMA journal_mode=WAL")
        for _, step in _migrations.missing(None, sqlite_statements().dialect):
            for statement in step:
                one.execute(statement)
        for turn in range(10):
            _append(one, turn)
        yield one, other


def _append(connection: Connection, turn: int) -> None:
    record = Record.of((user(f"question {turn}"), user(f"answer {turn}")), id=f"t{turn}", time=0.0)
    change = Change(id=f"0:t{turn}", append=(record,))
    _transact(
        connection, (NOBODY, True, lambda: _commit.commit(sqlite_statements(), KEY, change, 1.0, None), None, 0.0)
    )


def _read_while(connection: Connection, between: Any, statements: Statements) -> Session:
    """Read the last messages, and call `between` after the header was read."""

    def steps() -> _operations.Steps[Session]:
        reading = _read.read(statements, KEY, 1.0, None, last=4, before=None, since=None, touch=True)
        rows: Any = None
        while True:
            try:
                statement, values = reading.send(rows)
            except StopIteration as stop:
                session, _ = stop.value
                return cast("Session", session)
            if statement.lazy:
                between()
            rows = yield statement, values

    return cast("Session", _drive(connection, (NOBODY, False, steps, None, 0.0)))


def test_a_write_between_the_header_and_the_records_is_not_seen(
    connections: tuple[Connection, Connection],
) -> None:
    one, other = connections
    session = _read_while(one, lambda: _append(other, 10), sqlite_statements())
    assert session.info.turns == 10
    assert [record.number for record in session.records] == [8, 9]
    assert [record.number for record in _read_while(one, lambda: None, sqlite_statements()).records] == [9, 10]


def test_without_the_snapshot_the_write_is_seen(connections: tuple[Connection, Connection]) -> None:
    one, other = connections
    naive = copy(sqlite_statements())
    naive.begin = naive.end = Statement.joined("SELECT 1")
    with pytest.raises(CorruptRecord, match="out of order"):
        _read_while(one, lambda: _append(other, 10), naive)


def test_a_read_that_fails_leaves_no_snapshot_open(
    connections: tuple[Connection, Connection],
) -> None:
    one, other = connections
    other.execute("UPDATE turnlog_records SET head = x'00' WHERE number = 9")
    with pytest.raises(CorruptRecord) as caught:
        _read_while(one, lambda: None, sqlite_statements())
    assert caught.value.turn == 9
    assert not one.in_transaction

"""The costs of the SQL store on SQLite: statements and SQLite's own steps, for any length of the history."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from sql_database import Database
from turnlog import (
    ABSENT,
    Change,
    Conflict,
    Key,
    Page,
    Query,
    Receipt,
    Record,
    Session,
    SessionNotFound,
    TurnlogError,
    Version,
    user,
)
from turnlog_sql import _commit, _operations, _pages, _read
from turnlog_sql._rows import Seen
from turnlog_sql._statements import Prefix, Statement

LONG = Key("shop", "long")


class Filled(Database):
    """A database with one session of `turns` turns and a hundred short sessions."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.turns = turns
        for place in range(100):
            self.commit(Change(append=said(2), owner=f"o{place % 10}"), Key("shop", f"s{place}"))
        self.commit(Change(append=said(turns), owner="long", metadata={"system": "x" * 1000}))
        self.version = self.commit(Change(append=said(1))).version
        self.commit(Change(append=said(3)))
        self.turns += 4

    def commit(self, change: Change, key: Key = LONG) -> Receipt:
        """Commit a change."""
        return self.write(_commit.commit(self.statements, key, change, 1.0, None))[0]

    def append(self) -> Receipt:
        """Append a turn to the long session, which was just read."""
        change = Change(append=said(1))
        _, seen = self.read(_read.read(self.statements, LONG, 1.0, None, last=0, before=None, since=None, touch=True))
        found = self.write(_nothing(), first=_commit.append(self.statements, seen, change, 1.0, None))
        return found[0]

    def session(self, *, last: int | None = None, before: int | None = None, since: Version | None = None) -> Session:
        """Read the long session."""
        steps = _read.read(self.statements, LONG, 1.0, None, last=last, before=before, since=since, touch=True)
        return self.read(steps)[0]

    def page(self, owner: str | None = None) -> object:
        """List five sessions."""
        return self.read(_pages.page(self.statements, Query(namespace="shop", owner=owner, limit=5), 1.0))

    def work(self, call: Callable[[], object]) -> tuple[str, int]:
        """Return the kinds of statements of a call and the number of SQLite's steps (sqlite.org/opcode.html)."""
        statements: list[str] = []
        steps = [0]

        def step() -> int:
            steps[0] += 1
            return 0

        self.connection.set_trace_callback(lambda sql: statements.append(re.findall(r"[A-Z]+", sql)[0]))
        self.connection.set_progress_handler(step, 1)
        call()
        self.connection.set_progress_handler(None, 1)
        self.connection.set_trace_callback(None)
        return " ".join(statements), steps[0]


def _nothing() -> _operations.Steps[tuple[Receipt, Seen]]:
    raise AssertionError("it was not done at once")
    yield


def said(turns: int) -> tuple[Record, ...]:
    """Return turns of two messages."""
    messages = (user("hello"), user("x" * 600))
    return tuple(Record.of(messages, id=f"t{place}", time=0.0) for place in range(turns))


OPERATIONS: dict[str, tuple[Callable[[Filled], Any], str]] = {
    "append": (lambda d: d.commit(Change(append=said(1))), "BEGIN SELECT UPDATE INSERT INSERT COMMIT"),
    "append at once": (lambda d: d.append(), "SELECT BEGIN UPDATE INSERT INSERT COMMIT"),
    "retain": (
        lambda d: d.commit(Change(append=said(1), retain=d.turns)),
        "BEGIN SELECT SELECT SELECT DELETE UPDATE INSERT INSERT COMMIT",
    ),
    "cut": (lambda d: d.commit(Change(keep=d.turns - 1)), "BEGIN SELECT SELECT SELECT DELETE UPDATE INSERT COMMIT"),
    "merge": (
        lambda d: d.commit(Change(metadata={"a": 1})),
        "BEGIN SELECT SELECT UPDATE DELETE INSERT INSERT COMMIT",
    ),
    "info": (lambda d: d.session(last=0), "SELECT"),
    "last 20": (lambda d: d.session(last=20), "BEGIN SELECT SELECT COMMIT"),
    "20 before another": (lambda d: d.session(last=20, before=d.turns - 2), "BEGIN SELECT SELECT COMMIT"),
    "20 in the middle": (lambda d: d.session(last=20, before=d.turns // 2), "BEGIN SELECT SELECT COMMIT"),
    "since": (lambda d: d.session(since=d.version), "SELECT"),
    "page": (lambda d: d.page(), "SELECT"),
    "page of an owner": (lambda d: d.page("o3"), "SELECT"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_costs_the_same_for_any_length(name: str) -> None:
    """The statements are the same, and SQLite's steps at 5,000 turns exceed those at 100 by at most 10 %."""
    operation, statements = OPERATIONS[name]
    costs = []
    for turns in (100, 5_000):
        database = Filled(turns)
        assert database.work(lambda d=database: operation(d))[0] == statements  # type: ignore[misc]
        costs.append(database.work(lambda d=database: operation(d))[1])  # type: ignore[misc]
        database.close()
    assert costs[1] <= costs[0] * 1.1


REFUSED: dict[str, tuple[Callable[[Filled], Change], type[TurnlogError]]] = {
    "version": (lambda d: Change(keep=1, retain=5, metadata={"a": 1}, expect=d.version), Conflict),
    "absent": (lambda d: Change(append=said(2), metadata={"a": 1}, expect=ABSENT), Conflict),
    "owner": (lambda d: Change(keep=1, retain=5, metadata={"a": 1}, for_owner="another"), SessionNotFound),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_change_reads_nothing_but_the_header(name: str) -> None:
    make, error = REFUSED[name]
    database = Filled(20)
    change = make(database)

    def refused() -> None:
        with pytest.raises(error):
            database.commit(change)

    assert database.work(refused)[0] == "BEGIN SELECT ROLLBACK"
    database.close()


def test_a_repeat_for_another_owner_is_not_answered() -> None:
    database = Filled(20)
    change = Change(append=said(1), metadata={"a": 1})
    database.commit(change)
    assert database.work(lambda: database.commit(change))[0] == "BEGIN SELECT COMMIT"
    with pytest.raises(SessionNotFound):
        database.commit(msgspec.structs.replace(change, for_owner="another"))
    database.close()


def test_steps_are_counted() -> None:
    """The steps of a full load grow with the history, so the measurement can fail."""
    few, many = Filled(100), Filled(5_000)
    assert many.work(many.session)[1] > 10 * few.work(few.session)[1]
    few.close()
    many.close()


def test_no_statement_scans_a_table() -> None:
    """Each statement finds its rows by an index and sorts none."""
    database = Database()
    statements = database.statements
    every = [one for one in vars(statements).values() if isinstance(one, Statement)]
    every += [*statements.delete, *statements.newest.values(), *statements.reads.values()]
    every += [
        pages.statement(owned=owned, later=later, prefix=prefix)
        for pages in (statements.pages, statements.keys)
        for owned in (None, False, True)
        for later in (False, True)
        for prefix in (Prefix.NONE, Prefix.SCANNED)
    ]
    assert len(every) > 30
    planless: tuple[object, ...] = (
        *(statements.version, statements.clock, statements.begin, statements.end, statements.counts),
        *(statements.check, statements.quick_check, statements.stored),
    )
    for one in every:
        if one in planless or one.sql.startswith("INSERT"):
            continue
        values = one.bind(dict.fromkeys(one.names, None))
        plan = [row[3] for row in database.connection.execute(f"EXPLAIN QUERY PLAN {one.sql}", values)]
        assert plan
        assert not [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step], one.sql
    database.close()


def test_a_rare_prefix_is_searched_in_the_index_of_keys_and_a_frequent_one_in_the_index_of_pages() -> None:
    database = Database()
    for owned, prefix, index in (
        (None, Prefix.SEARCHED, "turnlog_sessions_key (namespace=? AND session>? AND session<?)"),
        (False, Prefix.SEARCHED, "turnlog_sessions_key (namespace=? AND session>? AND session<?)"),
        (None, Prefix.SCANNED, "turnlog_sessions_updated (namespace=?)"),
        (False, Prefix.SCANNED, "turnlog_sessions_updated (namespace=?)"),
        (True, Prefix.SCANNED, "turnlog_sessions_owner (namespace=? AND owner=?)"),
    ):
        statement = database.statements.pages.statement(owned=owned, later=False, prefix=prefix)
        values = statement.bind(dict.fromkeys(statement.names, None))
        plan = [row[3] for row in database.connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", values)]
        assert index in plan[0], (owned, prefix)
    database.close()


def _page(database: Database, query: Query) -> Page:
    return database.read(_pages.page(database.statements, query, 2e3))


def test_a_page_of_a_prefix_takes_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite searches a rare prefix, however many sessions there are, and scans for a frequent one."""
    monkeypatch.setattr(_pages, "_FEW", 20)
    database = Filled(1)
    for number in range(1_000):
        name = f"rare{number}" if number % 100 == 0 else f"often{number}"
        change = Change(metadata={"x": 1})
        database.write(_commit.commit(database.statements, Key("default", name), change, float(number), None))
    for prefix, count, most in (("rare", 10, 1_500), ("often", 10, 1_500), ("none", 0, 300)):
        query = Query(namespace="default", prefix=prefix, limit=10)
        assert len(_page(database, query).infos) == count
        assert database.work(partial(_page, database, query))[1] < most, prefix
    whole = Query(namespace="default", limit=1_000)
    assert database.work(partial(_page, database, whole))[1] > 10_000
    database.close()


def test_a_plan_that_scans_a_table_is_detected() -> None:
    database = Database()
    sql = "SELECT row FROM turnlog_sessions WHERE messages_until > 5 ORDER BY bytes"
    plan = [row[3] for row in database.connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert plan == ["SCAN turnlog_sessions", "USE TEMP B-TREE FOR ORDER BY"]
    database.close()


def test_at_most_twice_the_remembered_changes_are_kept() -> None:
    database = Database()
    for _ in range(300):
        steps = _commit.commit(database.statements, LONG, Change(append=said(1)), 1.0, None)
        database.write(steps)
        assert database.rows("changes") <= 128
    database.close()


def test_this_sqlite_is_named() -> None:
    """The failure names the version of SQLite, because query plans differ between versions."""
    assert sqlite3.sqlite_version_info >= (3, 35), sqlite3.sqlite_version

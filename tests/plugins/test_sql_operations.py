"""The operations of the SQL backends compared with `SessionState`: the same calls have the same answers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from copy import copy
from itertools import count
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from sql_database import Database
from turnlog import ABSENT, PRESENT, Change, Key, Query, Record, Session, Version, user
from turnlog.errors import TurnlogError
from turnlog.rules import SessionState, page
from turnlog_sql import _commit, _delete, _pages, _read, _seal
from turnlog_sql._rows import Seen

small = st.integers(0, 7)
owners = st.none() | st.none() | st.sampled_from(["ann", "ben"])
conditions = st.none() | st.none() | st.sampled_from([ABSENT, PRESENT]) | st.tuples(small, st.integers(0, 2))
"""A condition. A tuple holds the number of one of the last versions and of one of its three strengths."""


class Side:
    """The answer of one side: a value, or the type of the error."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: type[TurnlogError] | None = None
        try:
            self.value = call()
        except TurnlogError as error:
            self.error = type(error)


class Machine(RuleBasedStateMachine):
    """Two sessions, each as a state and as rows. Each step runs on both sides, and the answers are compared."""

    keys = (Key("shop", "alice"), Key("shop", "Alice"))

    def __init__(self) -> None:
        super().__init__()
        self.database = Database()
        self.now = 1_000.0
        self.ttl: float | None = None
        self.names = count()
        self.epochs = count(1)
        self.states = {key: SessionState.absent(key) for key in self.keys}
        self.changes: list[Change] = []
        self.versions: list[Version] = []
        self.seen: dict[Key, Seen] = {}

    def teardown(self) -> None:
        self.database.close()

    @initialize(ttl=st.sampled_from([None, None, 80.0]))
    def configure(self, ttl: float | None) -> None:
        """Set the time to live of the store."""
        self.ttl = ttl
        self.states = {key: SessionState.absent(key, ttl=ttl) for key in self.keys}

    # -------------------------------------------------------------------------------------------------- the operations

    def commit(self, key: Key, change: Change) -> None:
        """Commit on both sides."""
        epoch = next(self.epochs).to_bytes(16, "big")
        state = Side(lambda: self.states[key].apply(change, self.now, nonce=lambda _: epoch))
        statements, seen = self.database.statements, self.seen.get(key)
        steps = _commit.commit(statements, key, change, self.now, self.ttl, lambda _: epoch)
        at_once = _commit.append(statements, seen, change, self.now, self.ttl) if seen and change.append else None
        rows = Side(lambda: self.database.write(steps, first=at_once))
        assert rows.error is state.error
        if state.error is None:
            self.states[key], receipt = state.value
            answer, self.seen[key] = rows.value
            assert answer == receipt
            self.versions = [*self.versions, receipt.version][-8:]
        self.changes = [*self.changes, change][-8:]

    def condition(self, drawn: Any) -> Any:
        """Return the condition that was drawn."""
        if not isinstance(drawn, tuple):
            return drawn
        if not self.versions:
            return None
        version = self.versions[drawn[0] % len(self.versions)]
        return (version, version.session, version.exact)[drawn[1]]

    def record(self, id: str, part: int, *, open: bool, texts: int) -> Record:
        """Return a round of a few messages."""
        said = tuple(user(f"{id}.{part}.{place}") for place in range(texts))
        return Record.of(said, id=id, part=part, open=open, time=self.now)

    @rule(
        key=st.sampled_from(keys),
        turns=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), max_size=3),
        keep=st.none() | small,
        retain=st.none() | st.integers(1, 4),
        expect=conditions,
        for_owner=owners,
        metadata=st.none() | st.dictionaries(st.sampled_from("ab"), st.none() | st.integers(0, 3)),
        owner=st.none() | st.sampled_from(["", "ann", "ben"]),
        ttl=st.none() | st.none() | st.sampled_from([0, 40, 200]),
        limit=st.none() | st.integers(50, 300),
    )
    def change(self, key: Key, turns: Any, expect: Any, for_owner: str | None, limit: int | None, **parts: Any) -> None:
        """Combine all parts of a change at random."""
        rounds = []
        for how_many, texts, open in turns:
            name = f"t{next(self.names)}"
            for part in range(how_many):
                goes_on = part < how_many - 1 or open
                rounds.append(self.record(name, part, open=goes_on, texts=texts))
        if rounds or any(part is not None for part in parts.values()):
            id, expect = f"c{next(self.names)}", self.condition(expect)
            change = Change(id=id, append=tuple(rounds), expect=expect, max_bytes=limit, for_owner=for_owner, **parts)
            self.commit(key, change)

    @rule(
        key=st.sampled_from(keys),
        turns=st.integers(1, 4),
        retain=st.none() | st.integers(1, 4),
        expect=conditions,
        for_owner=owners,
        open=st.booleans(),
    )
    def append(self, key: Key, turns: int, retain: int | None, expect: Any, for_owner: str | None, open: bool) -> None:
        """Append turns, as applications usually do."""
        said = tuple(self.record(f"t{next(self.names)}", 0, open=open, texts=1 + place % 3) for place in range(turns))
        id, expect = f"c{next(self.names)}", self.condition(expect)
        self.commit(key, Change(id=id, append=said, retain=retain, expect=expect, for_owner=for_owner))

    @rule(key=st.sampled_from(keys), retain=st.integers(1, 6))
    def retain(self, key: Key, retain: int) -> None:
        """Drop the first turns."""
        self.commit(key, Change(id=f"c{next(self.names)}", retain=retain))

    @rule(key=st.sampled_from(keys), texts=st.integers(1, 2), open=st.booleans())
    def go_on(self, key: Key, texts: int, open: bool) -> None:
        """Append the next round of the last turn, which may be open or closed."""
        header = self.states[key].header
        if header is not None and header.tail is not None:
            round = self.record(header.tail[0], header.tail[1] + 1, open=open, texts=texts)
            self.commit(key, Change(id=f"c{next(self.names)}", append=(round,)))

    @precondition(lambda self: self.changes)
    @rule(key=st.sampled_from(keys), which=small, other=st.booleans(), for_owner=owners)
    def repeat(self, key: Key, which: int, other: bool, for_owner: str | None) -> None:
        """Repeat a change, also for another owner, or reuse its id for another change."""
        change = self.changes[which % len(self.changes)]
        if other:
            change = Change(id=change.id, owner="someone else", for_owner=for_owner)
        elif for_owner is not None:
            change = replace(change, for_owner=for_owner)
        self.commit(key, change)

    @rule(key=st.sampled_from(keys), start=small, length=st.integers(2, 5))
    def seal(self, key: Key, start: int, length: int) -> None:
        """Seal some of the current records."""
        records = self.states[key].records
        run = records[start % max(1, len(records)) :][:length]
        try:
            sealed = Record.seal(run)
        except TurnlogError:
            return
        state = Side(lambda: self.states[key].seal(sealed, self.now))
        rows = Side(lambda: self.database.write(_seal.seal(self.database.statements, key, sealed, self.now)))
        assert rows.error is state.error
        if state.error is None:
            self.states[key], done = state.value
            answer, self.seen[key] = rows.value
            assert answer is done

    @rule(key=st.sampled_from(keys), expect=conditions, for_owner=owners, dice=st.integers(0, 3))
    def delete(self, key: Key, expect: Any, for_owner: str | None, dice: int) -> None:
        """Delete the session, in a part of the calls."""
        if dice:
            return
        wanted = self.condition(expect)
        state = Side(lambda: self.states[key].check_delete(wanted, for_owner, self.now))
        steps = _delete.delete(self.database.statements, key, self.now, wanted, for_owner)
        rows = Side(lambda: self.database.write(steps))
        assert (rows.error, rows.value) == (state.error, state.value)
        if state.value or (state.error is None and for_owner is None):
            self.states[key] = SessionState.absent(key, ttl=self.ttl)

    @rule(seconds=st.sampled_from([1.0, 5.0, 15.0, 50.0]))
    def wait(self, seconds: float) -> None:
        """Advance the time."""
        self.now += seconds

    @rule(
        key=st.sampled_from(keys),
        last=st.none() | small,
        before=st.none() | small,
        since=st.none() | small,
        touch=st.booleans(),
    )
    def read(self, key: Key, last: int | None, before: int | None, since: int | None, touch: bool) -> None:
        """Read any part of a session."""
        seen = self.versions[since % len(self.versions)] if since is not None and self.versions else None
        asked: Any = {"last": last, "before": None if seen else before, "since": seen, "touch": touch}
        state = Side(lambda: self.states[key].read(self.now, **asked))
        steps = _read.read(self.database.statements, key, self.now, self.ttl, **asked)
        rows = Side(lambda: self.database.read(steps))
        assert rows.error is state.error
        if state.error is None:
            self.states[key], session = state.value
            answer, self.seen[key] = rows.value
            self.same(answer, session)

    def same(self, found: Session, wanted: Session) -> None:
        """Compare all fields of a session except the bytes, which a state estimates."""
        assert found.continues == wanted.continues
        assert found.records == wanted.records
        for name in found.info.__struct_fields__:
            if name != "bytes":
                assert getattr(found.info, name) == getattr(wanted.info, name), name

    # --------------------------------------------------------------------------------------------------- the invariants

    @rule()
    def pages_show_the_same(self) -> None:
        """List all sessions and those of an owner, page by page."""
        headers = [state.header for state in self.states.values()]
        alive = [header.info(self.now) for header in headers if header is not None and header.alive(self.now)]
        for owner in (None, "", "ann"):
            cursor = None
            while True:
                query = Query(namespace="shop", owner=owner, limit=1, cursor=cursor)
                found = self.database.read(_pages.page(self.database.statements, query, self.now))
                wanted = page(alive, query)
                assert [info.key for info in found.infos] == [info.key for info in wanted.infos]
                assert found.cursor == wanted.cursor
                cursor = found.cursor
                if cursor is None:
                    break

    @invariant()
    def nothing_is_left_over(self) -> None:
        """Check the number of rows, the bound of remembered changes and the sum of bytes."""
        here = [state for state in self.states.values() if state.header is not None]
        assert self.database.rows("sessions") == len(here)
        assert self.database.rows("records") == sum(len(state.records) for state in here)
        assert self.database.rows("changes") <= 128 * len(here)
        assert self.database.rows("metadata") == sum(bool(state.header and state.header.metadata) for state in here)
        sums = [
            self.database.connection.execute(f"SELECT coalesce(sum({column}), 0) FROM turnlog_{table}").fetchone()
            for table, column in (("sessions", "bytes"), ("records", "size"))
        ]
        assert sums[0] == sums[1]


def test_the_steps_agree_with_the_state() -> None:
    run_state_machine_as_test(Machine, settings=settings(stateful_step_count=40))


class ForgetsTheChange(Machine):
    """A planted fault: a change is not remembered."""

    def commit(self, key: Key, change: Change) -> None:
        super().commit(key, change)
        self.database.connection.execute("DELETE FROM turnlog_changes")


class LeavesRecords(Machine):
    """A planted fault: a new session under the same id has the old records."""

    def __init__(self) -> None:
        super().__init__()
        statements = self.database.statements
        statements.delete = [one for one in statements.delete if "turnlog_records" not in one.sql]


class CutsOneTooMany(Machine):
    """A planted fault: retention drops one turn too many."""

    def __init__(self) -> None:
        super().__init__()
        statements = self.database.statements
        statements.cut_below = copy(statements.cut_below)
        statements.cut_below.sql = statements.cut_below.sql.replace("number < ", "number <= ")


@pytest.mark.parametrize("planted", [ForgetsTheChange, LeavesRecords, CutsOneTooMany])
def test_the_machine_finds_planted_faults(planted: type[Machine]) -> None:
    chosen = settings(stateful_step_count=40, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises((AssertionError, sqlite3.IntegrityError)):
        run_state_machine_as_test(planted, settings=chosen)


def test_retention_keeps_a_turn_that_begins_in_a_sealed_run() -> None:
    """Turn 1 begins in the sealed run of turns 0 and 1, and its second round is a record of its own."""
    machine, key = Machine(), Machine.keys[0]
    turns = [machine.record(f"t{number}", 0, open=number == 1, texts=1) for number in range(3)]
    machine.commit(key, Change(id="a", append=tuple(turns)))
    machine.seal(key, 0, 2)
    machine.commit(key, Change(id="b", keep=2))
    machine.commit(key, Change(id="c", append=(machine.record("t1", 1, open=False, texts=1),)))
    machine.commit(key, Change(id="d", retain=1))
    machine.read(key, None, None, None, touch=True)
    machine.nothing_is_left_over()
    assert [(record.number, record.turns) for record in machine.states[key].records] == [(0, 2), (1, 0)]
    machine.teardown()

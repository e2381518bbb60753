"""For each flipped bit and each lost row, a read raises an error that names it or returns the right contents."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

import pytest

from forged import forged, packed_head
from sql_database import Database
from turnlog import (
    Change,
    CorruptRecord,
    Key,
    Page,
    Query,
    Record,
    Session,
    SessionNotFound,
    TurnlogError,
    Version,
    assistant,
    user,
)
from turnlog_sql import _commit, _delete, _operations, _pages, _read, _sweep

KEY = Key("shop", "alice")
TURNS = 6


class Kept(Database):
    """A database with one session of a few turns, an owner and metadata."""

    def __init__(self) -> None:
        super().__init__()
        for turn in range(TURNS):
            said = (user(f"question {turn}"), assistant(f"answer {turn}"))
            change = Change(append=(Record.of(said, id=f"t{turn}", time=1.0),), owner="ann", metadata={"title": "T"})
            self.write(_commit.commit(self.statements, KEY, change, float(turn), None))

    def session(
        self, *, last: int | None = None, before: int | None = None, since: Version | None = None, key: Key = KEY
    ) -> Session:
        """Read the session."""
        asked = {"last": last, "before": before, "since": since}
        return self.read(_read.read(self.statements, key, 9.0, None, touch=True, **asked))[0]  # type: ignore[arg-type]


@pytest.fixture
def kept() -> Iterator[Kept]:
    database = Kept()
    yield database
    database.close()


COLUMNS = [
    ("sessions", "head", ""),
    ("sessions", "owner", ""),
    ("metadata", "metadata", ""),
    ("records", "head", "WHERE number = 2"),
    ("records", "payload", "WHERE number = 2"),
]


@pytest.mark.parametrize(("table", "column", "where"), COLUMNS)
def test_no_flipped_bit_is_silently_wrong(kept: Kept, table: str, column: str, where: str) -> None:
    sound = kept.session()
    wanted = (sound.info, [message.to_dict() for message in sound.messages], sound.turns)
    (data,) = kept.connection.execute(f"SELECT {column} FROM turnlog_{table} {where}").fetchone()
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        kept.connection.execute(f"UPDATE turnlog_{table} SET {column} = ? {where}", (bytes(damaged),))
        try:
            session = kept.session()
            found = (session.info, [message.to_dict() for message in session.messages], session.turns)
        except CorruptRecord as error:
            assert error.key == KEY
            assert error.turn == (2 if table == "records" else None)
        else:
            assert found == wanted, f"bit {bit}"
    kept.connection.execute(f"UPDATE turnlog_{table} SET {column} = ? {where}", (data,))
    assert kept.session().turns == sound.turns


@pytest.mark.parametrize(("table", "column", "where"), COLUMNS)
@pytest.mark.parametrize("value", ["text", 5, 1.5, b"", b"\xc1", b"\xff" * 40])
def test_a_wrong_value_is_damage_and_no_crash(kept: Kept, table: str, column: str, where: str, value: object) -> None:
    kept.connection.execute(f"UPDATE turnlog_{table} SET {column} = ? {where}", (value,))
    with pytest.raises(CorruptRecord, match="alice"):
        _ = kept.session().messages


FORGED = [("sessions", "head", 4, ""), *(("records", "head", 8, f"WHERE number = {turn}") for turn in (0, TURNS - 1))]


@pytest.mark.parametrize(("table", "column", "checks", "where"), FORGED)
def test_forged_values_with_right_checksums_cause_no_crash(
    kept: Kept, table: str, column: str, checks: int, where: str
) -> None:
    """Each use returns an answer or an error of turnlog: no overflow in the driver, no recursion, no missing index."""
    (data,) = kept.connection.execute(f"SELECT {column} FROM turnlog_{table} {where}").fetchone()
    (payload,) = kept.connection.execute(f"SELECT payload FROM turnlog_records {where}").fetchone()
    kept.connection.execute("UPDATE turnlog_sessions SET expires = NULL")
    sound, version = kept.connection.serialize(), kept.session(last=1).version
    more = (Record.of((user("more"),), id="more", time=1.0),)
    changes = [Change(append=more), Change(append=more, retain=2), Change(keep=3), Change(metadata={"a": 1})]
    uses: list[Callable[[], object]] = [
        lambda: kept.session().messages,
        lambda: kept.session(last=3).turns,
        lambda: kept.session(before=4).messages,
        lambda: kept.session(since=version).messages,
        lambda: kept.read(_pages.page(kept.statements, Query(namespace="shop"), 20.0)),
        *(lambda c=change: kept.write(_commit.commit(kept.statements, KEY, c, 20.0, None)) for change in changes),
    ]
    for body in forged(data[:-checks]):
        wrong = packed_head(KEY, body, payload) if table == "records" else body + KEY.checksum(body)
        kept.connection.execute(f"UPDATE turnlog_{table} SET {column} = ? {where}", (wrong,))
        with contextlib.suppress(sqlite3.IntegrityError):  # the caller raises `Unavailable` from it
            for use in uses:
                with contextlib.suppress(TurnlogError):
                    use()
        kept.connection.deserialize(sound)


@pytest.mark.parametrize("turn", range(TURNS))
def test_each_read_of_a_lost_record_detects_the_loss(kept: Kept, turn: int) -> None:
    version = kept.session(last=1).version
    kept.connection.execute("DELETE FROM turnlog_records WHERE number = ?", (turn,))
    with pytest.raises(CorruptRecord, match="missing") as caught:
        kept.session()
    assert caught.value.turn in (turn - 1, turn, None)
    for last in range(1, 2 * TURNS + 1):
        asked = range(max(0, TURNS - (last + 1) // 2), TURNS)
        try:
            found = kept.session(last=last)
        except CorruptRecord:
            assert turn in asked or turn - 1 in asked
        else:
            assert turn not in asked
            assert [one.number for one in found.turns] == list(asked)
    for before in range(TURNS + 1):
        try:
            found = kept.session(before=before)
        except CorruptRecord:
            assert turn < before
        else:
            assert turn >= before
            assert len(found.turns) == before
    assert kept.session(since=version).continues


def test_every_record_lost_is_noticed(kept: Kept) -> None:
    kept.connection.execute("DELETE FROM turnlog_records")
    for asked in ({}, {"last": 5}, {"before": 3}):
        with pytest.raises(CorruptRecord, match="missing"):
            kept.session(**asked)  # type: ignore[arg-type]
    assert kept.session(last=0).info.turns == TURNS


def test_payloads_that_changed_places_are_noticed(kept: Kept) -> None:
    payloads = kept.connection.execute(
        "SELECT payload FROM turnlog_records WHERE number IN (1, 3) ORDER BY 1"
    ).fetchall()
    assert len(payloads) == 2
    one, other = (
        kept.connection.execute("SELECT payload FROM turnlog_records WHERE number = ?", (n,)).fetchone() for n in (1, 3)
    )
    for number, payload in ((1, other), (3, one)):
        kept.connection.execute("UPDATE turnlog_records SET payload = ? WHERE number = ?", (*payload, number))
    with pytest.raises(CorruptRecord, match="a stored record is damaged") as caught:
        kept.session()
    assert caught.value.turn == 1


BOB, CAROL = (f"(SELECT row FROM turnlog_sessions WHERE session = x'{name.hex()}')" for name in (b"bob", b"carol"))

OF_ANOTHER = {
    "header": f"UPDATE turnlog_sessions SET head = (SELECT head FROM turnlog_sessions WHERE row = {CAROL}) "
    f"WHERE row = {BOB}",
    "metadata": f"UPDATE turnlog_metadata SET metadata = (SELECT metadata FROM turnlog_metadata WHERE row = {CAROL})",
    "record": (
        "UPDATE turnlog_records SET head = other.head, payload = other.payload FROM turnlog_records AS other "
        f"WHERE other.row = {CAROL} AND other.number = 2 AND turnlog_records.row = {BOB} AND turnlog_records.number = 2"
    ),
    "change": "UPDATE turnlog_changes SET answer = "
    f"(SELECT answer FROM turnlog_changes WHERE row = {CAROL} AND place = 0)",
}


@pytest.mark.parametrize("which", OF_ANOTHER)
def test_a_row_of_another_session_is_noticed(kept: Kept, which: str) -> None:
    """This holds even if the other session has the same contents."""
    changes = [Change(append=(Record.of((user("x"),), id=f"t{n}", time=1.0),), metadata={"a": 1}) for n in range(3)]
    keys = (Key("shop", "bob"), Key("shop", "carol"))
    kept.write(_delete.delete(kept.statements, KEY, 1.0, None, None))
    for key in keys:
        for change in changes:
            kept.write(_commit.commit(kept.statements, key, change, 1.0, None, bytes))
    kept.connection.execute(OF_ANOTHER[which])
    with pytest.raises(CorruptRecord) as caught:
        kept.session(key=keys[0])
        kept.write(_commit.commit(kept.statements, keys[0], changes[1], 1.0, None))
    assert caught.value.key == keys[0]


def three(kept: Kept) -> None:
    """Write three more sessions of two owners, one after the other."""
    for place, (name, owner) in enumerate((("a", "ann"), ("b", "ann"), ("c", "bob"))):
        change = Change(append=(Record.of((user("x"),), id="t", time=1.0),), owner=owner)
        kept.write(_commit.commit(kept.statements, Key("shop", name), change, 10.0 + place, None))


def page_of(kept: Kept, **asked: Any) -> Page:
    return kept.read(_pages.page(kept.statements, Query(namespace="shop", **asked), 20.0))


def erased(kept: Kept, name: str, owner: str | None = None) -> bool:
    return kept.write(_delete.delete(kept.statements, Key("shop", name), 20.0, None, owner))


def test_a_damaged_session_hides_no_other_and_can_be_deleted(kept: Kept) -> None:
    three(kept)
    kept.connection.execute("UPDATE turnlog_sessions SET head = x'c1' WHERE session = ?", (b"b",))
    for owner, names in ((None, ["c", "a", "alice"]), ("ann", ["a", "alice"]), ("bob", ["c"])):
        found, damaged, cursor = [], [], None
        while True:
            page = page_of(kept, owner=owner, limit=1, cursor=cursor)
            found += [info.key.session for info in page.infos]
            damaged += [error.key for error in page.damaged]
            cursor = page.cursor
            if cursor is None:
                break
        assert found == names
        assert damaged == ([] if owner == "bob" else [Key("shop", "b")]), "on one page, and only on pages of its owner"
    assert len(kept.session(key=Key("shop", "a")).messages) == 1
    assert not erased(kept, "b", "bob")
    assert erased(kept, "b", "ann")
    assert [info.key.session for info in page_of(kept).infos] == ["c", "a", "alice"]
    assert page_of(kept).damaged == ()


def test_a_page_of_damaged_sessions_alone_ends(kept: Kept) -> None:
    three(kept)
    kept.connection.execute("UPDATE turnlog_sessions SET head = x'c1' WHERE session != ?", (b"alice",))
    page = page_of(kept, limit=1)
    assert [info.key.session for info in page.infos] == ["alice"]
    assert len(page.damaged) == 3
    kept.connection.execute("UPDATE turnlog_sessions SET head = x'c1', session = x'ff' WHERE session = ?", (b"alice",))
    page = page_of(kept, limit=1)
    assert (page.infos, page.cursor, len(page.damaged)) == ((), None, 4)
    assert None in [error.key for error in page.damaged], "its name cannot be read"


TIMES: dict[str, str] = {
    "updated": "updated = updated + 1",
    "updated is no number": "updated = 'x'",
    "expires too early": "expires = 1.0",
    "expires too late": "expires = expires * 2",
    "expires never": "expires = NULL",
    "the sum": "times = times + 0.5",
    "the sum is no number": "times = x'00'",
    "updated is text": "updated = CAST(updated AS TEXT) || 'x'",
}


@pytest.mark.parametrize("wrong", TIMES)
def test_a_damaged_time_is_noticed_and_ends_no_session(kept: Kept, wrong: str) -> None:
    """The session neither expires nor is swept, and its listing names it."""
    kept.write(_commit.commit(kept.statements, KEY, Change(ttl=100.0), 9.0, None))
    kept.connection.execute(f"UPDATE turnlog_sessions SET {TIMES[wrong]}")
    for last in (None, 0, 3):
        with pytest.raises(CorruptRecord, match="alice"):
            kept.session(last=last)
    with pytest.raises(CorruptRecord, match="alice"):
        kept.write(_commit.commit(kept.statements, KEY, Change(metadata={"a": 1}), 20.0, None))
    for owner in (None, "ann"):
        page = page_of(kept, owner=owner)
        assert (page.infos, [error.key for error in page.damaged]) == ((), [KEY])
    assert not kept.read(_sweep.any_expired(kept.statements, 50.0))
    assert kept.write(_sweep.sweep(kept.statements, 50.0, 10)) == 0
    assert erased(kept, "alice", "ann")


def test_metadata_that_are_lost_or_older_are_noticed(kept: Kept) -> None:
    """The metadata are intact and belong to this session."""
    (old,) = kept.connection.execute("SELECT metadata FROM turnlog_metadata").fetchone()
    kept.write(_commit.commit(kept.statements, KEY, Change(metadata={"title": "new"}), 9.0, None))
    for damage, values in (("UPDATE turnlog_metadata SET metadata = ?", (old,)), ("DELETE FROM turnlog_metadata", ())):
        kept.connection.execute(damage, values)
        for last in (None, 0, 3):
            with pytest.raises(CorruptRecord, match="metadata"):
                kept.session(last=last)
        with pytest.raises(CorruptRecord, match="metadata"):
            kept.write(_commit.commit(kept.statements, KEY, Change(metadata={"a": 1}), 9.0, None))
        assert [str(error.key) for error in page_of(kept).damaged] == ["'alice' in namespace 'shop'"]


def test_an_owner_in_the_index_alone_shows_no_other_owners_session(kept: Kept) -> None:
    """The session appears neither in the other owner's listing nor by its id, and is not deleted for that owner."""
    three(kept)
    kept.connection.execute("UPDATE turnlog_sessions SET owner = ? WHERE session = ?", (b"ann", b"c"))
    page = page_of(kept, owner="ann")
    assert [info.key.session for info in page.infos] == ["b", "a", "alice"]
    assert len(page.damaged) == 1
    with pytest.raises(CorruptRecord):
        erased(kept, "c", "ann")
    assert erased(kept, "c")


def test_a_row_of_another_session_is_not_deleted(kept: Kept) -> None:
    """A damaged index leads to the wrong row. The test simulates it with the row of another session."""
    three(kept)
    rows = dict(kept.connection.execute("SELECT session, row FROM turnlog_sessions").fetchall())
    damaged = copy(kept.statements)
    header = copy(damaged.header)
    header.sql = header.sql.partition("WHERE")[0] + f"WHERE row = {rows[b'c']} AND ? NOT NULL AND ? NOT NULL"
    damaged.header = header
    before = kept.rows("records")
    for owner in (None, "bob", "ann"):
        with pytest.raises(CorruptRecord, match="the row of another session"):
            kept.write(_delete.delete(damaged, Key("shop", "b"), 20.0, None, owner))
    assert kept.rows("records") == before


def test_a_header_found_twice_or_not_at_all_is_damage(kept: Kept) -> None:
    kept.connection.execute("DROP INDEX turnlog_sessions_key")
    kept.connection.execute(
        "INSERT INTO turnlog_sessions SELECT 9, namespace, session, epoch, generation, rounds, start, messages_until, "
        "bytes, updated, owner, expires, times, head FROM turnlog_sessions"
    )
    for last in (None, 0, 3):
        with pytest.raises(CorruptRecord, match="alice"):
            kept.session(last=last)


@pytest.mark.parametrize("namespace", ["x''", "x'ff'", "''", "7"])
def test_an_invalid_namespace_is_reported_by_the_list(kept: Kept, namespace: str) -> None:
    kept.connection.execute(f"UPDATE turnlog_sessions SET namespace = {namespace}")
    with pytest.raises(CorruptRecord, match="not a namespace"):
        kept.read(_pages.namespaces(kept.statements, None, 10))


def test_a_session_that_the_index_of_keys_lacks_is_neither_missing_nor_recreated(kept: Kept) -> None:
    """The row is found by its number, which is derived from the key. The test renames the key to simulate damage."""
    damaged = copy(kept.statements)
    for name in ("find", "header", "info", "led_to"):
        statement = copy(getattr(damaged, name))
        statement.sql = statement.sql.replace("session = ?", "session = 'no ' || ?")
        setattr(damaged, name, statement)
    damaged.reads = {}
    for which, statement in kept.statements.reads.items():
        damaged.reads[which] = copy(statement)
        damaged.reads[which].sql = statement.sql.replace("session = ?", "session = 'no ' || ?")
    for last in (None, 0, 3):
        asked = {"last": last, "before": None, "since": None}
        with pytest.raises(CorruptRecord, match="does not contain it") as caught:
            kept.read(_read.read(damaged, KEY, 9.0, None, touch=True, **asked))  # type: ignore[arg-type]
        assert caught.value.key == KEY
    change = Change(append=(Record.of((user("x"),), id="t", time=1.0),))
    with pytest.raises(CorruptRecord, match="does not contain it"):
        kept.write(_commit.commit(damaged, KEY, change, 9.0, None))
    with pytest.raises(CorruptRecord, match="does not contain it"):
        kept.write(_delete.delete(damaged, KEY, 9.0, None, None))
    assert kept.rows("sessions") == 1
    with pytest.raises(SessionNotFound):
        kept.session(key=Key("shop", "nobody"))


@pytest.mark.parametrize("last", [None, 0])
def test_a_session_that_is_made_between_the_statements_of_a_read_is_missing_and_not_damaged(
    kept: Kept, last: int | None
) -> None:
    new = Key("shop", "new")
    steps = _read.read(kept.statements, new, 9.0, None, last=last, before=None, since=None, touch=True)

    def interrupted() -> _operations.Steps[object]:
        rows = yield next(steps)
        change = Change(append=(Record.of((user("x"),), id="t", time=1.0),))
        yield from _commit.commit(kept.statements, new, change, 9.0, None)
        while True:
            rows = yield steps.send(rows)

    with pytest.raises(SessionNotFound):
        kept.read(interrupted())
    assert len(kept.session(key=new).messages) == 1


def test_two_sessions_whose_rows_would_have_one_number_are_both_kept(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_operations, "_UNUSED_BITS", 64)
    three(kept)
    for name in "abc":
        assert len(kept.session(key=Key("shop", name)).messages) == 1
    with pytest.raises(SessionNotFound):
        kept.session(key=Key("shop", "nobody"))


def test_a_turn_that_a_damaged_number_puts_before_another_is_noticed(kept: Kept) -> None:
    kept.connection.execute(f"UPDATE turnlog_records SET number = {TURNS - 2}, part = 1 WHERE number = {TURNS - 1}")
    with pytest.raises(CorruptRecord, match="missing"):
        kept.session(before=TURNS - 1)

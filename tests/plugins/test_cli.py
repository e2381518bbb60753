"""The command line: mostly in this process over one memory store; a few cases in processes of their own."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import unicodedata
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

import turnlog_cli
from command_line import SLOW, Kept, Screen, answers, append, load, quick, turnlog, typed, use, version
from dialects import ASK, DIALECTS
from turnlog import (
    Change,
    Key,
    Layer,
    Message,
    Page,
    Receipt,
    Record,
    Session,
    Store,
    Version,
    assistant,
    open_store,
    system,
    tool,
    user,
)
from turnlog.config import installed
from turnlog.config.warn import warn_once
from turnlog.errors import CorruptRecord, OutcomeUnknown, SchemaError, Unavailable
from turnlog.limits import MAX_METADATA_BYTES
from turnlog.payload import rewrap
from turnlog.rules import SessionState, begins_turn
from turnlog.values import from_json
from turnlog_cli import main
from turnlog_cli._text import as_json, safe
from turnlog_compression import GzipLayer, _progress
from turnlog_compression._dictionaries import Dictionaries
from turnlog_compression._progress import Progress
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_transfer import _documents, _snapshot
from turnlog_transfer._conversation_writer import store_conversation
from turnlog_transfer._conversations import parse_conversation

ESCAPES = "\x1b[31mred\x1b[0m \x07 \x9b2J \u202e"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Return the store that every command opens."""
    kept = Kept(clock=lambda: 1_700_000_000.0)
    use(monkeypatch, kept)
    return kept


# --------------------------------------------------------------------------------------------------------------- import


def jsonl(path: Path, *lines: object) -> str:
    """Write a file with these lines and return its path. Strings and bytes are unchanged, other values are JSON."""
    raw = (
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    )
    path.write_bytes(b"\n".join(raw))
    return str(path)


def conversation(session: str, *turns: str, **more: object) -> dict[str, Any]:
    """Return a line of an import file. Each turn is a question and its answer."""
    messages = [
        message
        for turn in turns
        for message in ({"role": "user", "content": turn}, {"role": "assistant", "content": turn.upper()})
    ]
    return {"session_id": session, "messages": messages, **more}


def test_real_conversations_load_back_as_they_were_and_are_stored_once(
    shared_data: list[dict[str, Any]], store: Kept, tmp_path: Path, capsys: Any
) -> None:
    path = jsonl(tmp_path / "a.jsonl", *shared_data)
    count = sum(len(line["messages"]) for line in shared_data)
    assert main(["import", path]) == 0
    assert capsys.readouterr() == (
        f"200 sessions stored, 0 extended, 0 unchanged, 0 different, 0 failed; {count} messages written\n",
        "",
    )
    for line in shared_data:
        assert load(store, line["session_id"]) == line["messages"]
    versions = {line["session_id"]: version(store, line["session_id"]) for line in shared_data}
    assert main(["import", path]) == 0
    assert (
        capsys.readouterr().out
        == "0 sessions stored, 0 extended, 200 unchanged, 0 different, 0 failed; 0 messages written\n"
    )
    assert versions == {line["session_id"]: version(store, line["session_id"]) for line in shared_data}


def test_a_turn_begins_at_each_user_message_and_holds_all_that_answered_it(store: Kept, tmp_path: Path) -> None:
    messages = [
        system("Be brief."),
        user("a"),
        assistant(None, tool_calls=[{"id": "1", "function": {"name": "f", "arguments": "{}"}}]),
        tool("r", tool_call_id="1"),
        assistant("b"),
        user("c"),
        assistant("d"),
    ]
    line = {
        "session_id": "s",
        "messages": [message.to_dict() for message in messages],
        "title": "T",
        "score": 0.5,
        "none": None,
    }
    assert main(["import", jsonl(tmp_path / "a.jsonl", line)]) == 0
    session = asyncio.run(store.session("s"))
    assert [turn.messages for turn in session.turns] == [tuple(messages[:5]), tuple(messages[5:])]
    assert dict(session.info.metadata) == {"system": "Be brief.", "title": "T", "score": 0.5}
    assert session.turns[0].time == 1_700_000_000.0


def test_an_own_system_key_wins_over_the_opening_message(store: Kept, tmp_path: Path) -> None:
    line = {"session_id": "s", "messages": [{"role": "system", "content": "x"}], "system": "y"}
    assert main(["import", jsonl(tmp_path / "a.jsonl", line)]) == 0
    assert dict(asyncio.run(store.info("s")).metadata) == {"system": "y"}


def test_a_system_message_too_long_for_metadata_is_stored_with_a_notice(
    store: Kept, tmp_path: Path, capsys: Any
) -> None:
    line = {
        "session_id": "s",
        "messages": [{"role": "system", "content": "x" * MAX_METADATA_BYTES}, {"role": "user", "content": "a"}],
        "title": "T",
    }
    assert main(["import", path := jsonl(tmp_path / "a.jsonl", line)]) == 0
    assert f"{path}:1: the system message of session 's' is too long for metadata" in capsys.readouterr().err
    assert load(store, "s") == line["messages"]
    assert dict(asyncio.run(store.info("s")).metadata) == {"title": "T"}


BAD = {
    "this is not JSON: Expecting property name enclosed in double quotes (character 2); correct the line\n": "{oops",
    "not JSON: Exceeds the limit": b'{"session_id": %b}' % (b"9" * 5_000),
    "not JSON: nested": "[" * 100_000,
    "byte 17 of the line is not UTF-8": b'{"session_id": "\xff"}',
    "must be an object": "[1]",
    "session_id is missing, found: messages": {"messages": []},
    "messages is missing": {"session_id": "x"},
    "at least one message, not an empty list": {"session_id": "x", "messages": []},
    "at least one message, not an object": {"session_id": "x", "messages": {}},
    "messages[1] must be an object, not a string": {
        "session_id": "x",
        "messages": [{"role": "user", "content": ""}, "hi"],
    },
    "session id must be a str, not int": {"session_id": 7, "messages": [{"role": "user"}]},
    "session id is empty": {"session_id": "", "messages": [{"role": "user"}]},
    "metadata takes": conversation("x", "a", big="y" * MAX_METADATA_BYTES),
    "10001 messages": {"session_id": "x", "messages": [{"role": "assistant", "content": ""}] * 10_001},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_line_is_an_error_with_its_number_and_loses_no_other(
    reason: str, store: Kept, tmp_path: Path, capsys: Any
) -> None:
    path = jsonl(tmp_path / "a.jsonl", conversation("one", "a"), "", BAD[reason], "   ", conversation("two", "b"))
    assert main(["import", path]) == 1
    out, err = capsys.readouterr()
    assert out == "2 sessions stored, 0 extended, 0 unchanged, 0 different, 1 failed; 4 messages written\n"
    assert err.startswith(f"{path}:3: ")
    assert reason in err
    assert err.count("\n") == 1
    assert load(store, "two") == conversation("two", "b")["messages"]
    assert main(["show", "x"]) == 1


def test_a_line_may_hold_every_value_of_json(store: Kept, tmp_path: Path) -> None:
    line = '{"session_id": "x", "messages": [{"role": "user", "content": "\\ud800", "n": [-Infinity, 1%s]}, {}]}' % (
        "0" * 30
    )
    assert main(["import", jsonl(tmp_path / "a.jsonl", line)]) == 0
    assert load(store, "x") == [{"role": "user", "content": "\ud800", "n": [float("-inf"), 10**30]}, {}]


def test_a_line_may_end_in_crlf_and_the_file_begin_with_a_byte_order_mark(store: Kept, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(conversation("one", "ä"), ensure_ascii=False).encode() + b"\r\n\r\n")
    assert main(["import", str(path)]) == 0
    assert load(store, "one") == conversation("one", "ä")["messages"]


def test_a_line_that_is_too_long_is_refused_and_passed_over(
    store: Kept, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(_documents, "MAX_LINE_BYTES", 200)
    long = conversation("long", "a" * 5_000)
    path = jsonl(tmp_path / "a.jsonl", conversation("one", "a"), long, conversation("two", "b"), long)
    assert main(["import", path]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("2 sessions stored, 0 extended, 0 unchanged, 0 different, 2 failed")
    assert [text.split(": ")[0] for text in err.splitlines()] == [f"{path}:2", f"{path}:4"]


@pytest.mark.parametrize("arguments", [["-"], ["--store=x", "-"], ["-", "--store=x"], ["--", "-"]])
def test_import_reads_standard_input(arguments: list[str], store: Kept, monkeypatch: Any, capsys: Any) -> None:
    typed(monkeypatch, json.dumps(conversation("one", "a")) + "\n{")
    assert main(["import", *arguments]) == 1
    assert capsys.readouterr().err.startswith("standard input:2: this is not JSON")
    assert load(store, "one") == conversation("one", "a")["messages"]


def test_a_missing_file_is_an_error(store: Kept, tmp_path: Path, capsys: Any) -> None:
    assert main(["import", str(tmp_path / "none")]) == 1
    assert "none cannot be read (No such file" in capsys.readouterr().err
    assert main(["import", str(tmp_path)]) == 1


def test_a_session_that_went_on_is_left_alone(store: Kept, tmp_path: Path, capsys: Any) -> None:
    path = jsonl(tmp_path / "a.jsonl", conversation("s", "a", "b", title="T"))
    main(["import", path])
    for number in range(70):  # more than the number of changes that a store remembers
        append(store, "s", user(f"more {number}"))
    asyncio.run(store.merge_metadata("s", {"title": None}))
    before = version(store, "s")
    assert main(["import", path]) == 0
    assert capsys.readouterr().out.endswith(
        "0 sessions stored, 0 extended, 1 unchanged, 0 different, 0 failed; 0 messages written\n"
    )
    assert version(store, "s") == before


def test_a_line_that_has_grown_extends_its_session(store: Kept, tmp_path: Path, capsys: Any) -> None:
    main(["import", jsonl(tmp_path / "a.jsonl", conversation("s", "a", "b", title="T", n=1))])
    asyncio.run(store.merge_metadata("s", {"title": "mine"}))
    capsys.readouterr()
    grown = conversation("s", "a", "b", "c", "d", title="T2", n=2, new=True)
    assert main(["import", jsonl(tmp_path / "a.jsonl", grown)]) == 0
    assert (
        capsys.readouterr().out
        == "0 sessions stored, 1 extended, 0 unchanged, 0 different, 0 failed; 4 messages written\n"
    )
    session = asyncio.run(store.session("s"))
    assert [message.to_dict() for message in session.messages] == grown["messages"]
    assert [turn.number for turn in session.turns] == [0, 1, 2, 3]
    assert session.version.generation == 0  # no turn was removed
    assert dict(session.info.metadata) == {"title": "mine", "n": 1, "new": True}


def test_a_turn_that_has_grown_is_completed(store: Kept, tmp_path: Path) -> None:
    grown = conversation("s", "a", "b", "c")
    main(["import", jsonl(tmp_path / "a.jsonl", {**grown, "messages": grown["messages"][:3]})])
    assert main(["import", jsonl(tmp_path / "a.jsonl", grown)]) == 0
    session = asyncio.run(store.session("s"))
    assert [message.to_dict() for message in session.messages] == grown["messages"]
    assert [len(turn.messages) for turn in session.turns] == [2, 2, 2]


def test_a_session_that_differs_is_an_error_and_stays_as_it_is(store: Kept, tmp_path: Path, capsys: Any) -> None:
    path = jsonl(
        tmp_path / "a.jsonl", conversation("s", "a", "b"), conversation("s", "a", "x", "y"), conversation("t", "c")
    )
    assert main(["import", path]) == 1
    out, err = capsys.readouterr()
    assert out == "2 sessions stored, 0 extended, 0 unchanged, 1 different, 0 failed; 6 messages written\n"
    assert (
        f"{path}:2: session 's' in namespace 'default' already exists and differs from this line at messages[2]" in err
    )
    assert load(store, "s") == conversation("s", "a", "b")["messages"]


DIFFERENT = {
    "one turn that differs": conversation("s", "x"),
    "more turns that differ": conversation("s", "x", "y", "z", "u", "v", "w"),
    "what was dropped": conversation("s", "a", "b"),
    "turns that are gone and one that differs": conversation("s", "a", "b", "x"),
    "nothing of what is left": {"session_id": "s", "messages": [{"role": "assistant", "content": "A"}]},
}


@pytest.mark.parametrize("line", DIFFERENT.values(), ids=DIFFERENT)
@pytest.mark.parametrize("retain", [2, None])
def test_only_a_line_that_equals_its_session_is_unchanged(
    line: dict[str, Any], retain: int | None, monkeypatch: Any, tmp_path: Path, capsys: Any
) -> None:
    """A turn that retention has dropped cannot be compared, so the import does not report it as equal."""
    use(monkeypatch, store := Kept(retain=retain))
    assert main(["import", jsonl(tmp_path / "a.jsonl", conversation("s", "a", "b", "c", "d"))]) == 0
    before, stored = version(store, "s"), load(store, "s")
    capsys.readouterr()
    path = jsonl(tmp_path / "b.jsonl", line, "oops", conversation("t", "a"))
    same = retain is None and line is DIFFERENT["what was dropped"]  # without retention the turns are still stored
    assert main(["import", path]) == 1
    out, err = capsys.readouterr()
    unchanged, different = (1, 0) if same else (0, 1)
    assert out.startswith(f"1 session stored, 0 extended, {unchanged} unchanged, {different} different, 1 failed;")
    assert [text.split(": ")[0] for text in err.splitlines()] == [f"{path}:1"] * different + [f"{path}:2"]
    assert same or f"{path}:1: session 's' in namespace 'default' already exists" in err
    assert (version(store, "s"), load(store, "s")) == (before, stored)


def test_a_line_that_differs_is_enough_for_exit_code_1(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    use(monkeypatch, store := Kept(retain=1))
    for text in "abc":
        append(store, "s", user(text))
    assert main(["import", path := jsonl(tmp_path / "a.jsonl", conversation("s", "x"))]) == 1
    out, err = capsys.readouterr()
    assert out == "0 sessions stored, 0 extended, 0 unchanged, 1 different, 0 failed; 0 messages written\n"
    assert err.startswith(
        f"{path}:1: session 's' in namespace 'default' already exists, but its first 2 turns have been dropped"
    )
    assert err.count("\n") == 1


def test_undone_turns_are_imported_again_each_time(store: Kept, tmp_path: Path) -> None:
    line = conversation("s", "a", "b")
    for _ in range(3):
        assert main(["import", jsonl(tmp_path / "a.jsonl", line)]) == 0
        assert load(store, "s") == line["messages"]
        asyncio.run(store.rewind("s", turns=1))


def test_a_store_that_retains_few_turns_takes_them_once(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    use(monkeypatch, store := Kept(retain=2))
    path = tmp_path / "a.jsonl"
    assert main(["import", jsonl(path, conversation("s", "a", "b", "c", "d"))]) == 0
    assert load(store, "s") == conversation("s", "c", "d")["messages"]
    assert main(["import", str(path)]) == 0
    assert "1 unchanged" in capsys.readouterr().out
    assert main(["import", jsonl(path, conversation("s", "a", "b", "c", "d", "e"))]) == 0
    assert load(store, "s") == conversation("s", "d", "e")["messages"]
    assert asyncio.run(store.info("s")).turns == 5


def test_an_import_that_was_interrupted_goes_on_to_the_same_end(
    store: Kept, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(_snapshot, "MAX_MESSAGES", 4)
    lines = [conversation(name, "a", "b", "c", "d", "e", title="T") for name in ("one", "two")]
    path = jsonl(tmp_path / "a.jsonl", *lines)
    whole = Kept()
    use(monkeypatch, whole)
    assert main(["import", path]) == 0
    assert whole.backend.commits == 6

    def fail(change: Change) -> None:
        if store.backend.commits == 4:
            raise Unavailable("the store is gone")

    store.backend.before = fail
    use(monkeypatch, store)
    capsys.readouterr()
    assert main(["import", path]) == 3
    assert capsys.readouterr() == (
        "",
        (
            f"{path}: stopped at line 2; stored sessions are kept; to continue, run the same command again\n"
            "turnlog: the store is gone\n"
        ),
    )
    assert len(load(store, "two")) == 4
    store.backend.before = lambda change: None
    assert main(["import", path]) == 0
    assert (
        capsys.readouterr().out
        == "0 sessions stored, 1 extended, 1 unchanged, 0 different, 0 failed; 6 messages written\n"
    )
    for line in lines:
        session, other = (asyncio.run(each.session(line["session_id"])) for each in (store, whole))
        assert [message.to_dict() for message in session.messages] == line["messages"]
        assert [(turn.id, turn.messages) for turn in session.turns] == [
            (turn.id, turn.messages) for turn in other.turns
        ]
        assert dict(session.info.metadata) == {"title": "T"}


def test_an_answer_that_was_lost_stores_nothing_twice(store: Kept, tmp_path: Path, capsys: Any) -> None:
    def lose(change: Change) -> None:
        raise OutcomeUnknown("the answer was lost")

    store.backend.after = lose
    path = jsonl(tmp_path / "a.jsonl", conversation("s", "a", "b"))
    assert main(["import", path]) == 3
    store.backend.after = lambda change: None
    assert main(["import", path]) == 0
    assert load(store, "s") == conversation("s", "a", "b")["messages"]


def test_two_imports_at_once_store_once(store: Kept, monkeypatch: Any) -> None:
    monkeypatch.setattr(_snapshot, "MAX_MESSAGES", 2)
    line = conversation("s", "a", "b", "c", title="T")

    async def both() -> None:
        new = parse_conversation(dict(line))
        grown = parse_conversation(conversation("s", "a", "b", "c", "d"))
        await asyncio.gather(*(store_conversation(store, 1, one, begins_turn) for one in (new, new, grown, new)))

    asyncio.run(both())
    assert load(store, "s") == conversation("s", "a", "b", "c", "d")["messages"]
    assert asyncio.run(store.info("s")).turns == 4


def test_a_session_of_many_messages_is_stored_in_several_changes(store: Kept, tmp_path: Path) -> None:
    line = conversation("s", *(str(number) for number in range(6_000)))
    assert main(["import", jsonl(tmp_path / "a.jsonl", line)]) == 0
    assert store.backend.commits == 2
    assert load(store, "s") == line["messages"]


def test_a_session_over_the_stores_limit_is_an_error(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    use(monkeypatch, Kept(max_session_bytes=1_000))
    path = jsonl(tmp_path / "a.jsonl", conversation("big", "a" * 2_000), conversation("small", "a"))
    assert main(["import", path]) == 1
    assert ":1: session 'big' in namespace 'default' would take" in capsys.readouterr().err
    assert main(["show", "small"]) == 0


# ------------------------------------------------------------------------------------------------------- list and show


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Return a store with three sessions. The last one is the most recently updated."""
    now = iter(range(1_700_000_000, 1_800_000_000))
    use(monkeypatch, store := Kept(clock=lambda: float(next(now))))
    append(store, "one", user("a"), assistant("b"), owner="alice")
    append(store, "two", user("c"), owner="bob", metadata={"title": "T", "controls": ESCAPES})
    append(store, "three", user("d"), assistant("e"), owner="alice")
    return store


def test_list_shows_the_most_recently_updated_sessions_first(three: Kept, capsys: Any) -> None:
    assert main(["list"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split("\t") for line in out.splitlines()]
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
        ("three", "1", "2", "alice"),
        ("two", "1", "1", "bob"),
        ("one", "1", "2", "alice"),
    ]
    assert all(row[3].startswith("2023-11-14 22:13:") for row in rows)
    assert err == ""


def test_list_of_one_owner_and_of_a_few(three: Kept, capsys: Any) -> None:
    assert main(["list", "--owner", "alice"]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["three", "one"]
    assert main(["list", "--limit=1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("three\t")
    assert out.count("\n") == 1
    assert "--limit 0" in err
    assert main(["list", "--limit=3"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["list", "--limit=-1"]) == 2


def test_list_of_a_prefix(three: Kept, capsys: Any) -> None:
    assert main(["list", "--prefix", "t"]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["three", "two"]
    assert main(["list", "--prefix=t", "--owner=bob"]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["two"]
    assert main(["list", "--prefix=%", "--owner=bob"]) == 0
    assert capsys.readouterr() == (
        "",
        "turnlog: there are no sessions of owner 'bob' with the prefix '%' in namespace 'default'\n",
    )
    assert main(["list", f"--prefix={'x' * 256}"]) == 2
    assert "prefix has 256 bytes" in capsys.readouterr().err


def test_list_of_all_namespaces(tmp_path: Path, capsys: Any) -> None:
    """The first column is the namespace.  A namespace cannot be combined with all namespaces."""
    url = f"sqlite:///{tmp_path}/t.db"

    async def fill() -> None:
        async with open_store(url) as store:
            for namespace, name in (("shop", "a1"), ("acme", "b1"), ("acme", "a2")):
                await store.within(namespace).append(name, [user("x")])

    asyncio.run(fill())
    for more, rows in (
        ([], [["acme", "a2"], ["acme", "b1"], ["shop", "a1"]]),
        (["--prefix=a"], [["acme", "a2"], ["shop", "a1"]]),
        (["--limit=1"], [["acme", "a2"]]),
    ):
        assert main(["list", f"--store={url}", "--all-namespaces", *more]) == 0
        assert [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()] == rows
    assert main(["list", f"--store={url}", "--all-namespaces", "--prefix=c"]) == 0
    assert capsys.readouterr().err == "turnlog: there are no sessions with the prefix 'c' in any namespace\n"
    assert main(["list", f"--store={url}", "--all-namespaces", "--namespace=shop"]) == 2
    assert "cannot be combined" in capsys.readouterr().err


def test_list_shows_all_with_limit_0(store: Kept, capsys: Any) -> None:
    for number in range(130):
        append(store, f"s{number}", user("a"))
    assert main(["list", "--limit", "0"]) == 0
    assert capsys.readouterr().out.count("\n") == 130
    assert main(["list"]) == 0
    assert capsys.readouterr().out.count("\n") == 100


def test_list_as_json_is_an_object_a_line(three: Kept, capsys: Any) -> None:
    assert main(["list", "--json"]) == 0
    out = capsys.readouterr().out
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["session_id"] for row in rows] == ["three", "two", "one"]
    assert rows[1]["metadata"] == {"title": "T", "controls": ESCAPES}
    assert Version.parse(rows[1]["version"]) == version(three, "two")
    assert not set(out) & set(ESCAPES) - set("\x1b[31mred 02J") - {" "}
    assert "\x1b" not in out


def test_every_command_takes_the_namespace_as_text(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """The command line, the configuration and `within` all take the namespace of a nested view as the same text."""
    url = f"sqlite:///{tmp_path}/t.db"
    typed(monkeypatch, "My name is Alice")
    assert main(["chat", "--session=a", f"--store={url}", "--namespace=shops/s%2F1"]) == 0

    async def nested() -> tuple[str, list[str]]:
        async with open_store(url) as store:
            view = store.within("shops").within("s/1")
            return view.namespace, [info.key.session async for info in view.sessions()]

    assert asyncio.run(nested()) == ("shops/s%2F1", ["a"])
    line = jsonl(tmp_path / "a.jsonl", conversation("b", "x"))
    assert main(["import", line, f"--store={url}?namespace=shops/s%252F1"]) == 0  # %25 is a % in a URL
    capsys.readouterr()
    assert main(["list", f"--store={url}", "--namespace=shops/s%2F1"]) == 0
    assert sorted(row.split("\t")[0] for row in capsys.readouterr().out.splitlines()) == ["a", "b"]
    assert main(["show", "b", f"--store={url}", "--namespace=shops/s%2F1"]) == 0
    assert main(["show", "b", f"--store={url}"]) == 1


def test_show_prints_turns_with_numbers_times_roles_and_calls(store: Kept, capsys: Any) -> None:
    call: dict[str, Any] = {
        "id": "c1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
    }
    append(
        store,
        "s",
        user("Weather?"),
        assistant(None, tool_calls=[call]),
        tool("sunny", tool_call_id="c1"),
        assistant("Sunny."),
        owner="o",
    )
    append(
        store, "s", user("Thanks\nturn 9"), Message.from_dict({"type": "reasoning", "id": "r"}), metadata={"title": "T"}
    )
    assert main(["show", "s"]) == 0
    assert capsys.readouterr().out == (
        "session s, 2 turns, 6 messages, owner o, updated 2023-11-14 22:13:20Z\n"
        'title: "T"\n'
        "\n"
        "turn 0, 2023-11-14 22:13:20Z\n"
        "  user: Weather?\n"
        '  assistant calls weather({"city": "Paris"}) as c1\n'
        "  tool c1: sunny\n"
        "  assistant: Sunny.\n"
        "\n"
        "turn 1, 2023-11-14 22:13:20Z\n"
        "  user: Thanks\n"
        "    turn 9\n"
        '  item: {"type": "reasoning", "id": "r"}\n'
    )


def test_show_prints_the_messages_of_langchain(store: Kept, capsys: Any) -> None:
    call = {"name": "weather", "args": {"city": "Paris"}, "id": "c1", "type": "tool_call"}
    messages: list[dict[str, object]] = [
        {"type": "system", "content": "Be brief."},
        {"type": "human", "content": [{"type": "text", "text": "Weather?"}], "name": "ann"},
        {"type": "ai", "content": "I will look.", "tool_calls": [call]},
        {"type": "tool", "content": "sunny", "tool_call_id": "c1"},
        {"type": "AIMessageChunk", "content": "Sunny.", "tool_calls": []},
        {"type": "narrator", "content": "The end."},
    ]
    append(store, "s", *[Message.from_dict(one) for one in messages])
    assert main(["show", "s"]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == [
        "  system: Be brief.",
        "  user ann: Weather?",
        "  assistant: I will look.",
        '  assistant calls weather({"city": "Paris"}) as c1',
        "  tool c1: sunny",
        "  assistant: Sunny.",
        "  item: The end.",
    ]


def test_show_prints_the_calls_and_results_of_responses(store: Kept, capsys: Any) -> None:
    call: dict[str, object] = {"type": "function_call", "call_id": "c1", "name": "weather"}
    call["arguments"] = '{"city": "Paris"}'
    result: dict[str, object] = {"type": "function_call_output", "call_id": "c1\n", "output": "sunny"}
    image = {**result, "output": [{"type": "input_image"}]}
    append(store, "s", *[Message.from_dict(one) for one in (call, result, image)])
    assert main(["show", "s"]) == 0
    assert capsys.readouterr().out.endswith(
        '  assistant calls weather({"city": "Paris"}) as c1\n'
        "  tool c1\\n: sunny\n"
        '  item: {"type": "function_call_output", "call_id": "c1\\n", "output": [{"type": "input_image"}]}\n'
    )


def test_show_prints_the_parts_of_pydantic_ai(store: Kept, capsys: Any) -> None:
    for turn in DIALECTS["pydantic-ai"]:
        asyncio.run(store.append("s", turn))
    image = {"kind": "image-url", "url": "https://example.com/cat.png"}
    prompt = {"part_kind": "user-prompt", "content": ["What is\nthis?", image]}
    strange = {"part_kind": "a\nb", "tool_name": 7}
    asyncio.run(store.append("s", [{"kind": "request", "parts": [prompt, strange, 7]}, {"kind": "response"}]))
    assert main(["show", "s"]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines()[1:] if line and not line.startswith("turn")]
    assert shown == [
        "  system: Be brief.",
        "  user: Hello",
        "  assistant: Hi.",
        f"  user: {ASK}",
        "  assistant calls weather({}) as call-Paris",
        "  assistant calls weather({}) as call-Rome",
        "  tool weather call-Paris: sunny",
        "  retry-prompt weather call-Rome: Which Rome?",
        "  assistant: Sunny; I do not know.",
        "  user: Thanks",
        "  assistant: You are welcome.",
        "  user: What is",
        "    this?",
        '    {"kind": "image-url", "url": "https://example.com/cat.png"}',
        r"  a\nb 7: null",
    ]
    assert main(["search", "sunny"]) == 0
    assert capsys.readouterr().out == "s\t1\ttool\tsunny\ns\t1\tassistant\tSunny; I do not know.\n"


def test_show_last_reads_whole_turns_from_the_end(store: Kept, capsys: Any) -> None:
    for number in range(4):
        append(store, "s", user(f"u{number}"), assistant(f"a{number}"))
    assert main(["show", "s", "--last", "3"]) == 0
    out = capsys.readouterr().out
    assert "turn 1," not in out
    assert "turn 2," in out
    assert "turn 3," in out


def test_show_says_which_turn_was_interrupted_and_what_was_dropped(monkeypatch: Any, capsys: Any) -> None:
    use(monkeypatch, store := Kept(retain=2))
    append(store, "s", user("a"))
    append(store, "s", user("b"), turn_id="t", open=True)
    append(store, "s", user("c"), turn_id="u", open=True)
    assert main(["show", "s"]) == 0
    out = capsys.readouterr().out
    assert "3 turns (the first 1 were dropped), 2 messages" in out
    assert "Z, interrupted\n  user: b" in out
    assert "Z, open\n  user: c" in out


def test_stored_text_cannot_control_the_terminal(store: Kept, capsys: Any) -> None:
    call: dict[str, Any] = {"id": ESCAPES, "function": {"name": ESCAPES, "arguments": ESCAPES}}
    append(
        store,
        "s",
        user(f"[red]{ESCAPES}[/red]\r", name=ESCAPES),
        assistant(None, tool_calls=[call, ESCAPES]),
        Message.from_dict({"role": ESCAPES, "content": [ESCAPES]}),
        metadata={ESCAPES: ESCAPES},
    )
    for command in (["show", "s"], ["show", "s", "--json"], ["list"], ["list", "--json"]):
        assert main(command) == 0
        out = capsys.readouterr().out.replace("\n", "")
        if command == ["list"]:
            out = out.replace("\t", "")  # tabs separate the columns
        assert not {sign for sign in out if ord(sign) < 32 or 127 <= ord(sign) < 160 or sign == "\u202e"}
    main(["show", "s"])
    assert "user \\x1b[31mred\\x1b[0m \\x07 \\x9b2J \\u202e: [red]\\x1b[31mred" in capsys.readouterr().out


INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u200b\u200e\u200f\u2060\u2066\u2069\u3164\ufeff\uffa0\ufff9\ufe00"
    "\U000e0041\U000e0100"
)


@pytest.mark.parametrize(
    "command", [["show", "s"], ["show", "s", "--json"], ["list"], ["list", "--json"], ["chat", "--session=s"]], ids=str
)
def test_stored_text_cannot_reorder_or_hide_text(
    store: Kept, monkeypatch: Any, capsys: Any, command: list[str]
) -> None:
    async def model(messages: Sequence[Message], **options: object) -> Message:
        return assistant(f"a{INVISIBLE}z")

    answers(monkeypatch, model)
    typed(monkeypatch, "hi")
    says = f"a{INVISIBLE}z"
    append(
        store,
        "s",
        user(says, name=says),
        assistant(None, tool_calls=[{"id": says, "function": {"name": says, "arguments": says}}]),
        metadata={says: {says: [says]}},
        owner="a\u200e\u200f\u061c\U000e0041z",
    )
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert not set(out + err) & set(INVISIBLE)
    if "--json" in command:
        assert json.loads(out).get("info", json.loads(out))["metadata"] == {says: {says: [says]}}


def test_each_character_that_could_reorder_or_hide_text_is_escaped() -> None:
    """All format characters of Unicode, except those that are visible, join letters or choose the form of an emoji."""
    kept = {*"\u200c\u200d\ufe0e\ufe0f\t\n"}
    seen = {  # Prepended_Concatenation_Mark, and controls that arrange hieroglyphs
        *map(chr, range(0x600, 0x606)),
        *"\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd",
        *map(chr, range(0x13430, 0x13456)),
    }
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for sign in map(chr, range(0x110000)):
        hides = (
            unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp")
            or unicodedata.bidirectional(sign) in turning
            or "VARIATION SELECTOR" in unicodedata.name(sign, "")
            or ("HANGUL" in unicodedata.name(sign, "") and "FILLER" in unicodedata.name(sign, ""))
        )
        if hides and sign not in kept | seen:
            assert safe(sign) == sign.encode("unicode_escape").decode()
            assert as_json(sign).isascii()
            assert from_json(json.loads(as_json(sign))) == sign
        elif unicodedata.category(sign) != "Cn":
            assert safe(sign) == sign or sign in "\u034f\u17b4\u17b5\u180b\u180c\u180d\u180f"  # ignorable marks


def test_texts_that_people_write_stay_as_they_are() -> None:
    for text in ("می‌خواهم", "👩‍👩‍👧", "❤️‍🔥", "שלום", "مرحبا", "日本語　。", "नमस्ते", "naïve café"):
        assert safe(text) == text
        assert as_json(text) == f'"{text}"'


def test_a_warning_is_one_line_and_cannot_control_the_terminal(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    async def page(query: object) -> Page:
        logging.getLogger("turnlog.any").warning("not %s: %s", "sealed", f"{ESCAPES}\n\u200e")
        return Page(())

    monkeypatch.setattr(store.backend, "page", page)
    assert main(["list"]) == 0
    warning, _ = capsys.readouterr().err.splitlines()
    assert warning == "turnlog: not sealed: \\x1b[31mred\\x1b[0m \\x07 \\x9b2J \\u202e\\n\\u200e"


def test_a_file_name_cannot_control_the_terminal(store: Kept, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / f"f{ESCAPES}\u200e.jsonl"
    path.write_text("{}\n")
    assert main(["import", str(path)]) == 1
    assert not set(capsys.readouterr().err) & set("\x1b\x07\x9b\u202e\u200e")


def test_show_as_json_is_exact(store: Kept, capsys: Any) -> None:
    messages = [
        user(
            f"é {ESCAPES} \ud83c\udf88".encode("utf-16", "surrogatepass").decode("utf-16"),
            n=2**63,
            f=0.1,
            flag=True,
            none=None,
        ),
        Message.from_dict({"type": "reasoning", "summary": [{"a": []}]}),
    ]
    append(store, "s", *messages, turn_id="t", owner="o", metadata={"title": ESCAPES})
    assert main(["show", "s", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "é" in out
    document = json.loads(out)
    assert document["messages"] == [message.to_dict() for message in messages]
    assert document["turns"] == [
        {"number": 0, "id": "t", "time": 1.7e9, "messages": 2, "open": False, "interrupted": False}
    ]
    assert document["info"]["session_id"] == "s"
    assert document["info"]["owner"] == "o"
    assert document["info"]["metadata"] == {"title": ESCAPES}


def test_show_and_list_extend_nobodys_life(monkeypatch: Any) -> None:
    now = [1000.0]
    use(monkeypatch, store := Kept(ttl=100.0, clock=lambda: now[0]))
    append(store, "s", user("a"))
    now[0] += 60
    assert main(["show", "s"]) == main(["list"]) == 0
    now[0] += 60
    assert main(["show", "s"]) == 1


def test_a_missing_session_is_an_error(store: Kept, capsys: Any) -> None:
    assert main(["show", "nobody"]) == 1
    assert capsys.readouterr() == (
        "",
        (
            "turnlog: there is no session 'nobody' in namespace 'default', or it has expired; "
            "'turnlog list' lists the sessions\n"
        ),
    )
    assert main(["show", "\x1b[31m"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "code", "advice"),
    [
        (["show", "nobody"], 1, "'turnlog list --store {url} --namespace shop' lists the sessions"),
        (["edit", "nobody", "--title=x"], 1, "'turnlog list --store {url} --namespace shop' lists the sessions"),
        (["export", "nobody"], 1, "'turnlog list --store {url} --namespace shop' lists the sessions"),
    ],
)
def test_a_session_that_does_not_exist_is_followed_by_the_command_that_lists(
    command: list[str], code: int, advice: str, tmp_path: Path, capsys: Any
) -> None:
    url = f"sqlite:///{tmp_path}/chat.db"
    assert main(["migrate", f"--store={url}"]) == 0
    capsys.readouterr()
    assert main([*command, f"--store={url}", "--namespace", "shop"]) == code
    said = f"turnlog: there is no session 'nobody' in namespace 'shop', or it has expired; {advice.format(url=url)}\n"
    assert capsys.readouterr().err.replace("turnlog: 0 sessions exported, 0 messages\n", "") == said


def test_a_turn_that_cannot_be_read_does_not_hide_the_others(store: Kept, monkeypatch: Any, capsys: Any) -> None:
    for text in "abc":
        append(store, "s", user(text))
    key = Key("default", "s")
    state = store.backend._states[key]
    now, session = state.read(0.0)
    records = list(session.records)
    records[1] = records[1].with_payload(b"damaged")

    def read(self: SessionState, *args: Any, **more: Any) -> Any:
        return now, type(session)(session.info, tuple(records))

    monkeypatch.setattr(SessionState, "read", read)
    assert main(["show", "s"]) == 1
    out, err = capsys.readouterr()
    assert "user: a" in out
    assert "user: c" in out
    assert "cut short" in err
    assert main(["show", "s", "--json"]) == 1
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------------- recompress and train-dictionary

LONG = "What was said is said again and again, so that there is something to leave out. " * 60


class Clock:
    """Advances with each call, as a real clock does."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def plain() -> Kept:
    """Return a store whose clock advances."""
    return Kept(clock=Clock())


def rounds(store: Store, session: str) -> list[int]:
    """Return the number of rounds in each record of a session."""
    return [record.rounds for record in asyncio.run(store.backend.read(Key("default", session), touch=False)).records]


def size(store: Store, session: str) -> int:
    """Return the size of a session's stored payloads in bytes."""
    records = asyncio.run(store.backend.read(Key("default", session), touch=False)).records
    return sum(len(record.payload) for record in records)


def damage(store: Store, session: str) -> None:
    """Append a turn whose gzip payload cannot be decompressed."""
    record = Record.of((user(LONG),), id="damaged", time=0.0)
    record = record.with_payload(rewrap(record.payload, 1, b"no gzip, but long enough to look like it"))
    asyncio.run(store.backend.commit(Key("default", session), Change(append=(record,))))


def test_recompress_brings_sessions_to_the_codec_and_says_what_that_saved(
    plain: Kept, monkeypatch: Any, capsys: Any
) -> None:
    append(plain, "one", user(LONG))
    append(plain, "two", user(LONG), assistant(LONG))
    before = size(plain, "one") + size(plain, "two")
    use(monkeypatch, Layer(GzipLayer(plain.backend)))
    assert main(["recompress"]) == 0
    after = size(plain, "one") + size(plain, "two")
    assert after < before / 2
    saved = f"{before - after} saved ({(before - after) / before:.1%})"
    assert capsys.readouterr() == (f"2 sessions, {before} bytes before, {after} after: {saved}\n", "")
    assert main(["recompress", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    assert json.loads(out) == {
        "sessions": 2,
        "before": after,
        "after": after,
        "saved": 0,
        "damaged": 0,
    }
    use(monkeypatch, ZstdLayer(plain.backend))
    assert [message["content"] for message in load(Store(ZstdLayer(plain.backend)), "two")] == [LONG, LONG]


def test_recompress_of_nothing_saves_nothing(monkeypatch: Any, capsys: Any) -> None:
    assert main(["recompress", "--store=memory://?layers=gzip"]) == 0
    assert capsys.readouterr() == ("0 sessions, 0 bytes before, 0 after: 0 saved\n", "")


@pytest.mark.parametrize(("idle", "whole"), [(["--idle=1h"], True), (["--idle=2h"], False), ([], False)])
def test_recompress_seals_idle_sessions_as_a_whole(idle: list[str], whole: bool, plain: Kept, monkeypatch: Any) -> None:
    for number in range(5):
        append(plain, "s", user(f"{number} {LONG}"))
    assert isinstance(plain.backend.clock, Clock)
    plain.backend.clock.now += 5400
    append(plain, "fresh", user("a"))
    append(plain, "fresh", user("b"))
    use(monkeypatch, ZstdLayer(plain.backend))
    assert main(["recompress", *idle]) == 0
    assert rounds(plain, "s") == ([5] if whole else [1] * 5)
    assert rounds(plain, "fresh") == [1, 1]


def test_recompress_works_in_the_namespace_of_the_store(tmp_path: Path, capsys: Any) -> None:
    url = f"--store=sqlite:///{tmp_path}/chat.db"
    for namespace in ("shop", "bank"):
        line = jsonl(tmp_path / "a.jsonl", conversation(namespace, LONG))
        assert main(["import", line, f"{url}?namespace={namespace}"]) == 0
    sizes = []
    for namespace in ("shop", "bank"):
        assert main(["list", "--json", f"{url}?namespace={namespace}"]) == 0
        sizes.append(json.loads(capsys.readouterr().out.splitlines()[-1])["bytes"])
    assert main(["recompress", f"{url}?namespace=shop&layers=gzip"]) == 0
    assert capsys.readouterr().out.startswith(f"1 sessions, {sizes[0]} bytes before, ")
    assert main(["list", "--json", f"{url}?namespace=bank"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == sizes[1]


def test_a_damaged_record_is_left_said_once_and_exit_code_1(plain: Kept, monkeypatch: Any, capsys: Any) -> None:
    append(plain, "one", user(LONG))
    damage(plain, "two")
    append(plain, "two", user(LONG))
    # By this clock all sessions changed after the call began, so recompress reads them twice.
    monkeypatch.setattr(plain.backend, "clock", lambda: 1_700_000_000.0)
    use(monkeypatch, ZstdLayer(plain.backend))
    assert main(["recompress"]) == 1
    out, err = capsys.readouterr()
    assert out.endswith("%); 1 damaged records\n")
    assert err == "turnlog: session 'two': 1 damaged records are left unchanged\n"
    assert main(["recompress", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["damaged"] == 1
    assert "'two'" in err


def test_recompress_that_was_stopped_goes_on_where_it_was(plain: Kept, monkeypatch: Any, capsys: Any) -> None:
    for number in range(130):
        append(plain, f"s{number}", user(LONG))

    def interrupt() -> None:
        if plain.backend.seals == 108:
            signal.raise_signal(signal.SIGINT)

    plain.backend.before_seal = interrupt
    use(monkeypatch, GzipLayer(plain.backend))
    assert main(["recompress"]) == 130
    assert capsys.readouterr() == (
        "",
        "turnlog: stopped after 108 sessions; to continue, run the same command again\n",
    )
    plain.backend.before_seal = lambda: None
    assert main(["recompress"]) == 0
    assert capsys.readouterr().out.startswith("22 sessions, ")
    assert main(["recompress", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sessions"], found["saved"]) == (130, 0)


def test_recompress_says_how_to_go_on_where_the_store_is_gone(plain: Kept, monkeypatch: Any, capsys: Any) -> None:
    append(plain, "one", user(LONG))

    def fail(change: Change) -> None:
        raise Unavailable("the store is gone")

    plain.backend.before = fail
    use(monkeypatch, GzipLayer(plain.backend))
    assert main(["recompress"]) == 3
    assert capsys.readouterr() == (
        "",
        "turnlog: stopped after 0 sessions; to continue, run the same command again\nturnlog: the store is gone\n",
    )


class Became(NamedTuple):
    """The result for one session from a layer of a third party."""

    session: str
    before: int = 0
    after: int = 0
    damaged: int = 0


def test_any_layer_that_recompresses_is_found_and_receives_the_options(
    store: Kept, monkeypatch: Any, capsys: Any
) -> None:
    asked: list[tuple[float | None, float | None]] = []

    class Other(Layer):
        async def recompress(
            self, namespace: str, *, idle: float | None = None, rate: float | None = None
        ) -> AsyncIterator[Became]:
            asked.append((idle, rate))
            yield Became(f"one{ESCAPES}", 10, 5, 1)
            yield Became("two", 10, 0)

    use(monkeypatch, Layer(Layer(Other(store.backend))))
    for options in ([], ["--idle=30d", "--rate=0.5"], ["--idle", "0s"], ["--idle", "90"]):
        assert main(["recompress", *options]) == 1
        out, err = capsys.readouterr()
        assert out == "2 sessions, 20 bytes before, 5 after: 15 saved (75.0%); 1 damaged records\n"
        assert "\x1b" not in err
    assert asked == [(None, None), (2_592_000.0, 0.5), (0.0, None), (90.0, None)]


def talk(store: Store) -> None:
    """Append enough conversations for a dictionary."""
    words = ["order", "refund", "parcel", "please", "number", "address", "waiting", "thanks", "where", "total", "day"]
    for number in range(60):
        said = [words[number * place % len(words)] for place in range(1, 40)]
        append(
            store, f"s{number}", user(f"{number} {' '.join(said)}"), assistant(f"{' '.join(reversed(said))} {number}")
        )


def test_train_dictionary_says_what_it_made_and_how_to_use_it(plain: Kept, monkeypatch: Any, capsys: Any) -> None:
    talk(plain)
    use(monkeypatch, Layer(ZstdLayer(plain.backend)))
    assert main(["train-dictionary"]) == 0
    out, err = capsys.readouterr()
    said = re.fullmatch(r"dictionary (\d+): (\d+) bytes, trained on 60 rounds of 60 sessions\n", out)
    assert said
    assert err == 'to use it, set in turnlog.toml: layers = [{ name = "zstd", dictionary = true }]\n'
    assert list(asyncio.run(Dictionaries(plain.backend).fetch("default"))) == [int(said[1])]
    assert main(["train-dictionary", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert list(found) == ["id", "bytes", "sessions", "rounds"]
    assert (found["sessions"], found["rounds"], out.count("\n"), err) == (60, 60, 1, "")
    assert [*asyncio.run(Dictionaries(plain.backend).fetch("default"))] == [int(said[1]), found["id"]]


def test_a_dictionary_is_removed_by_its_id_when_nothing_needs_it(plain: Kept, monkeypatch: Any, capsys: Any) -> None:
    talk(plain)
    use(monkeypatch, Layer(ZstdLayer(plain.backend, dictionary=True)))
    trained = []
    for _ in range(2):
        assert main(["train-dictionary", "--json"]) == 0
        trained.append(json.loads(capsys.readouterr().out)["id"])
        assert main(["recompress"]) == 0
        assert capsys.readouterr().out.startswith("60 sessions, ")
    assert main(["remove-dictionary", f"{trained[1]}"]) == 1
    assert f"needs dictionary {trained[1]}, or is damaged: run 'turnlog recompress'" in capsys.readouterr().err
    assert main(["remove-dictionary", f"{trained[0]}"]) == 0
    assert capsys.readouterr() == (f"dictionary {trained[0]} removed\n", "")
    assert list(asyncio.run(Dictionaries(plain.backend).fetch("default"))) == [trained[1]]
    assert main(["remove-dictionary", f"{trained[0]}"]) == 2
    assert f"has no dictionary {trained[0]}" in capsys.readouterr().err
    assert len(load(Store(ZstdLayer(plain.backend)), "s7")) == 2


def test_recompress_says_that_another_is_running(plain: Kept, monkeypatch: Any, capsys: Any) -> None:
    append(plain, "s", user(LONG))
    asyncio.run(Progress.begin(plain.backend, "default", "zstd 3, idle None"))
    slept = 0

    async def sleep(_: float) -> None:
        nonlocal slept
        slept += 1
        await plain.backend.commit(Key("turnlog:recompress", "default"), Change(metadata={"since": float(slept)}))

    monkeypatch.setattr(_progress, "asyncio", SimpleNamespace(sleep=sleep, get_running_loop=asyncio.get_running_loop))
    use(monkeypatch, ZstdLayer(plain.backend))
    assert main(["recompress"]) == 1
    assert capsys.readouterr().err == (
        "turnlog: another recompress is running in namespace 'default': wait until it ends, or stop it; this one has "
        "stopped, and its results are kept\n"
    )
    assert slept == 1


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_too_little_to_train_on_is_exit_code_1(json: list[str], plain: Kept, monkeypatch: Any, capsys: Any) -> None:
    append(plain, "s", user("Hello"))
    use(monkeypatch, ZstdLayer(plain.backend))
    assert main(["train-dictionary", *json]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("turnlog: training a dictionary needs at least about ten rounds of turns, ")
    assert "namespace 'default' has 1, with " in err
    assert err.count("\n") == 1


# ----------------------------------------------------------------------------------------------- plugins, help, errors


def test_plugins_lists_what_is_installed(capsys: Any) -> None:
    assert main(["plugins"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert ["turnlog.backends", "memory", "turnlog_memory:MemoryBackend", "turnlog"] in [row[:4] for row in rows]
    assert main(["plugins", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(plugin.values()) for plugin in found] == rows
    assert list(found[0]) == ["group", "name", "target", "distribution", "version", "fault"]
    assert {plugin["fault"] for plugin in found} == {""}


def test_help_names_the_commands_and_the_exit_codes(capsys: Any) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    commands = ("chat", "import", "list", "show", "migrate", "recompress", "remove-dictionary", "train-dictionary")
    for word in (*commands, "plugins", "Exit codes", "TURNLOG_STORE_URL"):
        assert word in out
    assert main([]) == 0
    assert capsys.readouterr().out == out
    assert "\x1b" not in out
    for command in commands:
        assert main([command, "--help"]) == 0
        out = capsys.readouterr().out
        assert "--store" in out
        offered = set(re.findall(r"([a-z]+)://", out))
        assert offered <= {plugin.name for plugin in installed() if plugin.group == "turnlog.backends"}


def test_help_fills_the_lines_and_shows_no_default_of_a_flag(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ([], ["chat"], ["recompress"], ["alerts", "check"]):
        assert main([*command, "--help"]) == 0
        usage, *paragraphs = capsys.readouterr().out.partition("╭")[0].strip().split("\n\n")
        assert usage.startswith(f"Usage: {' '.join(['turnlog', *command])}")
        for rows in ([row.rstrip() for row in paragraph.splitlines()] for paragraph in paragraphs):
            for row, following in itertools.pairwise(rows):
                assert len(f"{row} {following.split()[0]}") > 78, row
    for command, default in ((["list"], "100"), (["chat"], "offline"), (["erase"], "")):
        assert main([*command, "--help"]) == 0
        out = " ".join(capsys.readouterr().out.replace("│", "").split())
        assert re.findall(r"\[default: *([^\]]*)\]", out) == [default] * bool(default)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "a", "b"], "turnlog list takes no further argument, but 'a', 'b' was given: 'turnlog list --help'"),
        (["alerts", "check", "x"], "'turnlog alerts check --help' lists its arguments"),
        (["list", "--nothing"], "(for help, run: turnlog list --help)"),
    ],
)
def test_a_wrong_command_line_names_the_help_of_the_command(arguments: list[str], said: str, capsys: Any) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_errors_and_open_store_offer_only_what_is_installed(capsys: Any) -> None:
    assert main(["list", "--store=nowhere"]) == 2
    names = {plugin.name for plugin in installed() if plugin.group == "turnlog.backends"}
    for text in (capsys.readouterr().err, open_store.__doc__ or ""):
        offered = set(re.findall(r"([a-z]+)://", text))
        assert offered
        assert offered <= names


def test_version(capsys: Any) -> None:
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{version('turnlog')}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shw"], "did you mean 'show'?"),
        (["show"], "turnlog show needs SESSION"),
        (["show", "s", "--lst=2"], "Did you mean --last?"),
        (["show", "s", "--last=two"], "--last must be a whole number, not 'two'"),
        (["show", "s", "--last=-1", "--store=memory://"], "--last must be a whole number of at least 0, not -1"),
        (["show", "s", "--last=9007199254740992", "--store=memory://"], "from 0 to 9007199254740991, not 900"),
        (["show", "s", "--last=9223372036854775808", "--store=memory://"], "from 0 to 9007199254740991, not 922"),
        (["chat", "--model=nobody"], "there is no plugin with a model named 'nobody'"),
        (["chat", "--session="], "session id is empty"),
        (["chat", "--system="], "system must be text"),
        (["list", "--store=nowhere://u:hunter2@h/"], "there is no backend named 'nowhere'"),
        (["list", "--store=u:hunter2@h/"], "turnlog: --store: this is not a URL"),
        (["list", "--store=mysql://u:hunter2@h"], "write mysql://user:password@host:3306/database"),
        (
            ["list", "--store=memory://?layers=zstd,cache"],
            "--store: ?layers: the layers are in the wrong order: write layers=c",
        ),
        (["list", "--store=memory://", "--namespace="], "turnlog: --namespace is empty: give a text"),
        (["copy", "u:hunter2@h/", "memory://"], "turnlog: SOURCE: this is not a URL"),
        (["copy", "memory://", "u:hunter2@h/"], "turnlog: TARGET: this is not a URL"),
        (["edit", "s", "--metadata=note=hello"], "write note='"),
        (["list", "--stor=redis://u:hunter2@h/"], "--store"),
        (
            ["import", "--stor=redis://u:hunter2@h/", "a.jsonl"],
            "no such option; for a file of this name, write ./--stor",
        ),
        (["import", "a.jsonl", "--stor=redis://u:hunter2@h/"], "Did you mean --store?"),
        (["import"], "FILE"),
        (["import", "-", "-"], "-"),
        (["list", "redis://u:hunter2@h/?password=hunter2"], "***"),
        (["list", "--limit", "x", "--store=redis://u:hunter2@h"], "--limit"),
        (["chat", "--store=memory://u:hunter2@h"], "memory takes no location"),
        (
            ["recompress", "--idle=soon", "--store=memory://?layers=gzip"],
            '--idle: "soon" is not a duration; write 90 (seconds), ',
        ),
        (["recompress", "--idle=-1s", "--store=memory://?layers=gzip"], '--idle: "-1s" is not a duration'),
        (
            ["recompress", "--rate=0", "--store=memory://?layers=gzip"],
            "--rate must be greater than 0 sessions a second, not 0",
        ),
        (
            ["recompress", "--rate=-1", "--store=memory://?layers=gzip"],
            "rate must be greater than 0 sessions a second, not -1",
        ),
        (
            ["recompress", "--rate=nan", "--store=memory://?layers=gzip"],
            "rate must be greater than 0 sessions a second, not nan",
        ),
        (["recompress", "--rate=few", "--store=memory://?layers=gzip"], "--rate"),
        (["recompress", "--store=memory://"], "no compression layer: write --store 'memory://?layers=zstd'"),
        (["train-dictionary", "--store=memory://"], "has no layer that compresses with a dictionary: write --store"),
        (["train-dictionary", "--store=memory://?layers=gzip"], "turnlog: the store has no layer"),
        (["train-dictionary", "--store=memory://?layers=off"], "?layers=zstd'"),
        (["remove-dictionary", "1", "--store=memory://"], "has no compression layer: write --store"),
        (["remove-dictionary", "1", "--store=memory://?layers=off"], "namespace 'default' has no dictionary 1"),
        (["remove-dictionary", "one", "--store=memory://?layers=off"], "ID must be a whole number, not 'one'"),
    ],
)
def test_a_wrong_command_line_is_one_line_without_passwords(arguments: list[str], said: str, capsys: Any) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert "hunter2" not in err


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unavailable("down"), 3), (SchemaError("old"), 3), (OutcomeUnknown("?"), 3), (CorruptRecord("x"), 1)],
)
def test_the_error_of_the_store_decides_the_exit_code(
    error: Exception, code: int, monkeypatch: Any, capsys: Any
) -> None:
    class Down(MemoryBackend):
        async def open(self) -> None:
            raise error

        async def bring_up(self) -> str:
            raise error

    use(monkeypatch, Down())
    typed(monkeypatch, "hi")
    for command in (["list"], ["show", "s"], ["chat"], ["import", "-"], ["migrate"]):
        assert main(command) == code
        assert capsys.readouterr() == ("", f"turnlog: {error}\n")


def test_a_lost_answer_names_no_method_of_python(monkeypatch: Any, capsys: Any) -> None:
    class Lost(MemoryBackend):
        async def commit(self, key: Key, change: Change) -> Receipt:
            receipt = await super().commit(key, change)
            if change.metadata:
                raise OutcomeUnknown("the answer was lost", key=key, change=change)
            return receipt

    backend = Lost()
    asyncio.run(Store(backend).append("s", [user("q")]))
    use(monkeypatch, backend)
    assert main(["edit", "s", "--title", "T"]) == 3
    err = capsys.readouterr().err
    assert err.endswith("the change may have been stored: look at the session before you run the command again\n")


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_without_the_extra_it_says_how_to_install_it(missing: str, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["--help"]) == 2
    assert capsys.readouterr() == (
        "",
        f"turnlog: the command line needs {missing}, which is not installed: pip install 'turnlog[cli]'\n",
    )


@pytest.mark.parametrize("name", ["turnlog.toml", "pyproject.toml"])
def test_a_file_in_the_working_directory_destroys_nothing_elsewhere(
    name: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """A session of ten turns in production keeps them, whatever retention a file for development sets."""
    prod = f"sqlite:///{tmp_path}/prod.db"

    async def turns(fill: int = 0) -> int:
        async with open_store(config={"store": {"url": prod}}) as store:
            for number in range(fill):
                await store.append("s", [user(f"{number}")])
            return len((await store.session("s")).turns)

    asyncio.run(turns(10))
    (tmp_path / "dev").mkdir()
    monkeypatch.chdir(tmp_path / "dev")
    table = "store" if name == "turnlog.toml" else "tool.turnlog.store"
    Path(name).write_text(f'[{table}]\nurl = "sqlite:///dev.db"\nretain = 2\nttl = "1s"\nlayers = ["zstd"]\n')
    warn_once.cache_clear()
    typed(monkeypatch, "hello\nand on\n")
    assert main(["chat", "--session=s", f"--store={prod}"]) == 0
    prefix = "turnlog.toml: " if name == "turnlog.toml" else "pyproject.toml: tool.turnlog."
    ignored = ", ".join(f"{prefix}store.{key}" for key in ("retain", "ttl", "layers"))
    assert capsys.readouterr().err == (
        f"turnlog: {ignored}: ignored, because the URL of the store is an argument; to use the file as well, name it "
        "with TURNLOG_CONFIG or config=\n"
    )
    assert asyncio.run(turns()) == 12
    for command in (["list"], ["show", "s"], ["recompress"], ["migrate"]):
        main([*command, f"--store={prod}"])
    assert "ignored" not in capsys.readouterr().err  # the warning was printed before
    assert asyncio.run(turns()) == 12
    typed(monkeypatch, "hello\nand\non\n")
    assert main(["chat", "--session=s"]) == 0  # without an argument that names the store, the file applies
    assert main(["show", "s"]) == 0
    assert "3 turns (the first 1 were dropped)" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["list"], ["show", "s"], ["recompress"], ["train-dictionary"]])
@pytest.mark.parametrize("scheme", ["sqlite", "SQLite"])
def test_a_command_that_needs_a_store_creates_no_file(
    command: list[str], scheme: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNLOG_STORE_LAYERS", "zstd")
    for url, name in (
        (f"{scheme}:///typo.db", "typo.db"),
        (f"{scheme}:///a%20typo.db?ttl=30d", "a typo.db"),
        (f"{scheme}:///{tmp_path}/typo.db", f"{tmp_path}/typo.db"),
    ):
        assert main([*command, f"--store={url}"]) == 3
        make = f"turnlog migrate --store 'sqlite:///{quote(str(tmp_path / name))}'"
        assert capsys.readouterr() == (
            "",
            f"turnlog: sqlite {name!r} does not exist: correct the path, or create it with: {make}\n",
        )
    monkeypatch.setenv("TURNLOG_STORE_URL", f"{scheme}:///typo.db")
    assert main(command) == 3
    assert "'typo.db' does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["list"], ["migrate"]])
def test_a_missing_folder_is_named(command: list[str], tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--store=sqlite:///nowhere/chat.db"]) == 3
    folder = str(tmp_path / "nowhere")
    said = f"turnlog: sqlite 'nowhere/chat.db': the folder {folder!r} does not exist: create it, or correct the path\n"
    assert capsys.readouterr() == ("", said)
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_reads_finds_the_file_that_its_url_names(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    url = "--store=sqlite:///a%20chat%3F.db?ttl=30d"
    assert main(["import", jsonl(tmp_path / "a.jsonl", conversation("s", "hi")), url]) == 0
    assert (tmp_path / "a chat?.db").exists()
    capsys.readouterr()
    assert main(["list", url]) == main(["show", "s", url]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("s\t1\t2\t")
    assert "user: hi" in out
    assert err == ""


def test_migrate_makes_the_tables_once(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    url = "--store=sqlite:///chat.db?ttl=30d"
    assert main(["migrate", url]) == 0
    assert capsys.readouterr() == ("sqlite 'chat.db': created the tables, version 1\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["chat.db"]  # the store was closed: no log remains
    assert main(["list", url]) == 0
    assert capsys.readouterr() == ("", "turnlog: there are no sessions in namespace 'default'\n")
    assert main(["migrate", url]) == 0
    assert capsys.readouterr() == ("sqlite 'chat.db': the tables have version 1, nothing to do\n", "")


def test_migrate_takes_the_configured_store_and_ignores_its_option_migrate(
    tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "turnlog.toml").write_text('[store]\nurl = "sqlite:///chat.db"\nmigrate = "check"\n')
    typed(monkeypatch, "hi\n")
    assert main(["chat", "--session=s"]) == 3
    assert "create it with: turnlog migrate --store " in capsys.readouterr().err
    assert main(["migrate"]) == 0
    assert "created the tables" in capsys.readouterr().out
    typed(monkeypatch, "hi\n")
    assert main(["chat", "--session=s"]) == 0


def test_migrate_upgrades_the_tables_of_any_backend_under_layers(monkeypatch: Any, capsys: Any) -> None:
    class Tabled(MemoryBackend):
        async def bring_up(self) -> str:
            return "brought up Zoë\x1b[2J"

    use(monkeypatch, Layer(Layer(Tabled())))
    assert main(["migrate"]) == 0
    assert capsys.readouterr() == ("brought up Zoë\\x1b[2J\n", "")


def test_a_store_without_tables_has_nothing_to_migrate(capsys: Any) -> None:
    assert main(["migrate", "--store=memory://"]) == 0
    out, err = capsys.readouterr()
    assert out == "memory:// has no tables: nothing to do\n"
    assert err == ""


# -------------------------------------------------------------------------------------------------- in other processes


def test_imported_conversations_load_back_from_sqlite(
    shared_data: list[dict[str, Any]], tmp_path: Path, capsys: Any
) -> None:
    """All messages equal those of the file, and each user message begins a turn; `list` and `show` show them."""
    path = jsonl(tmp_path / "a.jsonl", *shared_data)
    store = f"--store=sqlite:///{tmp_path / 'chat.db'}"
    for outcome in (b"200 sessions stored, 0 extended, 0 unchanged", b"0 sessions stored, 0 extended, 200 unchanged"):
        done = turnlog("import", path, store, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(outcome)

    async def loaded() -> dict[str, Session]:
        async with open_store(store.removeprefix("--store=")) as opened:
            return {line["session_id"]: await opened.session(line["session_id"]) for line in shared_data}

    sessions = asyncio.run(loaded())
    for line in shared_data:
        session = sessions[line["session_id"]]
        assert [message.to_dict() for message in session.messages] == line["messages"]
        assert dict(session.info.metadata) == {"system": line["messages"][0]["content"]}
        assert [message.role for message in session.turns[0].messages[:2]] == ["system", "user"]
        later = [message.role == "user" for turn in session.turns[1:] for message in turn.messages]
        begun = [place == 0 for turn in session.turns[1:] for place in range(len(turn.messages))]
        assert later == begun
    assert main(["list", "--limit=0", "--json", store]) == 0
    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert {row["session_id"]: row["messages"] for row in rows} == {
        line["session_id"]: len(line["messages"]) for line in shared_data
    }
    for line in shared_data[::40]:
        assert main(["show", line["session_id"], "--json", store]) == 0
        assert json.loads(capsys.readouterr().out)["messages"] == line["messages"]
        assert main(["show", line["session_id"], store]) == 0
        assert capsys.readouterr().out.count("\nturn ") == len(sessions[line["session_id"]].turns)


@pytest.mark.parametrize("locale", ["C", "en_US.ISO-8859-1", "POSIX"])
def test_it_speaks_utf8_whatever_the_locale(locale: str, tmp_path: Path) -> None:
    quiet = {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}

    def started(*arguments: str, text: str = "") -> subprocess.CompletedProcess[bytes]:
        command = [*SLOW, *arguments, "--store=memory://"]
        return subprocess.run(
            command, cwd=tmp_path, input=text.encode(), capture_output=True, check=False, env={**os.environ, **quiet}
        )

    done = started("chat", "--session=Zoë", text="My name is Zoë 🎈\n")
    assert done.stdout.decode().startswith("Hello, Zoë 🎈!")
    assert "there is no session 'Zoë'" in started("show", "Zoë").stderr.decode()
    name = tmp_path / "Zoë.jsonl"
    jsonl(name, conversation("s", "a"))
    assert started("import", str(name)).returncode == 0


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys, turnlog_cli; sys.exit(turnlog_cli.main(['plugins', '--json']))"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def redirected(redirection: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run `turnlog` from a shell, with one message on standard input."""
    script = f'exec "$@" {redirection}'
    command = SLOW if "&-" in redirection or "PYTHONUNBUFFERED" in environment else quick()
    return subprocess.run(
        ["sh", "-c", script, "sh", *command, *arguments],
        cwd=cwd,
        input=b"hi\n",
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
        timeout=60,
    )


PRINTING = [
    ["chat", "--session=s"],
    ["import", "a.jsonl"],
    ["list"],
    ["list", "--json"],
    ["show", "big"],
    ["recompress", "--store=sqlite:///turnlog.db?layers=gzip"],
    ["plugins"],
    ["--help"],
    ["--version"],
]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Return a directory with a file to import and a store whose session is larger than an output buffer."""
    big = jsonl(tmp_path / "a.jsonl", conversation("big", "a" * 50_000))
    assert main(["import", big, f"--store=sqlite:///{tmp_path}/turnlog.db"]) == 0
    jsonl(tmp_path / "a.jsonl", conversation("new", "a"))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        *((each, {}) for each in PRINTING),
        *((each, {"PYTHONUNBUFFERED": number}) for each in PRINTING[1:3] for number in ("", "1")),
    ],
)
def test_a_full_disk_is_one_line_and_exit_code_1(command: list[str], environment: dict[str, str], stored: Path) -> None:
    done = redirected(">/dev/full", *command, cwd=stored, **environment)
    assert done.stderr == b"turnlog: standard output cannot be written: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize("command", PRINTING, ids=" ".join)
def test_a_standard_output_that_is_closed_is_one_line_and_nothing_is_done(
    command: list[str], stored: Path, capsys: Any
) -> None:
    done = redirected(">&-", *command, cwd=stored)
    assert (done.returncode, done.stderr) == (1, b"turnlog: standard output is closed\n")
    capsys.readouterr()
    assert main(["list", f"--store=sqlite:///{stored}/turnlog.db"]) == 0
    assert [row.split("\t")[0] for row in capsys.readouterr().out.splitlines()] == ["big"]


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_without_standard_error_notes_and_errors_go_nowhere(redirection: str, stored: Path) -> None:
    turnlog("import", "a.jsonl", cwd=stored)
    done = redirected(redirection, "list", "--json", "--limit=1", cwd=stored)  # the note: there are more sessions
    assert [json.loads(row)["session_id"] for row in done.stdout.splitlines()] == ["new"]
    assert (done.returncode, done.stderr) == (0, b"")
    done = redirected(redirection, "chat", cwd=stored)  # the note: the session's id
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (0, 1, b"")
    done = redirected(redirection, "import", "-", cwd=stored)
    assert done.stdout == b"0 sessions stored, 0 extended, 0 unchanged, 0 different, 1 failed; 0 messages written\n"
    assert (done.returncode, done.stderr) == (1, b"")
    done = redirected(redirection, "show", "nobody", cwd=stored)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_without_both_outputs_the_exit_code_remains(stored: Path) -> None:
    done = redirected(">/dev/full 2>&-", "list", cwd=stored)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    done = redirected(">&- 2>&-", "list", cwd=stored)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_one_ctrl_c_ends_an_import_that_waits_for_a_line(tmp_path: Path) -> None:
    # in a background job of a shell, child processes ignore SIGINT
    code = (
        "import signal, sys, turnlog_cli as cli; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "sys.exit(cli.main(['import', '-', '--store=sqlite:///chat.db']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            process.stdin.write(json.dumps(conversation("s", "a")).encode() + b"\noops\n")
            process.stdin.flush()
            assert process.stderr.readline().startswith(b"standard input:2: this is not JSON")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 130
            assert process.stderr.read() == (
                b"standard input: stopped at line 2: 1 session stored, 0 extended; stored sessions are kept; "
                b"to continue, run the same command again\n"
            )
        finally:
            process.kill()
    assert turnlog("show", "s", "--store=sqlite:///chat.db", cwd=tmp_path).returncode == 0


def test_importing_the_package_loads_neither_cyclopts_nor_rich_nor_a_store(tmp_path: Path) -> None:
    code = "import sys, turnlog_cli; print({'cyclopts', 'rich', 'turnlog', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path, timeout=60)
    assert done.stdout == b"set()\n"


def shown(*arguments: str, cwd: Path) -> tuple[int, str]:
    """Run `turnlog` on a terminal; return its exit code and its output."""
    with Screen(*arguments, cwd=cwd) as screen:
        return screen.end(), screen.seen


def test_on_a_terminal_lists_are_tables(tmp_path: Path) -> None:
    code, seen = shown("plugins", cwd=tmp_path)
    assert code == 0
    assert "distribution" in seen
    assert "turnlog_memory:MemoryBackend" in seen


def test_on_a_terminal_an_import_shows_its_progress(tmp_path: Path) -> None:
    """Errors appear on lines of their own."""
    path = jsonl(tmp_path / "a.jsonl", conversation("one", "a"), "oops", conversation("two", "b"))
    code, seen = shown("import", path, "--store=memory://", cwd=tmp_path)
    assert code == 1
    assert "import \x1b[" in seen
    assert f"{(tmp_path / 'a.jsonl').stat().st_size} bytes" in seen
    assert "a.jsonl:2: this is not JSON: " in seen
    assert "2 sessions stored, 0 extended, 0 unchanged, 0 different, 1 failed" in seen


def test_on_a_terminal_recompress_shows_its_progress(tmp_path: Path) -> None:
    store = f"--store=sqlite:///{tmp_path}/chat.db?layers=gzip"
    assert main(["import", jsonl(tmp_path / "a.jsonl", conversation("one", LONG)), store]) == 0
    code, seen = shown("recompress", store, cwd=tmp_path)
    assert code == 0
    assert "recompress \x1b[" in seen
    assert re.search(r"\b1 sessions, .* → .* bytes", seen)
    assert re.search(r"1 sessions, \d+ bytes before, \d+ after: 0 saved", seen)


def test_the_package_has_one_public_name() -> None:
    assert turnlog_cli.__all__ == ["main"]

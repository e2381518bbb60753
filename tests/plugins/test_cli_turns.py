"""The turns that `turnlog import` begins: in each dialect, and by the application's rule."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dialects import DIALECTS, Turns
from turnlog import Session, open_store
from turnlog_cli import main

RULES = """
def me(message):
    return message.to_dict()["who"] == "me"

async def later(message):
    return True

text = "user"
"""
UNKNOWN = [{"who": who, "says": str(number)} for number in range(30) for who in ("me", "it")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder with modules of rules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "house_rules", raising=False)
    (tmp_path / "house_rules.py").write_text(RULES)
    (tmp_path / "broken_rules.py").write_text("1 / 0")
    return tmp_path


def import_(sessions: dict[str, list[dict[str, Any]]], *options: str) -> int:
    """Import these sessions from the file `a.jsonl`."""
    lines = [json.dumps({"session_id": name, "messages": messages}) for name, messages in sessions.items()]
    Path("a.jsonl").write_text("\n".join(lines))
    return main(["import", "a.jsonl", "--store=sqlite:///a.db", *options])


def stored(name: str) -> Session:
    """Return a session."""

    async def read() -> Session:
        async with open_store("sqlite:///a.db") as store:
            return await store.session(name)

    return asyncio.run(read())


def turns_of(session: Session) -> Turns:
    """Return the turns of a session as lists of dictionaries."""
    return [[message.to_dict() for message in turn.messages] for turn in session.turns]


@pytest.mark.usefixtures("folder")
def test_import_divides_each_dialect_also_where_a_history_has_grown() -> None:
    # Seen failing when results begin a turn, and when an opening system message stays a turn of its own.
    histories = {name: [message for turn in turns for message in turn] for name, turns in DIALECTS.items()}
    for end in (1, 3, 5, None):
        assert import_({name: history[:end] for name, history in histories.items()}) == 0
    for name, turns in DIALECTS.items():
        assert turns_of(stored(name)) == turns


@pytest.mark.usefixtures("folder")
def test_import_takes_the_applications_rule(capsys: pytest.CaptureFixture[str]) -> None:
    # Seen failing when the rule is not passed to `divide`, or to one of the two calls of `split_turns`.
    for end in (4, 8, 60):
        assert import_({"s": UNKNOWN[:end]}, "--begins-turn", "house_rules:me") == 0
    session = stored("s")
    assert turns_of(session) == [UNKNOWN[start : start + 2] for start in range(0, 60, 2)]
    assert session.version.generation == 0  # no turn was written again
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("folder")
def test_a_rule_that_fails_is_an_error_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    # Seen failing with the bare function: a traceback, and the second line is not stored.
    sessions = {"other": [{"role": "user"}, {"role": "assistant"}], "s": UNKNOWN[:4]}
    assert import_(sessions, "--begins-turn=house_rules:me") == 1
    assert capsys.readouterr().err == "a.jsonl:1: --begins-turn house_rules:me failed: KeyError: 'who'\n"
    assert turns_of(stored("s")) == [UNKNOWN[:2], UNKNOWN[2:4]]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("house_rules", "takes module:function, such as my_rules:begins_turn, not 'house_rules'"),
        ("house_rules:", "takes module:function"),
        (":me", "takes module:function"),
        ("house-rules:me", "house-rules:me cannot be imported: ValueError: "),
        ("no_rules:me", "no_rules:me cannot be imported: ModuleNotFoundError: No module named 'no_rules'"),
        ("broken_rules:me", "broken_rules:me cannot be imported: ZeroDivisionError: division by zero"),
        ("house_rules:you", "house_rules:you cannot be imported: AttributeError: "),
        (
            "house_rules:text",
            "house_rules:text: begins_turn must be a function that takes a message and returns a bool",
        ),
        ("house_rules:later", "house_rules:later: begins_turn must be a function that takes a message"),
    ],
)
def test_a_rule_that_cannot_be_used_is_one_line_and_nothing_is_stored(
    name: str, reason: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Seen failing when the name is resolved at the first line, and with `except ImportError`.
    assert import_({"s": UNKNOWN}, "--begins-turn", name) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"turnlog: --begins-turn {reason}")
    assert err.count("\n") == 1
    assert not (folder / "a.db").exists()


def test_no_file_of_the_working_directory_replaces_an_installed_module(folder: Path) -> None:
    # Seen failing with the working directory at the front of `sys.path`.
    (folder / "colorsys.py").write_text("1 / 0")
    sys.modules.pop("colorsys", None)
    # The function takes three numbers, so the line fails.
    assert import_({"s": UNKNOWN}, "--begins-turn", "colorsys:rgb_to_hsv") == 1


@pytest.mark.usefixtures("folder")
def test_a_long_history_that_is_one_turn_is_reported_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    # Seen failing with a report of every line that is written, with no report, and with limits of 49 and 51 messages.
    assert import_({"short": UNKNOWN[:50], "s": UNKNOWN[:51]}) == 0
    said = capsys.readouterr().err
    assert said.startswith("a.jsonl:2: session 's' in namespace 'default' has 51 messages in one turn")
    assert "--begins-turn module:function" in said
    assert said.count("\n") == 1
    assert import_({"short": UNKNOWN[:50], "s": UNKNOWN[:51]}) == 0
    assert capsys.readouterr().err == ""
    assert import_({"s": UNKNOWN}) == 0
    assert "has 60 messages in one turn" in capsys.readouterr().err

"""The how-to page and its example, and the commands of turnlog on sessions of the SDK."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters import page
from adapters.openai_agents.scripted import ask, item, opened, run
from checkout import ROOT
from turnlog import CorruptRecord
from turnlog_cli import main
from turnlog_openai_agents import TurnlogSession

PAGE = "docs/how-to/frameworks/openai-agents.md"
EXAMPLE = "docs/examples/frameworks/openai_agents.py"


def test_the_page_shows_what_happens(tmp_path: Path) -> None:
    page.check("openai-agents", tmp_path)


def test_the_example_prints_what_the_page_shows(tmp_path: Path) -> None:
    """The session of the SDK loses an item, and the session of turnlog does not."""
    done = subprocess.run(
        [sys.executable, ROOT / EXAMPLE], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    shown = (ROOT / PAGE).read_text(encoding="utf-8").split("  ```text\n")[1].split("  ```")[0]
    assert done.stdout == "".join(line.removeprefix("  ") + "\n" for line in shown.splitlines()), done.stderr
    theirs, ours = done.stdout.split("TurnlogSession:")
    assert "neighbour" not in theirs and "neighbour" in ours


def test_the_commands_of_turnlog_work_on_a_session_of_the_sdk(tmp_path: Path, capsys: Any) -> None:
    where = f"--store=sqlite:///{tmp_path}/chat.db"

    async def fill() -> None:
        async with opened(where.removeprefix("--store=")) as store:
            await ask(TurnlogSession(store.for_owner("ann"), "s"))
            await store.fork("s", "fork")
            await TurnlogSession(store, "fork").add_items([item("user", "More")])

    run(fill)
    printed = []
    for command in (
        ["list", "--owner=ann"],
        ["show", "s"],
        ["export", "--owner=ann"],
        ["erase", "--owner=ann", "--yes"],
    ):
        assert main([*command, where]) == 0, capsys.readouterr()
        printed.append(capsys.readouterr().out)
    assert [line.split("\t")[:3] for line in printed[0].splitlines()] == [["fork", "2", "5"], ["s", "1", "4"]]
    assert printed[1].split("\n", 3)[3] == (
        "  user: What is the weather?\n"
        '  assistant calls weather({"city":"Bern"}) as call-1\n'
        "  tool call-1: sunny in Bern\n"
        "  assistant: It is sunny.\n"
    )
    assert '"It is sunny."' in printed[2]
    assert main(["list", where]) == 0
    assert capsys.readouterr().out == ""


def test_a_damaged_item_is_reported_and_not_removed(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(f"sqlite:///{tmp_path}/chat.db") as store:
            session = TurnlogSession(store, "s")
            await session.add_items([item("user", "One"), item("assistant", "1")])
            await session.add_items([item("user", "Two"), item("assistant", "2")])
            with sqlite3.connect(tmp_path / "chat.db") as database:
                sql = "UPDATE turnlog_records SET payload = substr(payload, 1, length(payload) - 1) WHERE number = 1"
                assert database.execute(sql).rowcount == 1
            database.close()
            for _ in range(2):
                with pytest.raises(CorruptRecord, match="turn 1"):
                    await session.get_items()
                with pytest.raises(CorruptRecord, match="turn 1"):
                    await session.pop_item()
            assert (await store.info("s")).messages == 4

    run(test)

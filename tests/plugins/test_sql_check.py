"""`turnlog check` finds what SQLite finds and changes nothing; `turnlog list` reports a damaged session."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from turnlog import Store, user
from turnlog_cli import main
from turnlog_sql.sqlite import SQLiteBackend


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database with three sessions."""

    async def fill() -> None:
        async with Store(SQLiteBackend(f"sqlite:///{tmp_path}/chat.db", sweep=0)) as store:
            for name in "abc":
                await store.append(name, [user("x")], owner="ann")

    asyncio.run(fill())
    return tmp_path / "chat.db"


def test_a_sound_database(path: Path, capsys: Any) -> None:
    for arguments in ([], ["--quick"]):
        assert main(["check", "--store", f"sqlite:///{path}", *arguments]) == 0
        assert capsys.readouterr().out.endswith("no damage was found\n")


def test_an_index_that_lacks_a_session(path: Path, capsys: Any) -> None:
    """`--quick` does not compare indexes with tables."""
    data = bytearray(path.read_bytes())
    assert data.count(b"defaultann") == 3, "only in the index of owners"
    data[data.index(b"defaultann") + 9] ^= 1
    path.write_bytes(bytes(data))
    assert main(["check", "--store", f"sqlite:///{path}", "--quick"]) == 0
    capsys.readouterr()
    assert main(["check", "--store", f"sqlite:///{path}"]) == 1
    assert "missing from index turnlog_sessions_owner" in capsys.readouterr().out
    assert path.read_bytes() == data
    connection = sqlite3.connect(path)
    connection.execute("REINDEX")
    connection.close()
    assert main(["check", "--store", f"sqlite:///{path}"]) == 0


def test_a_damaged_page(path: Path, capsys: Any) -> None:
    """Both checks find it and print each line of SQLite."""
    data = bytearray(path.read_bytes())
    (root,) = (
        sqlite3.connect(path).execute("SELECT rootpage FROM sqlite_master WHERE name = 'turnlog_sessions'").fetchone()
    )
    data[(root - 1) * 4096 + 4] ^= 1  # the number of cells of the page
    path.write_bytes(bytes(data))
    for arguments in ([], ["--quick"]):
        assert main(["check", "--store", f"sqlite:///{path}", *arguments]) == 1
        assert len("".join(capsys.readouterr()).splitlines()) >= 1


def test_list_reports_a_damaged_session_after_all_others(path: Path, capsys: Any) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE turnlog_sessions SET head = x'c1' WHERE session = x'62'")
    connection.close()
    for arguments in ([], ["--json"], ["--owner", "ann"]):
        assert main(["list", "--store", f"sqlite:///{path}", *arguments]) == 1
        out, err = capsys.readouterr()
        assert len(out.splitlines()) == 2
        assert err.startswith("turnlog: session 'b' in namespace 'default': its header")
        assert err.count("\n") == 1

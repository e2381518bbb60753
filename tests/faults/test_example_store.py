"""The installed example backend: the whole contract, two processes that write at once, and killed processes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from example_store import EXAMPLE, environment
from test_jsonl import Run, python

__all__ = ["python"]

FAULTS = Path(__file__).with_name("jsonl_writers.py")


def test_the_installed_copy_keeps_the_contract(python: Run) -> None:
    """The example's own test passes as its author runs it."""
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(EXAMPLE / "tests"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[5-9][0-9] passed|^[1-9][0-9]{2,} passed", done.stdout, re.MULTILINE), done.stdout


def two_writers(site: Path, folder: Path, *naive: str) -> list[str]:
    """Run two processes that append 200 turns each to one session in a missing folder; return their last errors."""
    folder.mkdir()
    command = [sys.executable, str(FAULTS), "append", "chats"]
    writers = [
        subprocess.Popen(
            [*command, name, "200", *naive],
            cwd=folder,
            env=environment(site),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("ann", "ben")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    return [writer.communicate()[1].rpartition("\n")[0].rpartition("\n")[2] for writer in writers]


READ = """
import asyncio
from turnlog import open_store

async def main():
    async with open_store("jsonl:///chats") as store:
        for turn in (await store.session("shared")).turns:
            print(turn.number, *[message.text for message in turn.messages], sep=",")

asyncio.run(main())
"""


def said(python: Run, folder: str) -> list[list[str]]:
    """Return the turns as numbers and texts."""
    done = python("-c", f"import os; os.chdir({folder!r})\n{READ}")
    assert done.stderr == ""
    return [line.split(",") for line in done.stdout.splitlines()]


def check_400(turns: list[list[str]]) -> None:
    """Check that no turn is lost or torn, and that the turns of each writer are in order."""
    assert [turn[0] for turn in turns] == [str(number) for number in range(400)]
    assert all(len(turn) == 3 and turn[1] == turn[2] for turn in turns)
    for name in ("ann", "ben"):
        assert [turn[1] for turn in turns if turn[1].startswith(name)] == [f"{name} {place}" for place in range(200)]


def test_two_processes_lose_nothing(python: Run, site: Path, tmp_path: Path) -> None:
    assert two_writers(site, tmp_path / "shared") == ["", ""]
    turns = said(python, "shared")
    check_400(turns)
    first = [turn[1].split()[0] for turn in turns]
    assert first != sorted(first)  # the writers ran at the same time


def test_without_the_lock_two_processes_do_lose(python: Run, site: Path, tmp_path: Path) -> None:
    errors = two_writers(site, tmp_path / "shared", "unlocked")
    if errors == ["", ""]:
        assert len(said(python, "shared")) < 400
    else:  # another writer had moved the new file of this one
        assert any("OutcomeUnknown" in error for error in errors)


def test_a_writer_may_be_killed_at_any_moment(python: Run) -> None:
    """50 forked writers die before or after a system call. Every acknowledged turn is stored, and no turn is torn."""
    done = python(str(FAULTS), "kill", "chats", "50")
    assert done.returncode == 0, done.stderr
    found = re.match(r"50 kills at (\d+) places, (\d+) turns", done.stdout)
    assert found is not None
    assert int(found[1]) > 20  # before and after mkdir, open, flock, read, open, write, flush, fsync, replace, fsync


def test_kills_tear_a_store_that_writes_in_place(python: Run) -> None:
    done = python(str(FAULTS), "kill", "chats", "50", "in-place")
    assert done.returncode != 0
    assert "CorruptRecord" in done.stderr or "torn" in done.stderr

"""Sealing while other processes write: no turn is lost, stored twice, or moved."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import servers
from sql_places import emptied_postgresql

WRITERS = Path(__file__).with_name("compression_writers.py")


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/turnlog.db"


def redis(folder: Path) -> str:
    servers.ask_redis(servers.redis(), "FLUSHDB")
    return servers.redis()


def postgresql(folder: Path) -> str:
    return emptied_postgresql()


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `compression_writers.py`."""
    command = [sys.executable, "-W", "error", str(WRITERS), *arguments]
    search = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **search}
    )


@pytest.mark.parametrize(("place", "operations"), [(sqlite, 2_000), (redis, 2_000), (postgresql, 1_000)])
def test_two_processes_write_while_a_third_seals(tmp_path: Path, place: Callable[[Path], str], operations: int) -> None:
    """With appends and cuts inside sealed records, no turn is lost, stored twice or reordered."""
    done = python(place(tmp_path), f"{operations}")
    assert done.returncode == 0, done.stderr
    written, sealed, records = map(int, re.findall(r"\d+", done.stdout))
    assert written == operations
    assert sealed > 10
    assert records >= 6, "each session ends with sealed records"


@pytest.mark.parametrize("naive", ["rewritten", "unchecked"])
@pytest.mark.parametrize("place", [sqlite, redis])
def test_the_check_detects_a_naive_seal(tmp_path: Path, place: Callable[[Path], str], naive: str) -> None:
    """The naive seals rewrite the records that they have read, or replace all records with the same numbers."""
    done = python(place(tmp_path), "4000", naive)
    assert done.returncode != 0
    assert re.search("AssertionError: (lost|torn)|a stored record is missing|cannot be undone", done.stderr), (
        done.stderr
    )

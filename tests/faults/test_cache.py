"""Caches in two processes over one Redis, without affinity."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import servers
from redis_writers import emptied

WRITERS = Path(__file__).with_name("cache_writers.py")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `cache_writers.py` on an emptied Redis."""
    servers.redis()
    command = [sys.executable, "-W", "error", str(WRITERS), emptied(), *arguments]
    search = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **search}
    )


def figures(done: subprocess.CompletedProcess[str]) -> list[int]:
    """Return the numbers of stale reads, refused changes and stored turns."""
    assert done.returncode == 0, done.stderr
    return [int(figure) for figure in re.findall(r"\d+", done.stdout)]


def test_validate_shows_every_turn_that_was_acknowledged_to_another_process() -> None:
    """5,000 operations: 0 stale reads, 0 turns lost."""
    stale, refused, stored = figures(python("5000", "validate"))
    assert stale == 0
    assert refused > 50
    assert stored > 1_500


def test_trust_shows_nothing_older_than_max_age_and_refuses_changes_that_expect_a_stale_version() -> None:
    """5,000 operations: 0 changes with a stale `expect` accepted, 0 turns lost, 0 reads older than `max_age`."""
    stale, refused, stored = figures(python("5000", "trust"))
    assert stale > 50, "no read was stale, so nothing was tested"
    assert refused > 50
    assert stored > 1_500


@pytest.mark.parametrize(
    ("naive", "error"),
    [("unfenced", "a stale expect was accepted"), ("ageless", "stale for")],
)
def test_a_naive_cache_is_found_out(naive: str, error: str) -> None:
    done = python("10000", "trust", naive)
    assert done.returncode != 0
    assert error in done.stderr

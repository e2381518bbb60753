"""Eight processes that append to one session without pause."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redis_writers import emptied as emptied_redis
from sql_places import emptied_mariadb, emptied_postgresql

WRITERS = Path(__file__).with_name("server_writers.py")
SECONDS = 1.5
LEAST = 0.25
"""Of a fair share.  `benchmarks/busy.py` measures for a minute, and asks for half."""


@pytest.mark.parametrize("place", [emptied_redis, emptied_postgresql, emptied_mariadb])
def test_nobody_is_refused_and_everybody_has_a_share(place: Callable[[], str]) -> None:
    command = [sys.executable, "-W", "error", str(WRITERS), "busy", place(), str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    stored = list(map(int, done.stdout.split()))
    assert min(stored) >= LEAST * sum(stored) / len(stored), stored

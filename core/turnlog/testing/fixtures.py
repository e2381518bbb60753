"""Fixtures of pytest for the tests of applications.

Write `pytest_plugins = ["turnlog.testing.fixtures"]` into the `conftest.py` at the root of the tests.
"""

from __future__ import annotations

import pytest

from ..config import open_store
from ..layers import stack_of
from ..store import Store
from ._base import Clock
from .faulty import FaultyBackend

__all__ = ["turnlog_clock", "turnlog_faults", "turnlog_store"]


@pytest.fixture
def turnlog_clock() -> Clock:
    """Return the clock of `turnlog_store`: `turnlog_clock.advance(3600)` lets an hour pass."""
    return Clock()


@pytest.fixture
def turnlog_faults(turnlog_clock: Clock) -> FaultyBackend:
    """Return the backend of `turnlog_store`: `turnlog_faults.fail_next("lose_reply")` loses the next answer."""
    backend = open_store("memory://").backend
    for one in stack_of(backend):
        one.clock = turnlog_clock
    return FaultyBackend(backend)


@pytest.fixture
def turnlog_store(turnlog_faults: FaultyBackend) -> Store:
    """Return a store in memory, without sessions; it works unopened."""
    return Store(turnlog_faults)

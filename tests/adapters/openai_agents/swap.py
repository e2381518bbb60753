"""A pytest plugin: the SDK's own tests get `TurnlogSession` in place of `SQLiteSession`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import turnlog.sync
from adapters import published
from turnlog_openai_agents import TurnlogSession

_store = turnlog.sync.open_store(os.environ["TURNLOG_TEST_URL"])
_numbers = count()


class SwappedSession(TurnlogSession):
    """`TurnlogSession` with the constructor of `SQLiteSession`: each path is a namespace."""

    def __init__(
        self, session_id: str, db_path: str | Path = ":memory:", *, session_settings: Any = None, **unused: Any
    ) -> None:
        published.built()
        name = f"memory {next(_numbers)}" if str(db_path) == ":memory:" else str(db_path)
        super().__init__(_store.wrapped.within(name), session_id, session_settings=session_settings)
        self.db_path = db_path

    def close(self) -> None:
        """Do nothing: the store outlives the session."""


@pytest.fixture(autouse=True, scope="session")
def opened() -> Iterator[None]:
    with _store:
        yield


for _module in ("agents", "agents.memory", "agents.memory.sqlite_session"):
    pytest.MonkeyPatch().setattr(f"{_module}.SQLiteSession", SwappedSession)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Leave out the tests that use no `SQLiteSession`."""
    items[:] = [
        item
        for item in items
        if "SQLiteSession" in inspect.getsource(item.obj) and "async-sqlite" not in item.name  # another class
    ]

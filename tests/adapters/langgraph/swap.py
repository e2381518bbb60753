"""A pytest plugin: LangGraph's own tests get `TurnlogSaver` in place of `InMemorySaver`.

The fixtures of those tests choose among several checkpointers.  The tests that chose another one than the memory's are
left out, because ours takes its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from typing import Any, Self

import langgraph.checkpoint.memory
import pytest

import turnlog.sync
from adapters.published import built
from turnlog_langgraph import TurnlogSaver

_store = turnlog.sync.open_store(os.environ["TURNLOG_TEST_URL"])
_numbers = count()


class SwappedSaver(TurnlogSaver):
    """`TurnlogSaver` with the constructor of `InMemorySaver`: each one is a namespace."""

    def __init__(self, *, serde: Any = None) -> None:
        built()
        super().__init__(_store.within(f"memory {next(_numbers)}"), serde=serde)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: the store outlives the saver."""


for _name in ("InMemorySaver", "MemorySaver"):
    pytest.MonkeyPatch().setattr(langgraph.checkpoint.memory, _name, SwappedSaver)


@contextmanager
def _swapped() -> Iterator[SwappedSaver]:
    yield SwappedSaver()


@pytest.fixture(autouse=True, scope="session")
def opened() -> Iterator[None]:
    with _store:
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Replace the checkpointer that the fixtures call `memory`, and leave out the others."""
    pytest.MonkeyPatch().setattr(import_module("tests.conftest"), "_checkpointer_memory", _swapped)
    items[:] = [item for item in items if not _checkpointer(item).startswith("sqlite")]


def _checkpointer(item: pytest.Function) -> str:
    """Return the name of the checkpointer that a test has chosen; empty: none."""
    params: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    return str(params.get("sync_checkpointer") or params.get("async_checkpointer") or "")

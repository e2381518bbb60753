"""A pytest plugin for LangGraph's own tests: `TurnlogSaver` in place of `InMemorySaver`."""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

import langgraph.checkpoint.memory
import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver

import turnlog.sync
from adapters.published import built
from turnlog_langgraph import TurnlogSaver

_STORE = turnlog.sync.open_store(os.environ["TURNLOG_TEST_URL"])
_STORE.open()


class Swapped(TurnlogSaver):
    """A `TurnlogSaver` without threads, which is constructed as an `InMemorySaver`."""

    def __init__(self, *, serde: Any = None) -> None:
        built()
        super().__init__(_STORE.within(uuid4().hex), serde=serde)

    def __enter__(self) -> Swapped:
        return self

    def __exit__(self, *error: object) -> None:
        pass


langgraph.checkpoint.memory.InMemorySaver = Swapped  # type: ignore[assignment, misc]
langgraph.checkpoint.memory.MemorySaver = Swapped  # type: ignore[misc]


@pytest.fixture
def sync_checkpointer() -> BaseCheckpointSaver[str]:
    return Swapped()


@pytest.fixture
async def async_checkpointer() -> BaseCheckpointSaver[str]:
    return Swapped()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    pass

"""LangGraph's own tests of checkpointers, and its tests of graphs, with `TurnlogSaver`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.report import ProgressCallbacks

from adapters import published
from turnlog import open_store
from turnlog_langgraph import TurnlogSaver

VERSION = "1.2.24"
FILES = [
    "tests/test_time_travel.py",
    "tests/test_time_travel_async.py",
    "tests/test_subgraph_persistence.py",
    "tests/test_interruption.py",
    "tests/test_delta_channel_exit_mode.py",
    "tests/test_delta_channel_fork.py",
    "tests/test_delta_channel_supersteps_bound.py",
    "tests/test_delta_channel_update_state.py",
]
EXCEPTIONS = {
    "test_anever_written_channel_is_not_walked": "it counts calls of the synchronous method in an asynchronous run",
    "test_bulk_update_state_replays_updates_in_the_order_given": "it reads the attribute `writes` of InMemorySaver",
}
"""The tests that fail, with the reasons."""


def test_conformance(url: str) -> None:
    """All 81 tests of langgraph-checkpoint-conformance pass."""
    passed: list[str] = []
    failed: dict[str, str | None] = {}

    def note(capability: str, test: str, ok: bool, error: str | None) -> None:
        if ok:
            passed.append(test)
        else:
            failed[test] = error

    async def run() -> None:
        async with open_store(url) as store:

            @checkpointer_test(name="TurnlogSaver")
            async def saver() -> AsyncIterator[BaseCheckpointSaver[str]]:
                yield TurnlogSaver(store)

            await validate(saver, progress=ProgressCallbacks(on_test_result=note))

    asyncio.run(run())
    assert failed == {}
    assert len(passed) == 81


def test_graphs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of time travel, subgraphs, interruptions and DeltaChannels pass, but for the exceptions."""
    monkeypatch.setenv("NO_DOCKER", "true")
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "-W", "ignore"]
    folder = published.sources("langgraph", VERSION)
    outcomes = published.run(folder, FILES, plugin="adapters.langgraph.swap", url=url, options=options)
    assert outcomes.failed.keys() == EXCEPTIONS.keys(), outcomes.failed
    assert len(outcomes.passed & outcomes.built) >= 300

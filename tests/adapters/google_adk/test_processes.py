"""Two processes append to one session at the same time."""

from __future__ import annotations

import asyncio

from adapters.google_adk.services import APP, USER, invocation, loaded, new
from adapters.google_adk.writer import RUNS
from adapters.two_writers import two_writers
from turnlog import open_store
from turnlog_google_adk import TurnlogSessionService

REPEATS = 20


async def create(url: str) -> None:
    async with open_store(url) as store:
        for repeat in range(REPEATS):
            await new(TurnlogSessionService(store), f"s{repeat}")


async def check(url: str) -> None:
    """Fail unless each session has each event once, the events of a run in order, and all states."""
    runs = [invocation(f"{name}-{number}") for name in "ab" for number in range(RUNS)]
    async with open_store(url) as store:
        service = TurnlogSessionService(store)
        for repeat in range(REPEATS):
            stored = (await loaded(service, f"s{repeat}")).events
            assert len(stored) == sum(map(len, runs))
            for run in runs:
                found = [event for event in stored if event.invocation_id == run[0].invocation_id]
                assert [event.content for event in found] == [event.content for event in run]
        state = await service.get_user_state(app_name=APP, user_id=USER)
        assert len(state) == REPEATS * sum(map(len, runs))


def test_two_processes_lose_and_double_nothing(shared: str) -> None:
    asyncio.run(create(shared))
    with two_writers("adapters.google_adk.writer", shared) as send:
        refused = sum(int(answer) for repeat in range(REPEATS) for answer in send(f"s{repeat}"))
    asyncio.run(check(shared))
    assert refused > REPEATS  # the processes wrote at the same time

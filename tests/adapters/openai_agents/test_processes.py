"""Two processes drive one session at once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from adapters.openai_agents.runs import RUNS
from adapters.openai_agents.scripted import opened, run, texts
from adapters.two_writers import NAMES, two_writers
from turnlog_openai_agents import TurnlogSession

REPEATS, NAIVE = 20, 5


def wanted() -> Counter[str]:
    """Return the texts and the calls of all runs."""
    every = [f"{name}-{number}" for name in NAMES for number in range(RUNS)]
    calls = [f"call-{one}{more}" for one in every for more in ("", "-b")]
    return Counter([*every, *(f"to {one}" for one in every), *calls, *calls])


def found(items: list[Any]) -> Counter[str]:
    """Return the texts, and the id of each call and of each result."""
    return Counter(one.get("call_id") or texts([one])[0] for one in items)


def test_two_processes_lose_nothing_double_nothing_and_part_no_call_from_its_result(shared: str) -> None:
    with two_writers("adapters.openai_agents.runs", shared) as send:
        for repeat in range(REPEATS):
            assert send(f"TurnlogSession s{repeat}") == ["done", "done"]
        for repeat in range(NAIVE):
            assert send(f"NaiveSession naive{repeat}") == ["done", "done"]

    async def test() -> None:
        async with opened(shared) as store:
            for repeat in range(REPEATS):
                assert found(await TurnlogSession(store, f"s{repeat}").get_items()) == wanted()
                for turn in (await store.session(f"s{repeat}")).turns:
                    kinds = Counter(
                        (one.get("type"), one.get("call_id")) for one in turn.messages if one.get("call_id")
                    )
                    for (kind, call_id), count in kinds.items():
                        assert count == 1
                        assert kind != "function_call" or kinds["function_call_output", call_id] == 1
            # an adapter that writes the list which it has read fails this test
            naive = [found(await TurnlogSession(store, f"naive{repeat}").get_items()) for repeat in range(NAIVE)]
            assert any(one != wanted() for one in naive)

    run(test)

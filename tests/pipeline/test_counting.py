"""Token counts: each turn is counted once, and the provider's counts correct the estimates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from turnlog import Message, Pipeline, Reply, Store, TokenCount, Usage, Window, assistant, user
from turnlog.pipeline.tokens import estimate
from turnlog_memory import MemoryBackend


class Counter:
    """Counts ten tokens for each message."""

    def __init__(self, *, exact: bool = False) -> None:
        self.exact = exact
        self.counted: list[str] = []
        self.models: set[str | None] = set()

    def __call__(self, messages: Sequence[Message], *, model: str | None) -> TokenCount:
        self.counted += [message.text for message in messages]
        self.models.add(model)
        return TokenCount(10 * len(messages), self.exact)


async def asked(counter: Counter, usage: Usage | None, **more: Any) -> tuple[Store, list[int]]:
    """Run twelve turns; return the store, and the number of messages in each call of the model."""
    store, given = Store(MemoryBackend()), []

    async def model(messages: Sequence[Message], **_: object) -> Reply:
        given.append(len(messages))
        scaled = None if usage is None else Usage(usage.input * len(messages), usage.output)
        return Reply(assistant(f"a{len(given)}"), scaled)

    pipeline = Pipeline(store, model, window=Window(tokens=120, least=1), counter=counter, **more)
    for number in range(12):
        await pipeline.execute("s", "user", f"q{number}")
    return store, given


async def test_each_turn_is_counted_once() -> None:
    counter = Counter()
    await asked(counter, None)
    assert len(counter.counted) == len(set(counter.counted)) > 20


@pytest.mark.parametrize(
    ("usage", "exact", "most"),
    [
        (None, False, 13),
        (Usage(20, 1), False, 7),  # twice the estimate: half of the messages
        (Usage(1_000, 1), False, 3),  # at most four times the estimate
        (Usage(20, 1), True, 13),  # an exact count is not corrected
    ],
)
async def test_estimates_are_corrected_by_the_usage(usage: Usage | None, exact: bool, most: int) -> None:
    _, given = await asked(Counter(exact=exact), usage)
    assert given[-1] == most


async def test_a_counter_receives_the_model() -> None:
    counter = Counter()
    await asked(counter, None, options={"model": "gpt-9"})
    assert counter.models == {"gpt-9"}


async def test_a_correction_is_that_of_its_session() -> None:
    store = Store(MemoryBackend())
    for session_id in ("a", "b"):
        for _ in range(6):
            await store.append(session_id, [user("q"), assistant("a")])

    async def model(messages: Sequence[Message], **_: object) -> Reply:
        return Reply(assistant(str(len(messages))), Usage(20 * len(messages), 1))

    pipeline = Pipeline(store, model, window=Window(tokens=120, least=1), counter=Counter())
    assert [(await pipeline.execute(name, "user", "?")).response.text for name in ("a", "a", "b")] == ["13", "7", "13"]


async def test_a_turn_of_another_session_may_have_the_same_id() -> None:
    store = Store(MemoryBackend())
    for number in range(8):
        await store.append("short", [user("q"), assistant("a")], turn_id=str(number))
        await store.append("long", [user("q" * 400), assistant("a" * 400)], turn_id=str(number))

    async def model(messages: Sequence[Message], **_: object) -> Message:
        return assistant(str(len(messages)))

    pipeline = Pipeline(store, model, window=Window(tokens=500, least=1))
    assert (await pipeline.execute("short", "user", "?")).response.text == "17"
    assert (await pipeline.execute("long", "user", "?")).response.text == "5"


def test_every_value_is_counted() -> None:
    odd = Message.from_dict({"role": "user", "content": "\ud800" * 40, "n": 2**70, "b": b"\xff", "x": float("nan")})
    assert estimate([odd]).tokens > estimate([user("?" * 40)]).tokens

"""`ScriptedModel` gives prepared answers; `docs/how-to/test-an-application.md` tests the fixtures."""

from __future__ import annotations

import pytest

from turnlog import Pipeline, Reply, Store, Usage, assistant
from turnlog.testing.scripted import ScriptedModel
from turnlog_memory import MemoryBackend


async def test_answers_of_each_kind() -> None:
    usage = Usage(3, 1)
    model = ScriptedModel(
        "text", assistant("message"), {"role": "assistant", "content": "dict"}, Reply(assistant("reply"), usage)
    )
    pipeline = Pipeline(Store(MemoryBackend()), model)
    results = [await pipeline.execute("s", "user", f"{n}") for n in range(4)]
    assert [result.response.text for result in results] == ["text", "message", "dict", "reply"]
    assert results[3].usage == usage
    assert [len(request) for request in model.requests] == [1, 3, 5, 7]


async def test_an_answer_is_streamed_word_by_word() -> None:
    pipeline = Pipeline(Store(MemoryBackend()), ScriptedModel("one two  three"))
    async with pipeline.stream("s", "user", "Hello") as stream:
        pieces = [piece async for piece in stream]
    assert pieces == ["one", " two", " ", " three"]


async def test_an_exception_is_raised_and_a_missing_answer_is_an_error() -> None:
    model = ScriptedModel(TimeoutError("down"))
    with pytest.raises(TimeoutError, match="down"):
        await model([])
    with pytest.raises(AssertionError, match="request 2 has no prepared answer: the model has 1"):
        await model([])

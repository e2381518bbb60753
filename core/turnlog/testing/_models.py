"""`ModelContract`: the tests of a model.  A pipeline relies on each sentence."""

from __future__ import annotations

import asyncio
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import cached_property
from typing import Any, ClassVar

import pytest

from ..pipeline import Model, Tool, ask
from ..pipeline.model import Checked, checked
from ..pipeline.tool_results import ToolResult, add_results, calls_of
from ..values.message import Message, user
from ..values.record import Record
from ._base import ContractBroken, Test

_SECONDS = 120  # a test that takes longer fails
_STEPS = 100  # iterations of the event loop


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"fine in {city}"


def _run(call: Callable[[], Awaitable[object]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(_SECONDS):
            await call()

    asyncio.run(main())


def _runs(test: Test) -> Test:
    """Return the test for pytest; a failure names the sentence of the contract."""

    @functools.wraps(test)
    def run(self: _Tests) -> None:
        try:
            if inspect.iscoroutinefunction(test):
                _run(lambda: test(self))
            else:
                test(self)
        except (KeyboardInterrupt, pytest.skip.Exception):
            raise
        except BaseException as error:  # failures of pytest are not `Exception`s
            raise ContractBroken(inspect.cleandoc(test.__doc__ or test.__name__), error) from error

    return run


class _Tests:
    """A class whose tests need no plugin of pytest."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, test in list(vars(cls).items()):
            if name.startswith("test_"):
                setattr(cls, name, _runs(test))


class ModelContract(_Tests, ABC):
    """Contract: a model.  A subclass implements `make`, and pytest runs the tests without a plugin.

    A model of a provider needs a server that answers, such as a recorded one.
    """

    messages: ClassVar[Sequence[Message]] = (user("Hello"),)
    """A request that the model answers with text."""

    options: ClassVar[Mapping[str, object]] = {}
    """Options of the model, such as a temperature."""

    tool_messages: ClassVar[Sequence[Message]] = ()
    """A request that the model answers with calls of the tool `weather`; empty: the model calls no tools."""

    @abstractmethod
    def make(self) -> Model:
        """Return a model."""

    def failing(self) -> Model | None:
        """Return a model whose provider fails; None: the model cannot fail."""
        return None

    def _model(self) -> Model:
        """Return a new model, which is kept until its event loops end: each end closes the model's connections."""
        self._made.append(model := self.make())
        return model

    @cached_property
    def _made(self) -> list[Model]:
        return []

    async def test_it_answers(self) -> None:
        """A model answers a list of messages with one message of the assistant, which can be stored."""
        _, reply = await _asked(self._model(), self.messages)
        assert reply.message.text, "it answers with text"
        assert Record.of((reply.message,), id="t", time=0.0).payload

    async def test_a_streamed_answer(self) -> None:
        """The pieces of a streamed answer are the text of its whole message."""
        pieces, reply = await _asked(self._model(), self.messages, streamed=True)
        assert pieces, "it yields text"
        assert "".join(pieces) == reply.message.text

    async def test_it_changes_no_message(self) -> None:
        """A model does not change the list of messages that it receives."""
        for call in _calls(self._model()):
            messages = list(self.messages)
            await _finish(call(messages, **self.options))
            assert messages == list(self.messages)

    async def test_it_takes_options(self) -> None:
        """A model takes its options by keyword."""
        for streamed in (False, True):
            _, reply = await _asked(self._model(), self.messages, streamed=streamed, **self.options)
            assert reply.message.text

    async def test_requests_at_once(self) -> None:
        """A model answers several requests at once."""
        model = self._model()
        answers = await asyncio.gather(*(_asked(model, self.messages, streamed=number % 2 == 1) for number in range(4)))
        assert all(reply.message.text for _, reply in answers)

    def test_another_event_loop(self) -> None:
        """A model works in several event loops, one after another."""
        model = self._model()
        for _ in range(2):
            _run(lambda: _asked(model, self.messages))

    async def test_a_cancelled_request(self) -> None:
        """A request can be cancelled; it leaves no task behind, and the model answers the next request."""
        model, before = self._model(), asyncio.all_tasks()
        for steps in range(3):
            task = asyncio.create_task(_asked(model, self.messages))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert task.done()
        await _check_tasks(before)
        _, reply = await _asked(model, self.messages)
        assert reply.message.text

    async def test_a_stream_that_is_left(self) -> None:
        """A stream can be closed after its first piece; it leaves no task behind."""
        model, before = self._model(), asyncio.all_tasks()
        async with aclosing(ask(model, self.messages, {}, streamed=True)) as pieces:
            assert await anext(pieces)
        await _check_tasks(before)
        _, reply = await _asked(model, self.messages)
        assert reply.message.text

    async def test_a_failure(self) -> None:
        """A model raises the error of its provider, whole and streamed, and does not answer in its place."""
        model = self.failing()
        if model is None:
            pytest.skip("the test class does not override `failing`")
        self._made.append(model)
        for streamed in (False, True):
            with pytest.raises(Exception):  # noqa: B017, PT011 - an error of any client
                await _asked(model, self.messages, streamed=streamed)

    async def test_tools(self) -> None:
        """With `tools`, a model calls them by their names, and answers their results."""
        if not self.tool_messages:
            pytest.skip("the test class has no `tool_messages`")
        tools = [Tool.of(weather)]
        for streamed in (False, True):
            _, reply = await _asked(self._model(), self.tool_messages, streamed=streamed, tools=tools)
            calls = calls_of(reply.message)
            assert {call.name for call in calls} == {"weather"}
            messages = [*self.tool_messages, reply.message]
            add_results(messages, [ToolResult(call, "fine", failed=False) for call in calls])
            _, reply = await _asked(self._model(), messages, streamed=streamed, tools=tools)
            assert reply.message.text


async def _asked(
    model: Model, messages: Sequence[Message], *, streamed: bool = False, **options: object
) -> tuple[list[str], Checked]:
    """Return the pieces of an answer, and the answer."""
    pieces: list[str] = []
    async with aclosing(ask(model, messages, options, streamed=streamed)) as answer:
        async for piece in answer:
            if isinstance(piece, str):
                pieces.append(piece)
            else:
                return pieces, checked(piece)
    pytest.fail("the answer has no end")


async def _check_tasks(before: set[asyncio.Task[Any]]) -> None:
    """Check that no tasks remain but those of before, once the event loop has closed asynchronous generators."""
    for _ in range(_STEPS):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before, "tasks go on"


def _calls(model: Model) -> list[Callable[..., Any]]:
    return [model, getattr(model, "stream", model)]


async def _finish(answer: Any) -> None:  # noqa: ANN401 - an awaitable, or an asynchronous iterator
    if inspect.isawaitable(answer):
        await answer
    else:
        async for _ in answer:
            pass

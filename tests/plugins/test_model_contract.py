"""The models of turnlog meet the contract of models, and each test of it can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from model_server import KEY, serving
from turnlog import Message, assistant, user
from turnlog.testing import ContractBroken, ModelContract
from turnlog.testing.scripted import ScriptedModel
from turnlog_anthropic import AnthropicModel
from turnlog_offline import offline
from turnlog_openai import OpenAIModel


class TestOffline(ModelContract):
    def make(self) -> Any:
        return offline


class TestScripted(ModelContract):
    def make(self) -> Any:
        return ScriptedModel(*["Hello, Alice!"] * 8)

    def failing(self) -> Any:
        return ScriptedModel(TimeoutError("down"), TimeoutError("down"))


class TestGenerator(ModelContract):
    def make(self) -> Any:
        async def model(messages: list[Message], **_: object) -> AsyncIterator[str]:
            yield "Hello, "
            await asyncio.sleep(0)
            yield messages[-1].text

        return model


class OfAProvider(ModelContract):
    tool_messages = (user("How is the weather?"),)

    @pytest.fixture(autouse=True)
    def _serve(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        with serving() as server:
            self.url = server.url
            yield


class TestOpenAI(OfAProvider):
    options: ClassVar[Mapping[str, object]] = {"temperature": 0.5}

    def make(self) -> Any:
        return OpenAIModel("m", base_url=f"{self.url}/v1", max_retries=0)

    def failing(self) -> Any:
        return OpenAIModel("m", base_url=f"{self.url}/none", max_retries=0)


class TestAnthropic(OfAProvider):
    options: ClassVar[Mapping[str, object]] = {"max_tokens": 100}

    def make(self) -> Any:
        return AnthropicModel("m", base_url=self.url, max_retries=0)

    def failing(self) -> Any:
        return AnthropicModel("m", base_url=f"{self.url}/none", max_retries=0)


# --------------------------------------------------------------------------------------------------------- naive models


async def answers_as_the_user(*_: Any, **__: Any) -> Message:
    return user("Hello")


async def streams_another_text(*_: Any, **__: Any) -> AsyncIterator[Any]:
    yield "Hello"
    yield assistant("Good bye")


async def adds_to_the_request(messages: list[Message], **_: Any) -> Message:
    messages.append(assistant("Hello"))
    return messages[-1]


async def takes_no_options(_: list[Message]) -> Message:
    return assistant("Hello")


class OneAtATime:
    """Refuses a request while another one runs."""

    busy = False

    async def __call__(self, *_: Any, **__: Any) -> Message:
        assert not self.busy
        self.busy = True
        await asyncio.sleep(0)
        self.busy = False
        return assistant("Hello")


class OneLoop:
    """Works in the event loop of its first request only."""

    loop: Any = None

    async def __call__(self, *_: Any, **__: Any) -> Message:
        self.loop = self.loop or asyncio.get_running_loop()
        assert self.loop is asyncio.get_running_loop()
        return assistant("Hello")


class LeavesTasks:
    """Asks in a task of its own, which nobody cancels."""

    tasks: Any = ()

    async def __call__(self, *_: Any, **__: Any) -> Message:
        self.tasks = [*self.tasks, asyncio.create_task(asyncio.Event().wait())]
        return assistant("Hello")


async def ignores_tools(*_: Any, **__: Any) -> Message:
    return assistant("Hello")


NAIVE = {
    "it_answers": answers_as_the_user,
    "a_streamed_answer": streams_another_text,
    "it_changes_no_message": adds_to_the_request,
    "it_takes_options": takes_no_options,
    "requests_at_once": OneAtATime(),
    "another_event_loop": OneLoop(),
    "a_cancelled_request": LeavesTasks(),
    "a_stream_that_is_left": LeavesTasks(),
    "a_failure": ignores_tools,
    "tools": ignores_tools,
}


@pytest.mark.parametrize("name", NAIVE)
def test_a_naive_model_fails(name: str) -> None:
    class Kit(ModelContract):
        options: ClassVar[Mapping[str, object]] = {"temperature": 1}
        tool_messages = (user("How is the weather?"),)

        def make(self) -> Any:
            return NAIVE[name]

        def failing(self) -> Any:
            return NAIVE[name]

    with pytest.raises(ContractBroken):
        getattr(Kit(), f"test_{name}")()


def test_every_test_has_a_naive_model() -> None:
    assert {f"test_{name}" for name in NAIVE} == {name for name in dir(ModelContract) if name.startswith("test_")}

"""The models of OpenAI and Anthropic, against a strict server on the loopback that implements their protocols."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import openai
import pytest

from model_server import KEY, OUTPUT_TOKENS, SIGNATURE, TOKENS, ModelServer, serving
from turnlog import (
    ConfigError,
    Message,
    Pipeline,
    PluginError,
    Reply,
    Store,
    Tool,
    Usage,
    assistant,
    open_store,
    user,
)
from turnlog.config import find_model
from turnlog_anthropic import AnthropicModel
from turnlog_memory import MemoryBackend
from turnlog_openai import OpenAIModel

AnyModel = OpenAIModel | AnthropicModel


class Provider(NamedTuple):
    """The differences between the two providers."""

    name: str
    model: type[OpenAIModel | AnthropicModel]
    path: str
    errors: Any

    @property
    def key(self) -> str:
        """The environment variable of the key."""
        return f"{self.name.upper()}_API_KEY"

    @property
    def base(self) -> str:
        """The environment variable of the base URL."""
        return f"{self.name.upper()}_BASE_URL"


OPENAI = Provider("openai", OpenAIModel, "/v1", openai)
ANTHROPIC = Provider("anthropic", AnthropicModel, "", anthropic)
CHAT = "import sys, turnlog_cli; sys.exit(turnlog_cli.main(['chat', *sys.argv[1:]]))"
CITIES = ("Oslo", "Rome")


@pytest.fixture(params=[OPENAI, ANTHROPIC], ids=lambda provider: provider.name)
def provider(request: pytest.FixtureRequest) -> Provider:
    """Return each of the two providers."""
    found: Provider = request.param
    return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """Run a server. The environment holds only its keys."""
    for name in os.environ:
        if name.upper().startswith(("OPENAI_", "ANTHROPIC_", "TURNLOG_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    for provider in (OPENAI, ANTHROPIC):
        monkeypatch.setenv(provider.key, KEY)
    with serving() as server:
        yield server


@pytest.fixture
def model(server: ModelServer, provider: Provider) -> AnyModel:
    """Return a model on the server, without retries."""
    return provider.model("m", base_url=server.url + provider.path, max_retries=0)


def whole(asked: AnyModel, messages: Sequence[Message], **options: object) -> Reply:
    """Return the whole answer."""
    return asyncio.run(asked(messages, **options))


def streamed(asked: AnyModel, messages: Sequence[Message], **options: object) -> tuple[list[str], Reply]:
    """Return the pieces of the answer, and the answer."""

    async def collect() -> list[str | Reply]:
        return [piece async for piece in asked.stream(messages, **options)]

    *pieces, reply = asyncio.run(collect())
    assert isinstance(reply, Reply)
    return [piece for piece in pieces if isinstance(piece, str)], reply


def weather(city: str) -> str:
    """Return the weather."""
    return f"fine in {city}"


def test_a_whole_answer_is_a_plain_message_with_usage(model: AnyModel, server: ModelServer, provider: Provider) -> None:
    reply = whole(model, [user("My name is Alice")])
    assert reply.message == {"role": "assistant", "content": "Hello, Alice!"}
    assert reply.usage == Usage(2 * TOKENS, OUTPUT_TOKENS)
    (request,) = server.requests
    assert request.body["model"] == "m"
    assert request.body["messages"] == [{"role": "user", "content": "My name is Alice"}]
    assert "stream" not in request.body


def test_a_streamed_answer_comes_in_pieces_and_is_the_same(model: AnyModel, server: ModelServer) -> None:
    pieces, reply = streamed(model, [user("My name is Alice")])
    assert pieces == ["Hell", "o, A", "lice", "!"]
    assert reply.message == {"role": "assistant", "content": "Hello, Alice!"}
    assert reply.usage == Usage(2 * TOKENS, OUTPUT_TOKENS)
    assert server.requests[0].body["stream"] is True


def test_calls_are_stored_as_the_provider_sent_them_whole_and_streamed(model: AnyModel, provider: Provider) -> None:
    tools = [Tool.of(weather)]
    messages = [user("How is the weather?")]
    _, reply = streamed(model, messages, tools=tools)
    assert reply.message == whole(model, messages, tools=tools).message
    if provider is OPENAI:
        assert reply.message == {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": f"call_{number}",
                    "type": "function",
                    "function": {"name": "weather", "arguments": json.dumps({"city": city})},
                }
                for number, city in enumerate(CITIES)
            ],
        }
    else:
        calls = [
            {
                "type": "tool_use",
                "id": f"call_{number}",
                "name": "weather",
                "input": {"city": city},
                "caller": {"type": "direct"},
            }
            for number, city in enumerate(CITIES)
        ]
        thinking = {"type": "thinking", "thinking": "I need a tool.", "signature": SIGNATURE}
        assert reply.message == {"role": "assistant", "content": [thinking, *calls]}


def test_a_tool_is_described_in_the_providers_form(model: AnyModel, server: ModelServer, provider: Provider) -> None:
    def bare() -> None: ...

    whole(model, [user("hi")], tools=[Tool.of(weather), Tool.of(bare)])
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    first, second = server.requests[0].body["tools"]
    described, undescribed = (first["function"], second["function"]) if provider is OPENAI else (first, second)
    given = described.pop("parameters" if provider is OPENAI else "input_schema")
    assert {name: given[name] for name in schema} == schema
    assert described == {"name": "weather", "description": "Return the weather."}
    assert "description" not in undescribed


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
def test_a_pipeline_runs_tools_and_adds_up_the_usage(model: AnyModel, server: ModelServer, *, streams: bool) -> None:
    async def main() -> None:
        async with Store(MemoryBackend()) as store:
            pipeline = Pipeline(store, model, tools=[weather], system="Be brief.")
            question = ("s", "user", "How is the weather?")
            if streams:
                async with pipeline.stream(*question) as reply:
                    text = "".join([piece async for piece in reply])
                result = reply.result
                assert text == "It is fine in Oslo and fine in Rome."
            else:
                result = await pipeline.execute(*question)
            assert result.response == assistant("It is fine in Oslo and fine in Rome.")
            # each prompt holds the tools, the system prompt and the question; later ones also the calls and results
            inputs = [sum(_counts(request.body)) for request in server.requests]
            assert result.usage == Usage(TOKENS * sum(inputs), 2 * OUTPUT_TOKENS, TOKENS * inputs[0])
            # the next turn sends the stored calls and results, over a new or an open connection
            again = await pipeline.execute("s", "user", "My name is Alice")
            assert again.response.text == "Hello, Alice!"
            assert [message.role for message in (await store.load("s"))[-2:]] == ["user", "assistant"]

    asyncio.run(main())
    assert len(server.requests) == 3


def _counts(body: dict[str, Any]) -> list[int]:
    """Return the number of parts of the tools, the system prompt and each message in a prompt."""
    blocks = [message["content"] for message in body["messages"] if "max_tokens" in body]
    if not blocks:
        return [1, len(body["messages"])]
    return [1, len(body["system"]), *(len(content) if isinstance(content, list) else 1 for content in blocks)]


def test_the_first_message_is_remembered_in_the_second_and_its_prompt_is_cached(
    model: AnyModel, server: ModelServer, tmp_path: Path
) -> None:
    async def main() -> None:
        async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
            pipeline = Pipeline(store, model)
            first = await pipeline.execute("s", "user", "My name is Alice")
            assert first.response.text == "Hello, Alice!"
            assert first.usage == Usage(2 * TOKENS, OUTPUT_TOKENS)
            second = await pipeline.execute("s", "user", "What is my name?")
            assert second.response.text == "Your name is Alice."
            assert second.usage == Usage(4 * TOKENS, OUTPUT_TOKENS, cached=2 * TOKENS)

    asyncio.run(main())


def test_options_go_into_the_request_and_none_leaves_one_out(model: AnyModel, server: ModelServer) -> None:
    whole(model, [user("hi")], metadata={"team": "a"}, model="another")
    streamed(model, [user("hi")], metadata=None)
    first, second = (request.body for request in server.requests)
    assert (first["metadata"], first["model"]) == ({"team": "a"}, "another")
    assert "metadata" not in second


def test_a_broken_off_stream_is_an_error_and_what_was_said_is_kept(
    model: AnyModel, server: ModelServer, provider: Provider
) -> None:
    async def main(how: Any) -> None:
        server.cut, server.how = 5, how
        async with Store(MemoryBackend()) as store:
            pipeline = Pipeline(store, model)
            said = []
            with pytest.raises(Exception) as caught:  # noqa: PT011 - an error of the client, or of its HTTP library
                async with pipeline.stream("s", "user", "My name is Alice") as reply:
                    async for piece in reply:
                        said.append(piece)  # noqa: PERF401 - the pieces before the error are kept
            assert isinstance(caught.value, provider.errors.APIError) or "httpx" in type(caught.value).__module__
            assert "".join(said).startswith("Hello, A")
            assert KEY not in "".join(traceback.format_exception(caught.value))
            assert [message.text for message in await store.load("s")] == ["My name is Alice", "".join(said)]

    for how in ("response", "connection", "error"):
        asyncio.run(main(how))


def test_a_stream_that_is_left_closes_its_connection(model: AnyModel, server: ModelServer) -> None:
    async def main() -> None:
        stream = model.stream([user("My name is Alice")])
        assert await anext(stream) == "Hell"
        await stream.aclose()
        assert (await model([user("hi")])).message == {"role": "assistant", "content": "Hello!"}

    asyncio.run(main())


def test_an_error_of_the_server_is_the_clients_and_one_that_passes_is_sent_again(
    model: AnyModel, server: ModelServer, provider: Provider
) -> None:
    server.failures = [500]
    with pytest.raises(provider.errors.InternalServerError):
        whole(model, [user("hi")])
    with pytest.raises(provider.errors.BadRequestError, match="permitted"):
        whole(model, [user("hi", mood="good")])
    patient = provider.model(base_url=server.url + provider.path, max_retries=2)
    server.failures = [429, 503]
    assert whole(patient, [user("hi")]).message == {"role": "assistant", "content": "Hello!"}


def test_a_result_without_its_call_is_refused_by_the_server(
    model: AnyModel, server: ModelServer, provider: Provider
) -> None:
    chat = Message.from_dict({"role": "tool", "tool_call_id": "x", "content": "fine"})
    blocks = user([{"type": "tool_result", "tool_use_id": "x", "content": "fine"}])
    with pytest.raises(provider.errors.BadRequestError):
        whole(model, [user("hi"), assistant("hello"), chat if provider is OPENAI else blocks])


# ------------------------------------------------------------------------------------------------ the key, and settings


@pytest.mark.parametrize("key", ["", f"{KEY}\n", f"{KEY} x", f"{KEY}é"])
def test_a_missing_or_damaged_key_is_named_by_its_variable_and_not_shown(
    key: str, server: ModelServer, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(provider.key, key)
    with pytest.raises(ConfigError, match=provider.key) as caught:
        provider.model()
    assert KEY not in str(caught.value)


def test_the_key_is_in_the_environment_and_nowhere_else(
    model: AnyModel, server: ModelServer, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("key" in name or "token" in name for name in inspect.signature(provider.model).parameters)
    assert KEY not in f"{model!r} {vars(model)!r}"
    whole(model, [user("hi")])
    assert KEY not in repr(vars(model))
    assert [name for name, value in server.requests[0].headers.items() if KEY in value] in (
        ["authorization"],
        ["x-api-key"],
    )
    monkeypatch.setenv(provider.key, KEY[::-1])
    with pytest.raises(provider.errors.AuthenticationError) as caught:
        whole(provider.model(base_url=server.url + provider.path), [user("hi")])
    assert KEY[::-1] not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(provider.errors.APIConnectionError) as unreachable:
        whole(provider.model(base_url="http://127.0.0.1:1", max_retries=0), [user("hi")])
    assert KEY[::-1] not in "".join(traceback.format_exception(unreachable.value))


def test_a_bearer_token_of_anthropic_is_a_key(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "t")
    with pytest.raises(anthropic.AuthenticationError):
        whole(AnthropicModel(base_url=server.url, max_retries=0), [user("hi")])
    assert server.requests[0].headers["authorization"] == "Bearer t"


def test_variables_give_the_base_url_and_the_models_name(
    server: ModelServer, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(provider.base, server.url + provider.path)
    default = provider.model().model
    assert default
    name = f"TURNLOG_{provider.name.upper()}_MODEL"
    monkeypatch.setenv(name, "from-the-environment")
    whole(provider.model(), [user("hi")])
    assert server.requests[0].body["model"] == "from-the-environment"
    assert provider.model("given").model == "given"
    assert repr(provider.model()) == f"{provider.model.__name__}('from-the-environment')"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the variable causes no warning about a misspelt setting of the store
        open_store("memory://")


def test_it_is_found_by_its_name(provider: Provider) -> None:
    assert find_model(provider.name) is provider.model


def test_one_model_serves_one_loop_after_another_and_can_be_closed(model: AnyModel, server: ModelServer) -> None:
    async def main() -> None:
        for _ in range(2):
            await model([user("hi")])
            await model.close()

    for _ in range(2):
        asyncio.run(main())
    assert len(server.requests) == 4


@pytest.mark.parametrize("keyed", [True, False])
def test_the_command_line_chats_with_it(
    keyed: bool, server: ModelServer, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(provider.base, server.url + provider.path)
    monkeypatch.setenv(provider.key, KEY if keyed else "")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHAT, "--session=s", f"--model={provider.name}"],
        input="My name is Alice\nWhat is my name?\n",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if keyed:
        assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, Alice!\nYour name is Alice.\n", "")
        assert all(request.body["stream"] for request in server.requests)
    else:
        assert done.returncode == 2
        assert provider.key in done.stderr
        assert "without options" not in done.stderr


def test_a_client_that_is_missing_is_named_by_its_extra(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == f"turnlog_{provider.name}":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, provider.name, None)
    with pytest.raises(PluginError, match=rf"pip install 'turnlog\[{provider.name}\]'"):
        find_model(provider.name)


def test_a_model_is_looked_up_without_the_long_import_of_its_client() -> None:
    code = (
        "import sys; from turnlog.config import find_model; [find_model(name) for name in sys.argv[1:]]; "
        "sys.exit(str([name for name in sys.argv[1:] if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "anthropic", "openai"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == "[]\n"


# -------------------------------------------------------------------------------------------------------- OpenAI's own


def test_usage_of_a_stream_can_be_turned_off_for_servers_that_do_not_know_it(server: ModelServer) -> None:
    model = OpenAIModel(base_url=f"{server.url}/v1")
    pieces, reply = streamed(model, [user("hi")], stream_options=None)
    assert (pieces, reply.usage) == (["Hell", "o!"], None)
    assert "stream_options" not in server.requests[0].body


def test_deltas_are_put_together_though_a_server_repeats_names_and_adds_entries() -> None:
    from turnlog_openai._deltas import add_delta, finished

    message: dict[str, Any] = {}
    for delta in (
        {"role": "assistant", "content": None, "reasoning_content": "I "},
        {"role": "assistant", "reasoning_content": "think", "tool_calls": []},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "}"}}]},
        {"tool_calls": [{"index": 1, "id": "", "function": {"name": None, "arguments": "[]"}}]},
    ):
        add_delta(message, delta)
    assert finished(message) == {
        "role": "assistant",
        "reasoning_content": "I think",
        "tool_calls": [
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "[]"}},
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ],
    }


# ----------------------------------------------------------------------------------------------------- Anthropic's own


def test_system_messages_become_the_parameter_system(server: ModelServer) -> None:
    block = {"type": "text", "text": "Earlier: nothing.", "cache_control": {"type": "ephemeral"}}
    messages = [Message.from_dict({"role": "system", "content": "Be brief."}), user("hi")]
    messages.insert(1, Message.from_dict({"role": "developer", "content": [block]}))
    whole(AnthropicModel(base_url=server.url), messages, system="Be kind.")
    body = server.requests[0].body
    texts = [{"type": "text", "text": text} for text in ("Be kind.", "Be brief.")]
    assert body["system"] == [*texts, block]
    assert body["messages"] == [{"role": "user", "content": "hi"}]


def test_messages_of_one_role_in_a_row_and_empty_answers_are_taken(server: ModelServer) -> None:
    model = AnthropicModel(base_url=server.url)
    messages = [user("My name is Alice"), assistant([]), user("hi"), user("What is my name?")]
    assert whole(model, messages).message == {"role": "assistant", "content": "Your name is Alice."}
    assert len(server.requests[0].body["messages"]) == 3


def test_the_prompt_is_cached_unless_it_is_turned_off(server: ModelServer) -> None:
    model = AnthropicModel(base_url=server.url)
    whole(model, [user("hi")])
    assert server.requests[0].body["cache_control"] == {"type": "ephemeral"}
    assert server.requests[0].body["max_tokens"] == 16_384
    usage = whole(model, [user("ho")], cache_control=None, max_tokens=100).usage
    assert usage == Usage(2 * TOKENS, OUTPUT_TOKENS)
    assert "cache_control" not in server.requests[1].body
    assert server.requests[1].body["max_tokens"] == 100


def test_an_answer_of_several_blocks_stays_blocks_and_is_taken_again(server: ModelServer) -> None:
    model = AnthropicModel(base_url=server.url)
    thinking: dict[str, Any] = {"type": "thinking", "thinking": "I need a tool.", "signature": SIGNATURE}
    blocks = assistant([thinking, {"type": "text", "text": "Hello!"}])
    pieces, reply = streamed(model, [user("Think")])
    assert pieces == ["Hell", "o!"]
    assert reply.message == blocks.to_dict() == whole(model, [user("Think")]).message
    assert whole(model, [user("Think"), blocks, user("hi")]).message == {"role": "assistant", "content": "Hello!"}

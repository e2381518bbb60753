"""Tools: signatures define their schemas, and each finished round is stored before the next one starts."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import pytest

from turnlog import InvalidInput, Message, ModelError, Pipeline, Store, Tool, assistant, user
from turnlog.pipeline import Reply, Usage, Window
from turnlog.rules import outline_of
from turnlog_memory import MemoryBackend


@pytest.fixture
def store() -> Store:
    return Store(MemoryBackend())


def track(order: int, carrier: Annotated[str, msgspec.Meta(description="Who carries it")] = "any") -> dict[str, Any]:
    """Track an order."""
    return {"order": order, "carrier": carrier}


async def weather(city: str) -> str:
    """Tell the weather."""
    return f"Sunny in {city}"


def called(*calls: tuple[str, object]) -> Message:
    """Return an answer that calls tools, in Chat Completions form."""
    return assistant(
        None,
        tool_calls=[
            {"id": f"c{place}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for place, (name, arguments) in enumerate(calls)
        ],
    )


class Scripted:
    """A model that returns or raises prepared answers in order, and records its input."""

    def __init__(self, *answers: Message | Exception) -> None:
        self.answers = [*answers]
        self.given: list[list[Message]] = []
        self.options: dict[str, Any] = {}

    async def __call__(self, messages: list[Message], **options: Any) -> Message:
        self.given.append(messages)
        self.options = options
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_schema_comes_from_the_signature() -> None:
    made = Tool.of(track)
    assert (made.name, made.description) == ("track", "Track an order.")
    assert made.schema == {
        "type": "object",
        "properties": {
            "order": {"type": "integer"},
            "carrier": {"type": "string", "description": "Who carries it", "default": "any"},
        },
        "required": ["order"],
        "additionalProperties": False,
    }


def unschematic(lock: threading.Event) -> None: ...


def undefined(order: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda *rest: rest, "a function with a name that the model can call, not a lambda: define it with def"),
        (print, "takes 'args'"),
        (3, "a function with a name that the model can call, not 3"),
        (unschematic, "tool 'unschematic' has no JSON Schema: "),
        (undefined, "tool 'undefined' has no JSON Schema: name 'Missing' is not defined"),
    ],
)
def test_what_is_no_tool_is_refused(store: Store, function: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Pipeline(store, Scripted(), tools=[function])


async def test_a_plain_tool_may_return_an_awaitable(store: Store) -> None:
    def look(city: str) -> Any:
        return weather(city)

    model = Scripted(called(("look", {"city": "Oslo"})), assistant("ok"))
    await Pipeline(store, model, tools=[look]).execute("s", "user", "?")
    assert model.given[1][-1].text == "Sunny in Oslo"


def test_two_tools_of_one_name_are_refused(store: Store) -> None:
    with pytest.raises(InvalidInput, match="two tools are named 'track'"):
        Pipeline(store, Scripted(), tools=[track, Tool.of(track)])


async def test_a_loop_stores_each_round_before_the_next(store: Store) -> None:
    stored = []

    class Watching(Scripted):
        async def __call__(self, messages: list[Message], **options: Any) -> Message:
            if self.given:
                (turn,) = (await store.session("s")).turns
                stored.append((len(turn.messages), turn.open))
            return await super().__call__(messages, **options)

    model = Watching(
        called(("track", {"order": 7}), ("weather", {"city": "Rome"})),
        called(("track", {"order": 8})),
        assistant("Done."),
    )
    result = await Pipeline(store, model, tools=[track, weather]).execute("s", "user", "Where is it?")
    assert [tool.name for tool in model.options["tools"]] == ["track", "weather"]
    assert stored == [(4, True), (6, True)]
    assert result.response.text == "Done."
    (turn,) = (await store.session("s")).turns
    assert not turn.open
    assert [message.text for message in turn.messages] == [
        "Where is it?",
        "",
        '{"order":7,"carrier":"any"}',
        "Sunny in Rome",
        "",
        '{"order":8,"carrier":"any"}',
        "Done.",
    ]
    assert [len(messages) for messages in model.given] == [1, 4, 6]


async def test_calls_of_one_round_run_at_once_and_sync_tools_in_threads(store: Store) -> None:
    barrier = threading.Barrier(2, timeout=10)

    def meet() -> str:
        barrier.wait()
        return threading.current_thread().name

    model = Scripted(called(("meet", {}), ("meet", {})), assistant("Done."))
    await Pipeline(store, model, tools=[meet]).execute("s", "user", "?")
    names = [message.text for message in model.given[1][-2:]]
    assert threading.main_thread().name not in names
    assert not any("Error" in name for name in names)  # both tools have reached the barrier


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("track", {"order": "seven"}), "ValidationError: Expected `int`, got `str`"),
        (("track", {"order": 7, "colour": 1}), "ValidationError: Object contains unknown field `colour`"),
        (("fly", {}), "There is no tool 'fly'. Use one of: track, broken."),
        (("broken", {}), "RuntimeError: out of order"),
    ],
)
async def test_errors_are_given_to_the_model(store: Store, call: tuple[str, object], told: str) -> None:
    def broken() -> str:
        raise RuntimeError("out of order")

    model = Scripted(called(call), assistant("Sorry."))
    await Pipeline(store, model, tools=[track, broken]).execute("s", "user", "?")
    assert model.given[1][-1].text.startswith(told)


ANSWERS: dict[str, tuple[Message, Callable[[Message], object]]] = {
    "Anthropic": (
        assistant([{"type": "tool_use", "id": "c", "name": "weather", "input": {"city": "Rome"}}]),
        lambda message: message.content,
    ),
    "Bedrock": (
        assistant([{"toolUse": {"toolUseId": "c", "name": "weather", "input": {"city": "Rome"}}}]),
        lambda message: message.content,
    ),
    "Gemini": (
        Message.from_dict(
            {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Rome"}}}]}
        ),
        lambda message: message.get("parts"),
    ),
    "Responses": (
        Message.from_dict(
            {"type": "function_call", "call_id": "c", "name": "weather", "arguments": '{"city": "Rome"}'}
        ),
        lambda message: message.get("output"),
    ),
    "LangChain": (
        Message.from_dict(
            {"type": "ai", "content": "", "tool_calls": [{"id": "c", "name": "weather", "args": {"city": "Rome"}}]}
        ),
        lambda message: message.content,
    ),
    "pydantic-ai": (
        Message.from_dict(
            {
                "kind": "response",
                "parts": [
                    {"part_kind": "tool-call", "tool_name": "weather", "tool_call_id": "c", "args": {"city": "Rome"}}
                ],
            }
        ),
        lambda message: message.get("parts"),
    ),
}


@pytest.mark.parametrize("dialect", ANSWERS)
async def test_calls_are_answered_in_their_dialect(store: Store, dialect: str) -> None:
    answer, held = ANSWERS[dialect]
    model = Scripted(answer, assistant("Done."))
    await Pipeline(store, model, tools=[weather]).execute("s", "user", "?")
    result = model.given[1][-1]
    (call,) = outline_of(answer).calls
    assert outline_of(result).results == (call.id,)
    assert "Sunny in Rome" in json.dumps(held(result))
    assert "rror" not in json.dumps(result.to_dict())


async def test_rounds_have_a_bound_and_go_on_under_the_turn_id(store: Store) -> None:
    model = Scripted(*[called(("weather", {"city": "Rome"}))] * 3, assistant("Done."))
    pipeline = Pipeline(store, model, tools=[weather], max_rounds=2)
    with pytest.raises(ModelError, match=r"after 2 rounds of calls.*under turn 't'"):
        await pipeline.execute("s", "user", "?", turn_id="t")
    (turn,) = (await store.session("s")).turns
    assert turn.open
    assert len(turn.messages) == 5
    await Pipeline(store, model, tools=[weather], max_rounds=3).execute("s", "user", "?", turn_id="t")
    (turn,) = (await store.session("s")).turns
    assert not turn.open
    assert turn.messages[-1].text == "Done."


async def test_finished_rounds_are_not_run_again(store: Store) -> None:
    runs = []

    async def count(number: int) -> str:
        runs.append(number)
        return str(number)

    model = Scripted(
        called(("count", {"number": 1})), RuntimeError("gone"), called(("count", {"number": 2})), assistant("Done.")
    )
    pipeline = Pipeline(store, model, tools=[count])
    with pytest.raises(RuntimeError):
        await pipeline.execute("s", "user", "?", turn_id="t")
    result = await pipeline.execute("s", "user", "?", turn_id="t")
    assert (runs, result.response.text) == ([1, 2], "Done.")
    assert [len(messages) for messages in model.given] == [1, 3, 3, 5]


async def test_a_call_that_is_cancelled_leaves_no_call_without_a_result(store: Store) -> None:
    begun = asyncio.Event()

    async def slow() -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    pipeline = Pipeline(store, Scripted(called(("slow", {}))), tools=[slow])

    async def take() -> None:
        async with pipeline.stream("s", "user", "?") as reply:
            async for _ in reply:
                pass

    task = asyncio.create_task(take())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.load("s") == [user("?")]


async def test_what_was_said_before_the_calls_of_a_finished_round_is_not_stored_again(store: Store) -> None:
    async def model(messages: Sequence[Message], **_: object) -> AsyncIterator[str | Message]:
        if messages[-1].role == "tool":
            yield "It "
            raise RuntimeError("no more")
        yield "Let me see."
        yield Message.from_dict({**called(("weather", {"city": "Rome"})).to_dict(), "content": "Let me see."})

    async with Pipeline(store, model, tools=[weather]).stream("s", "user", "?") as reply:
        with pytest.raises(RuntimeError):
            [piece async for piece in reply]
    assert [message.text for message in await store.load("s")] == ["?", "Let me see.", "Sunny in Rome", "It "]


async def test_old_results_are_left_out_in_steps_and_stay_stored(store: Store) -> None:
    given: list[list[Message]] = []
    long = "x" * 200

    async def model(messages: Sequence[Message], **_: object) -> Message:
        given.append([*messages])
        return assistant("Done.") if messages[-1].role == "tool" else called(("fetch", {}))

    def fetch() -> str:
        return long

    pipeline = Pipeline(store, model, tools=[fetch], window=Window(turns=40, tool_results=4))
    for _ in range(20):
        await pipeline.execute("s", "user", "?")
    whole = []
    for messages in given[::2]:
        results = [message.text for message in messages if message.role == "tool"]
        whole.append(sum(text == long for text in results))
        assert results == sorted(results, key=len)
        assert all(text == long or "stored in turn" in text for text in results)
    moves = sum(later <= earlier for earlier, later in pairwise(whole))
    assert whole[:5] == [0, 1, 2, 3, 4]
    assert all(4 <= count <= 8 for count in whole[4:])
    assert moves <= 4
    assert [message.text for message in await store.load("s")].count(long) == 20


async def test_a_tool_that_raises_what_asyncio_cannot_pass_on_ends(store: Store) -> None:
    def first() -> str:
        return next(iter(()))

    async def waits_for_another() -> str:
        other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        other.cancel()
        await other
        return "unreachable"

    model = Scripted(called(("first", {}), ("waits_for_another", {})), assistant("Sorry."))
    await asyncio.wait_for(Pipeline(store, model, tools=[first, waits_for_another]).execute("s", "user", "?"), 10)
    assert [message.text for message in model.given[1][-2:]] == [
        "RuntimeError: the function raised StopIteration()",
        "CancelledError: the tool was cancelled",
    ]


async def test_a_tool_that_exits_the_process_fails(store: Store) -> None:
    """`argparse` exits for wrong arguments."""

    def leaves() -> str:
        sys.exit(3)

    model = Scripted(called(("leaves", {})), assistant("Sorry."))
    await Pipeline(store, model, tools=[leaves]).execute("s", "user", "?")
    assert model.given[1][-1].text == "RuntimeError: the function raised SystemExit(3)"


@pytest.mark.parametrize(("told", "stored"), [("a\ud800b", "a\ufffdb"), ("\ud83d\ude00", "\U0001f600")])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_result_may_hold_lone_surrogates(store: Store, told: str, stored: str, fails: bool) -> None:
    def reads() -> str:
        if fails:
            raise ValueError(told)
        return told

    model = Scripted(called(("reads", {})), assistant("Done."))
    await Pipeline(store, model, tools=[reads]).execute("s", "user", "?")
    assert model.given[1][-1].text == ("ValueError: " if fails else "") + stored


async def test_an_argument_may_have_a_type_of_the_tools_name(store: Store) -> None:
    class order(msgspec.Struct):  # noqa: N801 - the name of the tool
        number: int

    def ask(what: order) -> int:
        return what.number

    ask.__name__ = "order"
    ask.__annotations__ = {"what": order}
    tool = Tool.of(ask)
    assert tool.schema["properties"] == {"what": {"$ref": "#/$defs/order"}}
    assert await tool.run({"what": {"number": 7}}) == "7"


@pytest.mark.parametrize("function", [int, json])
def test_what_tells_no_arguments_is_refused(store: Store, function: Any) -> None:
    with pytest.raises(InvalidInput, match="has no readable signature"):
        Pipeline(store, Scripted(), tools=[function])


PROVIDERS_OWN: dict[str, dict[str, Any]] = {
    "Vercel AI": {
        "role": "assistant",
        "content": [
            {"type": "tool-call", "toolCallId": "c", "toolName": "web", "input": {}, "providerExecuted": True},
            {"type": "tool-result", "toolCallId": "c", "toolName": "web", "output": {"type": "text", "value": "x"}},
            {"type": "text", "text": "Done."},
        ],
    },
    "Vercel UI": {
        "role": "assistant",
        "parts": [
            {"type": "tool-web", "toolCallId": "c", "state": "output-available", "input": {}, "output": "x"},
            {"type": "text", "text": "Done."},
        ],
    },
}


@pytest.mark.parametrize("dialect", PROVIDERS_OWN)
@pytest.mark.parametrize("tools", [[], [weather]])
async def test_a_call_that_the_provider_has_answered_is_not_run(store: Store, dialect: str, tools: list[Any]) -> None:
    answer = Message.from_dict(PROVIDERS_OWN[dialect])
    result = await Pipeline(store, Scripted(answer), tools=tools).execute("s", "user", "?")
    assert result.response == answer
    assert (await store.load("s"))[1:] == [answer]


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"city": "Rome"}, {"state": "output-available", "output": "Sunny in Rome"}),
        (
            {"town": "Rome"},
            {"state": "output-error", "errorText": "ValidationError: Object contains unknown field `town`"},
        ),
    ],
)
async def test_a_call_whose_part_holds_the_result(store: Store, arguments: object, result: dict[str, Any]) -> None:
    """The Vercel AI UI has no separate message for a result."""
    part = {"type": "tool-weather", "toolCallId": "c", "state": "input-available", "input": arguments}
    answer = Message.from_dict({"role": "assistant", "parts": [part, {"type": "text", "text": "I look."}]})
    model = Scripted(answer, assistant("Done."))
    await Pipeline(store, model, tools=[weather]).execute("s", "user", "?")
    [answered] = model.given[1][1:]
    assert answered.to_dict()["parts"] == [{**part, **result}, {"type": "text", "text": "I look."}]


@pytest.mark.parametrize("nested", [False, True])
async def test_a_call_that_is_written_in_two_dialects_is_one_call(store: Store, nested: bool) -> None:
    """LangChain keeps Anthropic's blocks in addition to its own calls."""
    content = [{"type": "tool_use", "id": "c", "name": "weather", "input": {"city": "Rome"}}]
    data = {"content": content, "tool_calls": [{"id": "c", "name": "weather", "args": {"city": "Rome"}}]}
    answer = Message.from_dict({"type": "ai", "data": data} if nested else {"type": "ai", **data})
    model = Scripted(answer, assistant("Done."), assistant("Yes."))
    pipeline = Pipeline(store, model, tools=[weather])
    await pipeline.execute("s", "user", "?")
    assert [*map(outline_of, model.given[1])][-1].results == ("c",)
    await pipeline.execute("s", "user", "Sure?")
    assert model.given[2][:-1] == (await store.load("s"))[:4]


async def test_a_question_that_was_kept_is_no_round_of_calls(store: Store) -> None:
    model = Scripted(RuntimeError("no"), called(("weather", {"city": "Rome"})), assistant("Done."))
    pipeline = Pipeline(store, model, tools=[weather], max_rounds=1, on_error="keep")
    with pytest.raises(RuntimeError):
        await pipeline.execute("s", "user", "?", turn_id="t")
    assert (await pipeline.execute("s", "user", "?", turn_id="t")).response.text == "Done."


@pytest.mark.parametrize(
    "result",
    [
        {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": "x" * 200}},
        {"type": "shell_call_output", "output": [{"stdout": "x" * 200, "stderr": "", "outcome": {"type": "timeout"}}]},
    ],
)
async def test_an_old_result_that_cannot_be_a_text_is_sent(store: Store, result: dict[str, Any]) -> None:
    call = {"type": str(result["type"]).removesuffix("_output"), "call_id": "c", "action": {}}
    for number in range(6):
        await store.append("s", [user(f"q{number}"), call, {**result, "call_id": "c"}, assistant("!")])
    window = Window(turns=10, tool_results=1)
    given = (await Pipeline(store, Scripted(assistant("!")), window=window).execute("s", "user", "?")).messages
    assert [message.to_dict() for message in given if message.get("output")] == [{**result, "call_id": "c"}] * 6


async def test_a_turn_with_finished_rounds_gets_no_second_question(store: Store) -> None:
    """With `on_error="keep"`, the question is stored with the first round."""
    model = Scripted(called(("weather", {"city": "Rome"})), RuntimeError("gone"))
    with pytest.raises(RuntimeError):
        await Pipeline(store, model, tools=[weather], on_error="keep").execute("s", "user", "?")
    (turn,) = (await store.session("s")).turns
    assert turn.open
    assert [message.text for message in turn.messages] == ["?", "", "Sunny in Rome"]


async def test_the_usage_is_that_of_all_requests_of_a_turn(store: Store) -> None:
    answers = iter(
        [Reply(called(("weather", {"city": "Rome"})), Usage(10, 2, 1)), Reply(assistant("Done."), Usage(20, 3, 10))]
    )

    async def model(messages: list[Message], **options: object) -> Reply:
        return next(answers)

    result = await Pipeline(store, model, tools=[weather]).execute("s", "user", "?")
    assert result.usage == Usage(input=30, output=5, cached=11)

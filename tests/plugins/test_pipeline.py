"""The pipeline: it remembers, sends the model a window of the history, and stores a turn whole or not at all."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from turnlog import (
    Conflict,
    IdReused,
    InvalidInput,
    Layer,
    Message,
    ModelError,
    Pipeline,
    Serialize,
    Session,
    SessionNotFound,
    Store,
    TooLarge,
    Window,
    assistant,
    system,
    user,
)
from turnlog_memory import MemoryBackend
from turnlog_offline import offline
from turnlog_sql.sqlite import SQLiteBackend


def on_sqlite(folder: Path) -> Store:
    """Return a store over a file in this folder."""
    return Store(SQLiteBackend(f"sqlite:///{folder / 'x.db'}", synchronous="NORMAL"))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return a store that is not open yet."""
    return Store(MemoryBackend()) if request.param == "memory" else on_sqlite(tmp_path)


class Recorder:
    """A model that gives one answer and records its messages."""

    def __init__(self, answer: object = None) -> None:
        self.answer = assistant("ok") if answer is None else answer
        self.given: list[list[str]] = []
        self.options: dict[str, object] = {}

    async def __call__(self, messages: Sequence[Message], **options: object) -> Any:
        """Record the messages and answer."""
        self.given.append([f"{message.role}:{message.text}" for message in messages])
        self.options = options
        return self.answer


async def filled(store: Store, turns: int) -> Store:
    """Store `turns` turns of two messages in the session `s`."""
    for place in range(turns):
        await store.append("s", [user(f"q{place}"), assistant(f"a{place}")])
    return store


async def test_the_second_message_remembers_the_first(store: Store) -> None:
    """The model receives the history of this session in this namespace only."""
    async with store:
        pipeline = Pipeline(store, offline)
        await pipeline.execute("s", "user", "My name is Alice")
        assert "Alice" in (await pipeline.execute("s", "user", "What is my name?")).response.text
        assert "Alice" not in (await pipeline.execute("other", "user", "What is my name?")).response.text
        elsewhere = Pipeline(store.within("other"), offline)
        assert "Alice" not in (await elsewhere.execute("s", "user", "What is my name?")).response.text


ASK = """
import asyncio, sys
from turnlog import Pipeline, open_store
from turnlog_offline import offline

async def main():
    async with open_store(sys.argv[1]) as store:
        print((await Pipeline(store, offline).execute("s", "user", sys.argv[2])).response.text)

asyncio.run(main())
"""


async def test_it_remembers_in_another_store_over_the_file_and_in_another_process(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as store:
        await Pipeline(store, offline).execute("s", "user", "My name is Alice")
    async with on_sqlite(tmp_path) as store:
        result = await Pipeline(store, offline).execute("s", "user", "What is my name?")
        assert result.response.text == "Your name is Alice."
    command = [sys.executable, "-c", ASK, f"sqlite:///{tmp_path / 'x.db'}", "Who am I?"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "Your name is Alice.\n"


async def test_a_turn_holds_the_message_and_the_answer(store: Store) -> None:
    async with store:
        result = await Pipeline(store, Recorder(assistant("a"))).execute("s", "user", [{"type": "text", "text": "q"}])
        (turn,) = (await store.session("s")).turns
        assert turn.messages == (user([{"type": "text", "text": "q"}]), assistant("a"))
        assert (result.response, result.receipt.number) == (assistant("a"), 0)
        assert result.receipt.version == (await store.info("s")).version


class Counting(Layer):
    """Counts the reads, the records that they return, and the commits."""

    reads = records = commits = 0

    async def read(self, *arguments: Any, **options: Any) -> Session:
        """Read and count."""
        session = await super().read(*arguments, **options)
        self.reads += 1
        self.records += len(session.records)
        return session

    async def commit(self, *arguments: Any) -> Any:
        """Commit and count."""
        self.commits += 1
        return await super().commit(*arguments)


@pytest.mark.parametrize("turns", [15, 150])
async def test_only_the_records_of_the_window_are_loaded(turns: int, store: Store) -> None:
    """An execution reads the records of the window once and commits once, for any length of the history.

    Without a prompt, the first execution also reads the opening of the session, which may be a stored prompt.
    """
    counting = Counting(store.backend)
    async with Store(counting) as counted:
        await filled(store, turns)
        await Pipeline(counted, Recorder(), system="Be brief.").execute("s", "user", "next")
        assert (counting.reads, counting.records, counting.commits) == (1, 10, 1)
        pipeline = Pipeline(counted, Recorder())
        await pipeline.execute("s", "user", "next")
        assert (counting.reads, counting.records, counting.commits) == (3, 21, 2)
        await pipeline.execute("s", "user", "next")
        assert (counting.reads, counting.records, counting.commits) == (4, 31, 3)


@pytest.mark.parametrize(
    ("window", "sent", "reads"),
    [(Window(turns=4), 4, 1), (Window(turns=50), 48, 1), (Window(tokens=300), 16, 1), (Window(tokens=600), 48, 2)],
)
async def test_windows_by_turns_and_by_tokens(window: Window, sent: int, reads: int, store: Store) -> None:
    """Most windows need one read. A limit of tokens alone may need more."""
    counting = Counting(store.backend)
    async with Store(counting) as counted:
        await store.save("s", [message for n in range(208) for message in (user(f"q{n}"), assistant(f"a{n}"))])
        model = Recorder()
        await Pipeline(counted, model, window=window, system="Be brief.").execute("s", "user", "next")
        assert (len(model.given[0]) - 2, counting.reads) == (2 * sent, reads)
        assert model.given[0][1].startswith("user:")


async def test_a_turn_larger_than_the_window_is_sent_whole_or_refused(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """It is sent with a warning, or refused before the model is called."""
    model = Recorder()
    async with store:
        await filled(store, 3)
        await store.append("s", [user("long"), *[assistant(f"part {n}") for n in range(5)]])
        await Pipeline(store, model, window=Window(messages=4)).execute("s", "user", "now")
        assert len(model.given[0]) == 7
        assert "turn 3 has 6 messages, the window's limit is 4: it is sent whole" in caplog.text
        await store.rewind("s", turns=1)
        with pytest.raises(TooLarge, match="turn 3 has 6 messages"):
            await Pipeline(store, model, window=Window(messages=4, oversize="refuse")).execute("s", "user", "now")
        assert len(model.given) == 1


async def test_an_interrupted_turn_is_repaired_or_left_out(store: Store) -> None:
    """The stored turn does not change."""
    call = assistant(None, tool_calls=[{"id": "c1", "function": {"name": "f", "arguments": "{}"}}])
    async with store:
        await filled(store, 1)
        await store.append("s", [user("look"), call], turn_id="t", open=True)
        model = Recorder()
        result = await Pipeline(store, model, window=Window()).execute("s", "user", "now")
        assert [message.role for message in result.messages] == [
            "user",
            "assistant",
            "user",
            "assistant",
            "tool",
            "user",
        ]
        assert result.messages[4].get("tool_call_id") == "c1"
        result = await Pipeline(store, model, window=Window(interrupted="omit")).execute("s", "user", "now")
        assert [message.text for message in result.messages] == ["q0", "a0", "now", "ok", "now"]
        assert [message.role for message in await store.load("s")][2:4] == ["user", "assistant"]
        assert (await store.session("s")).turns[1].interrupted


async def test_the_window_cuts_at_turns_and_never_below_the_last(store: Store) -> None:
    model = Recorder()
    async with store:
        await filled(store, 3)
        await store.append("s", [user("long"), *[assistant(f"part {n}") for n in range(5)]])
        for messages, first in ((1, "user:long"), (7, "user:long"), (8, "user:q2"), (100, "user:q0")):
            await Pipeline(store, model, window=Window(messages=messages)).execute("s", "user", "now")
            assert (model.given[-1][0], model.given[-1][-1]) == (first, "user:now")
            await store.rewind("s", turns=1)


async def prompts(store: Store, **options: Any) -> AsyncIterator[list[str]]:
    """Yield the messages for the model with the pipeline's prompt, the metadata's prompt and no prompt."""
    for prompt, metadata in (("pipeline", "metadata"), (None, "metadata"), (None, None)):
        await store.merge_metadata("s", {"system": metadata})
        model = Recorder()
        await Pipeline(store, model, system=prompt, **options).execute("s", "user", "now")
        await store.rewind("s", turns=1)
        (given,) = model.given
        assert given.pop() == "user:now"
        yield given


@pytest.mark.parametrize("role", ["system", "developer"])
async def test_the_system_prompt_is_first_and_once(role: str, store: Store) -> None:
    """The pipeline's prompt comes first, then that of the metadata, then the opening message of the history."""
    async with store:
        opening = Message.from_dict({"role": role, "content": "history"})
        await store.append("s", [opening, user("q"), assistant("a")])
        await filled(store, 1)
        rest = ["user:q", "assistant:a", "user:q0", "assistant:a0"]
        expected = [["system:pipeline", *rest], ["system:metadata", *rest], [f"{role}:history", *rest]]
        assert [given async for given in prompts(store)] == expected
        assert (await store.load("s"))[0] == opening  # the stored message does not change


async def test_the_system_prompt_is_outside_the_window_stored_or_not(store: Store) -> None:
    """The prompt is sent even if the first turn is not. A stored prompt does not count towards the window."""
    async with store:
        await store.append("s", [system("history"), user("q"), assistant("a")])
        await filled(store, 1)
        rest = ["user:q0", "assistant:a0"]
        expected = [["system:pipeline", *rest], ["system:metadata", *rest], ["system:history", *rest]]
        assert [given async for given in prompts(store, window=Window(messages=3))] == expected
        whole = ["user:q", "assistant:a", *rest]
        expected = [["system:pipeline", *whole], ["system:metadata", *whole], ["system:history", *whole]]
        assert [given async for given in prompts(store, window=Window(messages=4))] == expected


async def test_only_the_message_that_opens_the_first_turn_gives_way(store: Store) -> None:
    """A second system message stays, and so does one that opens a later turn, even after the first turn was dropped."""
    async with store:
        await store.append("s", [system("history"), system("another"), user("q")])
        await store.append("s", [system("from now on"), user("q")])
        rest = ["system:from now on", "user:q"]
        given = [given async for given in prompts(store)]
        assert given[0] == ["system:pipeline", "system:another", "user:q", *rest]
        store.retain = 1
        await store.append("s", [system("from now on"), user("q")])
        store.retain = None
        assert (await store.info("s")).first == 2
        expected = [["system:pipeline", *rest], ["system:metadata", *rest], rest]
        assert [given async for given in prompts(store)] == expected


async def test_a_session_that_holds_a_system_message_alone_or_nothing(store: Store) -> None:
    """This also holds for a new session. The prompt itself is never stored."""
    async with store:
        await store.merge_metadata("s", {"title": "T"})
        assert [given async for given in prompts(store)] == [["system:pipeline"], ["system:metadata"], []]
        await store.append("s", [system("history")])
        expected = [["system:pipeline"], ["system:metadata"], ["system:history"]]
        assert [given async for given in prompts(store)] == expected
        model = Recorder()
        await Pipeline(store, model, system="pipeline").execute("new", "user", "now")
        assert model.given == [["system:pipeline", "user:now"]]
        assert [message.role for message in await store.load("new")] == ["user", "assistant"]


async def test_a_system_prompt_may_be_a_list_of_blocks(store: Store) -> None:
    """The pipeline sends the prompt as it was when the pipeline was created."""
    blocks: list[Any] = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    async with store:
        await store.merge_metadata("s", {"system": blocks})
        result = await Pipeline(store, Recorder()).execute("s", "user", "now")
        assert result.messages == (system(blocks), user("now"))
        pipeline = Pipeline(store, Recorder(), system=blocks)
        sent = system(blocks)
        blocks.clear()
        assert (await pipeline.execute("new", "user", "now")).messages[0] == sent


@pytest.mark.parametrize("metadata", [5, {"text": "Be brief."}, "", []])
async def test_metadata_that_is_no_prompt_is_none(metadata: Any) -> None:
    store, model = Store(MemoryBackend()), Recorder()
    await store.append("s", [system("history"), user("q")], metadata={"system": metadata})
    await Pipeline(store, model).execute("s", "user", "now")
    assert model.given == [["system:history", "user:q", "user:now"]]


@pytest.mark.parametrize("prompt", ["", [], 5, {"text": "Be brief."}])
def test_a_pipeline_with_a_prompt_that_is_none_is_refused(prompt: Any) -> None:
    with pytest.raises(InvalidInput, match="system"):
        Pipeline(Store(MemoryBackend()), Recorder(), system=prompt)


@pytest.mark.parametrize(
    "answer", ["text", 5, {}, {"role": "assistant", "content": {1, 2}}, {"role": "user", "content": "hello"}]
)
async def test_an_invalid_answer_is_refused_and_nothing_is_stored(answer: object, store: Store) -> None:
    async with store:
        with pytest.raises(InvalidInput, match="the model's answer"):
            await Pipeline(store, Recorder(answer)).execute("s", "user", "hello")
        with pytest.raises(SessionNotFound):
            await store.load("s")


async def test_a_dictionary_is_an_answer_and_options_reach_the_model() -> None:
    model = Recorder({"role": "assistant", "content": "hi", "tool_calls": []})
    pipeline = Pipeline(Store(MemoryBackend()), model, options={"temperature": 0})
    result = await pipeline.execute("s", "user", "hello")
    assert result.response.to_dict() == model.answer
    assert model.options == {"temperature": 0}
    assert [message.role for message in await pipeline.store.load("s")] == ["user", "assistant"]


async def test_nothing_is_stored_when_the_model_raises_or_is_cancelled(store: Store) -> None:
    """An existing session does not change, and a missing session is not created."""
    begun = asyncio.Event()

    async def fails(messages: Sequence[Message], **_: object) -> Message:
        raise RuntimeError("no answer")

    async def hangs(messages: Sequence[Message], **_: object) -> Message:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with store:
        before = (await (await filled(store, 1)).info("s")).version
        for session in ("s", "new"):
            with pytest.raises(RuntimeError, match="no answer"):
                await Pipeline(store, fails).execute(session, "user", "hello")
            begun.clear()
            task = asyncio.ensure_future(Pipeline(store, hangs).execute(session, "user", "hello"))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert [(info.key.session, info.version) async for info in store.sessions()] == [("s", before)]


async def test_a_function_without_async_is_no_model(store: Store) -> None:
    """The error names a function without `async`, and nothing is stored."""
    async with store:
        with pytest.raises(
            InvalidInput,
            match="the model must be an async function or an async generator, and it returned Message at once",
        ):
            await Pipeline(store, lambda messages: assistant("a")).execute("s", "user", "hello")  # type: ignore[arg-type,return-value]
        with pytest.raises(SessionNotFound):
            await store.load("s")


async def test_an_invalid_message_or_session_never_reaches_the_model() -> None:
    pipeline = Pipeline(Store(MemoryBackend()), model := Recorder())
    for session, content in (("", "hello"), ("a\nb", "hello"), ("s", {1})):
        with pytest.raises(InvalidInput):
            await pipeline.execute(session, "user", content)  # type: ignore[arg-type]
    assert model.given == []


@pytest.mark.parametrize("role", [None, "", 5, b"user", ["user"]])
async def test_a_role_is_required(role: Any) -> None:
    """The check comes before any read: this store is closed, and a read would raise `Closed`."""
    model, store = Recorder(), Store(MemoryBackend())
    await store.close()
    with pytest.raises(InvalidInput, match="role"):
        await Pipeline(store, model).execute("s", role, "hello")
    assert model.given == []


@pytest.mark.parametrize("content", [None, {"a": 1}, 5, b"hello", ("hello",), user("hello")])
async def test_content_is_text_or_blocks(content: Any) -> None:
    model, store = Recorder(), Store(MemoryBackend())
    await store.close()
    with pytest.raises(InvalidInput, match="content must be a str, or a list of blocks"):
        await Pipeline(store, model).execute("s", "user", content)
    assert model.given == []


async def test_a_model_that_changes_its_list_changes_neither_the_result_nor_the_session() -> None:
    async def rude(messages: list[Message], **_: object) -> Message:
        messages.clear()
        return assistant("a")

    store = await filled(Store(MemoryBackend()), 1)
    result = await Pipeline(store, rude).execute("s", "user", "now")
    assert [message.text for message in result.messages] == ["q0", "a0", "now"]
    assert [message.text for message in await store.load("s")] == ["q0", "a0", "now", "a"]


async def test_calls_to_a_pipeline_without_tools_are_an_error_and_nothing_is_stored(store: Store) -> None:
    call: Any = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    async with store:
        pipeline = Pipeline(store, Recorder(assistant(None, tool_calls=[call])))
        with pytest.raises(ModelError, match="called 'weather', but the pipeline has no tools"):
            await pipeline.execute("s", "user", "Weather?")
        with pytest.raises(SessionNotFound):
            await store.load("s")


async def at_once(stores: Sequence[Store], model: Recorder) -> list[tuple[str, ...]]:
    """Execute once on each store, on one session, with all models working at once; return the texts of the turns."""
    barrier = asyncio.Barrier(len(stores))

    async def answer(messages: Sequence[Message], **_: object) -> Message:
        await barrier.wait()
        await model(messages)
        return assistant(f"to {messages[-1].text}")

    texts = [f"q{place}" for place in range(len(stores))]
    await asyncio.gather(
        *(Pipeline(store, answer).execute("s", "user", text) for store, text in zip(stores, texts, strict=True))
    )
    return [tuple(message.text for message in turn.messages) for turn in (await stores[0].session("s")).turns]


async def test_two_at_once_both_store_whole_turns_and_neither_sees_the_other(store: Store) -> None:
    async with store:
        await store.append("s", [user("before")])
        turns = await at_once([store, store], model := Recorder())
        assert turns[0] == ("before",)
        assert sorted(turns[1:]) == [("q0", "to q0"), ("q1", "to q1")]
        assert sorted(model.given) == [["user:before", "user:q0"], ["user:before", "user:q1"]]


async def test_so_do_two_stores_over_one_file(tmp_path: Path) -> None:
    async with on_sqlite(tmp_path) as one, on_sqlite(tmp_path) as two:
        turns = await at_once([one, two, one, two], model := Recorder())
        assert sorted(turns) == [(f"q{place}", f"to q{place}") for place in range(4)]
        assert sorted(model.given) == [[f"user:q{place}"] for place in range(4)]


@pytest.mark.parametrize("messages", [0, -1, True, "5", 1.5])
def test_a_window_is_a_number_from_1(messages: Any) -> None:
    with pytest.raises(InvalidInput, match="Window"):
        Window(messages=messages)


def test_a_model_is_something_to_call() -> None:
    with pytest.raises(InvalidInput, match=r"a model such as OpenAIModel"):
        Pipeline(Store(MemoryBackend()), "gpt")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"not a class: write Recorder\(\)"):
        Pipeline(Store(MemoryBackend()), Recorder)  # type: ignore[arg-type]


async def test_a_counter_returns_a_token_count() -> None:
    def counter(messages: Sequence[Message], *, model: str | None) -> int:
        return 3

    pipeline = Pipeline(Store(MemoryBackend()), Recorder(), window=Window(tokens=100), counter=counter)  # type: ignore[arg-type]
    await pipeline.execute("s", "user", "hello")
    with pytest.raises(InvalidInput, match=r"must return TokenCount\(tokens, exact\), not 3"):
        await pipeline.execute("s", "user", "hello")


async def test_a_turn_id_stands_for_one_message() -> None:
    store = Store(MemoryBackend())
    for answer, begins in ((Recorder(), True), (Recorder(), False)):
        pipeline = Pipeline(store, answer)
        if begins:
            await pipeline.execute("s", "user", "Where is my order?", turn_id="t")
        with pytest.raises(IdReused, match="is used for another message"):
            await pipeline.execute("s", "user", "Cancel my order!", turn_id="t")
    assert len(await store.load("s")) == 2


async def test_an_answer_that_does_not_fit_is_not_lost() -> None:
    """The result holds it, and it can be saved once there is room."""
    store = Store(MemoryBackend(), max_session_bytes=1_000)
    await store.append("s", [user("x" * 900)])
    result = await Pipeline(store, Recorder(assistant("y" * 300))).execute("s", "user", "hello")
    assert isinstance(result.error, TooLarge)
    assert result.response.text == "y" * 300
    with pytest.raises(TooLarge):
        await result.save()
    assert len(await store.load("s")) == 1


async def test_a_role_is_one_of_those_that_speak_to_the_model() -> None:
    pipeline = Pipeline(Store(MemoryBackend()), model := Recorder())
    for role in ("usr", "assistant", "hello", "", 5):
        with pytest.raises(InvalidInput, match="role must be one of user, human, system, developer"):
            await pipeline.execute("s", role, "user")  # type: ignore[arg-type]
    assert model.given == []


def track(order: int) -> str:
    """Track an order."""
    return f"order {order}"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"store": "sqlite:///x.db"}, "store"),
        ({"window": 20}, "window"),
        ({"options": ["x"]}, "options"),
        ({"counter": "tiktoken"}, "counter must be a token counter, not 'tiktoken'"),
        ({"summaries": offline}, "summaries must be Summaries"),
        ({"tools": track}, "tools must be a list of functions, not function"),
        ({"concurrency": "queue"}, r"concurrency must be one of .*, or Serialize\(\.\.\.\), not 'queue'"),
        ({"on_error": "raise"}, "on_error must be one of discard, keep, not 'raise'"),
    ],
)
def test_the_arguments_of_a_pipeline_are_checked_at_once(given: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        Pipeline(**{"store": Store(MemoryBackend()), "model": offline, **given})


@pytest.mark.parametrize("name", ["lease", "wait"])
@pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan"), "1", True])
def test_a_lease_lasts_a_number_of_seconds(name: str, seconds: Any) -> None:
    with pytest.raises(InvalidInput, match=rf"Serialize\({name}\) must be a number of seconds above 0"):
        Serialize(**{name: seconds})


# ----------------------------------------------------------------------------------------------- repeats and lazy reads


async def test_a_turn_that_is_stored_is_not_asked_for_again(store: Store) -> None:
    """The stored answer is returned, even after many later turns. A real model might answer differently."""
    async with store:
        for later in (0, 1, 30):
            model = Recorder(assistant("first"))
            done = await Pipeline(store, model).execute("s", "user", "Hi", turn_id=f"t{later}")
            for number in range(later):
                await store.append("s", [user(f"{number}"), assistant("?")])
            turns = (await store.info("s")).turns
            other = Recorder(assistant("second"))
            again = await Pipeline(store, other).execute("s", "user", "Hi", turn_id=f"t{later}")
            assert (again.response, other.given) == (assistant("first"), [])
            assert (again.receipt.number, again.receipt.turns) == (done.receipt.number, turns)
            assert (await store.info("s")).turns == turns


async def test_a_model_that_failed_is_asked_again_under_the_same_id(store: Store) -> None:
    class Fails(Exception):
        pass

    async def fails(messages: list[Message]) -> Message:
        raise Fails

    async with store:
        with pytest.raises(Fails):
            await Pipeline(store, fails).execute("s", "user", "Hi", turn_id="t")
        await Pipeline(store, Recorder()).execute("s", "user", "Hi", turn_id="t")
        assert [message.text for message in await store.load("s")] == ["Hi", "ok"]


async def test_finished_rounds_are_given_to_the_model_and_its_answer_closes_the_turn(store: Store) -> None:
    model = Recorder()
    async with store:
        await store.append("s", [user("Hi")], turn_id="t", open=True)
        done = await Pipeline(store, model).execute("s", "user", "Hi", turn_id="t")
        assert model.given == [["user:Hi"]]
        (turn,) = (await store.session("s")).turns
        assert ([message.text for message in turn.messages], turn.open) == (["Hi", "ok"], False)
        assert done.receipt.number == 0


@pytest.mark.parametrize("begun", [False, True])
async def test_of_two_calls_under_one_id_one_answer_is_stored_and_both_return_it(store: Store, begun: bool) -> None:
    entered = 0
    both = asyncio.Event()

    async def model(messages: list[Message]) -> Message:
        nonlocal entered
        entered += 1
        number = entered
        if entered == 2:
            both.set()
        await both.wait()
        return assistant(f"answer {number}")

    async with store:
        if begun:
            await store.append("s", [user("Hi")], turn_id="t", open=True)
        pipeline = Pipeline(store, model)
        one, two = await asyncio.gather(*(pipeline.execute("s", "user", "Hi", turn_id="t") for _ in range(2)))
        assert one.response == two.response
        assert [message.text for message in await store.load("s")] == ["Hi", one.response.text]
        assert (await store.info("s")).turns == 1


async def test_owner_metadata_and_options_of_one_call(store: Store) -> None:
    model = Recorder()
    async with store:
        pipeline = Pipeline(store, model, options={"a": 1, "b": 1})
        for turn_id in (None, "t"):
            await pipeline.execute(
                "s", "user", "Hi", turn_id=turn_id, owner="ann", metadata={"last": turn_id}, options={"b": 2}
            )
            assert model.options == {"a": 1, "b": 2}
        info = await store.info("s")
        assert (info.owner, info.metadata.get("last"), info.turns) == ("ann", "t", 2)
        for turn_id in (None, "u"):
            with pytest.raises(SessionNotFound):
                await pipeline.execute("s", "user", "Hi", turn_id=turn_id, owner="bob")
        with pytest.raises(InvalidInput, match="options"):
            await pipeline.execute("s", "user", "Hi", options=[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("turn_id", [None, "t"])
async def test_an_erased_session_does_not_come_back_under_an_id_either(store: Store, turn_id: str | None) -> None:
    async def slow(messages: list[Message]) -> Message:
        await store.erase("s")
        return assistant("ok")

    async with store:
        await store.append("s", [user("before")])
        with pytest.raises(Conflict):
            await Pipeline(store, slow).execute("s", "user", "Hi", turn_id=turn_id)
        with pytest.raises(SessionNotFound):
            await store.info("s")


async def test_history_is_read_only_if_it_is_needed(store: Store) -> None:
    model = Recorder()
    async with store:
        await filled(store, 3)
        pipeline = Pipeline(store, model, load_history=lambda message: "before" in message.text)
        for text in ("What is 2 + 2?", "What was before?"):
            await pipeline.execute("s", "user", text)
        await store.merge_metadata("s", {"system": "Be kind."})
        await pipeline.execute("s", "user", "And 3 + 3?")
        await pipeline.execute("new", "user", "And 3 + 3?")
        assert model.given[0] == ["user:What is 2 + 2?"]
        assert model.given[1][-3:] == ["user:What is 2 + 2?", "assistant:ok", "user:What was before?"]
        assert len(model.given[1]) == 9
        assert model.given[2:] == [["system:Be kind.", "user:And 3 + 3?"], ["user:And 3 + 3?"]]
        assert (await store.info("s")).turns == 6
    with pytest.raises(InvalidInput, match="load_history"):
        Pipeline(store, model, load_history=True)  # type: ignore[arg-type]

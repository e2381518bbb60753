"""`turnlog.sync`: threads, loops, interrupts, plain models, iterators and the end of the process."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import pytest

import turnlog
import turnlog.sync
from turnlog import (
    Backend,
    Change,
    Conflict,
    InvalidInput,
    Key,
    Layer,
    Message,
    Page,
    Query,
    Receipt,
    Session,
    SessionNotFound,
    Summaries,
    Unavailable,
    Unsupported,
    assistant,
    user,
)
from turnlog.pipeline import Piece
from turnlog.sync import Pipeline, Store, open_store
from turnlog.sync import loop_thread as threads
from turnlog.sync.caller import Caller, in_caller
from turnlog.sync.iteration import Iteration, iterate
from turnlog.sync.loop_thread import LoopThread, call, loop_thread
from turnlog.testing.faulty import FaultyBackend
from turnlog_memory import MemoryBackend

forks = pytest.mark.only_where(hasattr(os, "fork"), "forks", "this system cannot fork")


def store() -> Store:
    return Store(MemoryBackend())


def texts(messages: list[Message]) -> list[str]:
    return [message.text for message in messages]


def echo(messages: list[Message], **options: object) -> Message:
    return assistant(f"{messages[-1].text}?")


async def echo_later(messages: list[Message], **options: object) -> Message:
    return assistant(f"{messages[-1].text}?")


def test_a_script() -> None:
    with open_store("memory://?namespace=shop&retain=9") as shop:
        assert (shop.namespace, shop.retain, shop.owner, shop.max_session_bytes) == ("shop", 9, None, None)
        assert isinstance(shop.backend, MemoryBackend)
        receipt = shop.append("a", [user("1")], owner="ann")
        assert shop.session("a").version == receipt.version
        with shop.write_turn("a") as turn:
            turn.add([user("2")])
            last = turn.add([assistant("3")])
        assert turn.finished
        assert turn.turn_id
        assert texts([message for part in turn.rounds for message in part]) == ["2", "3"]
        assert turn.receipt is not None
        assert turn.receipt.number == last.number == 1
        assert texts(shop.load("a", last=2)) == ["2", "3"]
        assert [info.key.session for info in shop.for_owner("ann").sessions()] == ["a"]
        assert [info.key.session for info in shop.list_sessions(owner="ann").infos] == ["a"]
        assert list(shop.within("other").sessions()) == []
        with pytest.raises(Conflict):
            shop.append("a", [user("4")], expect=receipt.version)
        assert shop.erase("a")
        with pytest.raises(SessionNotFound):
            shop.load("a")
    with pytest.raises(turnlog.Closed):
        shop.load("a")


def test_the_other_methods_of_a_store() -> None:
    shop = store()
    assert repr(shop) == "<turnlog.sync.Store over <Store namespace='default' over <MemoryBackend>>>"
    shop.open()
    shop.save("a", [user("1"), assistant("2"), user("3")])
    shop.save("a", [user("1"), user("4")], expect=shop.info("a").version, begins_turn=lambda _: True)
    assert texts(shop.load("a")) == ["1", "4"]
    shop.append("a", [user("5")], turn_id="t")
    turn = shop.turn("a", "t")
    assert turn is not None
    assert turn.number == 2
    assert shop.touch("a").turns == 3
    shop.fork("a", "b", at=2)
    shop.rewind("b", turns=1)
    shop.merge_metadata("b", {"title": "B"}, owner="ann", ttl=60)
    assert [(texts(one.messages), one.info.metadata["title"], one.info.ttl) for one in shop.export_owner("ann")] == [
        (["1"], "B", 60)
    ]
    shop.trim("a", before=1)
    shop.rewrite("a", [user("6"), user("7")], from_turn=2, expect=shop.info("a").version)
    assert texts(shop.pop_messages("a", 1)) == ["7"]
    popped = shop.pop("a")
    assert popped is not None
    assert texts(list(popped.messages)) == ["6"]
    assert texts(shop.load("a")) == ["4"]
    assert list(shop.namespaces()) == ["default"]
    assert shop.erase_owner("ann").sessions == 1
    assert len(shop.new_session_id()) >= 22
    with pytest.raises(InvalidInput, match="this store has no Layer"):
        shop.find(Layer)
    shop.close()
    with pytest.raises(turnlog.Closed):
        shop.load("a")


def test_a_turn_that_is_continued() -> None:
    shop = store()
    shop.append("a", [user("1")], turn_id="t", open=True)
    turn = shop.write_turn("a", turn_id="t")
    turn.find()
    assert texts(turn.messages) == ["1"]
    with turn:
        turn.add([assistant("2")])
    assert texts(shop.load("a")) == ["1", "2"]
    new = shop.write_turn("a")
    new.begin()
    new.add([user("3")], last=True)
    assert texts(shop.load("a")) == ["1", "2", "3"]


def test_a_change_that_is_resent() -> None:
    faulty = FaultyBackend(MemoryBackend())
    shop = Store(faulty)
    faulty.fail_next("lose_request", "lose_request")
    with pytest.raises(turnlog.OutcomeUnknown) as caught:
        shop.append("a", [user("1")])
    with pytest.raises(turnlog.OutcomeUnknown) as again:
        shop.resend(caught.value, delays=())
    assert again.value is caught.value
    assert shop.resend(caught.value, delays=()).version == shop.info("a").version


def test_a_store_over_a_backend_that_another_loop_has_opened() -> None:
    backend = MemoryBackend()
    asyncio.run(turnlog.Store(backend).append("a", [user("1")]))
    assert texts(Store(backend).load("a")) == ["1"]


def test_many_threads_share_one_loop_and_lose_nothing() -> None:
    shared, before = store(), threading.active_count()

    def write(number: int) -> None:
        for turn in range(20):
            shared.append(f"{turn}", [user(f"{number}")])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert threading.active_count() <= before + 1
    assert all(len(shared.load(f"{turn}")) == 8 for turn in range(20))


async def test_a_call_inside_a_running_loop() -> None:
    assert store().append("a", [user("1")]).number == 0


def test_a_call_in_its_own_loop_is_refused_before_it_begins() -> None:
    inner = store()

    async def model(messages: list[Message], **options: object) -> Message:
        return assistant(f"{len(inner.load('a'))} messages")

    with pytest.raises(Unsupported, match=r"turnlog.sync was called in its own event loop.*to_thread"):
        Pipeline(store(), model).execute("a", "user", "How many?")
    inner.append("a", [user("1")])

    async def in_thread(messages: list[Message], **options: object) -> Message:
        return assistant(f"{len(await asyncio.to_thread(inner.load, 'a'))} messages")

    assert Pipeline(store(), in_thread).execute("a", "user", "How many?").response.text == "1 messages"


def test_importing_turnlog_does_not_import_it() -> None:
    code = "import sys, turnlog; assert not {'turnlog.sync', 'asyncio', 'threading'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -------------------------------------------------------------------------------------------------- errors, interrupts


def test_an_error_keeps_its_type_and_a_short_traceback() -> None:
    with pytest.raises(SessionNotFound) as caught:
        store().load("a")
    frames = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    ours = [name for name in frames if os.path.join("turnlog", "sync") in name]
    assert len(ours) == 3  # the method, `call` and `result_of`
    assert not [name for name in frames if "asyncio" in name]


class Waiting(Layer):
    """Lets a read wait until it is cancelled."""

    def __init__(self, inner: Backend, begin: Callable[[], None]) -> None:
        super().__init__(inner)
        self.begin = begin
        self.events: list[str] = []

    async def read(self, key: Key, **options: Any) -> Session:
        self.begin()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.events.append("cleaned up")
            raise
        raise AssertionError


@pytest.mark.only_where(hasattr(signal, "pthread_kill"), "signals", "this system has no signals for threads")
def test_an_interrupt_cancels_the_coroutine_and_waits_for_it() -> None:
    main = threading.main_thread().ident
    assert main is not None
    layer = Waiting(MemoryBackend(), lambda: signal.pthread_kill(main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        Store(layer).load("a")
    assert layer.events == ["cleaned up"]
    assert Store(layer).append("a", [user("1")]).number == 0


@pytest.mark.only_where(hasattr(signal, "pthread_kill"), "signals", "this system has no signals for threads")
def test_an_iterator_that_is_interrupted_has_ended() -> None:
    main = threading.main_thread().ident
    assert main is not None
    events: list[str] = []

    async def numbers() -> AsyncGenerator[int, None]:
        yield 1
        try:
            signal.pthread_kill(main, signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            events.append("cleaned up")

    found = Iteration(aclosing(numbers()))
    assert next(found) == 1
    with pytest.raises(KeyboardInterrupt):
        next(found)
    assert events == ["cleaned up"]
    assert next(found, None) is None


def test_an_interrupt_before_the_task_has_begun_is_raised() -> None:
    class Interrupted(Caller[None]):
        interrupted = False

        def _next(self) -> Any:
            if not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt
            return super()._next()

    caller = Interrupted(loop_thread().loop)
    caller.answer(None)  # an answer that nobody has read is dropped
    with pytest.raises(KeyboardInterrupt):
        caller.ask(lambda: None)
    assert caller.task is None


def test_the_result_of_a_function_for_a_cancelled_task_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """The thread runs the function, and meanwhile the task that waits for the result is cancelled."""
    go_on = threading.Event()

    async def work() -> str:
        task = asyncio.create_task(in_caller(go_on.wait, 30))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        go_on.set()
        assert task.cancelled()
        return await in_caller(str, "next")

    assert call(work) == "next"
    assert caplog.messages == [], "asyncio logs an error of the callback"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_coroutine_reaches_its_caller_and_the_loop_goes_on(error: type[BaseException]) -> None:
    async def model(messages: list[Message], **options: object) -> Message:
        raise error

    with pytest.raises(error):
        Pipeline(store(), model).execute("a", "user", "Go away")
    assert store().append("a", [user("1")]).number == 0


def test_a_coroutine_sees_the_context_of_its_caller() -> None:
    tenant: ContextVar[str] = ContextVar("tenant")
    tenant.set("acme")

    async def model(messages: list[Message], **options: object) -> Message:
        return assistant(tenant.get())

    assert Pipeline(store(), model).execute("a", "user", "Who?").response.text == "acme"


# ----------------------------------------------------------------------------------------------------------- iterators


class Counted(Layer):
    """Counts the pages that are read."""

    pages = 0

    async def page(self, query: Query) -> Page:
        self.pages += 1
        return await super().page(query)


def test_an_iterator_reads_a_page_when_it_is_needed() -> None:
    layer = Counted(MemoryBackend())
    many = Store(layer)
    for number in range(250):
        many.append(f"{number}", [user("1")])
    infos = many.sessions()
    assert layer.pages == 0
    for _ in range(100):
        next(infos)
    assert layer.pages == 1
    assert len(list(infos)) == 150
    assert layer.pages == 3


def test_an_iterator_that_is_left_closes() -> None:
    events: list[str] = []
    tasks: set[object] = set()

    async def numbers() -> AsyncIterator[int]:
        tasks.add(asyncio.current_task())
        try:
            async with asyncio.timeout(60):  # belongs to a task: all items must be read in the same one
                for number in range(9):
                    yield number
        finally:
            await asyncio.sleep(0)  # only a task of the loop can wait here: freeing the generator would not do
            tasks.add(asyncio.current_task())
            events.append("closed")

    for number in (found := iterate(numbers)):
        if number == 1:
            break
    assert events == []
    found.close()  # type: ignore[attr-defined]
    assert (events, len(tasks)) == (["closed"], 1)
    found = iterate(numbers)
    assert next(found) == 0
    del found
    gc.collect()
    assert events == ["closed"] * 2
    assert list(iterate(numbers)) == list(range(9))
    assert events == ["closed"] * 3


def test_an_iterator_that_is_freed_in_the_loop_thread_closes_later() -> None:
    closed = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.set()

    held = [iterate(numbers)]
    assert next(held[0]) == 1

    async def free() -> None:
        held.clear()

    call(free)
    assert closed.wait(30)


def test_an_iteration_may_be_closed_twice_in_the_loop_thread() -> None:
    closed = threading.Event()

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            closed.set()

    found = Iteration(aclosing(numbers()))
    assert next(found) == 1

    async def close() -> None:
        found.close()
        found.close()

    call(close)
    assert closed.wait(30)
    found.close()
    assert next(found, None) is None


def test_an_error_of_an_iterator_ends_it() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        raise Conflict("no more")

    found = iterate(numbers)
    assert next(found) == 1
    with pytest.raises(Conflict):
        next(found)
    assert list(found) == []


# ------------------------------------------------------------------------------------------------------------ pipeline


class Whole:
    """A plain model that answers whole, and in pieces."""

    def __call__(self, messages: list[Message], **options: object) -> Message:
        return assistant("whole")

    def stream(self, messages: list[Message], **options: object) -> Iterator[Piece]:
        yield "in "
        yield "pieces"


async def in_pieces(messages: list[Message], **options: object) -> AsyncIterator[Piece]:
    yield "in "
    yield "pieces"


@pytest.mark.parametrize(
    ("model", "whole", "streamed"),
    [
        (echo, "hi?", ["hi?"]),
        (echo_later, "hi?", ["hi?"]),
        (lambda messages, **options: echo_later(messages), "hi?", ["hi?"]),
        (in_pieces, "in pieces", ["in ", "pieces"]),
        (lambda messages, **options: in_pieces(messages), "in pieces", ["in ", "pieces"]),
        (lambda messages, **options: iter(["in ", "pieces"]), "in pieces", ["in ", "pieces"]),
        (Whole(), "whole", ["in ", "pieces"]),
        (Whole().stream, "in pieces", ["in ", "pieces"]),
    ],
)
def test_a_model_is_plain_or_async_whole_or_in_pieces(model: Any, whole: str, streamed: list[str]) -> None:
    pipeline = Pipeline(store(), model)
    assert pipeline.model is model
    assert pipeline.execute("a", "user", "hi").response.text == whole
    with pipeline.stream("a", "user", "hi") as reply:
        assert list(reply) == streamed
    assert (reply.result.response.text, reply.result.receipt.number) == ("".join(streamed), 1)
    assert texts(pipeline.store.load("a")) == ["hi", whole, "hi", "".join(streamed)]


def test_a_pipeline_over_an_asynchronous_one() -> None:
    inner = turnlog.Pipeline(turnlog.Store(MemoryBackend()), echo_later, options={"heat": 1})
    pipeline = Pipeline.over(inner)
    assert pipeline.execute("a", "user", "hi").response.text == "hi?"
    assert texts(pipeline.store.load("a")) == ["hi", "hi?"]
    assert (pipeline.model, pipeline.summaries) == (echo_later, None)
    assert (pipeline.window, pipeline.options) == (turnlog.Window(messages=20), {"heat": 1})


def test_a_plain_model_runs_in_the_thread_of_the_caller_and_may_use_the_store() -> None:
    inner, seen = store(), set()
    inner.append("notes", [user("the sky is blue")])

    def model(messages: list[Message], **options: object) -> Iterator[str]:
        seen.add(threading.current_thread())
        yield inner.load("notes")[0].text
        seen.add(threading.current_thread())

    pipeline = Pipeline(inner, model, summaries=Summaries(model=echo, threshold=1, keep=0))  # type: ignore[arg-type]
    for _ in range(2):
        assert pipeline.execute("a", "user", "What colour?").response.text == "the sky is blue"
    assert "turnlog.summary" in inner.info("a").metadata
    inner.append("c", [user("1")])
    summary = pipeline.summarize("c")
    assert summary is not None
    assert summary.until == 1
    assert pipeline.stats()["failed_summaries"] == 0
    with pipeline.stream("b", "user", "What colour?") as reply:
        assert list(reply) == ["the sky is blue"]
    assert seen == {threading.current_thread()}


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_of_a_plain_model_stores_nothing(error: BaseException) -> None:
    def model(messages: list[Message], **options: object) -> Message:
        raise error

    pipeline = Pipeline(store(), model)
    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
        pipeline.execute("a", "user", "hi")
    with pytest.raises(SessionNotFound):
        pipeline.store.load("a")


def test_a_plain_answer_that_is_no_message_is_refused() -> None:
    with pytest.raises(InvalidInput, match="must be a Message"):
        Pipeline(store(), lambda messages, **options: "text").execute("a", "user", "hi")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="not a class"):
        Pipeline(store(), Whole)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="a model such as"):
        Pipeline(store(), "gpt")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"must be a turnlog\.sync\.Store .*, not turnlog\.store\.Store"):
        Pipeline(turnlog.open_store("memory://"), echo)  # type: ignore[arg-type]


def test_tools_are_plain_or_async() -> None:
    asked: list[Message] = []

    def model(messages: list[Message], **options: object) -> Message:
        asked[:] = messages
        if messages[-1].role == "tool":
            return assistant(" and ".join(message.text for message in messages[-2:]))
        calls = [
            {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in ("now", "later")
        ]
        return assistant("", tool_calls=calls)

    kept = store()
    kept.append("notes", [user("a note")])

    def now() -> str:
        return kept.load("notes")[0].text

    async def later() -> str:
        return "another"

    result = Pipeline(kept, model, tools=[now, later]).execute("a", "user", "Look")
    assert result.response.text == "a note and another"


def test_a_stream_that_is_left_keeps_the_text_so_far() -> None:
    closed = threading.Event()

    def model(messages: list[Message], **options: object) -> Iterator[str]:
        try:
            yield "one "
            yield "two"
        finally:
            closed.set()

    pipeline = Pipeline(store(), model)
    stream = pipeline.stream("a", "user", "Count")
    with pytest.raises(InvalidInput, match="only in its block: with"):
        iter(stream)
    with stream as reply:
        assert next(reply) == "one "
    assert closed.is_set()
    assert texts(pipeline.store.load("a")) == ["Count", "one "]
    with pytest.raises(InvalidInput, match="only once"), stream:
        pass
    with pytest.raises(InvalidInput, match="no result"):
        _ = stream.result
    assert next(stream, None) is None


def test_a_stream_that_another_thread_reads_can_be_left() -> None:
    waiting, ended = threading.Event(), threading.Event()

    async def model(messages: list[Message], **options: object) -> AsyncIterator[str]:
        yield "one"
        waiting.set()
        await asyncio.Event().wait()

    pipeline = Pipeline(store(), model)

    def read(reply: turnlog.sync.Stream) -> None:
        try:
            next(reply)
        except asyncio.CancelledError:
            ended.set()

    with pipeline.stream("a", "user", "Count") as reply:
        assert next(reply) == "one"
        reader = threading.Thread(target=read, args=(reply,))
        reader.start()
        assert waiting.wait(30)
    assert ended.wait(30)
    reader.join()
    assert texts(pipeline.store.load("a")) == ["Count", "one"]


class Failing(Layer):
    """Refuses commits while `down` is True."""

    down = True

    async def commit(self, key: Key, change: Change) -> Receipt:
        if self.down:
            raise Unavailable("down")
        return await super().commit(key, change)


def test_a_result_can_be_saved_later() -> None:
    layer = Failing(MemoryBackend())
    result = Pipeline(Store(layer), echo).execute("a", "user", "hi")
    assert isinstance(result.error, Unavailable)
    assert (texts(list(result.messages)), result.usage) == (["hi"], None)
    layer.down = False
    assert result.save().number == 0
    assert texts(Store(layer).load("a")) == ["hi", "hi?"]


# --------------------------------------------------------------------------------------------------- forks and the end


@forks
def test_a_forked_child_starts_a_loop_of_its_own() -> None:
    shared = store()
    shared.append("a", [user("1")])
    infos, old = shared.sessions(), loop_thread()
    with Pipeline(shared, lambda messages, **options: iter("ab")).stream("s", "user", "hi") as reply:
        next(reply)
        next(infos, None)
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)  # ends a child that waits forever
            code = 1
            try:
                assert shared.append("a", [user("2")]).number == 1
                assert loop_thread() is not old
                try:
                    next(reply)
                except InvalidInput as error:
                    code = 0 if "before the process was forked" in str(error) else 2
            except BaseException:  # noqa: BLE001 - shown by the parent's test
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert next(reply) == "b"
    assert loop_thread() is old
    assert texts(shared.load("a")) == ["1"]


def test_the_end_of_a_thread_cancels_its_tasks_and_closes_its_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of this process is another one, which goes on."""
    begun, ended = threading.Event(), []

    async def waiting() -> None:
        begun.set()
        await asyncio.Event().wait()

    thread = LoopThread()
    monkeypatch.setattr(threads, "_thread", thread)
    monkeypatch.setattr(threads, "_ended", False)

    def wait() -> None:
        with pytest.raises(turnlog.Closed, match="the process ends"):
            call(waiting)
        ended.append("waiting")

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert begun.wait(30)
    threads._end()
    waiter.join(30)
    assert ended == ["waiting"]
    assert thread.loop.is_closed()
    with pytest.raises(turnlog.Closed, match="the process ends"):
        call(waiting)
    work = waiting()
    with pytest.raises(turnlog.Closed, match="the process ends"):
        Caller[None](thread.loop).begin(work)
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED


def test_the_end_of_a_thread_without_tasks() -> None:
    thread = LoopThread()
    thread.end()
    assert thread.loop.is_closed()


def test_the_end_and_the_fork_of_a_process_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_thread", None)
    monkeypatch.setattr(threads, "_ended", False)
    monkeypatch.setattr(threads, "_starting", threads._starting)
    inherited = list(threads._inherited)
    threads._after_fork()
    assert threads._inherited == inherited
    threads._end()
    with pytest.raises(turnlog.Closed, match="the process ends"):
        loop_thread()
    assert threads._thread is None


AT_THE_END = """
import atexit, threading

def early():
    waiter.join(30)  # daemon threads end with the process, before they have printed
    try:
        store.load("a")
    except turnlog.Closed as error:
        print(f"after the end: {error}")

atexit.register(early)  # runs after the handler of turnlog.sync
import turnlog, turnlog.sync
store = turnlog.sync.open_store("memory://")
store.open()
store.append("a", [turnlog.user("1")])

@atexit.register
def late():
    print(f"before the end: {len(store.load('a'))}")

def never(messages, **options):
    return waiting()

async def waiting():
    begun.set()
    import asyncio
    await asyncio.Event().wait()

def wait():
    try:
        turnlog.sync.Pipeline(store, never).execute("a", "user", "hi")
    except turnlog.Closed:
        print("a waiting call ends")

begun = threading.Event()
waiter = threading.Thread(target=wait, daemon=True)
waiter.start()
begun.wait()
"""


def test_calls_at_the_end_of_the_process_work_or_fail_clearly() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", AT_THE_END],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    lines = sorted(done.stdout.splitlines())
    assert lines[0] == "a waiting call ends"
    assert lines[1].startswith("after the end: the process ends, so turnlog.sync takes no more calls")
    assert lines[2] == "before the end: 1"

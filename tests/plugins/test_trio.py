"""Under trio, every call of an application raises a clear error before any I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import trio

import turnlog.sync
from turnlog import (
    Backend,
    Change,
    Key,
    Layer,
    Message,
    OutcomeUnknown,
    Pipeline,
    Store,
    Summaries,
    Unsupported,
    assistant,
    open_store,
    user,
)
from turnlog_memory import MemoryBackend


class Untouched(Layer):
    """Fails if a method of the contract is called."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError

    read = commit = delete = page = seal = copy = totals = namespaces = open = close = _refuse


async def never(messages: list[Message], **options: object) -> NoReturn:
    raise AssertionError


def calls(backend: Backend) -> dict[str, Callable[[], Any]]:
    """Return a call of each asynchronous method, by name; each returns an awaitable or an async generator."""
    store = Store(backend)
    lost = OutcomeUnknown("lost", key=Key("default", "a"), change=Change(id="1", metadata={"a": 1}))
    pipeline = Pipeline(store, never, load_history=lambda _: False, summaries=Summaries(model=never))
    said = [user("hi")]
    return {
        "Store.append": lambda: store.append("a", said),
        "Store.close": store.close,
        "Store.erase": lambda: store.erase("a"),
        "Store.erase_owner": lambda: store.erase_owner("ann"),
        "Store.export_owner": lambda: store.export_owner("ann"),
        "Store.fork": lambda: store.fork("a", "b"),
        "Store.info": lambda: store.info("a"),
        "Store.list_sessions": store.list_sessions,
        "Store.load": lambda: store.load("a"),
        "Store.merge_metadata": lambda: store.merge_metadata("a", {"a": 1}),
        "Store.namespaces": store.namespaces,
        "Store.open": store.open,
        "Store.pop": lambda: store.pop("a"),
        "Store.pop_messages": lambda: store.pop_messages("a", 1),
        "Store.resend": lambda: store.resend(lost),
        "Store.rewind": lambda: store.rewind("a", turns=1),
        "Store.rewrite": lambda: store.rewrite("a", said, from_turn=0, expect=None),
        "Store.save": lambda: store.save("a", said),
        "Store.session": lambda: store.session("a"),
        "Store.sessions": store.sessions,
        "Store.touch": lambda: store.touch("a"),
        "Store.trim": lambda: store.trim("a", before=1),
        "Store.turn": lambda: store.turn("a", "t"),
        "Store.write_turn": lambda: store.write_turn("a").find(),
        "Pipeline.execute": lambda: pipeline.execute("a", "user", "hi"),
        "Pipeline.stream": lambda: pipeline.stream("a", "user", "hi").__aenter__(),
        "Pipeline.summarize": lambda: pipeline.summarize("a"),
    }


def test_every_asynchronous_method_is_called() -> None:
    methods = {
        f"{cls.__name__}.{name}"
        for cls in (Store, Pipeline)
        for name, member in vars(cls).items()
        if not name.startswith("_") and (inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member))
    }
    assert methods | {"Store.write_turn", "Pipeline.stream"} == calls(MemoryBackend()).keys()


@pytest.mark.parametrize("name", calls(MemoryBackend()))
def test_a_call_under_trio_is_refused(name: str) -> None:
    async def main() -> None:
        with pytest.raises(Unsupported, match="turnlog needs asyncio, but trio runs here"):
            answer = calls(Untouched(MemoryBackend()))[name]()
            await (anext(answer) if inspect.isasyncgen(answer) else answer)

    trio.run(main)


def test_the_synchronous_api_works_under_trio() -> None:
    async def main() -> int:
        with turnlog.sync.open_store("memory://") as store:
            await trio.to_thread.run_sync(store.append, "a", [user("hi")])
            with store.write_turn("a") as turn:
                turn.add([user("hi")])
            with turnlog.sync.Pipeline(store, lambda messages, **options: iter("abc")).stream(
                "a", "user", "hi"
            ) as reply:
                assert list(reply) == ["a", "b", "c"]
            return len(store.load("a"))

    assert trio.run(main) == 4


async def test_asyncio_works_after_trio_was_imported() -> None:
    async with open_store("memory://") as store:
        await store.append("a", [user("hi"), assistant("hello")])

"""Typical code of users and plugin authors, for a type checker only: no test runs it.

Each `assert_type` fixes the type that an editor shows for a public call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TypedDict, assert_type

import turnlog.sync
from turnlog import (
    ABSENT,
    ANY,
    PRESENT,
    Backend,
    Change,
    Conflict,
    Erased,
    Expect,
    Key,
    Layer,
    Message,
    OutcomeUnknown,
    Page,
    Pipeline,
    Query,
    Receipt,
    Record,
    Reply,
    Result,
    Serialize,
    Session,
    SessionInfo,
    SessionNotFound,
    Store,
    Stream,
    Turn,
    Usage,
    Version,
    Window,
    assistant,
    open_store,
    system,
    tool,
    user,
)
from turnlog.config import Plugin, find_backend, find_layer, find_token_counter, installed
from turnlog.pipeline import TokenCounter
from turnlog.rules import SessionState, file_key, page

# ------------------------------------------------------------------------------------------------------- configuration


def configure() -> None:
    """Open a store in each way."""
    assert_type(open_store(), Store)
    open_store("sqlite:///chat.db?ttl=30d&retain=500", namespace="shop", ttl="24h", retain=100, max_session_bytes="1MB")
    open_store("memory://", ttl=86_400.0, max_session_bytes=65_536)
    open_store(config=Path("turnlog.toml"))
    open_store(config={"store": {"url": "memory://", "layers": ["cache", {"name": "zstd", "level": 3}]}})
    open_store("memory://", layers=["cache", {"name": "zstd", "level": 3}])
    open_store("memory://", None)  # type: ignore[call-arg]  # options are keyword-only
    open_store("memory://", namespcae="shop")  # type: ignore[call-arg]  # and a misspelt one is an error
    assert_type(find_backend("memory"), type[Backend])
    assert_type(find_token_counter("estimate"), TokenCounter)
    assert_type(find_layer("zstd"), type[Layer])
    assert_type(installed(), tuple[Plugin, ...])


# --------------------------------------------------------------------------------------------------------- application


class Wire(TypedDict):
    """A message as a client of a provider types it."""

    role: str
    content: str


async def talk() -> None:
    """Call each method of an application, and check the type of the result."""
    async with open_store("memory://") as store:
        assert_type(store, Store)
        assert_type(store.new_session_id(), str)
        calls = [{"id": "call-1", "function": {"name": "track", "arguments": "{}"}}]
        receipt = await store.append("s", [user("Hello"), assistant("Hi", tool_calls=calls)], owner="ann")
        assert_type(receipt, Receipt)
        assert_type(receipt.version, Version)
        assert_type(receipt.number, int | None)
        wire: Wire = {"role": "user", "content": "Hello"}
        await store.append("s", [{"role": "user", "content": "Hello"}, tool("12", tool_call_id="c"), wire])
        await store.append("s", (system("Be brief"),), turn_id="t", part=0, open=True, metadata={"title": None})
        await store.append("s", user("Hello"))  # type: ignore[arg-type]  # a list of messages, also of one
        assert_type(await store.load("s", last=20), list[Message])
        session = await store.session("s", before=10)
        assert_type(session, Session)
        assert_type(session.turns, tuple[Turn, ...])
        assert_type(session.messages, list[Message])
        assert_type(session.info, SessionInfo)
        assert_type(session.version, Version)
        version = session.version
        await store.save("s", session.messages, expect=ANY)
        for expect in (version, version.session, version.exact, ABSENT, PRESENT):
            await store.save("s", session.messages, expect=expect)
            await store.append("s", session.messages, expect=expect)
            await store.rewind("s", turns=1, expect=expect)
            await store.merge_metadata("s", {"title": "Oslo"}, expect=expect)
            await store.fork("s", "t", expect=expect)
            await store.erase("s", expect=expect)
        await store.append("s", [user("Hello")], expect=session.version)
        await store.append("s", [user("Hello")], expect=ANY)  # type: ignore[arg-type]  # an append overwrites nothing
        assert_type(await store.fork("s", "t", at=3), Receipt)
        assert_type(await store.rewind("s", turns=1), Receipt)
        assert_type(await store.pop("s"), Turn | None)
        assert_type(await store.merge_metadata("s", {"title": "Oslo", "tags": ["a"]}, ttl=60), Receipt)
        assert_type(await store.info("s"), SessionInfo)
        assert_type(await store.touch("s"), SessionInfo)
        assert_type(await store.erase("s"), bool)
        assert_type(await store.erase_owner("ann"), Erased)
        assert_type(store.sessions(owner="ann", prefix="a/"), AsyncIterator[SessionInfo])
        assert_type(await store.list_sessions(prefix="a/", limit=10, cursor=None), Page)
        assert_type(store.namespaces(), AsyncIterator[str])
        assert_type(store.export_owner("ann"), AsyncIterator[Session])
        assert_type(store.within("shop").for_owner("ann"), Store)


async def fail(store: Store) -> None:
    """Read the attributes of errors."""
    try:
        await store.append("s", [user("Hello")], turn_id="t")
    except Conflict as error:
        await store.append("s", [user("Hello")], expect=error.actual)
    except OutcomeUnknown as error:
        assert_type(await store.resend(error), Receipt)
    except SessionNotFound as error:
        found: Key | None = error.key
        assert found is not None


# ------------------------------------------------------------------------------------------------------------- plugins


class FolderBackend(Backend):
    """A backend of a third party."""

    def __init__(self, path: str, *, ttl: float | None = None) -> None:
        super().__init__(ttl=ttl)
        self.path = path
        self.states: dict[str, SessionState] = {}

    def _state(self, key: Key) -> SessionState:
        return self.states.get(file_key(key), SessionState.absent(key, ttl=self.ttl))

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        """See the contract."""
        state, session = self._state(key).read(self.clock(), last=last, before=before, since=since, touch=touch)
        assert_type(state, SessionState)
        return session

    async def commit(self, key: Key, change: Change) -> Receipt:
        """See the contract."""
        self.states[file_key(key)], receipt = self._state(key).apply(change, self.clock())
        return receipt

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        """See the contract."""
        return self._state(key).check_delete(expect, for_owner, self.clock())

    async def page(self, query: Query) -> Page:
        """See the contract."""
        return page([], query)


class ShoutingLayer(Layer):
    """A layer of a third party that changes payloads."""

    def __init__(self, inner: Backend, *, level: int = 3) -> None:
        super().__init__(inner)
        self.level = level

    async def commit(self, key: Key, change: Change) -> Receipt:
        """Change the payload of each record, then commit."""
        records = tuple(record.with_payload(record.payload.upper()) for record in change.append)
        assert_type(records, tuple[Record, ...])
        return await self.inner.commit(key, change.rewrite(append=records))


class HalfBackend(Backend):
    """A backend that lacks required methods."""


def misuse() -> None:
    """Make mistakes that a type checker refuses."""
    HalfBackend()  # type: ignore[abstract]
    ShoutingLayer()  # type: ignore[call-arg]
    Layer(ShoutingLayer)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ pipeline


async def echo(messages: Sequence[Message], *, temperature: float = 0.0) -> Message:
    """A model is an async callable."""
    return assistant(f"{temperature}: {messages[-1].text}")


class Remote:
    """An object with an async `__call__` is a model."""

    async def __call__(self, messages: list[Message]) -> Message:
        """Answer."""
        return assistant(messages[-1].text)


async def streamed(messages: Sequence[Message], **_: object) -> AsyncIterator[str | Reply]:
    """An async generator of pieces is a model."""
    yield "To "
    yield Reply({"role": "assistant", "content": "To you"}, Usage(10, 2))


def sum_of(first: int, second: int = 0) -> int:
    """Add two numbers."""
    return first + second


def deaf(messages: Sequence[Message]) -> Message:
    """Not a model: the function is not async."""
    return messages[-1]


async def converse() -> None:
    """Use a pipeline over two layers and a store."""
    stack = ShoutingLayer(ShoutingLayer(FolderBackend("chats"), level=1))
    async with Store(stack, namespace="shop") as store:
        assert_type(store, Store)
        assert_type(store.find(ShoutingLayer), ShoutingLayer)
        pipeline = Pipeline(store, echo, window=Window(messages=20), system="Be brief", options={"temperature": 0.5})
        result = await pipeline.execute("user-123", "user", "What about Germany?")
        assert_type(result, Result)
        assert_type(result.response, Message)
        assert_type(result.response.text, str)
        assert_type(result.receipt, Receipt)
        Pipeline(store, Remote())
        async with Pipeline(store, streamed, tools=[sum_of], concurrency=Serialize(lease=5)).stream(
            "s", "user", "?"
        ) as reply:
            assert_type(reply, Stream)
            async for piece in reply:
                assert_type(piece, str)
        assert_type(reply.result.usage, Usage | None)
        assert_type(await reply.result.save(), Receipt)
        Pipeline(store, echo, concurrency="fast")  # type: ignore[arg-type]
        Pipeline(store, deaf)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------- synchronous API


def plain(messages: Sequence[Message], **options: object) -> Iterator[str]:
    """Answer in pieces."""
    yield "yes"


def without_asyncio() -> None:
    """Call methods of each synchronous class."""
    with turnlog.sync.open_store("memory://") as store:
        assert_type(store, turnlog.sync.Store)
        assert_type(store.append("s", [user("Hello")]), Receipt)
        assert_type(store.session("s"), Session)
        assert_type(store.sessions(), Iterator[SessionInfo])
        assert_type(store.list_sessions(prefix="a/"), Page)
        assert_type(store.within("shop").for_owner("ann"), turnlog.sync.Store)
        store.load("s", lasst=3)  # type: ignore[call-arg]
        with store.write_turn("s") as turn:
            assert_type(turn, turnlog.sync.TurnWriter)
            assert_type(turn.add([user("Hello")]), Receipt)
        turnlog.sync.Pipeline(store, lambda messages: assistant("yes"))
        turnlog.sync.Pipeline(store.wrapped, echo)  # type: ignore[arg-type]  # an asynchronous store
        pipeline = turnlog.sync.Pipeline(store, plain, tools=[sum_of])
        result = pipeline.execute("s", "user", "Hello")
        assert_type(result, turnlog.sync.Result)
        assert_type(result.save(), Receipt)
        with pipeline.stream("s", "user", "Hello") as reply:
            for piece in reply:
                assert_type(piece, str)
        assert_type(reply.result, turnlog.sync.Result)

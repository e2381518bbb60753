"""The pipeline over every backend and stack: it remembers, and a session that is erased during a call stays erased."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import ClassVar, Unpack

import pytest

from further_ways import OnBackendOf, OverMemory
from redis_places import RedisContract
from sql_places import OverMariaDB, OverPostgreSQL, OverSQLite
from turnlog import Backend, Conflict, Message, Pipeline, SessionNotFound, Store, assistant, user
from turnlog.testing import BackendOptions
from turnlog_cache import CacheLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_offline import offline


class Everywhere(OnBackendOf):
    """The tests.  A subclass sets `below` to the contract class of a backend, and sets `layers`."""

    layers: ClassVar[Sequence[Callable[[Backend], Backend]]] = ()

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        backend = super().make(**options)
        for layer in self.layers:
            backend = layer(backend)
        return backend

    async def test_the_second_message_remembers_the_first(self, store: Store) -> None:
        """The model receives the history of its session only, with and without streaming."""
        pipeline = Pipeline(store, offline)
        await pipeline.execute("alice", "user", "My name is Alice")
        await pipeline.execute("bob", "user", "My name is Bob")
        assert "Alice" in (await pipeline.execute("alice", "user", "What is my name?")).response.text
        async with pipeline.stream("bob", "user", "What is my name?") as reply:
            assert "Bob" in "".join([piece async for piece in reply])
        assert [len(turn.messages) for turn in (await store.session("bob")).turns] == [2, 2]

    async def test_what_was_erased_or_has_expired_while_the_model_works_stays_gone(self) -> None:
        """Erasure, expiry and a change of owner are detected when the turn is stored."""
        store = await self.opened(ttl=60.0)

        async def erase(session_id: str) -> None:
            assert await store.erase(session_id)

        async def expire(session_id: str) -> None:
            await self.advance(120)

        async def erase_owner(session_id: str) -> None:
            await store.erase_owner("ann")

        async def give_away(session_id: str) -> None:
            await store.merge_metadata(session_id, owner="bob")

        for step in (erase, expire, erase_owner, give_away):
            for streamed in (False, True):
                await self._while_the_model_works(store, f"{step.__name__} {streamed}", step, streamed=streamed)

    async def _while_the_model_works(
        self, store: Store, session_id: str, step: Callable[[str], Awaitable[None]], *, streamed: bool
    ) -> None:
        await store.append(session_id, [user("Hello")], owner="ann")

        async def model(messages: Sequence[Message], **_: object) -> AsyncIterator[str]:
            yield "Hello"
            await step(session_id)
            yield ", Ann"

        pipeline = Pipeline(store, model)
        with pytest.raises((Conflict, SessionNotFound)):
            if streamed:
                async with pipeline.stream(session_id, "user", "?", owner="ann") as reply:
                    async for _ in reply:
                        pass
            else:
                await pipeline.execute(session_id, "user", "?", owner="ann")
        if step.__name__ == "give_away":
            assert (await store.info(session_id)).turns == 1
        else:
            with pytest.raises(SessionNotFound):
                await store.info(session_id)

    async def test_one_request_at_a_time(self, store: Store) -> None:
        """Serialized requests see each other's turns."""

        async def count(messages: Sequence[Message], **_: object) -> Message:
            return assistant(str(len(messages)))

        pipeline = Pipeline(store, count, concurrency="serialize")
        results = await asyncio.gather(*[pipeline.execute("s", "user", "?") for _ in range(4)])
        assert sorted(result.response.text for result in results) == ["1", "3", "5", "7"]


class TestMemory(Everywhere):
    below = OverMemory


class TestZstdAndCacheOverMemory(Everywhere):
    below = OverMemory
    layers = (ZstdLayer, CacheLayer)


class TestSQLite(Everywhere):
    below = OverSQLite


class TestZstdAndCacheOverSQLite(Everywhere):
    below = OverSQLite
    layers = (ZstdLayer, CacheLayer)


class TestPostgreSQL(Everywhere):
    below = OverPostgreSQL


class TestZstdAndCacheOverPostgreSQL(Everywhere):
    below = OverPostgreSQL
    layers = (ZstdLayer, CacheLayer)


class TestMariaDB(Everywhere):
    below = OverMariaDB


class TestZstdAndCacheOverMariaDB(Everywhere):
    below = OverMariaDB
    layers = (ZstdLayer, CacheLayer)


class TestRedis(Everywhere):
    below = RedisContract


class TestZstdAndCacheOverRedis(Everywhere):
    below = RedisContract
    layers = (ZstdLayer, CacheLayer)

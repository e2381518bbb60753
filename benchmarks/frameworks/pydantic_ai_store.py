"""Compare conversation stores for pydantic-ai: python benchmarks/frameworks/pydantic_ai_store.py [--rounds 15]

Needs `turnlog[pydantic-ai,redis]`, and pydantic-ai-harness for the rows of its SQLite store.  Its version 0.62.0 asks
for an earlier pydantic-ai-slim: install it with `pip install --no-deps`.

Each round saves one turn to a conversation of 1,000 messages, loads that conversation, and lists 100 conversations, with
each store in a different order.  The script prints the median times, and the medians of the ratios within a round.

The floors are what the documentation of pydantic-ai proposes for histories that grow: a row for the messages of each
run, and a row for the rest of the conversation.  They compare no versions and remember no repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pydantic_ai import Conversation, ConversationTypeAdapter
from pydantic_ai.conversation_store import InMemoryConversationStore
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from redis.asyncio import Redis

import servers
from turnlog import open_store
from turnlog_pydantic_ai import TurnlogConversationStore

try:
    from pydantic_ai_harness.step_persistence.conversations import ConversationSummary, SqliteConversationStore
except ImportError:
    SqliteConversationStore = None

MESSAGES, LISTED = 1_000, 100


def turn(number):
    """Four messages: a question, a tool call, its result and an answer of about 600 characters."""
    return [
        ModelRequest(parts=[UserPromptPart(f"Question {number}: where is my order, and when will it arrive?")]),
        ModelResponse(parts=[ToolCallPart("track", {"order": number}, f"call-{number}")]),
        ModelRequest(parts=[ToolReturnPart("track", {"state": "shipped", "order": number}, f"call-{number}")]),
        ModelResponse(parts=[TextPart("It is on its way, and should arrive tomorrow. " * 12)]),
    ]


class OfPydanticAI:
    """A `ConversationStore`: ours, or pydantic-ai's own."""

    def __init__(self, store):
        self.store = store

    async def save(self, conversation, count):
        await self.store.save(conversation)

    async def load(self, id):
        return await self.store.load(id)

    async def list(self):
        return await self.store.list_conversations(limit=LISTED)


class OfHarness:
    """pydantic-ai-harness's store of conversations in SQLite."""

    def __init__(self, folder):
        self.store = SqliteConversationStore(database=Path(folder) / "harness.db")
        self.heads = {}

    async def save(self, conversation, count):
        id = conversation.conversation_id
        head = self.heads.get(id) or ConversationSummary(id=id, workspace="w")
        self.heads[id] = await self.store.save(summary=head, messages=conversation.messages)

    async def load(self, id):
        return await self.store.get(conversation_id=id)

    async def list(self):
        return await self.store.listing(limit=LISTED)


class FloorSQLite:
    """A row for each run, and a row for the rest of the conversation; one connection in a thread."""

    def __init__(self, folder):
        self.db = sqlite3.connect(f"{folder}/floor.db", check_same_thread=False)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, conversation TEXT, messages BLOB)")
        self.db.execute("CREATE INDEX of_conversation ON runs (conversation)")
        self.db.execute("CREATE TABLE conversations (id TEXT PRIMARY KEY, rest BLOB, updated REAL)")
        self.db.execute("CREATE INDEX by_time ON conversations (updated)")

    async def save(self, conversation, count):
        await asyncio.to_thread(self._save, *_encoded(conversation, count))

    def _save(self, id, new, rest):
        with self.db:
            self.db.execute("INSERT INTO runs (conversation, messages) VALUES (?, ?)", (id, new))
            self.db.execute("REPLACE INTO conversations VALUES (?, ?, ?)", (id, rest, time.time()))

    async def load(self, id):
        return _decoded(*await asyncio.to_thread(self._load, id))

    def _load(self, id):
        runs = self.db.execute("SELECT messages FROM runs WHERE conversation = ? ORDER BY id", (id,)).fetchall()
        return [run for (run,) in runs], self.db.execute(
            "SELECT rest FROM conversations WHERE id = ?", (id,)
        ).fetchone()[0]

    async def list(self):
        return [ConversationTypeAdapter.validate_json(rest) for (rest,) in await asyncio.to_thread(self._list)]

    def _list(self):
        return self.db.execute("SELECT rest FROM conversations ORDER BY updated DESC LIMIT ?", (LISTED,)).fetchall()


class FloorRedis:
    """A list with an item for each run, a hash with the rest, and a sorted set by time; a transaction for each save."""

    def __init__(self, url):
        self.redis = Redis.from_url(url)

    async def save(self, conversation, count):
        id, new, rest = _encoded(conversation, count)
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.rpush(f"runs:{id}", new)
            pipe.hset("floor", id, rest)
            pipe.zadd("floor-times", {id: time.time()})
            await pipe.execute()

    async def load(self, id):
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.lrange(f"runs:{id}", 0, -1)
            pipe.hget("floor", id)
            return _decoded(*await pipe.execute())

    async def list(self):
        ids = await self.redis.zrevrange("floor-times", 0, LISTED - 1)
        return [ConversationTypeAdapter.validate_json(rest) for rest in await self.redis.hmget("floor", ids)]


def _encoded(conversation, count):
    new = ModelMessagesTypeAdapter.dump_json(conversation.messages[-count:])
    rest = Conversation(conversation_id=conversation.conversation_id, usage=conversation.usage)
    return conversation.conversation_id, new, ConversationTypeAdapter.dump_json(rest)


def _decoded(runs, rest):
    conversation = ConversationTypeAdapter.validate_json(rest)
    conversation.messages = ModelMessagesTypeAdapter.validate_json(b"[" + b",".join([run[1:-1] for run in runs]) + b"]")
    return conversation


async def measure(stores, rounds):
    """Return the seconds of each operation of each store, one list for each round."""
    conversations = {}
    for name, store in stores.items():
        for number in range(LISTED):
            short = Conversation(conversation_id=f"short-{number}", messages=turn(number))
            await store.save(short, 4)
        long = conversations[name] = Conversation(conversation_id="long")
        for number in range(MESSAGES // 4):
            long.messages += turn(number)
            await store.save(long, 4)
    found = {(name, what): [] for name in stores for what in ("save", "load", "list")}
    names = list(stores)
    for number in range(rounds):
        random.shuffle(names)
        for name in names:
            store, long = stores[name], conversations[name]
            for what, act in (
                ("save", lambda: store.save(long, 4)),
                ("load", lambda: store.load("long")),
                ("list", store.list),
            ):
                if what == "save":
                    long.messages += turn(number)
                start = time.perf_counter()
                result = await act()
                found[name, what].append(time.perf_counter() - start)
                if what == "load":
                    assert len(result.messages) == len(long.messages)
                if what == "list":
                    assert len(result) == LISTED
    return found


PAIRS = (
    ("turnlog memory", "InMemoryConversationStore"),
    ("turnlog sqlite", "harness sqlite"),
    ("turnlog sqlite", "floor sqlite"),
    ("turnlog redis", "floor redis"),
)


async def main(rounds):
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-pydantic-ai-"))
        redis = servers.started("redis", stack)
        opened = {
            name: open_store(url)
            for name, url in {"memory": "memory://", "sqlite": servers.started("sqlite", stack), "redis": redis}.items()
        }
        for store in opened.values():
            await store.open()
        floor = FloorRedis(redis.removesuffix("0") + "1")
        stores = {f"turnlog {name}": OfPydanticAI(TurnlogConversationStore(store)) for name, store in opened.items()}
        stores["InMemoryConversationStore"] = OfPydanticAI(InMemoryConversationStore())
        stores |= {"floor sqlite": FloorSQLite(folder), "floor redis": floor}
        if SqliteConversationStore is not None:
            stores["harness sqlite"] = OfHarness(folder)
        found = await measure(stores, rounds)
        for store in opened.values():
            await store.close()
        await floor.redis.aclose()
    print(f"milliseconds, medians of {rounds} rounds:")
    for name in stores:
        times = "  ".join(
            f"{what} {statistics.median(found[name, what]) * 1e3:7.2f}" for what in ("save", "load", "list")
        )
        print(f"  {name:28}{times}")
    print("medians of ratios within a round:")
    for ours, theirs in PAIRS:
        if theirs in stores:
            ratios = "  ".join(
                f"{what} {statistics.median(a / b for a, b in zip(found[ours, what], found[theirs, what])):7.2f}"
                for what in ("save", "load", "list")
            )
            print(f"  {f'{ours} / {theirs}':46}{ratios}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    asyncio.run(main(parser.parse_args().rounds))

"""Measure the savings by compression: python benchmarks/compression.py CONVERSATIONS [--groups sqlite,redis]

CONVERSATIONS is a file with one `{"session_id": ..., "messages": [...]}` a line.  The script stores each conversation in
a separate session.  Then it joins ten conversations at a time into long sessions, with the first system message only.  It
stores turn by turn, as an application does.  It prints the bytes of the stored payloads, and the total size in the database:
for SQLite the file after VACUUM, for Redis MEMORY USAGE of all keys.  A dictionary is trained on the same conversations that
are then written with it, and the total includes it.  The script checks no limits; the tests do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from contextlib import ExitStack
from urllib.parse import quote

import redis

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import servers
from turnlog import Key, Message, Store
from turnlog.rules import split_turns
from turnlog_compression import GzipLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_redis import RedisBackend
from turnlog_sql.sqlite import SQLiteBackend

WAYS = {
    "plain": lambda store: store,
    "gzip, turn by turn": lambda store: GzipLayer(store, seal=False),
    "zstd, turn by turn": lambda store: ZstdLayer(store, seal=False),
    "zstd with a dictionary, turn by turn": lambda store: ZstdLayer(store, seal=False, dictionary=True),
    "zstd, sealed as it was written": ZstdLayer,
    "zstd, sealed but for the last 32 turns": ZstdLayer,
    "zstd, sealed whole": ZstdLayer,
}
AFTERWARDS = {"zstd, sealed but for the last 32 turns": None, "zstd, sealed whole": 0}
"""The ways that recompress after writing, with the idle seconds after which a session is sealed whole; None: never."""


def conversations(path: str) -> dict[str, dict[str, list]]:
    """Return the sessions by name, as lists of messages."""
    with open(path, encoding="utf-8") as lines:
        separate = {told["session_id"]: told["messages"] for told in map(json.loads, lines)}
    joined = {}
    for number, messages in enumerate(separate.values()):
        long = joined.setdefault(f"long {number // 10}", [])
        long += [message for message in messages if not long or message["role"] != "system"]
    return {"separate": separate, "joined ten by ten": joined}


class SQLite:
    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="bench-compression-")
        self.path = os.path.join(self.folder, "turnlog.db")

    def store(self) -> SQLiteBackend:
        return SQLiteBackend(f"sqlite:///{quote(self.path)}", synchronous="NORMAL")

    def taken(self) -> int:
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("VACUUM")
        connection.close()
        return os.path.getsize(self.path)

    def close(self) -> None:
        shutil.rmtree(self.folder)


class Redis:
    def __init__(self, server: servers.Redis) -> None:
        self.url = f"redis://127.0.0.1:{server.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self.client.flushall()

    def store(self) -> RedisBackend:
        return RedisBackend(self.url)

    def taken(self) -> int:
        return sum(self.client.memory_usage(key, samples=0) for key in self.client.scan_iter(count=1000))

    def close(self) -> None:
        self.client.close()


async def fill(store: Store, sessions: dict[str, list]) -> None:
    for name, messages in sessions.items():
        for turn in split_turns([Message.from_dict(message) for message in messages]):
            await store.append(name, turn)


async def emptied(store: Store) -> Store:
    for name in [info.key.session async for info in store.sessions()]:
        await store.erase(name)
    return store


async def stored(place, way: str, sessions: dict[str, list]) -> tuple[int, int]:
    """Return the bytes of the payloads and the total size."""
    async with place.store() as backend:
        layer = WAYS[way](backend)
        store = Store(layer)
        await fill(store, sessions)
        if way.startswith("zstd with"):
            await layer.train(store.namespace)
            await fill(await emptied(store), sessions)
        if way.startswith("zstd, sealed"):
            await asyncio.gather(*layer._sealer._tasks.values())
        if way in AFTERWARDS:
            async for _ in layer.recompress(store.namespace, idle=AFTERWARDS[way]):
                pass
        payloads = 0
        for name in sessions:
            payloads += sum(len(record.payload) for record in (await backend.read(Key(store.namespace, name))).records)
    return payloads, place.taken()


def table(figures: dict[str, tuple[int, int]]) -> None:
    print("| | payloads, bytes | plain / this | all, bytes | plain / this |\n|---|--:|--:|--:|--:|")
    plain = figures["plain"]
    for way, (payloads, taken) in figures.items():
        print(f"| {way} | {payloads:,} | {plain[0] / payloads:.2f} | {taken:,} | {plain[1] / taken:.2f} |")
    print()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("conversations")
    parser.add_argument("--groups", default="sqlite,redis")
    asked = parser.parse_args()
    with ExitStack() as stack:
        server = stack.enter_context(servers.Redis()) if "redis" in asked.groups else None
        for group in asked.groups.split(","):
            for how, sessions in conversations(asked.conversations).items():
                figures = {}
                for way in WAYS:
                    place = Redis(server) if group == "redis" else SQLite()
                    figures[way] = await stored(place, way, sessions)
                    place.close()
                messages = sum(map(len, sessions.values()))
                print(f"**{group}, {how}: {len(sessions)} sessions, {messages:,} messages**\n")
                table(figures)


if __name__ == "__main__":
    asyncio.run(main())

"""A lost answer: the example store of the Claude Agent SDK stores a batch twice, and turnlog stores it once.

    python claude_lost_answer.py redis://127.0.0.1:6379/0 redis_session_store.py

The second argument is the SDK's example store for Redis, a file in `examples/session_stores` of its source
distribution (`pip download --no-deps --no-binary claude-agent-sdk claude-agent-sdk`).  Both stores reach the server
through a proxy, which ends the connection in place of one answer, as a network does.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

from claude_agent_sdk import SessionKey, SessionStore, SessionStoreEntry
from redis.asyncio import Redis

from turnlog import open_store
from turnlog_claude_agent_sdk import TurnlogSessionStore


class Proxy:
    """A proxy on the loopback; after `lose_answer = True`, the next answer of the server is lost."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.lose_answer = False
        self._connections: list[asyncio.Task[None]] = []

    def __call__(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        self._connections.append(asyncio.create_task(self._connect(client, answers)))

    async def _connect(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        server, requests = await asyncio.open_connection(self.host, self.port)
        forwarding = asyncio.create_task(self._forward(server, answers))
        with suppress(ConnectionError):
            while data := await client.read(65_536):
                requests.write(data)
        requests.close()
        await forwarding

    async def _forward(self, server: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        while data := await server.read(65_536):
            if self.lose_answer:
                self.lose_answer = False
                break
            answers.write(data)
        answers.close()


async def sent(store: SessionStore, key: SessionKey, entry: dict[str, Any]) -> None:
    """Send a batch as the SDK does: up to three times, until the store accepts it."""
    for _ in range(3):
        with suppress(Exception):
            return await store.append(key, [cast("SessionStoreEntry", entry)])
    raise RuntimeError("no attempt succeeded")


async def stored(store: SessionStore, proxy: Proxy) -> list[Any]:
    """Send two batches, lose the answer to the second one, and return the stored entries."""
    key: SessionKey = {"project_key": "example", "session_id": str(uuid4())}
    await sent(store, key, {"type": "user", "uuid": "1", "message": {"role": "user", "content": "Buy one share."}})
    proxy.lose_answer = True
    await sent(store, key, {"type": "assistant", "uuid": "2", "message": {"role": "assistant", "content": "Bought."}})
    return await store.load(key) or []


async def main(url: str, example: str) -> None:
    """Print the number of entries in each store."""
    server = urlsplit(url)
    proxy = Proxy(server.hostname or "127.0.0.1", server.port or 6379)
    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as listening:
        through = server._replace(netloc=f"127.0.0.1:{listening.sockets[0].getsockname()[1]}").geturl()
        spec = importlib.util.spec_from_file_location("redis_session_store", example)
        if spec is None or spec.loader is None:
            raise SystemExit(f"{example} is no Python file")
        spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
        async with Redis.from_url(through, decode_responses=True) as client:
            print("SDK's example:", len(await stored(module.RedisSessionStore(client), proxy)), "entries")
        async with open_store(through) as store:
            print("turnlog:", len(await stored(TurnlogSessionStore(store), proxy)), "entries")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

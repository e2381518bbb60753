"""Shared code of the Redis tests: stores, naive scripts, a proxy that loses messages, and writers in other processes.

python redis_writers.py append URL REPEATS [unchecked]  eight writers append to one session concurrently, repeatedly
python redis_writers.py race URL ROUNDS [unchecked]     two writers change a session at one version
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1
from typing import Any, Final, Self
from urllib.parse import urlsplit

import hiredis
import redis

import server_writers
import servers
from turnlog import Key, Store
from turnlog_redis import RedisBackend, _scripts
from turnlog_redis._layout import keys_of

CUT_REQUEST: Final = "request"
CUT_REPLY: Final = "reply"
Fate = str | bytes | None


class RedisStore(Store):
    """A store over Redis."""

    backend: RedisBackend


def at(url: str, *, namespace: str = "default", **options: Any) -> RedisStore:
    """Return the store at a URL.

    Args:
        url: The URL of the server.
        namespace: As in `Store`.
        options: The options of the backend.
    """
    return RedisStore(RedisBackend(url, **options), namespace=namespace)


def raw(url: str) -> redis.Redis:
    """Return a blocking client without turnlog: a command has been executed when the call returns."""
    return redis.Redis.from_url(url, protocol=2)


def emptied() -> str:
    """Return the URL of a Redis server without sessions."""
    url = servers.redis()
    with raw(url) as client:
        client.flushdb()
    return url


def place_of(session: str, namespace: str = "default") -> bytes:
    """Return the key of a session in Redis."""
    return keys_of(namespace, Key(namespace, session).session.encode()).session


# --------------------------------------------------------------------------------------------------------------- naive


def rewritten(name: str, old: str, new: str) -> _scripts.Script:
    """Return a script with some of its text replaced, and register it."""
    text = getattr(_scripts, name).text.decode()
    assert old in text, "nothing to replace"
    data = text.replace(old, new).encode()
    script = _scripts.Script(data, sha1(data, usedforsecurity=False).hexdigest().encode())
    _scripts.TEXTS[script.sha] = data
    return script


@contextmanager
def planted(name: str, old: str, new: str) -> Iterator[None]:
    """Replace a script by a naive one until the block ends."""
    sound = getattr(_scripts, name)
    setattr(_scripts, name, rewritten(name, old, new))
    try:
        yield
    finally:
        setattr(_scripts, name, sound)


UNCHECKED: Final = ("COMMIT", "if seen ~= expected or another then", "if seen == '' and expected ~= '' then")
FORGETFUL: Final = ("COMMIT", "if found then", "if false then")


def unchecked() -> None:
    """Make commits naive: a script no longer checks that the header is the one that was read."""
    _scripts.COMMIT = rewritten(*UNCHECKED)  # type: ignore[misc]


# --------------------------------------------------------------------------------------------------------------- proxy


class Proxy:
    """A proxy between a store and its server that reads the commands and decides the fate of each.

    Args:
        url: The URL of the server.
        fate: A function that returns the fate of a command.  None: it is forwarded.  `CUT_REQUEST`: the connection ends
            before the server receives it.  `CUT_REPLY`: the connection ends after the server has executed it.  Bytes:
            the proxy answers with them, and the server does not receive the command.
    """

    def __init__(self, url: str, fate: Callable[[list[bytes]], Fate] = lambda command: None) -> None:
        self.target = servers_port(url)
        self.fate = fate
        self.commands: list[bytes] = []
        self.trips = self.sent = self.received = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/0"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """End all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """The number of connections."""
        return len(self._tasks)

    def count(self) -> None:
        """Reset the counts."""
        self.commands, self.trips, self.sent, self.received = [], 0, 0, 0

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transports: list[asyncio.BaseTransport] = [writer.transport]
        try:
            with suppress(OSError):
                answers, asked = await asyncio.open_connection("127.0.0.1", self.target)
                transports.append(asked.transport)
                await self._pass(reader, writer, answers, asked)
        finally:
            for transport in transports:
                assert isinstance(transport, asyncio.WriteTransport)
                transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        asked: asyncio.StreamWriter,
    ) -> None:
        commands, rest = hiredis.Reader(), b""
        while data := await reader.read(1 << 20):
            commands.feed(data)
            self.trips += not rest
            self.sent += len(data)
            rest = data
            while (command := commands.gets()) is not False:
                rest = b""
                self.commands.append(command[0].upper())
                fate = self.fate(command)
                if fate == CUT_REQUEST:
                    return
                if isinstance(fate, bytes):
                    reply = fate
                else:
                    asked.write(hiredis.pack_command(tuple(command)))
                    reply = await _reply(answers)
                if fate == CUT_REPLY:
                    return
                self.received += len(reply)
                writer.write(reply)


async def _reply(answers: asyncio.StreamReader) -> bytes:
    """Read the bytes of one reply."""
    reader, parts = hiredis.Reader(), []
    while True:
        data = await answers.read(1 << 20)
        if not data:
            raise ConnectionResetError
        parts.append(data)
        reader.feed(data)
        if reader.gets() is not False:
            return b"".join(parts)


def servers_port(url: str) -> int:
    """Return the port of a URL."""
    return urlsplit(url).port or 6379


# ------------------------------------------------------------------------------------------------------------ processes


if __name__ == "__main__":
    what, where, times, *more = sys.argv[1:]
    if "unchecked" in more:
        unchecked()
    {"append": server_writers.append, "race": server_writers.race}[what](where, int(times))

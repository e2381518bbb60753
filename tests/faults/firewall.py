"""A firewall between a store and its server: it forwards bytes, or drops them silently."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class Firewall:
    """Forwards the bytes of connections to a server and back, until `forget` makes it drop them.

    It closes no connection while it drops bytes, so neither side is notified.

    Args:
        url: The URL of the server.
        delay: Seconds before bytes are forwarded, in each direction.

    Attributes:
        url: The URL of the server through the firewall.
        made: The number of connections made through it.
    """

    def __init__(self, url: str, *, delay: float = 0.0) -> None:
        self._behind = urlsplit(url)
        self._delay = delay
        self._connections: list[_Connection] = []
        self._ended = False
        self._shut = False
        self.made = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        account, at, _ = self._behind.netloc.rpartition("@")
        self.url = self._behind._replace(netloc=f"{account}{at}127.0.0.1:{port}").geturl()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._ended = True
        self._server.close()
        for connection in self._connections:
            connection.end()

    def forget(self, *, requests: bool = True, replies: bool = True, new: bool = False) -> None:
        """Drop the bytes of existing connections.

        Args:
            requests: Whether to drop the bytes from the store.
            replies: Whether to drop the bytes from the server.
            new: Whether to drop all bytes of later connections.
        """
        self._shut = new
        for connection in self._connections:
            connection.requests, connection.replies = not requests, not replies

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        there = await asyncio.open_connection(self._behind.hostname, self._behind.port)
        connection = _Connection((reader, writer), there, self._delay)
        connection.requests = connection.replies = not self._shut
        self._connections.append(connection)
        if self._ended:
            connection.end()


class _Connection:
    def __init__(
        self,
        here: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        delay: float,
    ) -> None:
        self._delay = delay
        self.requests = self.replies = True
        self._writers = here[1], there[1]
        self._tasks = [
            asyncio.ensure_future(self._pass("requests", here[0], there[1])),
            asyncio.ensure_future(self._pass("replies", there[0], here[1])),
        ]

    async def _pass(self, which: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await asyncio.sleep(self._delay)
                if getattr(self, which):
                    writer.write(data)
        if self.requests and self.replies:
            self.end()

    def end(self) -> None:
        """Abort both connections."""
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()

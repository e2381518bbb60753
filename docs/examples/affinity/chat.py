"""A chat service of several processes over one store.

python chat.py router
python chat.py instance ROUTER [off|validate|trust]

TURNLOG_STORE_URL names the store.  Each process prints its address and runs until it is killed.  Requests and answers
are lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from typing import Any, Final, Self

from turnlog import (
    ABSENT,
    Conflict,
    IdReused,
    InvalidInput,
    SessionNotFound,
    Store,
    TurnlogError,
    assistant,
    open_store,
    user,
)
from turnlog_cache import CacheLayer, choose

Line = dict[str, Any]
_LONGEST: Final = 2**20


class Peer:
    """A connection to a router or an instance."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def at(cls, address: str) -> Self:
        """Connect."""
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port), limit=_LONGEST))

    async def ask(self, question: Line) -> Line:
        """Send a request and return the answer.

        Raises:
            OSError: No answer arrived.
        """
        self.writer.write(json.dumps(question).encode() + b"\n")
        async with asyncio.timeout(10):
            line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the answer was cut off")
        answer: Line = json.loads(line)
        return answer

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()


class Router:
    """Sends the requests of a session to one instance, among those that have joined and answer."""

    def __init__(self) -> None:
        self.instances: dict[str, list[Peer]] = {}
        """The idle connections to each instance."""

    async def answer(self, question: Line) -> Line:
        """Let an instance join, or return the answer of the session's instance."""
        if "join" in question:
            self.instances.setdefault(question["join"], [])
            return {}
        while self.instances:
            name = choose(question["session"], self.instances)
            idle = self.instances[name]
            try:
                peer = idle.pop() if idle else await Peer.at(name)
                answer = await peer.ask(question)
            except OSError:  # the instance may have stored the turn: another one stores no second turn under its id
                self.instances.pop(name, None)
            else:
                idle.append(peer)
                return answer
        return {"error": "there is no instance"}


class Instance:
    """Answers requests of any session; the store decides which turns are accepted."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def answer(self, question: Line) -> Line:
        """Store a turn, and return the user's messages of all turns; or return the counters of the cache."""
        if "stats" in question:
            try:
                return dict(self.store.find(CacheLayer).stats())
            except InvalidInput:
                return {}  # the store has no cache
        while True:
            try:
                return {"said": await self.turn(**question)}
            except (Conflict, IdReused):
                continue  # another instance has written after the read, perhaps this same turn: read again
            except TurnlogError as error:
                return {"error": str(error)}

    async def turn(self, session: str, turn: str, text: str) -> list[str]:
        """Load the history and append a turn, if no other writer has changed the session meanwhile."""
        found = None
        with suppress(SessionNotFound):
            found = await self.store.session(session)
        turns = found.turns if found else ()
        said = [one.messages[0].text for one in turns]
        if turn in (one.id for one in turns):  # an instance stored the turn, and died before it answered
            return said
        reply = assistant(f"That was your message number {len(said) + 1}.")
        await self.store.append(session, [user(text), reply], turn_id=turn, expect=found.version if found else ABSENT)
        return [*said, text]


async def listen(answer: Callable[[Line], Awaitable[Line]]) -> asyncio.Server:
    """Start a server that answers each request."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(json.dumps(await answer(json.loads(line))).encode() + b"\n")
                await writer.drain()
        writer.close()

    return await asyncio.start_server(talk, "127.0.0.1", 0, limit=_LONGEST)


def address_of(server: asyncio.Server) -> str:
    """Return the address of a server."""
    host, port = server.sockets[0].getsockname()
    return f"{host}:{port}"


async def join(router: str, address: str) -> None:
    """Let an instance join a router."""
    with closing(await Peer.at(router)) as peer:
        await peer.ask({"join": address})


async def run_router() -> None:
    """Run the router."""
    server = await listen(Router().answer)
    print(address_of(server), flush=True)
    await server.serve_forever()


async def run_instance(router: str, mode: str = "validate") -> None:
    """Run an instance.  It joins every second, because the router may have been restarted, or may have dropped it."""
    layers = [] if mode == "off" else [{"name": "cache", "mode": mode}]
    async with open_store(layers=layers) as store:
        server = await listen(Instance(store).answer)
        await join(router, address_of(server))
        print(address_of(server), flush=True)
        while True:
            await asyncio.sleep(1)
            with suppress(OSError):
                await join(router, address_of(server))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(run_router() if sys.argv[1] == "router" else run_instance(*sys.argv[2:]))

"""A chat service of several processes over one store; each prints its address and serves until it is ended.

python chat.py router
python chat.py instance ROUTER [off|validate|trust]    over the store that TURNLOG_STORE_URL names

Whoever asks sends a line of JSON and is answered with one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import asdict
from typing import Any, Final, Self

from turnlog import ABSENT, Conflict, IdReused, SessionNotFound, Store, TurnlogError, assistant, open_store, user
from turnlog_cache import CacheLayer, choose

Line = dict[str, Any]
_LONGEST: Final = 2**20


class Peer:
    """A connection to somebody who answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def at(cls, address: str) -> Self:
        """Connect."""
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port), limit=_LONGEST))

    async def ask(self, question: Line) -> Line:
        """Ask one question, and wait for the answer.

        Raises:
            OSError: There is none.
        """
        self.writer.write(json.dumps(question).encode() + b"\n")
        async with asyncio.timeout(10):
            line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the answer was cut off")
        answer: Line = json.loads(line)
        return answer

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


class Router:
    """Sends each session to the instance that is chosen for it, among those that have joined and answer."""

    def __init__(self) -> None:
        self.instances: dict[str, list[Peer]] = {}
        """Connections to them that nobody uses at the moment."""

    async def answer(self, question: Line) -> Line:
        """What an instance answers."""
        if "join" in question:
            self.instances.setdefault(question["join"], [])
            return {}
        while self.instances:
            name = choose(question["session"], self.instances)
            idle = self.instances[name]
            try:
                peer = idle.pop() if idle else await Peer.at(name)
                answer = await peer.ask(question)
            except OSError:  # dead, or out of reach: ask the next one; a turn that was stored is not stored again
                self.instances.pop(name, None)
            else:
                idle.append(peer)
                return answer
        return {"error": "there is no instance"}


class Instance:
    """Answers for whichever session it is asked about: that it is asked is a hint, and the store is the judge."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def answer(self, question: Line) -> Line:
        """Take a turn, and tell what the user has said in all of them."""
        if "stats" in question:
            return asdict(self.store.stats) if isinstance(self.store, CacheLayer) else {}
        while True:
            try:
                return {"said": await self.turn(**question)}
            except (Conflict, IdReused):
                continue  # another instance has written since, perhaps this very turn: look again
            except TurnlogError as error:
                return {"error": str(error)}

    async def turn(self, session: str, turn: str, text: str) -> list[str]:
        """Load the history and append to it, if it is still what was loaded."""
        found = None
        with suppress(SessionNotFound):
            found = await self.store.session(session)
        turns = found.turns if found else ()
        said = [one.messages[0].text for one in turns]
        if turn in (one.id for one in turns):  # whoever stored it died before it could say so
            return said
        reply = assistant(f"That was your message number {len(said) + 1}.")
        await self.store.append(session, [user(text), reply], turn_id=turn, expect=found.version if found else ABSENT)
        return [*said, text]


async def listen(answer: Callable[[Line], Awaitable[Line]]) -> asyncio.Server:
    """Answer whoever connects."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(json.dumps(await answer(json.loads(line))).encode() + b"\n")
                await writer.drain()
        writer.close()

    return await asyncio.start_server(talk, "127.0.0.1", 0, limit=_LONGEST)


def address_of(server: asyncio.Server) -> str:
    """Where it listens."""
    host, port = server.sockets[0].getsockname()
    return f"{host}:{port}"


async def join(router: str, address: str) -> None:
    """Tell the router who is there."""
    with closing(await Peer.at(router)) as peer:
        await peer.ask({"join": address})


async def run_router() -> None:
    """Be the router."""
    server = await listen(Router().answer)
    print(address_of(server), flush=True)
    await server.serve_forever()


async def run_instance(router: str, mode: str = "validate") -> None:
    """Be an instance, which joins once a second: also a router that was started anew, or had given it up."""
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

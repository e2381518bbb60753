"""Run a router and four instances under load; kill one instance, and add another.

python demo.py --redis URL

Each session sends a message, waits for the answer, and sends the next message.  The answer lists the messages that the
instance found in the session.  These must be all acknowledged messages, once and in order.  The demo runs without a
cache, and with a cache in each mode, and prints the load of Redis and the counters of the caches.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Self

from redis.asyncio import Redis

from chat import Line, Peer

MODES = ("off", "validate", "trust")
AT_ONCE = 40  # sessions


class Figures(NamedTuple):
    """The cost of one part of a run."""

    mode: str
    part: str
    turns: int
    commands: float  # of Redis, per turn
    bytes: float  # sent by Redis, per turn
    hits: int  # hits, misses and stale: sums over the instances that run at the end
    misses: int
    stale: int

    def __str__(self) -> str:
        return (
            f"{self.mode:10}{self.part:22}{self.turns:6}{self.commands:10.1f}{self.bytes:8.0f}"
            f"{self.hits:7}{self.misses:8}{self.stale:7}"
        )


HEAD = "mode      part                   turns  commands   bytes   hits  misses  stale"


class Instance(NamedTuple):
    """A process and its address."""

    process: asyncio.subprocess.Process
    address: str


class Service:
    """A router and its instances, each a process.

    Args:
        url: The URL of Redis.
        mode: The mode of the caches.
    """

    def __init__(self, url: str, mode: str) -> None:
        self.mode = mode
        self.instances: list[Instance] = []
        self._processes: list[asyncio.subprocess.Process] = []
        self._environment = {
            **os.environ,
            "TURNLOG_STORE_URL": url,
            "TURNLOG_STORE_NAMESPACE": f"affinity-{secrets.token_hex(4)}",
            "TURNLOG_STORE_TTL": "1h",
        }

    async def __aenter__(self) -> Self:
        try:
            self.router = (await self._run("router")).address
            await asyncio.gather(*(self.add() for _ in range(4)))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def add(self) -> None:
        """Start an instance, which joins the router."""
        self.instances.append(await self._run("instance", self.router, self.mode))

    async def kill(self) -> None:
        """Kill an instance under load."""
        process, _ = self.instances.pop(0)
        process.kill()
        await process.wait()

    async def stats(self) -> dict[str, Line]:
        """Return the counters of each instance's cache, by address."""
        found = {}
        for _, address in self.instances:
            with closing(await Peer.at(address)) as peer:
                found[address] = await peer.ask({"stats": 1})
        return found

    async def _run(self, *words: str) -> Instance:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            Path(__file__).with_name("chat.py"),
            *words,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
        )
        self._processes.append(process)
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().strip()
        if not address:
            raise RuntimeError(f"{words[0]} did not start")
        return Instance(process, address)


class Load:
    """Sessions that send messages and record the acknowledged ones.

    Args:
        service: The service.
        redis: The Redis to measure.
        sessions: The number of sessions.
    """

    def __init__(self, service: Service, redis: Redis, sessions: int) -> None:
        self.service = service
        self.redis = redis
        self.said: dict[str, list[str]] = {f"session-{number}": [] for number in range(sessions)}
        self._peers: list[Peer] = []
        self._gate = asyncio.Semaphore(AT_ONCE)

    def close(self) -> None:
        """Close all connections."""
        for peer in self._peers:
            peer.close()

    async def talk(self, part: str, *, rounds: int = 1, event: str = "") -> Figures:
        """Let every session send messages.

        Args:
            part: The name of this part of the run.
            rounds: Number of messages that each session sends.
            event: `kill` or `add`: kill or add an instance when a quarter of the sessions have sent a message.
        """
        before, did_before = await self.service.stats(), await self._redis_did()
        for number in range(rounds):
            talking = [asyncio.create_task(self._say(session)) for session in self.said]
            if event and not number:
                await talking[len(talking) // 4]
                await getattr(self.service, event)()
            await asyncio.gather(*talking)
        turns, after = rounds * len(self.said), await self.service.stats()
        commands, sent = ((now - then) / turns for now, then in zip(await self._redis_did(), did_before, strict=True))
        hits, misses, stale = (
            sum(stats.get(name, 0) - before.get(address, {}).get(name, 0) for address, stats in after.items())
            for name in ("hits", "misses", "stale")
        )
        return Figures(self.service.mode, part, turns, commands, sent, hits, misses, stale)

    async def _say(self, session: str) -> None:
        async with self._gate:
            said = self.said[session]
            turn = {"session": session, "turn": f"{session}-{len(said)}", "text": f"This is number {len(said) + 1}."}
            peer = self._peers.pop() if self._peers else await Peer.at(self.service.router)
            answer = await peer.ask(turn)
            self._peers.append(peer)
            said.append(turn["text"])
            if answer.get("said") != said:
                raise AssertionError(f"{session}: acknowledged was {said}, the answer was {answer}")

    async def _redis_did(self) -> tuple[int, int]:
        commands = await self.redis.info("commandstats")
        return sum(one["calls"] for one in commands.values()), (await self.redis.info("stats"))[
            "total_net_output_bytes"
        ]


async def run(url: str, mode: str, sessions: int, rounds: int) -> list[Figures]:
    """Run all parts in one mode.

    Raises:
        AssertionError: A message was lost, stored twice, or stored in another order.
    """
    async with Redis.from_url(url) as redis, Service(url, mode) as service:
        with closing(Load(service, redis, sessions)) as load:
            return [
                await load.talk("first turns"),
                await load.talk("second turns"),
                await load.talk("four instances", rounds=rounds),
                await load.talk("one is killed", rounds=2, event="kill"),
                await load.talk("three instances", rounds=rounds),
                await load.talk("one is added", rounds=2, event="add"),
                await load.talk("four instances again", rounds=rounds),
            ]


async def main() -> None:
    """Run every mode, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", required=True, metavar="URL", help="such as redis://localhost:6379/0")
    parser.add_argument("--sessions", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each session in the quiet parts")
    args = parser.parse_args()
    print(HEAD)
    for mode in MODES:
        figures = await run(args.redis, mode, args.sessions, args.rounds)
        print(*figures, sep="\n")
    print("Nothing was lost.")


if __name__ == "__main__":
    asyncio.run(main())

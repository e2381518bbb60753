"""The contract on Redis, for any topology of its servers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from random import Random
from typing import Any, Unpack

import redis
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

import servers
from turnlog import Backend, Store
from turnlog.testing import BackendContract, BackendOptions, DamageContract
from turnlog_redis import RedisBackend
from turnlog_redis._layout import keys_of


class RedisContract(BackendContract, DamageContract):
    """The contract, for a backend that uses the clock of its server."""

    def nodes(self) -> list[str]:
        """The URLs of the servers that hold sessions."""
        return [servers.redis()]

    def place(self) -> str:
        """The URL for the backend."""
        return self.nodes()[0]

    @cached_property
    def url(self) -> str:
        """The URL for the backend, with the servers emptied."""
        for node in self.nodes():
            servers.ask_redis(node, "FLUSHDB")
        return self.place()

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return RedisBackend(self.url, **options)

    def unopenable(self) -> Backend:
        return RedisBackend(f"redis://127.0.0.1:{servers.free_port()}", timeout=0.2)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for node in self.nodes():
            async with Redis.from_url(node) as client:
                for key in await client.keys("turnlog:*:s:*"):
                    left = await client.pttl(key)
                    if left >= 0:
                        await client.pexpire(key, max(0, left - int(seconds * 1000)))

    async def damage(self, store: Store, session_id: str) -> None:
        place = keys_of(store.namespace, session_id.encode()).session
        for node in self.nodes():
            with redis.Redis.from_url(node) as client, suppress(ResponseError):  # another node has the key
                data: Any = client.lindex(place.decode(), 0)
                if data is not None:
                    client.lset(place.decode(), 0, data[:-1])


class OnCluster(RedisContract):
    """The contract on a cluster of three nodes."""

    def nodes(self) -> list[str]:
        return [node.url for node in servers.redis_cluster().nodes]

    def place(self) -> str:
        return servers.redis_cluster().url


class Mover:
    """Moves slots with keys from one node of a cluster to another and back, without pause."""

    def __init__(self, nodes: Sequence[servers.Redis]) -> None:
        self._nodes = nodes
        self._clients = [redis.Redis.from_url(node.url, decode_responses=True) for node in nodes]
        self._names: list[str] = [self._ask(place, "CLUSTER", "MYID") for place in range(len(nodes))]
        self._ended = threading.Event()
        self._random = Random(1)
        self.still = threading.Lock()
        """Locked while a slot is moved: the holder knows that no slot is in transit."""
        self.moves = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def moves_on(self) -> bool:
        """Whether the thread still runs, because no command has failed."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop after the current move, so that one node owns each slot."""
        self._ended.set()
        self._thread.join()
        for client in self._clients:
            client.close()

    def redirected(self) -> dict[str, int]:
        """Return the number of errors and redirections that the nodes have sent, by kind."""
        found: dict[str, int] = {}
        for node in self._nodes:
            for kind, said in node.ask("INFO", "errorstats").items():
                found[kind] = found.get(kind, 0) + int(said["count"])
        return found

    def _ask(self, place: int, *words: str | int) -> Any:
        return self._clients[place].execute_command(*words)  # type: ignore[no-untyped-call]

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            source, target = self._random.sample(range(len(self._nodes)), 2)
            keys = self._ask(source, "KEYS", "turnlog:*")
            if keys:
                with self.still:
                    self._move(key_slot(self._random.choice(keys).encode()), source, target)
                # A node that has not received the last move would claim the next slot with too low an epoch, and lose
                # it.
                servers.until(self._agree, self._nodes[0].process, "agreement of the nodes")
                self.moves += 1

    def _move(self, slot: int, source: int, target: int) -> None:
        """Move a slot as redis.io/docs/reference/cluster-spec describes, one key at a time."""
        self._ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._names[source])
        self._ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._names[target])
        while True:
            self._ended.wait(0.003)  # clients now find some keys here and some there
            keys = self._ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1)
            if not keys:
                break
            self._ask(source, "MIGRATE", "127.0.0.1", self._nodes[target].port, keys[0], 0, 5000)
        for place in (target, source, *range(len(self._nodes))):
            self._ask(place, "CLUSTER", "SETSLOT", slot, "NODE", self._names[target])

    def _agree(self) -> bool:
        views = []
        for place in range(len(self._nodes)):
            lines = [line.split() for line in str(self._ask(place, "CLUSTER", "NODES")).splitlines()]
            views.append(sorted((line[0], line[6], line[8:]) for line in lines))
        return all(view == views[0] for view in views)

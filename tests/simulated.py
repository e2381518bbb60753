"""The stacks of the simulation.  As a program it runs seeds: python tests/simulated.py --minutes 30 [--servers]."""

from __future__ import annotations

import argparse
import time
from functools import cached_property
from itertools import count
from typing import ClassVar

from redis_places import RedisContract
from sql_places import OverMariaDB, OverPostgreSQL, ServerContract
from turnlog import Backend
from turnlog.testing.crowd import crowd
from turnlog.testing.simulation import Simulation, simulate
from turnlog_cache import CacheLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_sql.sqlite import SQLiteBackend


class InMemory(Simulation):
    """The memory backend."""

    def backend(self) -> Backend:
        return MemoryBackend(ttl=self.ttl, clock=self.clock)


class InMemoryCached(InMemory):
    """A cache and compression over the memory backend."""

    def stack(self, inner: Backend) -> Backend:
        return CacheLayer(ZstdLayer(inner))


class OnSQLite(Simulation):
    """SQLite, with a backend for each writer."""

    def backend(self) -> Backend:
        place = f"sqlite:///{self.folder}/turnlog.db"
        return SQLiteBackend(place, ttl=self.ttl, clock=self.clock, synchronous="NORMAL", sweep=0)


class OnSQLiteCached(OnSQLite):
    """A cache and compression over SQLite."""

    def stack(self, inner: Backend) -> Backend:
        return CacheLayer(ZstdLayer(inner))


class OnServer(Simulation):
    """A server, whose clock sets the expiry."""

    contract: ClassVar[type[RedisContract | ServerContract]]

    @cached_property
    def _server(self) -> RedisContract | ServerContract:
        return self.contract()

    def backend(self) -> Backend:
        return self._server.make(ttl=self.ttl, clock=self.clock)

    async def advance(self, seconds: float) -> None:
        await super().advance(seconds)
        await self._server.advance(seconds)


class OnServerCached(OnServer):
    """A cache and compression over a server."""

    def stack(self, inner: Backend) -> Backend:
        return CacheLayer(ZstdLayer(inner))


class OnRedis(OnServer):
    contract = RedisContract


class OnRedisCached(OnServerCached):
    contract = RedisContract


class OnPostgreSQL(OnServer):
    contract = OverPostgreSQL


class OnPostgreSQLCached(OnServerCached):
    contract = OverPostgreSQL


class OnMariaDB(OnServer):
    contract = OverMariaDB


STACKS: tuple[type[Simulation], ...] = (InMemory, InMemoryCached, OnSQLite, OnSQLiteCached)
SERVERS: tuple[type[Simulation], ...] = (OnRedis, OnRedisCached, OnPostgreSQL, OnPostgreSQLCached, OnMariaDB)


def main() -> None:
    """Run seeds until the time is over, or until one fails."""
    parser = argparse.ArgumentParser(description="Run seeds of the simulation on each stack.")
    parser.add_argument("--minutes", type=float, default=1.0, help="the time to run")
    parser.add_argument("--first", type=int, default=1_000_000, help="the first seed")
    parser.add_argument("--servers", action="store_true", help="run on Redis, PostgreSQL and MariaDB")
    options = parser.parse_args()
    end, runs = time.monotonic() + options.minutes * 60, 0
    for seed in count(options.first):
        for kind in SERVERS if options.servers else STACKS:
            for run in (simulate, crowd):
                run(kind, seed)
                runs += 1
        if seed % 100 == 99:
            print(f"{runs} runs up to seed {seed}", flush=True)
        if time.monotonic() > end:
            print(f"{runs} runs, seeds {options.first} to {seed}: no difference")
            return


if __name__ == "__main__":
    main()

"""turnlog: memory, SQLite with commits that wait for the disk (FULL) or do not wait (NORMAL), PostgreSQL, Redis.

An operation is that of an application in a new request: `load` and `append` by session id.  Nothing is kept between
operations, except by a cache if the name of the adapter includes one.
"""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import quote

from interface import Adapter

from turnlog import ABSENT, Change, Key, Message, Store
from turnlog.values.record import Record
from turnlog_memory import MemoryBackend


class _Turnlog(Adapter):
    peer = "turnlog"

    def convert(self, msgs):
        return [Message.from_dict(m) for m in msgs]

    def make(self, env):
        raise NotImplementedError

    async def open(self, env):
        self.store = Store(self.make(env), namespace=self.name)
        await self.store.open()

    async def close(self):
        await self.store.close()

    async def seed(self, sid, msgs):
        """Store turns of two messages, like those of the workload, in one commit."""
        turns = (Record.of(tuple(msgs[i : i + 2]), id=f"t{i}", time=0.0) for i in range(0, len(msgs), 2))
        await self.store.backend.commit(Key(self.store.namespace, sid), Change(append=tuple(turns), expect=ABSENT))

    async def save(self, sid, msgs):
        await self.store.save(sid, msgs)

    async def load(self, sid):
        return await self.store.load(sid)

    async def tail(self, sid, k):
        return await self.store.load(sid, last=k)

    async def append(self, sid, msgs):
        await self.store.append(sid, msgs)

    async def fork(self, src, dst):
        await self.store.fork(src, dst)

    async def turn(self, sid, msgs):
        await self.store.load(sid, last=20)
        await self.store.append(sid, msgs)


def _cached(backend, mode):
    """Return a backend with a cache, which in `trust` sends no requests to the backend during a run."""
    from turnlog_cache import CacheLayer

    return CacheLayer(backend, mode=mode, max_age=3600.0)


class Memory(_Turnlog):
    name, backend = "turnlog memory", "memory"

    def make(self, env):
        return MemoryBackend()


class _Sqlite(_Turnlog):
    backend, synchronous = "sqlite", ""

    def make(self, env):
        from turnlog_sql.sqlite import SQLiteBackend

        self.path = os.path.join(env["dir"], f"{self.name}.db")
        return SQLiteBackend(f"sqlite:///{quote(self.path)}", synchronous=self.synchronous)

    async def stored_bytes(self):
        con = sqlite3.connect(self.path)
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        con.close()
        return os.path.getsize(self.path)


class SqliteFull(_Sqlite):
    name, synchronous = "turnlog sqlite FULL", "FULL"


class SqliteZstd(SqliteFull):
    name = "turnlog sqlite FULL zstd"

    def make(self, env):
        from turnlog_compression.zstd import ZstdLayer

        return ZstdLayer(super().make(env))


class SqliteTrust(SqliteFull):
    name = "turnlog sqlite FULL cache trust"

    def make(self, env):
        return _cached(super().make(env), "trust")


class SqliteNormal(_Sqlite):
    name, synchronous = "turnlog sqlite NORMAL", "NORMAL"


class Postgres(_Turnlog):
    name, backend = "turnlog postgresql", "postgres"

    def make(self, env):
        from turnlog_sql.postgresql import PostgreSQLBackend

        return PostgreSQLBackend(f"postgresql://bench@127.0.0.1:{env['pg_port']}/bench")

    async def stored_bytes(self):
        tables = ("sessions", "records", "metadata", "changes")
        sizes = " + ".join(f"pg_total_relation_size('turnlog_{table}')" for table in tables)
        database = self.store.backend._database
        return (await database.with_connection(lambda one: database.fetch(one, f"SELECT {sizes}", ())))[0][0]


class Redis(_Turnlog):
    name, backend = "turnlog redis", "redis"

    def make(self, env):
        from turnlog_redis import RedisBackend

        return RedisBackend(f"redis://127.0.0.1:{env['redis_port']}/0")


class RedisZstd(Redis):
    name = "turnlog redis zstd"

    def make(self, env):
        from turnlog_compression.zstd import ZstdLayer

        return ZstdLayer(super().make(env))


class RedisValidate(Redis):
    name = "turnlog redis cache validate"

    def make(self, env):
        return _cached(super().make(env), "validate")


class RedisTrust(Redis):
    name = "turnlog redis cache trust"

    def make(self, env):
        return _cached(super().make(env), "trust")


ADAPTERS = [
    Memory,
    SqliteFull,
    SqliteZstd,
    SqliteTrust,
    SqliteNormal,
    Postgres,
    Redis,
    RedisZstd,
    RedisValidate,
    RedisTrust,
]

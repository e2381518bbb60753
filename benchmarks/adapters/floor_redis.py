"""Floor, Redis: raw redis-py (asyncio and sync) and a minimal multiplexing client."""

from __future__ import annotations

import asyncio
from collections import deque

import hiredis
import redis
import redis.asyncio as aioredis
import zstandard
from interface import Adapter
from schema import json_enc, json_msg, json_msgs, mp_enc, mp_msgs, to_struct

_c, _d = zstandard.ZstdCompressor(3), zstandard.ZstdDecompressor()


class Mux:
    """One connection for many callers: it sends commands immediately and matches replies by their order."""

    class _Protocol(asyncio.Protocol):
        def __init__(self):
            self.reader, self.waiting = hiredis.Reader(), deque()

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            reader, waiting = self.reader, self.waiting
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                fut = waiting.popleft()
                if not fut.done():
                    fut.set_result(reply)

    @classmethod
    async def connect(cls, port):
        self = cls()
        self.loop = asyncio.get_running_loop()
        _, self.p = await self.loop.create_connection(cls._Protocol, "127.0.0.1", port)
        return self

    def call(self, *args):
        fut = self.loop.create_future()
        self.p.waiting.append(fut)
        self.p.transport.write(hiredis.pack_command(args))
        return fut

    def close(self):
        self.p.transport.close()


class _Redis(Adapter):
    peer, backend, floor = "floor", "redis", True

    def convert(self, msgs):
        return [to_struct(m) for m in msgs]

    async def open(self, env):
        self.r = aioredis.Redis(port=env["redis_port"], db=0)
        self.sync = redis.Redis(port=env["redis_port"], db=0)

    async def close(self):
        await self.r.aclose()
        self.sync.close()

    async def stored_bytes(self):
        return sum(self.sync.memory_usage(k, samples=0) or 0 for k in self.sync.keys(f"{self.tag}*"))


class PerMessage(_Redis):
    """RPUSH of one JSON value per message; LRANGE; COPY for a fork."""

    name, tag = "floor list/msg json", "fm:"

    async def save(self, sid, msgs):
        k = self.tag + sid
        async with self.r.pipeline(transaction=True) as p:
            p.delete(k)
            p.rpush(k, *map(json_enc.encode, msgs))
            await p.execute()

    async def load(self, sid):
        return [json_msg.decode(x) for x in await self.r.lrange(self.tag + sid, 0, -1)]

    async def tail(self, sid, k):
        return [json_msg.decode(x) for x in await self.r.lrange(self.tag + sid, -k, -1)]

    async def append(self, sid, msgs):
        await self.r.rpush(self.tag + sid, *map(json_enc.encode, msgs))

    async def fork(self, src, dst):
        await self.r.copy(self.tag + src, self.tag + dst, replace=True)


class PerTurn(_Redis):
    """One list element per turn (a JSON or msgpack array of its messages)."""

    name, tag, enc, dec = "floor list/turn json", "ft:", json_enc, json_msgs

    async def save(self, sid, msgs):
        k = self.tag + sid
        async with self.r.pipeline(transaction=True) as p:
            p.delete(k)
            p.rpush(k, *(self.enc.encode(msgs[i : i + 2]) for i in range(0, len(msgs), 2)))
            await p.execute()

    def _join(self, frames):
        out, dec = [], self.dec.decode
        for f in frames:
            out += dec(f)
        return out

    async def load(self, sid):
        return self._join(await self.r.lrange(self.tag + sid, 0, -1))

    async def tail(self, sid, k):
        return self._join(await self.r.lrange(self.tag + sid, -k // 2, -1))

    async def append(self, sid, msgs):
        await self.r.rpush(self.tag + sid, self.enc.encode(msgs))

    async def fork(self, src, dst):
        await self.r.copy(self.tag + src, self.tag + dst, replace=True)


class PerTurnMp(PerTurn):
    name, tag, enc, dec = "floor list/turn mp", "fp:", mp_enc, mp_msgs


class PerTurnScript(PerTurnMp):
    """Append by a script that only pushes."""

    name, tag = "floor list/turn mp EVALSHA", "fv:"

    async def open(self, env):
        await super().open(env)
        self.sha = await self.r.script_load("return redis.call('RPUSH', KEYS[1], ARGV[1])")

    async def append(self, sid, msgs):
        await self.r.evalsha(self.sha, 1, self.tag + sid, self.enc.encode(msgs))


class PerTurnSync(PerTurn):
    name, tag, enc, dec, blocking = "floor list/turn mp sync", "fs:", mp_enc, mp_msgs, True

    async def save(self, sid, msgs):
        k = self.tag + sid
        p = self.sync.pipeline(transaction=True)
        p.delete(k)
        p.rpush(k, *(self.enc.encode(msgs[i : i + 2]) for i in range(0, len(msgs), 2)))
        p.execute()

    async def load(self, sid):
        return self._join(self.sync.lrange(self.tag + sid, 0, -1))

    async def tail(self, sid, k):
        return self._join(self.sync.lrange(self.tag + sid, -k // 2, -1))

    async def append(self, sid, msgs):
        self.sync.rpush(self.tag + sid, self.enc.encode(msgs))

    async def fork(self, src, dst):
        self.sync.copy(self.tag + src, self.tag + dst, replace=True)


class PerTurnMux(PerTurn):
    """The same through the multiplexing client, to measure the cost of redis-py."""

    name, tag, enc, dec = "floor list/turn mp mux", "fx:", mp_enc, mp_msgs

    async def open(self, env):
        await super().open(env)
        self.m = await Mux.connect(env["redis_port"])

    async def close(self):
        self.m.close()
        await super().close()

    async def save(self, sid, msgs):
        k = self.tag + sid
        self.m.call(b"MULTI"), self.m.call(b"DEL", k)
        self.m.call(b"RPUSH", k, *(self.enc.encode(msgs[i : i + 2]) for i in range(0, len(msgs), 2)))
        await self.m.call(b"EXEC")

    async def load(self, sid):
        return self._join(await self.m.call(b"LRANGE", self.tag + sid, b"0", b"-1"))

    async def tail(self, sid, k):
        return self._join(await self.m.call(b"LRANGE", self.tag + sid, str(-k // 2), b"-1"))

    async def append(self, sid, msgs):
        await self.m.call(b"RPUSH", self.tag + sid, self.enc.encode(msgs))

    async def fork(self, src, dst):
        await self.m.call(b"COPY", self.tag + src, self.tag + dst, b"REPLACE")


class Segments(_Redis):
    """Open turns in one list, sealed 64-message zstd segments in another."""

    name, tag, seal, enc, dec = "floor segments zstd mp", "fg:", 32, mp_enc, mp_msgs

    def _pack(self, msgs):
        return _c.compress(self.enc.encode(msgs))

    async def save(self, sid, msgs):
        s, t = self.tag + sid + ":s", self.tag + sid + ":t"
        step = self.seal * 2
        whole = (max(0, len(msgs) - step) // step) * step
        async with self.r.pipeline(transaction=True) as p:
            p.delete(s, t)
            if whole:
                p.rpush(s, *(self._pack(msgs[i : i + step]) for i in range(0, whole, step)))
            p.rpush(t, *(self.enc.encode(msgs[i : i + 2]) for i in range(whole, len(msgs), 2)))
            await p.execute()

    async def load(self, sid):
        async with self.r.pipeline(transaction=True) as p:
            p.lrange(self.tag + sid + ":s", 0, -1).lrange(self.tag + sid + ":t", 0, -1)
            sealed, open_ = await p.execute()
        out, dec, dz = [], self.dec.decode, _d.decompress
        for f in sealed:
            out += dec(dz(f))
        for f in open_:
            out += dec(f)
        return out

    async def tail(self, sid, k):
        out = []
        for f in await self.r.lrange(self.tag + sid + ":t", -k // 2, -1):
            out += self.dec.decode(f)
        return out

    async def append(self, sid, msgs):
        t = self.tag + sid + ":t"
        if await self.r.rpush(t, self.enc.encode(msgs)) >= 2 * self.seal:
            batch = []
            for f in await self.r.lrange(t, 0, self.seal - 1):
                batch += self.dec.decode(f)
            async with self.r.pipeline(transaction=True) as p:
                p.rpush(self.tag + sid + ":s", self._pack(batch)).ltrim(t, self.seal, -1)
                await p.execute()

    async def fork(self, src, dst):
        async with self.r.pipeline(transaction=True) as p:
            for x in (":s", ":t"):
                p.copy(self.tag + src + x, self.tag + dst + x, replace=True)
            await p.execute()


class Blob(_Redis):
    """The whole history as one value: GET, SET; append reads, decodes, encodes, writes."""

    name, tag = "floor blob mp", "fb:"

    async def save(self, sid, msgs):
        await self.r.set(self.tag + sid, mp_enc.encode(msgs))

    async def load(self, sid):
        return mp_msgs.decode(await self.r.get(self.tag + sid))

    async def append(self, sid, msgs):
        await self.save(sid, (await self.load(sid)) + msgs)

    async def fork(self, src, dst):
        await self.r.copy(self.tag + src, self.tag + dst, replace=True)


class Cached(PerTurn):
    """Local cache of decoded, immutable messages: a load fetches only the turns it lacks."""

    name, tag, enc, dec = "floor list/turn mp +cache", "fc:", mp_enc, mp_msgs

    async def open(self, env):
        await super().open(env)
        self.cache = {}

    async def save(self, sid, msgs):
        await super().save(sid, msgs)
        self.cache[sid] = (len(range(0, len(msgs), 2)), list(msgs))

    async def _sync(self, sid):
        have, msgs = self.cache.get(sid, (0, []))
        new = await self.r.lrange(self.tag + sid, have, -1)
        if new:
            msgs = msgs + self._join(new) if have else self._join(new)
            self.cache[sid] = (have + len(new), msgs)
        return msgs

    async def load(self, sid):
        return (await self._sync(sid)).copy()

    async def tail(self, sid, k):
        return (await self._sync(sid))[-k:]

    async def append(self, sid, msgs):
        n = await self.r.rpush(self.tag + sid, self.enc.encode(msgs))
        have, old = self.cache.get(sid, (0, []))
        if have == n - 1 and have:
            old.extend(msgs)
            self.cache[sid] = (n, old)


ADAPTERS = [PerMessage, PerTurn, PerTurnMp, PerTurnScript, PerTurnSync, PerTurnMux, Segments, Blob, Cached]

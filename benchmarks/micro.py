"""Measure single parts: codecs, compression, round trips, drivers, pragmas, transactions.

python micro.py [--sections await,codec,compress,redis,sqlite,postgres,open] [--out DIR]
The script writes DIR/micro.csv and DIR/compression.csv.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gc
import gzip
import json
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import warnings

warnings.filterwarnings("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import msgspec
import orjson
import workload
import zstandard
from interface import Turns, quantile
from schema import ToolCall, json_enc, json_msg, json_msgs, mp_enc, mp_msgs, to_struct

import servers

PIN = True
ROWS: list[tuple] = []
COMP: list[tuple] = []


def record(section, case, times, inner=1, extra=""):
    us = [t / inner * 1e6 for t in times]
    ROWS.append((section, case, len(us), round(quantile(us, 0.5), 3), round(quantile(us, 0.99), 3), extra))


async def race(section, cases, seconds=0.35, rounds=5, inner=1, max_reps=2000, extras=None):
    """Alternate the cases round by round.  A case is a callable; if it returns a coroutine, that is awaited."""
    times = {k: [] for k in cases}
    gc.collect()
    for _ in range(rounds):
        for k, fn in cases.items():
            until = time.perf_counter() + seconds / rounds
            for _ in range(max_reps // rounds):
                t0 = time.perf_counter()
                r = fn()
                if r is not None and hasattr(r, "__await__"):
                    await r
                t1 = time.perf_counter()
                times[k].append(t1 - t0)
                if t1 > until:
                    break
    for k, t in times.items():
        record(section, k, t, inner, (extras or {}).get(k, ""))


# --- async facade over a dict -------------------------------------------------------------


async def sec_await():
    d = {f"s{i}": list(range(100)) for i in range(100)}
    R = range(1000)

    def sync_get(k):
        return d[k]

    async def a1(k):
        return d[k]

    async def a2(k):
        return await a1(k)

    async def a3(k):
        return await a2(k)

    lock, tl = asyncio.Lock(), threading.Lock()

    async def locked(k):
        async with lock:
            return d[k]

    async def tlocked(k):
        with tl:
            return d[k]

    def loop_sync():
        for _ in R:
            sync_get("s5")

    def loop_bare():
        for _ in R:
            d["s5"]

    def mk(f):
        async def go():
            for _ in R:
                await f("s5")

        return go

    async def tasks():
        for _ in R:
            await asyncio.create_task(a1("s5"))

    await race(
        "await",
        {
            "dict lookup inline": loop_bare,
            "sync method": loop_sync,
            "await async def (1 layer)": mk(a1),
            "await, 2 layers": mk(a2),
            "await, 3 layers": mk(a3),
            "await + asyncio.Lock": mk(locked),
            "await + threading.Lock": mk(tlocked),
            "await create_task": tasks,
        },
        inner=1000,
    )
    await race(
        "await",
        {
            "await asyncio.to_thread": lambda: asyncio.to_thread(sync_get, "s5"),
            "await asyncio.sleep(0)": lambda: asyncio.sleep(0),
        },
    )


# --- codecs -------------------------------------------------------------------------------


class MessageArr(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    id: str
    role: str
    content: str
    ts: float
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class MessageGc(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    role: str
    content: str
    ts: float
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


async def sec_codec():
    from pydantic import BaseModel, TypeAdapter

    class PTool(BaseModel):
        id: str
        name: str
        arguments: str

    class PMessage(BaseModel):
        id: str
        role: str
        content: str
        ts: float
        tool_calls: list[PTool] | None = None
        tool_call_id: str | None = None

    plist = TypeAdapter(list[PMessage])
    n = 1000
    dicts = workload.generate(n)
    structs = [to_struct(m) for m in dicts]
    arrs = [MessageArr(s.id, s.role, s.content, s.ts, s.tool_calls, s.tool_call_id) for s in structs]
    pyd = plist.validate_python(dicts)
    jb, ob, mb, ab = json.dumps(dicts).encode(), orjson.dumps(dicts), mp_enc.encode(structs), mp_enc.encode(arrs)
    sj = json_enc.encode(structs)
    darr, dgc = msgspec.msgpack.Decoder(list[MessageArr]), msgspec.json.Decoder(list[MessageGc])
    raw = msgspec.json.Decoder(list[msgspec.Raw])
    size = {"json": len(jb), "orjson": len(ob), "msgpack": len(mb), "array": len(ab), "struct json": len(sj)}
    ex = {}

    def case(name, nbytes):
        ex[name] = f"{nbytes} bytes/1000 messages"
        return name

    enc = {
        case("enc json.dumps dicts", size["json"]): lambda: json.dumps(dicts) and None,
        case("enc orjson dicts", size["orjson"]): lambda: orjson.dumps(dicts) and None,
        case("enc msgspec json dicts", size["orjson"]): lambda: json_enc.encode(dicts) and None,
        case("enc msgspec json Struct", size["struct json"]): lambda: json_enc.encode(structs) and None,
        case("enc msgspec msgpack Struct", size["msgpack"]): lambda: mp_enc.encode(structs) and None,
        case("enc msgspec msgpack Struct array_like", size["array"]): lambda: mp_enc.encode(arrs) and None,
        case("enc pydantic dump_json list", size["json"]): lambda: plist.dump_json(pyd) and None,
    }
    dec = {
        case("dec json.loads -> dict", size["json"]): lambda: json.loads(jb) and None,
        case("dec orjson -> dict", size["orjson"]): lambda: orjson.loads(ob) and None,
        case("dec msgspec json -> dict", size["orjson"]): lambda: msgspec.json.decode(ob) and None,
        case("dec msgspec json -> Struct", size["struct json"]): lambda: json_msgs.decode(sj) and None,
        case("dec msgspec json -> Struct gc=True", size["struct json"]): lambda: dgc.decode(sj) and None,
        case("dec msgspec msgpack -> dict", size["msgpack"]): lambda: msgspec.msgpack.decode(mb) and None,
        case("dec msgspec msgpack -> Struct", size["msgpack"]): lambda: mp_msgs.decode(mb) and None,
        case("dec msgspec msgpack -> Struct array_like", size["array"]): lambda: darr.decode(ab) and None,
        case("dec msgspec json -> Raw (lazy split)", size["struct json"]): lambda: raw.decode(sj) and None,
        case("dec pydantic validate_json list", size["json"]): lambda: plist.validate_json(jb) and None,
    }
    await race("codec/1000", {**enc, **dec}, extras=ex)
    # the same 1000 messages in frames
    jm = [json_enc.encode(s) for s in structs]
    jt = [json_enc.encode(structs[i : i + 2]) for i in range(0, n, 2)]
    mt = [mp_enc.encode(structs[i : i + 2]) for i in range(0, n, 2)]
    ms = [mp_enc.encode(structs[i : i + 64]) for i in range(0, n, 64)]

    def join(frames, d):
        out = []
        for f in frames:
            out += d(f)

    await race(
        "frames/1000",
        {
            "dec json, 1000 messages": lambda: [json_msg.decode(x) for x in jm] and None,
            "dec json, 500 turns": lambda: join(jt, json_msgs.decode),
            "dec msgpack, 500 turns": lambda: join(mt, mp_msgs.decode),
            "dec msgpack, 16 segments": lambda: join(ms, mp_msgs.decode),
            "dec msgpack, 1 blob": lambda: mp_msgs.decode(mb) and None,
            "json.loads per message (what most peers do)": lambda: [json.loads(x) for x in jm] and None,
        },
    )
    await race(
        "copy/1000",
        {
            "list copy": lambda: structs.copy() and None,
            "tuple(list)": lambda: tuple(structs) and None,
            "copy.deepcopy of dicts": lambda: __import__("copy").deepcopy(dicts) and None,
            "msgspec.structs.replace each": lambda: [msgspec.structs.replace(s) for s in structs] and None,
        },
    )


# --- compression --------------------------------------------------------------------------


async def sec_compress():
    n = 2048
    msgs = [to_struct(m) for m in workload.generate(n)]
    train = [to_struct(m) for m in workload.generate(6000, seed=workload.SEED + 7)]
    arr = lambda ss: [MessageArr(s.id, s.role, s.content, s.ts, s.tool_calls, s.tool_call_id) for s in ss]
    encs = {
        "json": (json_enc.encode, lambda x: x),
        "msgpack": (mp_enc.encode, lambda x: x),
        "msgpack array": (mp_enc.encode, arr),
    }
    units = {"message": 1, "turn": 2, "segment 64": 64, "history 2048": n}
    for en, (enc, prep) in encs.items():
        data, tr = prep(msgs), prep(train)
        for un, k in units.items():
            frames = [enc(data[i : i + k]) if k > 1 else enc(data[i]) for i in range(0, n, k)]
            total = sum(map(len, frames))
            dsize = 65536
            samples = (
                [enc(tr[i : i + k]) if k > 1 else enc(tr[i]) for i in range(0, len(tr), k)]
                if k <= 2
                else [enc(tr[i : i + 2]) for i in range(0, len(tr), 2)]
            )
            zd = zstandard.train_dictionary(dsize, samples)
            codecs = {"gzip 6": (lambda b: gzip.compress(b, 6), gzip.decompress)}
            for lv in (1, 3, 9):
                c = zstandard.ZstdCompressor(lv, write_content_size=True, write_checksum=False)
                codecs[f"zstd {lv}"] = (c.compress, zstandard.ZstdDecompressor().decompress)
            for lv in (1, 3, 9):
                cd = zstandard.ZstdCompressor(lv, dict_data=zd)
                codecs[f"zstd {lv} + dict 64K"] = (cd.compress, zstandard.ZstdDecompressor(dict_data=zd).decompress)
            packed = {}
            times = {c: ([], []) for c in codecs}
            for _ in range(3):  # interleaved passes; the fastest one counts
                for cn, (co, de) in codecs.items():
                    t0 = time.perf_counter()
                    packed[cn] = [co(f) for f in frames]
                    t1 = time.perf_counter()
                    for p in packed[cn]:
                        de(p)
                    times[cn][0].append(t1 - t0)
                    times[cn][1].append(time.perf_counter() - t1)
            for cn in codecs:
                assert codecs[cn][1](packed[cn][0]) == frames[0]
                size = sum(map(len, packed[cn]))
                tc, td = min(times[cn][0]), min(times[cn][1])
                COMP.append(
                    (
                        en,
                        un,
                        cn,
                        round(total / size, 3),
                        round(total / tc / 1e6, 1),
                        round(total / td / 1e6, 1),
                        round(tc / len(frames) * 1e6, 2),
                        round(td / len(frames) * 1e6, 2),
                        round(size / n * 1000),
                        round(total / n * 1000),
                    )
                )


def real_text() -> list[str]:
    """Return consecutive paragraphs of the descriptions of installed packages: text that people wrote."""
    import importlib.metadata as md
    import random
    import re

    out = []
    for dist in sorted(md.distributions(), key=lambda d: (d.metadata["Name"] or "").lower()):
        body = dist.metadata.get_payload() or dist.metadata.get("Description") or ""
        if not isinstance(body, str):
            continue
        at, rng = 0, random.Random(len(body))
        body = re.sub(r"\n{3,}", "\n\n", body)
        while at + 200 < len(body) and at < 20_000:
            step = int(min(4000, max(60, rng.lognormvariate(6.0, 0.9))))
            out.append(body[at : at + step])
            at += step
    return out


async def sec_realtext():
    """Measure ratios on real text, with a dictionary of the same kind of text and one of another kind."""
    texts = real_text()
    shapes = workload.generate(len(texts), seed=11)
    msgs = []
    for m, t in zip(shapes, texts):
        msgs.append(to_struct({**m, "content": t if m["content"] and m["role"] != "tool" else m["content"]}))
    half = len(msgs) // 2 // 64 * 64
    train, test = msgs[:half], msgs[half : half + half]
    chain = [to_struct(m) for m in workload.generate(6000, seed=workload.SEED + 7)]
    pairs = lambda x: [mp_enc.encode(x[i : i + 2]) for i in range(0, len(x), 2)]
    own, other = zstandard.train_dictionary(65536, pairs(train)), zstandard.train_dictionary(65536, pairs(chain))
    for un, k in {"turn": 2, "segment 64": 64, f"history {len(test)}": len(test)}.items():
        frames = [mp_enc.encode(test[i : i + k]) for i in range(0, len(test), k)]
        total = sum(map(len, frames))
        for cn, co in {
            "gzip 6": lambda b: gzip.compress(b, 6),
            "zstd 1": zstandard.ZstdCompressor(1).compress,
            "zstd 3": zstandard.ZstdCompressor(3).compress,
            "zstd 9": zstandard.ZstdCompressor(9).compress,
            "zstd 3 + dict 64K, same kind": zstandard.ZstdCompressor(3, dict_data=own).compress,
            "zstd 3 + dict 64K, other kind": zstandard.ZstdCompressor(3, dict_data=other).compress,
        }.items():
            best, size = 9e9, 0
            for _ in range(3):
                t0 = time.perf_counter()
                out = [co(f) for f in frames]
                best = min(best, time.perf_counter() - t0)
            size = sum(map(len, out))
            de = (
                (
                    zstandard.ZstdDecompressor(dict_data=own if "same" in cn else other)
                    if "dict" in cn
                    else zstandard.ZstdDecompressor()
                ).decompress
                if cn != "gzip 6"
                else gzip.decompress
            )
            t0 = time.perf_counter()
            for o in out:
                de(o)
            td = time.perf_counter() - t0
            COMP.append(
                (
                    "msgpack, real text",
                    un,
                    cn,
                    round(total / size, 3),
                    round(total / best / 1e6, 1),
                    round(total / td / 1e6, 1),
                    round(best / len(frames) * 1e6, 2),
                    round(td / len(frames) * 1e6, 2),
                    round(size / len(test) * 1000),
                    round(total / len(test) * 1000),
                )
            )


# --- redis --------------------------------------------------------------------------------

LUA_APPEND = """local n = redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], 'updated', ARGV[2], 'n', n)
if tonumber(ARGV[3]) > 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) redis.call('EXPIRE', KEYS[2], ARGV[3]) end
return n"""
LUA_CAS = (
    """if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[4]) then return -1 end
"""
    + LUA_APPEND
)


async def sec_redis():
    import redis
    import redis.asyncio as aioredis
    from adapters.floor_redis import Mux

    with servers.Redis() as srv:
        port = srv.port
        s = redis.Redis(port=port)
        su = redis.Redis(unix_socket_path=srv.unix)
        a = aioredis.Redis(port=port)
        au = aioredis.Redis(unix_socket_path=srv.unix)
        one = aioredis.Redis(port=port, single_connection_client=True)
        m = await Mux.connect(port)
        await one.ping()
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def raw():
            sock.sendall(b"*1\r\n$4\r\nPING\r\n")
            sock.recv(64)

        # waking another virtual core takes longer than the work, so both placements are measured
        everywhere = os.sched_getaffinity(0)
        cores = sorted(everywhere)
        for where, mine, its in (
            ("same core", {cores[0]}, {cores[0]}),
            ("two cores", {cores[0]}, {cores[-1]}),
            ("unpinned", everywhere, everywhere),
        ):
            os.sched_setaffinity(0, mine)
            for task in os.listdir(f"/proc/{srv.proc.pid}/task"):
                os.sched_setaffinity(int(task), its)
            await race(
                f"redis rtt, {where}",
                {
                    "raw socket PING, blocking": raw,
                    "redis-py sync PING": lambda: s.ping() and None,
                    "redis-py sync PING, unix socket": lambda: su.ping() and None,
                    "redis-py asyncio PING": lambda: a.ping(),
                    "redis-py asyncio PING, unix socket": lambda: au.ping(),
                    "redis-py asyncio PING, single connection": lambda: one.ping(),
                    "minimal asyncio client PING (hiredis)": lambda: m.call(b"PING"),
                },
                seconds=0.6,
            )
        if PIN:  # the cases below compare commands, so client and server share one core
            os.sched_setaffinity(0, {cores[0]})
            for task in os.listdir(f"/proc/{srv.proc.pid}/task"):
                os.sched_setaffinity(int(task), {cores[0]})

        turns = Turns()
        frames = [mp_enc.encode([to_struct(x) for x in turns.next()]) for _ in range(500)]
        at = iter(range(10**9))
        f = lambda: frames[next(at) % 500]
        lua = a.register_script(LUA_APPEND)
        await lua(keys=["l", "lm"], args=[f(), 1, 60])
        sha, csha = lua.sha, await s_load(a, LUA_CAS)

        async def multi(trans):
            async with a.pipeline(transaction=trans) as p:
                p.rpush("m", f()).hset("mm", mapping={"updated": 1, "n": 1}).expire("m", 60).expire("mm", 60)
                await p.execute()

        async def watch():
            async with a.pipeline() as p:
                await p.watch("w", "wm")
                await p.type("w")
                await p.llen("w")
                p.multi()
                p.rpush("w", f()).hset("wm", mapping={"updated": 1, "n": 1}).expire("w", 60).expire("wm", 60)
                await p.execute()

        async def four():
            await a.rpush("q", f())
            await a.hset("qm", mapping={"updated": 1, "n": 1})
            await a.expire("q", 60)
            await a.expire("qm", 60)

        async def cas_ok():
            n = await a.evalsha(csha, 2, "cl", "clm", f(), 1, 60, cas_ok.n)
            cas_ok.n = max(0, n)

        cas_ok.n = 0

        async def mux_multi():
            m.call(b"MULTI"), m.call(b"RPUSH", b"x", f()), m.call(b"HSET", b"xm", b"updated", b"1", b"n", b"1")
            m.call(b"EXPIRE", b"x", b"60"), m.call(b"EXPIRE", b"xm", b"60")
            await m.call(b"EXEC")

        await race(
            "redis append",
            {
                "RPUSH alone": lambda: a.rpush("k", f()),
                "4 awaited commands": four,
                "pipeline, no MULTI": lambda: multi(False),
                "pipeline with MULTI/EXEC": lambda: multi(True),
                "WATCH + reads + MULTI/EXEC": watch,
                "Lua EVALSHA": lambda: a.evalsha(sha, 2, "l", "lm", f(), 1, 60),
                "register_script object": lambda: lua(keys=["l", "lm"], args=[f(), 1, 60]),
                "Lua with length check (CAS)": cas_ok,
                "minimal client RPUSH": lambda: m.call(b"RPUSH", b"y", f()),
                "minimal client MULTI/EXEC": mux_multi,
                "minimal client EVALSHA": lambda: m.call(b"EVALSHA", sha, b"2", b"z", b"zm", f(), b"1", b"60"),
            },
            seconds=0.6,
        )

        # one history of 1000 messages, four shapes, plain and compressed
        structs = [to_struct(x) for x in workload.generate(1000)]
        c3, d3 = zstandard.ZstdCompressor(3), zstandard.ZstdDecompressor()
        zd = zstandard.train_dictionary(
            65536, [mp_enc.encode([to_struct(x) for x in t]) for t in _pairs(workload.generate(6000, seed=5))]
        )
        cd, dd = zstandard.ZstdCompressor(3, dict_data=zd), zstandard.ZstdDecompressor(dict_data=zd)
        shapes = {
            "msg json": [json_enc.encode(x) for x in structs],
            "turn json": [json_enc.encode(structs[i : i + 2]) for i in range(0, 1000, 2)],
            "turn msgpack": [mp_enc.encode(structs[i : i + 2]) for i in range(0, 1000, 2)],
            "turn msgpack zstd+dict": [cd.compress(mp_enc.encode(structs[i : i + 2])) for i in range(0, 1000, 2)],
            "segment msgpack": [mp_enc.encode(structs[i : i + 64]) for i in range(0, 1000, 64)],
            "segment msgpack zstd": [c3.compress(mp_enc.encode(structs[i : i + 64])) for i in range(0, 1000, 64)],
        }
        for k, v in shapes.items():
            s.rpush("h:" + k, *v)
        blob = mp_enc.encode(structs)
        s.set("h:blob", blob)
        s.set("h:blobz", c3.compress(blob))

        def lr(k, d):
            async def go():
                out = []
                for x in await a.lrange("h:" + k, 0, -1):
                    out += d(x)

            return go

        async def per_msg():
            [json_msg.decode(x) for x in await a.lrange("h:msg json", 0, -1)]

        async def per_msg_json():
            [json.loads(x) for x in await a.lrange("h:msg json", 0, -1)]

        async def get(k, d):
            mp_msgs.decode(d(await a.get(k)))

        async def mux_turn():
            out = []
            for x in await m.call(b"LRANGE", b"h:turn msgpack", b"0", b"-1"):
                out += mp_msgs.decode(x)

        mem = {k: f"{s.memory_usage('h:' + k, samples=0)} bytes in redis" for k in [*shapes, "blob", "blobz"]}
        await race(
            "redis load 1000",
            {
                "msg json + json.loads": per_msg_json,
                "msg json": per_msg,
                "turn json": lr("turn json", json_msgs.decode),
                "turn msgpack": lr("turn msgpack", mp_msgs.decode),
                "turn msgpack zstd+dict": lr("turn msgpack zstd+dict", lambda x: mp_msgs.decode(dd.decompress(x))),
                "segment msgpack": lr("segment msgpack", mp_msgs.decode),
                "segment msgpack zstd": lr("segment msgpack zstd", lambda x: mp_msgs.decode(d3.decompress(x))),
                "blob": lambda: get("h:blob", lambda x: x),
                "blobz": lambda: get("h:blobz", d3.decompress),
                "turn msgpack, minimal client": mux_turn,
                "nothing new (LRANGE n -1 with a warm cache)": lambda: a.lrange("h:turn msgpack", 500, -1),
            },
            seconds=0.6,
            extras=mem,
        )

        # 50 tasks at once
        async def many(call, n=40):
            async def w(i):
                for _ in range(n):
                    await call(i)

            t0 = time.perf_counter()
            await asyncio.gather(*(w(i) for i in range(50)))
            return 50 * n / (time.perf_counter() - t0)

        b8 = aioredis.Redis(connection_pool=aioredis.BlockingConnectionPool(port=port, max_connections=8, timeout=30))
        res, ba = {}, Batch(a)
        for _ in range(3):
            for name, call in {
                "redis-py asyncio, commands coalesced in a pipeline": lambda i: ba.call("RPUSH", f"cc{i}", f()),
                "redis-py asyncio, default pool": lambda i: a.rpush(f"cc{i}", f()),
                "redis-py asyncio, BlockingConnectionPool(8)": lambda i: b8.rpush(f"cc{i}", f()),
                "redis-py sync, one connection": lambda i: _wrap(s.rpush, f"cc{i}", f()),
                "minimal multiplexed client": lambda i: m.call(b"RPUSH", f"cc{i}", f()),
            }.items():
                res.setdefault(name, []).append(await many(call))
        for k, v in res.items():
            ROWS.append(
                ("redis 50 tasks RPUSH", k, 2000, round(1e6 / sorted(v)[1], 2), "", f"{sorted(v)[1]:.0f} ops/s")
            )
        os.sched_setaffinity(0, everywhere)
        sock.close()
        m.close()
        for c in (a, au, one, b8):
            await c.aclose()


class Batch:
    """Sends the commands of one iteration of the event loop in one redis-py pipeline without MULTI."""

    def __init__(self, client):
        self.client, self.waiting, self.running = client, [], False

    def call(self, *args):
        fut = asyncio.get_running_loop().create_future()
        self.waiting.append((args, fut))
        if not self.running:
            self.running = True
            self.task = asyncio.create_task(self._flush())
        return fut

    async def _flush(self):
        try:
            while self.waiting:
                batch, self.waiting = self.waiting, []
                async with self.client.pipeline(transaction=False) as p:
                    for args, _ in batch:
                        p.execute_command(*args)
                    for (_, fut), r in zip(batch, await p.execute(raise_on_error=False)):
                        if not fut.done():
                            fut.set_exception(r) if isinstance(r, Exception) else fut.set_result(r)
        finally:
            self.running = False


async def s_load(a, script):
    return await a.script_load(script)


async def _wrap(fn, *args):
    return fn(*args)


def _pairs(x):
    return [x[i : i + 2] for i in range(0, len(x), 2)]


async def uv_redis(port):
    import redis.asyncio as aioredis
    from adapters.floor_redis import Mux

    a, m = aioredis.Redis(port=port), await Mux.connect(port)
    await race(
        "redis rtt, same core, uvloop",
        {"redis-py asyncio PING": lambda: a.ping(), "minimal asyncio client PING": lambda: m.call(b"PING")},
        seconds=0.6,
    )
    m.close()
    await a.aclose()


# --- sqlite -------------------------------------------------------------------------------


async def sec_sqlite():
    import aiosqlite
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import create_async_engine

    from adapters import floor_sqlite as F

    d = tempfile.mkdtemp(prefix="bench-micro-")
    turns = Turns()
    pairs = [[to_struct(x) for x in turns.next()] for _ in range(500)]
    at = iter(range(10**9))
    nxt = lambda: pairs[next(at) % 500]
    try:

        def db(name, *pragmas):
            con = sqlite3.connect(
                name if name == ":memory:" else os.path.join(d, name), isolation_level=None, check_same_thread=False
            )
            for p in pragmas:
                con.execute(p)
            con.execute(F.DDL)
            return con

        wal_n = db("wn.db", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")
        wal_f = db("wf.db", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL")
        del_f = db("df.db", "PRAGMA journal_mode=DELETE", "PRAGMA synchronous=FULL")
        wal_o = db("wo.db", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=OFF")
        mem = db(":memory:")
        app = lambda con: con.execute(F.APPEND, ("s", mp_enc.encode(nxt()))) and None

        def per_msg():
            wal_n.execute("BEGIN IMMEDIATE")
            wal_n.executemany(F.APPEND, [("m", json_enc.encode(x)) for x in nxt()])
            wal_n.execute("COMMIT")

        wal_n.execute("CREATE TABLE big(sid TEXT PRIMARY KEY, n INT, data BLOB)")
        wal_n.execute("INSERT INTO big VALUES('s', 0, x'')")

        def rewrite():  # one row per 64-message segment, extended in place
            n = rewrite.n = (rewrite.n + 1) % 32
            if n == 0:
                wal_n.execute("UPDATE big SET data = ? WHERE sid='s'", (mp_enc.encode(nxt()),))
            else:
                wal_n.execute("UPDATE big SET data = CAST(data || ? AS BLOB) WHERE sid='s'", (mp_enc.encode(nxt()),))

        rewrite.n = 0
        wal_n.execute("CREATE TABLE ridx(id INTEGER PRIMARY KEY AUTOINCREMENT, sid TEXT, data BLOB)")
        wal_n.execute("CREATE INDEX ridx_s ON ridx(sid, id)")

        def conn_per_op():
            con = sqlite3.connect(os.path.join(d, "wn.db"), isolation_level=None)
            con.execute("PRAGMA synchronous=NORMAL")
            app(con)
            con.close()

        await race(
            "sqlite append",
            {
                "WAL NORMAL row/turn": lambda: app(wal_n),
                "WAL FULL row/turn": lambda: app(wal_f),
                "DELETE FULL row/turn (default pragmas)": lambda: app(del_f),
                "WAL OFF row/turn": lambda: app(wal_o),
                ":memory: row/turn": lambda: app(mem),
                "WAL NORMAL 2 rows/turn json": per_msg,
                "WAL NORMAL rewrite open segment": rewrite,
                "WAL NORMAL autoincrement + index": lambda: (
                    wal_n.execute("INSERT INTO ridx(sid, data) VALUES('s', ?)", (mp_enc.encode(nxt()),)) and None
                ),
                "WAL NORMAL, connection opened per call": conn_per_op,
            },
            seconds=0.6,
        )

        # drivers: the same indexed read of the last ten turns, and the same append
        path = os.path.join(d, "wn.db")
        aio = await aiosqlite.connect(path, isolation_level=None)
        await aio.execute("PRAGMA synchronous=NORMAL")
        own = F.PerTurnThread()
        await own.open({"dir": d})
        await own.save("s", [x for p in pairs for x in p])
        lock = threading.Lock()
        import concurrent.futures

        pool1 = concurrent.futures.ThreadPoolExecutor(1)
        loop = asyncio.get_running_loop()

        def q():
            with lock:
                return wal_n.execute(F.TAIL, ("s", 10)).fetchall()

        eng = create_async_engine(f"sqlite+aiosqlite:///{path}")
        seng = sa.create_engine(f"sqlite:///{path}")
        rec = sa.table("rec", sa.column("sid"), sa.column("seq"), sa.column("data"))
        stmt = sa.select(rec.c.data).where(rec.c.sid == sa.bindparam("s")).order_by(rec.c.seq.desc()).limit(10)

        async def core():
            async with eng.connect() as con:
                (await con.execute(stmt, {"s": "s"})).fetchall()

        def score():
            with seng.connect() as con:
                con.execute(stmt, {"s": "s"}).fetchall()

        async def aio_cursor():
            async with aio.execute(F.TAIL, ("s", 10)) as cur:
                await cur.fetchall()

        async def aio_conn():
            async with aiosqlite.connect(path) as con, con.execute(F.TAIL, ("s", 10)) as cur:
                await cur.fetchall()

        await race(
            "sqlite read of 10 rows",
            {
                "sqlite3 in the loop": lambda: q() and None,
                "own thread + SimpleQueue": lambda: own._do(own._tail, "s", 20),
                "run_in_executor, one thread": lambda: loop.run_in_executor(pool1, q),
                "asyncio.to_thread": lambda: asyncio.to_thread(q),
                "aiosqlite execute_fetchall (1 hop)": lambda: aio.execute_fetchall(F.TAIL, ("s", 10)),
                "aiosqlite cursor (3 hops)": aio_cursor,
                "aiosqlite, connection per call": aio_conn,
                "SQLAlchemy Core sync": score,
                "SQLAlchemy Core async aiosqlite": core,
            },
            seconds=0.6,
        )

        # reading 1000 messages in each unit, and the size of the file
        structs = [to_struct(x) for x in workload.generate(1000)]
        c3, d3 = zstandard.ZstdCompressor(3), zstandard.ZstdDecompressor()
        shapes = {
            "row/msg json": ([json_enc.encode(x) for x in structs], lambda x: (json_msg.decode(x),)),
            "row/msg json.loads": ([json_enc.encode(x) for x in structs], lambda x: (json.loads(x),)),
            "row/turn msgpack": ([mp_enc.encode(structs[i : i + 2]) for i in range(0, 1000, 2)], mp_msgs.decode),
            "row/64 msgpack": ([mp_enc.encode(structs[i : i + 64]) for i in range(0, 1000, 64)], mp_msgs.decode),
            "row/64 msgpack zstd": (
                [c3.compress(mp_enc.encode(structs[i : i + 64])) for i in range(0, 1000, 64)],
                lambda x: mp_msgs.decode(d3.decompress(x)),
            ),
            "one blob msgpack": ([mp_enc.encode(structs)], mp_msgs.decode),
        }
        cases, ex = {}, {}
        for k, (frames, dec) in shapes.items():
            con = db(k.replace("/", "_") + ".db", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")
            con.execute("BEGIN")
            con.executemany("INSERT INTO rec VALUES('s',?,?)", enumerate(frames))
            con.execute("COMMIT")
            pages = con.execute("PRAGMA page_count").fetchone()[0] * con.execute("PRAGMA page_size").fetchone()[0]
            ex[k] = f"{pages} bytes of pages"

            def go(con=con, dec=dec):
                out = []
                for r in con.execute(F.LOAD, ("s",)):
                    out += dec(r[0])

            cases[k] = go
        # the same turns in other table layouts: a row over a quarter page spills in a WITHOUT ROWID table
        turn_frames = shapes["row/turn msgpack"][0]
        for name, page, ddl in (
            (
                "row/turn, rowid table + unique index",
                4096,
                "CREATE TABLE rec(id INTEGER PRIMARY KEY, sid TEXT NOT NULL, seq INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE(sid, seq))",
            ),
            (
                "row/turn, rowid = (session number << 32) + seq",
                4096,
                "CREATE TABLE rec(id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
            ),
            ("row/turn, WITHOUT ROWID, 16 kB pages", 16384, F.DDL),
        ):
            con = sqlite3.connect(
                os.path.join(d, name[:24].replace("/", "_").replace(" ", "_") + str(page) + ".db"), isolation_level=None
            )
            for q2 in (f"PRAGMA page_size={page}", *F.PRAGMAS, ddl):
                con.execute(q2)
            keyed = "<<" in name
            con.execute("BEGIN")
            if keyed:
                con.executemany("INSERT INTO rec VALUES(?,?)", (((7 << 32) + i, f) for i, f in enumerate(turn_frames)))
            else:
                con.executemany("INSERT INTO rec(sid, seq, data) VALUES('s',?,?)", enumerate(turn_frames))
            con.execute("COMMIT")
            ex[name] = f"{con.execute('PRAGMA page_count').fetchone()[0] * page} bytes of pages"

            def go2(con=con, keyed=keyed):
                out = []
                for r in (
                    con.execute("SELECT data FROM rec WHERE id BETWEEN ? AND ? ORDER BY id", (7 << 32, (8 << 32) - 1))
                    if keyed
                    else con.execute(F.LOAD, ("s",))
                ):
                    out += mp_msgs.decode(r[0])

            cases[name] = go2
        await race("sqlite load 1000", cases, seconds=0.6, extras=ex)
        await aio.close()
        await own.close()
        await eng.dispose()
        pool1.shutdown()
    finally:
        shutil.rmtree(d, ignore_errors=True)


# --- postgres -----------------------------------------------------------------------------


async def sec_postgres():
    import asyncpg
    import psycopg
    import psycopg_pool
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    with servers.Postgres() as srv:
        dsn = f"postgresql://bench@127.0.0.1:{srv.port}/bench"
        con = await asyncpg.connect(dsn)
        ucon = await asyncpg.connect(host=srv.dir, port=srv.port, user="bench", database="bench")
        pool = await asyncpg.create_pool(dsn, min_size=2, max_size=10)

        async def noreset(c):
            pass

        pool2 = await asyncpg.create_pool(dsn, min_size=2, max_size=10, reset=noreset)
        pcon = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        ppool = psycopg_pool.AsyncConnectionPool(dsn, min_size=2, max_size=10, open=False, kwargs={"autocommit": True})
        await ppool.open()
        scon = psycopg.connect(dsn, autocommit=True)
        e1 = create_async_engine(dsn.replace("postgresql", "postgresql+asyncpg"))
        e2 = create_async_engine(dsn.replace("postgresql", "postgresql+psycopg"))
        e1a, e3 = (
            e1.execution_options(isolation_level="AUTOCOMMIT"),
            create_async_engine(dsn.replace("postgresql", "postgresql+asyncpg"), pool_pre_ping=True),
        )
        one = sa.select(sa.literal(1))

        async def sa_conn(e):
            async with e.connect() as c:
                (await c.execute(one)).scalar()

        async def sa_session():
            async with AsyncSession(e1) as s:
                (await s.execute(one)).scalar()

        async def pp():
            async with ppool.connection() as c:
                await (await c.execute("SELECT 1")).fetchone()

        async def p1():
            await (await pcon.execute("SELECT 1")).fetchone()

        await race(
            "postgres SELECT 1",
            {
                "asyncpg connection": lambda: con.fetchval("SELECT 1"),
                "asyncpg connection, unix socket": lambda: ucon.fetchval("SELECT 1"),
                "asyncpg pool": lambda: pool.fetchval("SELECT 1"),
                "asyncpg pool, no reset": lambda: pool2.fetchval("SELECT 1"),
                "psycopg async connection": p1,
                "psycopg async pool": pp,
                "psycopg sync connection": lambda: scon.execute("SELECT 1").fetchone() and None,
                "SA Core asyncpg": lambda: sa_conn(e1),
                "SA Core asyncpg autocommit": lambda: sa_conn(e1a),
                "SA Core asyncpg pool_pre_ping": lambda: sa_conn(e3),
                "SA Core psycopg": lambda: sa_conn(e2),
                "SA ORM AsyncSession asyncpg": sa_session,
            },
            seconds=0.6,
        )

        await con.execute(
            "CREATE TABLE rec(sid text NOT NULL, seq int NOT NULL, data bytea NOT NULL, PRIMARY KEY(sid, seq))"
        )
        await con.execute("CREATE TABLE meta(sid text PRIMARY KEY, n int NOT NULL, updated timestamptz NOT NULL)")
        turns = Turns()
        pairs = [[to_struct(x) for x in turns.next()] for _ in range(500)]
        at = iter(range(10**9))
        nxt = lambda: pairs[next(at) % 500]
        ins = "INSERT INTO rec SELECT $1::text, coalesce((SELECT max(seq) FROM rec WHERE sid=$1), -1) + 1, $2"
        off = await asyncpg.connect(dsn)
        await off.execute("SET synchronous_commit=off")
        cte = (
            "WITH m AS (INSERT INTO meta VALUES($1, 1, now()) ON CONFLICT(sid) DO UPDATE SET n = meta.n + 1, updated = now() RETURNING n) "
            "INSERT INTO rec SELECT $1, m.n, $2 FROM m"
        )
        fn = (
            "CREATE FUNCTION app(s text, d bytea) RETURNS int LANGUAGE sql AS $$ INSERT INTO meta VALUES(s, 1, now()) ON CONFLICT(sid) DO UPDATE "
            "SET n = meta.n + 1, updated = now(); INSERT INTO rec SELECT s, n, d FROM meta WHERE sid = s RETURNING seq $$"
        )
        await con.execute(fn)

        async def txn():
            async with con.transaction():
                n = await con.fetchval(
                    "INSERT INTO meta VALUES($1, 1, now()) ON CONFLICT(sid) DO UPDATE SET n = meta.n + 1, updated = now() RETURNING n",
                    "t",
                )
                await con.execute("INSERT INTO rec VALUES($1, $2, $3)", "t", n, mp_enc.encode(nxt()))

        async def two():
            async with con.transaction():
                await con.executemany(ins, [("u", json_enc.encode(x)) for x in nxt()])

        await race(
            "postgres append",
            {
                "one INSERT, commit on": lambda: con.execute(ins, "a", mp_enc.encode(nxt())),
                "one INSERT, synchronous_commit=off": lambda: off.execute(ins, "b", mp_enc.encode(nxt())),
                "meta + INSERT in one CTE": lambda: con.execute(cte, "c", mp_enc.encode(nxt())),
                "meta + INSERT, BEGIN..COMMIT (4 trips)": txn,
                "2 rows by executemany in a transaction": two,
                "SQL function": lambda: con.fetchval("SELECT app($1, $2)", "f", mp_enc.encode(nxt())),
            },
            seconds=0.6,
        )

        structs = [to_struct(x) for x in workload.generate(1000)]
        c3, d3 = zstandard.ZstdCompressor(3), zstandard.ZstdDecompressor()
        shapes = {
            "row/msg json (bytea)": ([json_enc.encode(x) for x in structs], lambda x: (json_msg.decode(x),)),
            "row/turn msgpack": ([mp_enc.encode(structs[i : i + 2]) for i in range(0, 1000, 2)], mp_msgs.decode),
            "row/64 msgpack": ([mp_enc.encode(structs[i : i + 64]) for i in range(0, 1000, 64)], mp_msgs.decode),
            "row/64 msgpack zstd": (
                [c3.compress(mp_enc.encode(structs[i : i + 64])) for i in range(0, 1000, 64)],
                lambda x: mp_msgs.decode(d3.decompress(x)),
            ),
            "one blob msgpack": ([mp_enc.encode(structs)], mp_msgs.decode),
        }
        cases, ex = {}, {}
        for i, (k, (frames, dec)) in enumerate(shapes.items()):
            for ext in (False, True):
                t = f"t{i}{'e' if ext else ''}"
                await con.execute(
                    f"CREATE TABLE {t}(sid text NOT NULL, seq int NOT NULL, data bytea NOT NULL, PRIMARY KEY(sid, seq))"
                )
                if ext:
                    await con.execute(f"ALTER TABLE {t} ALTER COLUMN data SET STORAGE EXTERNAL")
                await con.copy_records_to_table(t, records=[("s", j, f) for j, f in enumerate(frames)])
                name = k + (" EXTERNAL" if ext else "")
                ex[name] = f"{await con.fetchval(f'SELECT pg_total_relation_size({chr(39)}{t}{chr(39)})')} bytes"

                async def go(t=t, dec=dec):
                    out = []
                    for r in await con.fetch(f"SELECT data FROM {t} WHERE sid=$1 ORDER BY seq", "s"):
                        out += dec(r[0])

                cases[name] = go
        await con.execute(
            "CREATE TABLE tj(sid text NOT NULL, seq int NOT NULL, data jsonb NOT NULL, PRIMARY KEY(sid, seq))"
        )
        await con.copy_records_to_table(
            "tj",
            records=[("s", j, json.dumps(m).replace("\\u0000", "")) for j, m in enumerate(workload.generate(1000))],
        )
        ex["row/msg jsonb + json.loads"] = (
            f"{await con.fetchval('SELECT pg_total_relation_size($1::text::regclass)', 'tj')} bytes"
        )

        async def jsonb():
            [json.loads(r[0]) for r in await con.fetch("SELECT data FROM tj WHERE sid=$1 ORDER BY seq", "s")]

        cases["row/msg jsonb + json.loads"] = jsonb
        await race("postgres load 1000", cases, seconds=0.5, extras=ex)
        scon.close()
        for c in (con, ucon, off, pcon):
            await c.close()
        for p in (pool, pool2, ppool):
            await p.close()
        for e in (e1, e2, e3):
            await e.dispose()


# --- opening a session in a peer ------------------------------------------------------------


async def sec_open():
    import redis.asyncio as aioredis
    from agents.extensions.memory import AsyncSQLiteSession, RedisSession, SQLAlchemySession
    from agents.memory import SQLiteSession
    from langchain_community.chat_message_histories import SQLChatMessageHistory
    from sqlalchemy.ext.asyncio import create_async_engine

    d = tempfile.mkdtemp(prefix="bench-open-")
    try:
        p = os.path.join(d, "a.db")
        eng = create_async_engine(f"sqlite+aiosqlite:///{d}/b.db")
        lceng = create_async_engine(f"sqlite+aiosqlite:///{d}/c.db")
        r = aioredis.Redis()
        at = iter(range(10**9))

        def sq():
            SQLiteSession(f"s{next(at)}", p).close()

        async def asq():
            s = AsyncSQLiteSession(f"s{next(at)}", p)
            await s.get_items(limit=1)
            await s.close()

        async def sqla():
            await SQLAlchemySession(f"s{next(at)}", engine=eng, create_tables=True).get_items(limit=1)

        await race(
            "opening a session object",
            {
                "openai-agents SQLiteSession()": sq,
                "openai-agents AsyncSQLiteSession() + get_items(1)": asq,
                "openai-agents SQLAlchemySession() + get_items(1)": sqla,
                "openai-agents RedisSession()": lambda: RedisSession(f"s{next(at)}", redis_client=r) and None,
                "langchain SQLChatMessageHistory()": lambda: (
                    SQLChatMessageHistory(f"s{next(at)}", connection=lceng) and None
                ),
            },
            max_reps=200,
        )
        await eng.dispose()
        await lceng.dispose()
    finally:
        shutil.rmtree(d, ignore_errors=True)


SECTIONS = {
    "await": sec_await,
    "codec": sec_codec,
    "compress": sec_compress,
    "realtext": sec_realtext,
    "redis": sec_redis,
    "sqlite": sec_sqlite,
    "postgres": sec_postgres,
    "open": sec_open,
}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--sections", default=",".join(SECTIONS))
    ap.add_argument("--out", default=os.path.join(HERE, "results"))
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    for s in a.sections.split(","):
        t0 = time.time()
        try:
            asyncio.run(asyncio.wait_for(SECTIONS[s](), 240))
            if s == "redis":
                import uvloop

                with servers.Redis() as srv:
                    everywhere = os.sched_getaffinity(0)
                    os.sched_setaffinity(0, {min(everywhere)})
                    for task in os.listdir(f"/proc/{srv.proc.pid}/task"):
                        os.sched_setaffinity(int(task), {min(everywhere)})
                    uvloop.run(uv_redis(srv.port))
                    os.sched_setaffinity(0, everywhere)
        except Exception as e:
            import traceback

            traceback.print_exc()
            print(f"section {s} failed: {type(e).__name__}: {e}", flush=True)
        print(f"section {s}: {time.time() - t0:.0f} s", flush=True)

    def keep(name, fresh):  # a run of some sections replaces only their rows
        path = os.path.join(a.out, name)
        done = {r[0] for r in fresh}
        return [r for r in list(csv.reader(open(path)))[1:] if r[0] not in done] if os.path.exists(path) else []

    if ROWS:
        ROWS[:0] = keep("micro.csv", ROWS)
        with open(os.path.join(a.out, "micro.csv"), "w", newline="") as f:
            w = csv.writer(f)
            w.writerow(["section", "case", "reps", "median_us", "p99_us", "extra"])
            w.writerows(ROWS)
    if COMP:
        COMP[:0] = keep("compression.csv", COMP)
        with open(os.path.join(a.out, "compression.csv"), "w", newline="") as f:
            w = csv.writer(f)
            w.writerow(
                [
                    "encoding",
                    "unit",
                    "codec",
                    "ratio",
                    "compress_MBps",
                    "decompress_MBps",
                    "compress_us_per_unit",
                    "decompress_us_per_unit",
                    "bytes_per_1000",
                    "plain_bytes_per_1000",
                ]
            )
            w.writerows(COMP)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

"""Floor, SQLite: stdlib sqlite3 called in the loop, through a thread, and through aiosqlite."""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading

import aiosqlite
import zstandard
from interface import Adapter
from schema import json_enc, json_msg, mp_enc, mp_msgs, to_struct

_c, _d = zstandard.ZstdCompressor(3), zstandard.ZstdDecompressor()
PRAGMAS = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")
DDL = "CREATE TABLE IF NOT EXISTS rec(sid TEXT NOT NULL, seq INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY(sid, seq)) WITHOUT ROWID"
DDL_SEG = DDL.replace("rec(", "seg(")
APPEND = "INSERT INTO rec SELECT ?1, coalesce(max(seq), -1) + 1, ?2 FROM rec WHERE sid = ?1"
LOAD = "SELECT data FROM rec WHERE sid = ? ORDER BY seq"
TAIL = "SELECT data FROM rec WHERE sid = ? ORDER BY seq DESC LIMIT ?"
FORK = "INSERT INTO rec SELECT ?2, seq, data FROM rec WHERE sid = ?1"


class _Sqlite(Adapter):
    peer, backend, floor = "floor", "sqlite", True

    def convert(self, msgs):
        return [to_struct(m) for m in msgs]

    def _connect(self, env):
        self.path = os.path.join(env["dir"], f"floor-{type(self).__name__}.db")
        con = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        for s in (*PRAGMAS, DDL, DDL_SEG):
            con.execute(s)
        return con

    async def open(self, env):
        self.con = self._connect(env)

    async def close(self):
        self.con.close()

    async def stored_bytes(self):
        con = sqlite3.connect(self.path)
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        con.close()
        return os.path.getsize(self.path)


class PerMessage(_Sqlite):
    name, blocking = "floor row/msg json", True

    async def save(self, sid, msgs):
        con = self.con
        con.execute("BEGIN IMMEDIATE")
        con.execute("DELETE FROM rec WHERE sid=?", (sid,))
        con.executemany("INSERT INTO rec VALUES(?,?,?)", ((sid, i, json_enc.encode(m)) for i, m in enumerate(msgs)))
        con.execute("COMMIT")

    async def load(self, sid):
        return [json_msg.decode(r[0]) for r in self.con.execute(LOAD, (sid,))]

    async def tail(self, sid, k):
        return [json_msg.decode(r[0]) for r in self.con.execute(TAIL, (sid, k)).fetchall()[::-1]]

    async def append(self, sid, msgs):
        con = self.con
        con.execute("BEGIN IMMEDIATE")
        con.executemany(APPEND, [(sid, json_enc.encode(m)) for m in msgs])
        con.execute("COMMIT")

    async def fork(self, src, dst):
        self.con.execute(FORK, (src, dst))


class PerTurn(_Sqlite):
    name, blocking = "floor row/turn mp", True

    def _save(self, con, sid, msgs):
        con.execute("BEGIN IMMEDIATE")
        con.execute("DELETE FROM rec WHERE sid=?", (sid,))
        con.executemany(
            "INSERT INTO rec VALUES(?,?,?)",
            ((sid, i, mp_enc.encode(msgs[2 * i : 2 * i + 2])) for i in range((len(msgs) + 1) // 2)),
        )
        con.execute("COMMIT")

    def _load(self, con, sid):
        out, dec = [], mp_msgs.decode
        for r in con.execute(LOAD, (sid,)):
            out += dec(r[0])
        return out

    def _tail(self, con, sid, k):
        out, dec = [], mp_msgs.decode
        for r in con.execute(TAIL, (sid, k // 2)).fetchall()[::-1]:
            out += dec(r[0])
        return out

    def _append(self, con, sid, msgs):
        con.execute(APPEND, (sid, mp_enc.encode(msgs)))

    def _fork(self, con, src, dst):
        con.execute(FORK, (src, dst))

    async def save(self, sid, msgs):
        self._save(self.con, sid, msgs)

    async def load(self, sid):
        return self._load(self.con, sid)

    async def tail(self, sid, k):
        return self._tail(self.con, sid, k)

    async def append(self, sid, msgs):
        self._append(self.con, sid, msgs)

    async def fork(self, src, dst):
        self._fork(self.con, src, dst)


class PerTurnThread(PerTurn):
    """A worker thread owns the connection and calls the functions that the loop queues."""

    name, blocking = "floor row/turn mp thread", False

    async def open(self, env):
        await super().open(env)
        self.q = queue.SimpleQueue()
        self.loop = asyncio.get_running_loop()
        self.t = threading.Thread(target=self._work, daemon=True)
        self.t.start()

    def _work(self):
        con, call = self.con, self.loop.call_soon_threadsafe
        while (job := self.q.get()) is not None:
            fut, fn, args = job
            try:
                call(fut.set_result, fn(con, *args))
            except BaseException as e:  # the awaiting task raises it
                call(fut.set_exception, e)

    def _do(self, fn, *args):
        fut = self.loop.create_future()
        self.q.put((fut, fn, args))
        return fut

    async def close(self):
        self.q.put(None)
        self.t.join(5)
        await super().close()

    async def save(self, sid, msgs):
        await self._do(self._save, sid, msgs)

    async def load(self, sid):
        return await self._do(self._load, sid)

    async def tail(self, sid, k):
        return await self._do(self._tail, sid, k)

    async def append(self, sid, msgs):
        await self._do(self._append, sid, msgs)

    async def fork(self, src, dst):
        await self._do(self._fork, src, dst)


class PerTurnThreadFull(PerTurnThread):
    """The same with commits that wait for the disk, so that an acknowledged turn survives a power failure."""

    name = "floor row/turn mp thread FULL"

    def _connect(self, env):
        con = super()._connect(env)
        con.execute("PRAGMA synchronous=FULL")
        return con


class PerTurnToThread(PerTurn):
    name, blocking = "floor row/turn mp to_thread", False

    async def open(self, env):
        await super().open(env)
        self.lock = threading.Lock()

    def _locked(self, fn, *args):
        with self.lock:
            return fn(self.con, *args)

    async def save(self, sid, msgs):
        await asyncio.to_thread(self._locked, self._save, sid, msgs)

    async def load(self, sid):
        return await asyncio.to_thread(self._locked, self._load, sid)

    async def tail(self, sid, k):
        return await asyncio.to_thread(self._locked, self._tail, sid, k)

    async def append(self, sid, msgs):
        await asyncio.to_thread(self._locked, self._append, sid, msgs)

    async def fork(self, src, dst):
        await asyncio.to_thread(self._locked, self._fork, src, dst)


class PerTurnAio(PerTurn):
    name, blocking = "floor row/turn mp aiosqlite", False

    async def open(self, env):
        (self._connect(env)).close()
        self.a = await aiosqlite.connect(self.path, isolation_level=None)
        await self.a.execute(PRAGMAS[1])

    async def close(self):
        await self.a.close()

    async def save(self, sid, msgs):
        await self.a.execute("BEGIN IMMEDIATE")
        await self.a.execute("DELETE FROM rec WHERE sid=?", (sid,))
        await self.a.executemany(
            "INSERT INTO rec VALUES(?,?,?)",
            [(sid, i, mp_enc.encode(msgs[2 * i : 2 * i + 2])) for i in range((len(msgs) + 1) // 2)],
        )
        await self.a.execute("COMMIT")

    async def load(self, sid):
        out, dec = [], mp_msgs.decode
        for r in await self.a.execute_fetchall(LOAD, (sid,)):
            out += dec(r[0])
        return out

    async def tail(self, sid, k):
        out, dec = [], mp_msgs.decode
        for r in list(await self.a.execute_fetchall(TAIL, (sid, k // 2)))[::-1]:
            out += dec(r[0])
        return out

    async def append(self, sid, msgs):
        await self.a.execute(APPEND, (sid, mp_enc.encode(msgs)))

    async def fork(self, src, dst):
        await self.a.execute(FORK, (src, dst))


class Segments(PerTurn):
    """Open turns as rows, sealed 64-message zstd segments as rows of another table."""

    name, blocking, seal = "floor segments zstd mp", True, 32

    async def save(self, sid, msgs):
        con, step = self.con, self.seal * 2
        whole = (max(0, len(msgs) - step) // step) * step
        con.execute("BEGIN IMMEDIATE")
        con.execute("DELETE FROM rec WHERE sid=?", (sid,))
        con.execute("DELETE FROM seg WHERE sid=?", (sid,))
        con.executemany(
            "INSERT INTO seg VALUES(?,?,?)",
            ((sid, i, _c.compress(mp_enc.encode(msgs[i : i + step]))) for i in range(0, whole, step)),
        )
        con.executemany(
            "INSERT INTO rec VALUES(?,?,?)",
            ((sid, i, mp_enc.encode(msgs[i : i + 2])) for i in range(whole, len(msgs), 2)),
        )
        con.execute("COMMIT")

    async def load(self, sid):
        out, dec, dz = [], mp_msgs.decode, _d.decompress
        for r in self.con.execute("SELECT data FROM seg WHERE sid=? ORDER BY seq", (sid,)):
            out += dec(dz(r[0]))
        for r in self.con.execute(LOAD, (sid,)):
            out += dec(r[0])
        return out

    async def append(self, sid, msgs):
        con = self.con
        con.execute("BEGIN IMMEDIATE")
        con.execute(
            "INSERT INTO rec SELECT ?1, coalesce(max(seq), -2) + 2, ?2 FROM rec WHERE sid = ?1",
            (sid, mp_enc.encode(msgs)),
        )
        lo, hi = con.execute("SELECT min(seq), max(seq) FROM rec WHERE sid=?", (sid,)).fetchone()
        if hi - lo >= self.seal * 4:
            batch, end = [], lo + self.seal * 2
            for r in con.execute("SELECT data FROM rec WHERE sid=? AND seq<? ORDER BY seq", (sid, end)):
                batch += mp_msgs.decode(r[0])
            con.execute("INSERT INTO seg VALUES(?,?,?)", (sid, lo, _c.compress(mp_enc.encode(batch))))
            con.execute("DELETE FROM rec WHERE sid=? AND seq<?", (sid, end))
        con.execute("COMMIT")

    async def fork(self, src, dst):
        self.con.execute("BEGIN IMMEDIATE")
        self.con.execute(FORK, (src, dst))
        self.con.execute(FORK.replace("rec", "seg"), (src, dst))
        self.con.execute("COMMIT")


ADAPTERS = [PerMessage, PerTurn, PerTurnThread, PerTurnThreadFull, PerTurnToThread, PerTurnAio, Segments]

"""Floor, PostgreSQL: raw asyncpg and psycopg, and SQLAlchemy Core and ORM over the same table."""

from __future__ import annotations

import asyncpg
import psycopg_pool
import sqlalchemy as sa
import zstandard
from interface import Adapter
from schema import json_enc, json_msg, mp_enc, mp_msgs, to_struct
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_c, _d = zstandard.ZstdCompressor(3), zstandard.ZstdDecompressor()


class _Pg(Adapter):
    peer, backend, floor = "floor", "postgres", True
    pool_args: dict = {}

    def convert(self, msgs):
        return [to_struct(m) for m in msgs]

    async def open(self, env):
        self.dsn = f"postgresql://bench@127.0.0.1:{env['pg_port']}/bench"
        self.pool = await asyncpg.create_pool(self.dsn, min_size=2, max_size=10, **self.pool_args)
        t = self.table
        await self.pool.execute(
            f"CREATE TABLE IF NOT EXISTS {t}(sid text NOT NULL, seq integer NOT NULL, data bytea NOT NULL, PRIMARY KEY(sid, seq))"
        )
        await self.pool.execute(
            f"ALTER TABLE {t} ALTER COLUMN data SET STORAGE EXTERNAL" if self.external else "SELECT 1"
        )
        self.q_load = f"SELECT data FROM {t} WHERE sid=$1 ORDER BY seq"
        self.q_tail = f"SELECT data FROM {t} WHERE sid=$1 ORDER BY seq DESC LIMIT $2"
        self.q_fork = f"INSERT INTO {t} SELECT $2::text, seq, data FROM {t} WHERE sid=$1"
        self.q_append = (
            f"INSERT INTO {t} SELECT $1::text, coalesce((SELECT max(seq) FROM {t} WHERE sid=$1), -1) + n, d "
            f"FROM unnest($2::bytea[]) WITH ORDINALITY AS x(d, n)"
        )

    external = False

    async def close(self):
        await self.pool.close()

    async def _put(self, sid, rows):
        async with self.pool.acquire() as con, con.transaction():
            await con.execute(f"DELETE FROM {self.table} WHERE sid=$1", sid)
            await con.copy_records_to_table(self.table, records=[(sid, i, d) for i, d in enumerate(rows)])

    async def fork(self, src, dst):
        await self.pool.execute(self.q_fork, src, dst)

    async def stored_bytes(self):
        return await self.pool.fetchval(f"SELECT pg_total_relation_size('{self.table}')")


class PerMessage(_Pg):
    name, table = "floor asyncpg row/msg json", "f_msg"

    async def save(self, sid, msgs):
        await self._put(sid, map(json_enc.encode, msgs))

    async def load(self, sid):
        return [json_msg.decode(r[0]) for r in await self.pool.fetch(self.q_load, sid)]

    async def tail(self, sid, k):
        return [json_msg.decode(r[0]) for r in (await self.pool.fetch(self.q_tail, sid, k))[::-1]]

    async def append(self, sid, msgs):
        await self.pool.execute(self.q_append, sid, list(map(json_enc.encode, msgs)))


def _frames(msgs):
    return [mp_enc.encode(msgs[i : i + 2]) for i in range(0, len(msgs), 2)]


def _join(frames):
    out, dec = [], mp_msgs.decode
    for f in frames:
        out += dec(f)
    return out


class PerTurn(_Pg):
    name, table = "floor asyncpg row/turn mp", "f_turn"

    async def save(self, sid, msgs):
        await self._put(sid, _frames(msgs))

    async def load(self, sid):
        return _join(r[0] for r in await self.pool.fetch(self.q_load, sid))

    async def tail(self, sid, k):
        return _join(r[0] for r in (await self.pool.fetch(self.q_tail, sid, k // 2))[::-1])

    async def append(self, sid, msgs):
        await self.pool.execute(self.q_append, sid, [mp_enc.encode(msgs)])


async def _no_reset(con):
    pass


class PerTurnNoReset(PerTurn):
    """A pool without its reset query, which saves one round trip on every release."""

    name, table, pool_args = "floor asyncpg row/turn mp noreset", "f_turn_nr", {"reset": _no_reset}


class PerTurnOneConn(PerTurn):
    """One connection of the adapter, without a pool (serial use only)."""

    name, table = "floor asyncpg row/turn mp 1conn", "f_turn_1"

    async def open(self, env):
        await super().open(env)
        pool, self.real = self.pool, self.pool
        con = await pool.acquire()
        import asyncio

        lock = asyncio.Lock()

        class One:
            async def execute(self, *a):
                async with lock:
                    return await con.execute(*a)

            async def fetch(self, *a):
                async with lock:
                    return await con.fetch(*a)

            async def fetchval(self, *a):
                async with lock:
                    return await con.fetchval(*a)

            def acquire(self):
                return pool.acquire()

        self.con, self.pool = con, One()

    async def close(self):
        await self.real.release(self.con)
        await self.real.close()


class Segments(_Pg):
    """Open turns as rows, sealed 64-message zstd segments as rows; one of 32 appends seals."""

    name, table, seal = "floor asyncpg segments zstd mp", "f_open", 32
    pool_args = {"reset": _no_reset}

    async def open(self, env):
        await super().open(env)
        await self.pool.execute(
            "CREATE TABLE IF NOT EXISTS f_seg(sid text NOT NULL, seq integer NOT NULL, data bytea NOT NULL, PRIMARY KEY(sid, seq))"
        )
        await self.pool.execute("ALTER TABLE f_seg ALTER COLUMN data SET STORAGE EXTERNAL")

    async def save(self, sid, msgs):
        step = self.seal * 2
        whole = (max(0, len(msgs) - step) // step) * step
        async with self.pool.acquire() as con, con.transaction():
            await con.execute("DELETE FROM f_open WHERE sid=$1", sid)
            await con.execute("DELETE FROM f_seg WHERE sid=$1", sid)
            if whole:
                await con.copy_records_to_table(
                    "f_seg",
                    records=[
                        (sid, i // 2, _c.compress(mp_enc.encode(msgs[i : i + step]))) for i in range(0, whole, step)
                    ],
                )
            await con.copy_records_to_table(
                "f_open", records=[(sid, i // 2, mp_enc.encode(msgs[i : i + 2])) for i in range(whole, len(msgs), 2)]
            )

    async def load(self, sid):
        rows = await self.pool.fetch(
            "SELECT 0 AS k, seq, data FROM f_seg WHERE sid=$1 UNION ALL SELECT 1, seq, data FROM f_open WHERE sid=$1 ORDER BY 1, 2",
            sid,
        )
        out, dec, dz = [], mp_msgs.decode, _d.decompress
        for k, _, d in rows:
            out += dec(d if k else dz(d))
        return out

    async def tail(self, sid, k):
        return _join(r[0] for r in (await self.pool.fetch(self.q_tail, sid, k // 2))[::-1])

    async def append(self, sid, msgs):
        n = await self.pool.fetchval(
            "INSERT INTO f_open SELECT $1::text, coalesce((SELECT max(seq) FROM f_open WHERE sid=$1), -1) + 1, $2 "
            "RETURNING seq - (SELECT min(seq) FROM f_open WHERE sid=$1)",
            sid,
            mp_enc.encode(msgs),
        )
        if n is not None and n >= 2 * self.seal:
            async with self.pool.acquire() as con, con.transaction():
                rows = await con.fetch(
                    "DELETE FROM f_open WHERE sid=$1 AND seq < (SELECT min(seq) FROM f_open WHERE sid=$1) + $2 RETURNING seq, data",
                    sid,
                    self.seal,
                )
                rows.sort(key=lambda r: r[0])
                if rows:
                    await con.execute(
                        "INSERT INTO f_seg VALUES($1,$2,$3)",
                        sid,
                        rows[0][0],
                        _c.compress(mp_enc.encode(_join(r[1] for r in rows))),
                    )

    async def fork(self, src, dst):
        async with self.pool.acquire() as con, con.transaction():
            await con.execute(self.q_fork, src, dst)
            await con.execute(self.q_fork.replace("f_open", "f_seg"), src, dst)

    async def stored_bytes(self):
        return await self.pool.fetchval("SELECT pg_total_relation_size('f_open') + pg_total_relation_size('f_seg')")


class Psycopg(Adapter):
    peer, backend, floor = "floor", "postgres", True
    name, table = "floor psycopg row/turn mp", "f_psy"
    convert = _Pg.convert

    async def open(self, env):
        self.pool = psycopg_pool.AsyncConnectionPool(
            f"postgresql://bench@127.0.0.1:{env['pg_port']}/bench",
            min_size=2,
            max_size=10,
            open=False,
            kwargs={"autocommit": True, "prepare_threshold": 2},
        )
        await self.pool.open()
        t = self.table
        async with self.pool.connection() as con:
            await con.execute(
                f"CREATE TABLE IF NOT EXISTS {t}(sid text NOT NULL, seq integer NOT NULL, data bytea NOT NULL, PRIMARY KEY(sid, seq))"
            )

    async def close(self):
        await self.pool.close()

    async def save(self, sid, msgs):
        async with self.pool.connection() as con, con.transaction(), con.cursor() as cur:
            await cur.execute(f"DELETE FROM {self.table} WHERE sid=%s", (sid,))
            async with cur.copy(f"COPY {self.table} FROM STDIN (FORMAT BINARY)") as cp:
                cp.set_types(["text", "int4", "bytea"])
                for i, f in enumerate(_frames(msgs)):
                    await cp.write_row((sid, i, f))

    async def _rows(self, q, args):
        async with self.pool.connection() as con, con.cursor(binary=True) as cur:
            await cur.execute(q, args)
            return await cur.fetchall()

    async def load(self, sid):
        return _join(r[0] for r in await self._rows(f"SELECT data FROM {self.table} WHERE sid=%s ORDER BY seq", (sid,)))

    async def tail(self, sid, k):
        return _join(
            r[0]
            for r in (
                await self._rows(
                    f"SELECT data FROM {self.table} WHERE sid=%s ORDER BY seq DESC LIMIT %s", (sid, k // 2)
                )
            )[::-1]
        )

    async def append(self, sid, msgs):
        async with self.pool.connection() as con:
            await con.execute(
                f"INSERT INTO {self.table} SELECT %s::text, coalesce((SELECT max(seq) FROM {self.table} WHERE sid=%s), -1) + 1, %s::bytea",
                (sid, sid, mp_enc.encode(msgs)),
            )

    async def fork(self, src, dst):
        async with self.pool.connection() as con:
            await con.execute(
                f"INSERT INTO {self.table} SELECT %s::text, seq, data FROM {self.table} WHERE sid=%s", (dst, src)
            )

    async def stored_bytes(self):
        return (await self._rows(f"SELECT pg_total_relation_size('{self.table}')", ()))[0][0]


class CoreFloor(Adapter):
    """SQLAlchemy Core with the same tables and statements, over a given driver."""

    peer, backend, floor = "floor", "postgres", True
    driver, table = "asyncpg", "f_core"
    convert = _Pg.convert

    async def open(self, env):
        self.engine = create_async_engine(
            f"postgresql+{self.driver}://bench@127.0.0.1:{env['pg_port']}/bench", pool_size=10, max_overflow=0
        )
        meta = sa.MetaData()
        self.t = t = sa.Table(
            self.table,
            meta,
            sa.Column("sid", sa.Text, primary_key=True),
            sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("data", sa.LargeBinary, nullable=False),
        )
        async with self.engine.begin() as con:
            await con.run_sync(meta.create_all)
        p = sa.bindparam
        self.s_load = sa.select(t.c.data).where(t.c.sid == p("s")).order_by(t.c.seq)
        self.s_tail = sa.select(t.c.data).where(t.c.sid == p("s")).order_by(t.c.seq.desc()).limit(p("k"))
        nxt = sa.select(
            p("s", type_=sa.Text), sa.func.coalesce(sa.func.max(t.c.seq), -1) + 1, p("d", type_=sa.LargeBinary)
        ).where(t.c.sid == p("s"))
        self.s_append = t.insert().from_select(["sid", "seq", "data"], nxt)
        self.s_fork = t.insert().from_select(
            ["sid", "seq", "data"], sa.select(p("o", type_=sa.Text), t.c.seq, t.c.data).where(t.c.sid == p("s"))
        )

    async def close(self):
        await self.engine.dispose()

    async def save(self, sid, msgs):
        async with self.engine.begin() as con:
            await con.execute(self.t.delete().where(self.t.c.sid == sid))
            await con.execute(self.t.insert(), [{"sid": sid, "seq": i, "data": f} for i, f in enumerate(_frames(msgs))])

    async def load(self, sid):
        async with self.engine.connect() as con:
            return _join((await con.execute(self.s_load, {"s": sid})).scalars())

    async def tail(self, sid, k):
        async with self.engine.connect() as con:
            return _join((await con.execute(self.s_tail, {"s": sid, "k": k // 2})).scalars().all()[::-1])

    async def append(self, sid, msgs):
        async with self.engine.begin() as con:
            await con.execute(self.s_append, {"s": sid, "d": mp_enc.encode(msgs)})

    async def fork(self, src, dst):
        async with self.engine.begin() as con:
            await con.execute(self.s_fork, {"s": src, "o": dst})

    async def stored_bytes(self):
        async with self.engine.connect() as con:
            return (await con.execute(sa.text(f"SELECT pg_total_relation_size('{self.table}')"))).scalar()


class CoreAsyncpg(CoreFloor):
    name, driver, table = "floor SA Core/asyncpg row/turn mp", "asyncpg", "f_core_a"


class CoreAutocommit(CoreFloor):
    """Core with isolation_level=AUTOCOMMIT: no BEGIN/COMMIT round trips."""

    name, driver, table = "floor SA Core/asyncpg autocommit", "asyncpg", "f_core_ac"

    async def open(self, env):
        await super().open(env)
        self.base = self.engine
        self.engine = self.base.execution_options(isolation_level="AUTOCOMMIT")


class CorePsycopg(CoreFloor):
    name, driver, table = "floor SA Core/psycopg row/turn mp", "psycopg", "f_core_p"


class _Decl(DeclarativeBase):
    pass


class _Row(_Decl):
    __tablename__ = "f_orm"
    sid: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(sa.LargeBinary)


class Orm(CoreFloor):
    """SQLAlchemy ORM: mapped rows, sessions, unit of work."""

    name, driver, table = "floor SA ORM/asyncpg row/turn mp", "asyncpg", "f_orm_core"

    async def open(self, env):
        await super().open(env)
        self.table = "f_orm"
        async with self.engine.begin() as con:
            await con.run_sync(_Decl.metadata.create_all)
        self.mk = async_sessionmaker(self.engine, expire_on_commit=False)

    async def save(self, sid, msgs):
        async with self.mk() as s:
            await s.execute(sa.delete(_Row).where(_Row.sid == sid))
            s.add_all(_Row(sid=sid, seq=i, data=f) for i, f in enumerate(_frames(msgs)))
            await s.commit()

    async def load(self, sid):
        async with self.mk() as s:
            rows = (await s.execute(sa.select(_Row).where(_Row.sid == sid).order_by(_Row.seq))).scalars().all()
        return _join(r.data for r in rows)

    async def tail(self, sid, k):
        async with self.mk() as s:
            rows = (
                (await s.execute(sa.select(_Row).where(_Row.sid == sid).order_by(_Row.seq.desc()).limit(k // 2)))
                .scalars()
                .all()
            )
        return _join(r.data for r in rows[::-1])

    async def append(self, sid, msgs):
        async with self.mk() as s:
            n = (await s.execute(sa.select(sa.func.max(_Row.seq)).where(_Row.sid == sid))).scalar()
            s.add(_Row(sid=sid, seq=(-1 if n is None else n) + 1, data=mp_enc.encode(msgs)))
            await s.commit()

    async def fork(self, src, dst):
        async with self.mk() as s:
            rows = (await s.execute(sa.select(_Row).where(_Row.sid == src).order_by(_Row.seq))).scalars().all()
            s.add_all(_Row(sid=dst, seq=r.seq, data=r.data) for r in rows)
            await s.commit()


ADAPTERS = [
    PerMessage,
    PerTurn,
    PerTurnNoReset,
    PerTurnOneConn,
    Segments,
    Psycopg,
    CoreAsyncpg,
    CoreAutocommit,
    CorePsycopg,
    Orm,
]

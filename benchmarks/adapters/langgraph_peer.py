"""LangGraph checkpointers.

Saver level: a conversation is a thread whose latest checkpoint holds channel "messages".
append = aget_tuple + aput of a new checkpoint with the longer list, as the graph runtime does.
Graph level ("graph"): a compiled one-node MessagesState graph; append = ainvoke.
Delta: the same graph with the (beta) DeltaChannel, which stores writes instead of whole lists.
langgraph-checkpoint-redis is not included, because it needs the RediSearch and RedisJSON modules.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Annotated, TypedDict

import aiosqlite
from interface import Adapter
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool


def to_messages(msgs):
    import json

    out = []
    for m in msgs:
        if m.get("tool_calls"):
            c = m["tool_calls"][0]
            out.append(
                AIMessage(
                    content="",
                    id=m["id"],
                    tool_calls=[{"id": c["id"], "name": c["name"], "args": json.loads(c["arguments"])}],
                )
            )
        elif m["role"] == "tool":
            out.append(ToolMessage(content=m["content"], id=m["id"], tool_call_id=m["tool_call_id"]))
        elif m["role"] == "assistant":
            out.append(AIMessage(content=m["content"], id=m["id"]))
        else:
            out.append(HumanMessage(content=m["content"], id=m["id"]))
    return out


def cfg(sid):
    return {"configurable": {"thread_id": sid, "checkpoint_ns": ""}}


class _Saver(Adapter):
    peer = "langgraph"
    notes = {
        "append": "a checkpoint holds the whole list: aget_tuple + aput of the longer list",
        "tail": "no partial load: aget_tuple, then slice",
        "fork": "aget_tuple + aput under a new thread id",
    }

    def convert(self, msgs):
        return to_messages(msgs)

    async def make_saver(self, env):
        raise NotImplementedError

    async def open(self, env):
        self.saver = await self.make_saver(env)

    async def _put(self, config, msgs, prev=None, step=0):
        cp = dict(prev or empty_checkpoint())
        v = self.saver.get_next_version(cp["channel_versions"].get("messages"), None)
        cp.update(
            id=str(uuid6(clock_seq=step)),
            ts=datetime.now(UTC).isoformat(),
            channel_values={"messages": msgs},
            channel_versions={"messages": v},
        )
        await self.saver.aput(config, cp, {"source": "loop", "step": step, "parents": {}}, {"messages": v})

    async def save(self, sid, msgs):
        await self._put(cfg(sid), msgs)

    async def load(self, sid):
        return (await self.saver.aget_tuple(cfg(sid))).checkpoint["channel_values"]["messages"]

    async def append(self, sid, msgs):
        t = await self.saver.aget_tuple(cfg(sid))
        await self._put(
            t.config, t.checkpoint["channel_values"]["messages"] + msgs, t.checkpoint, t.metadata.get("step", 0) + 1
        )

    async def fork(self, src, dst):
        t = await self.saver.aget_tuple(cfg(src))
        await self._put(cfg(dst), t.checkpoint["channel_values"]["messages"])

    async def turn(self, sid, msgs):
        # the new checkpoint is based on the tuple that was loaded at the start of the turn
        t = await self.saver.aget_tuple(cfg(sid))
        old = t.checkpoint["channel_values"]["messages"]
        old[-20:]
        await self._put(t.config, old + msgs, t.checkpoint, t.metadata.get("step", 0) + 1)


class MemorySaver(_Saver):
    name, backend = "langgraph InMemorySaver", "memory"

    async def make_saver(self, env):
        return InMemorySaver()


class _SqliteSaver:
    file = "lg.db"

    async def make_saver(self, env):
        self.path = os.path.join(env["dir"], self.file)
        self.con = await aiosqlite.connect(self.path)
        s = AsyncSqliteSaver(self.con)
        await s.setup()
        return s

    async def close(self):
        await self.con.close()

    async def stored_bytes(self):
        await self.con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return os.path.getsize(self.path)


class SqliteSaver(_SqliteSaver, _Saver):
    name, backend = "langgraph AsyncSqliteSaver", "sqlite"


class _PgSaver:
    async def make_saver(self, env):
        self.pool = AsyncConnectionPool(
            f"postgresql://bench@127.0.0.1:{env['pg_port']}/bench",
            min_size=2,
            max_size=10,
            open=False,
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
        )
        await self.pool.open()
        s = AsyncPostgresSaver(self.pool)
        await s.setup()
        return s

    async def close(self):
        await self.pool.close()

    async def stored_bytes(self):
        async with self.pool.connection() as con:
            r = await (
                await con.execute(
                    "SELECT pg_total_relation_size('checkpoints') + pg_total_relation_size("
                    "'checkpoint_blobs') + pg_total_relation_size('checkpoint_writes') AS n"
                )
            ).fetchone()
        return r["n"]


class PgSaver(_PgSaver, _Saver):
    name, backend = "langgraph AsyncPostgresSaver", "postgres"


class _Graph(_Saver):
    """A compiled graph whose node answers with the given second message; append = ainvoke."""

    state = MessagesState
    notes = {
        "append": "ainvoke of a one-node graph (several checkpoints and writes per turn)",
        "tail": "no partial load: aget_state, then slice",
        "fork": "aget_state + aupdate_state on a new thread",
    }

    async def open(self, env):
        await super().open(env)

        async def model(state, config):
            return {"messages": [config["configurable"]["answer"]]}

        from langchain_core.runnables import RunnableConfig

        model.__annotations__["config"] = RunnableConfig
        b = StateGraph(self.state)
        b.add_node("model", model)
        b.add_edge(START, "model")
        b.add_edge("model", END)
        self.graph = b.compile(checkpointer=self.saver)

    async def save(self, sid, msgs):
        await self.graph.aupdate_state(cfg(sid), {"messages": msgs}, as_node="model")

    async def load(self, sid):
        return (await self.graph.aget_state(cfg(sid))).values["messages"]

    async def append(self, sid, msgs):
        await self.graph.ainvoke({"messages": msgs[:1]}, {"configurable": {"thread_id": sid, "answer": msgs[1]}})

    async def turn(self, sid, msgs):
        await self.append(sid, msgs)  # the graph loads the thread itself

    async def fork(self, src, dst):
        await self.save(dst, await self.load(src))


class GraphSqlite(_SqliteSaver, _Graph):
    name, backend, file = "langgraph graph AsyncSqliteSaver", "sqlite", "lg2.db"


def _append(state: list, writes: list) -> list:
    out = list(state)
    for w in writes:
        out.extend(w)
    return out


class DeltaState(TypedDict):
    messages: Annotated[list[AnyMessage], DeltaChannel(_append)]


class DeltaSqlite(_SqliteSaver, _Graph):
    name, backend, file, state = "langgraph graph+DeltaChannel sqlite", "sqlite", "lg3.db", DeltaState


class GraphPg(_PgSaver, _Graph):
    name, backend = "langgraph graph AsyncPostgresSaver", "postgres"


ADAPTERS = [MemorySaver, SqliteSaver, PgSaver, GraphSqlite, DeltaSqlite]

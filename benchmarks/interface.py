"""The interface that every adapter implements, and helper functions for statistics."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import Any

import workload


class NotSupported(Exception):
    """The peer has no such operation, and its users cannot reasonably write it themselves."""


class Adapter:
    """One store under test.

    `convert` turns the workload's dicts into the peer's message objects and is not timed.  All async methods below are
    timed.  They must behave as in a new request: clients, engines and pools are warm, but an adapter keeps no data
    about the session between calls, unless the peer itself keeps it.
    """

    name = "?"  # unique: the name in the tables
    peer = "?"  # the library
    backend = "?"  # memory | redis | sqlite | postgres
    floor = False  # True: hand-written lower bound, not a product
    notes: dict[str, str] = {}  # op -> the steps of the user, if the peer lacks the operation
    save_max = 10_000  # largest N for which save() is worth timing
    blocking = False  # True: its calls block the event loop

    def __init__(self, **options: Any) -> None:
        for key, value in options.items():
            setattr(self, key, value)

    def convert(self, msgs: list[dict]) -> list[Any]:
        return msgs

    def content(self, msg: Any) -> str:
        return msg["content"] if isinstance(msg, dict) else msg.content

    async def open(self, env: dict) -> None: ...
    async def close(self) -> None: ...

    async def save(self, sid: str, msgs: list) -> None:
        raise NotSupported

    async def seed(self, sid: str, msgs: list) -> None:
        """Store a session for a measurement, untimed; override it if `save` is too slow."""
        await self.save(sid, msgs)

    async def load(self, sid: str) -> list:
        raise NotSupported

    async def tail(self, sid: str, k: int) -> list:
        return (await self.load(sid))[-k:]

    async def append(self, sid: str, msgs: list) -> None:
        raise NotSupported

    async def fork(self, src: str, dst: str) -> None:
        await self.save(dst, await self.load(src))

    async def turn(self, sid: str, msgs: list) -> None:
        await self.tail(sid, 20)
        await self.append(sid, msgs)

    async def stored_bytes(self) -> int:
        """Return the bytes that the backend takes for all data that this adapter stored."""
        raise NotSupported


class Turns:
    """An endless sequence of turns with new ids, increasing timestamps and realistic text."""

    def __init__(self, start_ts: float = 1_770_000_000.0, prefix: str = "x") -> None:
        self._pool = workload.generate(2000, seed=workload.SEED + 1)
        self._at = itertools.cycle(range(0, len(self._pool), 2))
        self._n = itertools.count()
        self._ts = start_ts
        self._prefix = prefix

    def next(self) -> list[dict]:
        i = next(self._at)
        out = []
        for m in self._pool[i : i + 2]:
            m = copy.copy(m)
            self._ts += 0.5
            m["ts"] = self._ts
            m["id"] = f"msg_{self._prefix}{next(self._n):023x}"
            out.append(m)
        return out


def fresh(msgs: Iterable[dict], prefix: str) -> list[dict]:
    """Return the same messages under new ids, because some stores use the message id as a key."""
    out = []
    for i, m in enumerate(msgs):
        m = copy.copy(m)
        m["id"] = f"msg_{prefix}{i:012x}"
        out.append(m)
    return out


def quantile(values: list[float], q: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]

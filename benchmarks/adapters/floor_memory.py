"""Floor, memory: a dict of lists (or tuples) of frozen Structs with async methods."""

from __future__ import annotations

from interface import Adapter
from schema import to_struct


class _Base(Adapter):
    peer, backend, floor = "floor", "memory", True

    def convert(self, msgs):
        return [to_struct(m) for m in msgs]

    async def open(self, env):
        self.d = {}


class ListFloor(_Base):
    name = "floor dict[list]"

    async def save(self, sid, msgs):
        self.d[sid] = list(msgs)

    async def load(self, sid):
        return self.d[sid].copy()

    async def tail(self, sid, k):
        return self.d[sid][-k:]

    async def append(self, sid, msgs):
        self.d[sid].extend(msgs)

    async def fork(self, src, dst):
        self.d[dst] = self.d[src].copy()


class TupleFloor(_Base):
    """Immutable snapshots: load and fork return the same object, and append copies pointers."""

    name = "floor dict[tuple]"

    async def save(self, sid, msgs):
        self.d[sid] = tuple(msgs)

    async def load(self, sid):
        return self.d[sid]

    async def tail(self, sid, k):
        return self.d[sid][-k:]

    async def append(self, sid, msgs):
        self.d[sid] = (*self.d[sid], *msgs)

    async def fork(self, src, dst):
        self.d[dst] = self.d[src]


class ForkFloor(_Base):
    """A shared append-only log plus a length per session: everything but load is O(1).

    A session is (log, length).  Appending to a log at exactly that length
    extends it in place; a fork that diverges copies on its first append.
    """

    name = "floor shared log"

    async def save(self, sid, msgs):
        self.d[sid] = (list(msgs), len(msgs))

    async def load(self, sid):
        log, n = self.d[sid]
        return log[:n]

    async def tail(self, sid, k):
        log, n = self.d[sid]
        return log[max(0, n - k) : n]

    async def append(self, sid, msgs):
        log, n = self.d[sid]
        if len(log) != n:
            log = log[:n]
        log.extend(msgs)
        self.d[sid] = (log, n + len(msgs))

    async def fork(self, src, dst):
        self.d[dst] = self.d[src]


ADAPTERS = [ListFloor, TupleFloor, ForkFloor]

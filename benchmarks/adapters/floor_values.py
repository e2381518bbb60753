"""Floor, memory: the values and the coroutines of turnlog's contract over a plain dict of lists, without its rules.

These stores do the minimum that any store with this contract must do for a `load` and an `append`: a method of the
application awaits a second coroutine (`read`, `commit`), and each call creates new values for both.

A load creates a `Key`, takes the records of the last n messages (every turn of the workload has two), creates a `SessionInfo`
and a `Session`, and joins the records' messages into a list.  An append creates a `Key`, a `Record` and a `Change`, with an id
from `new_id` and a time from the clock.  The store adds the record with its position in the session (number, rounds, messages)
to the end of the session's list, stores a new `Version`, and creates a `Receipt`.

The stores have no `expect`, repeats, chain values, digests, retention, expiry, limits, sizes, eviction or closed state, and
compare nothing.  `floor memory same values` uses turnlog's types, which check their values.  `floor memory bare values` uses
types with the same fields and no checks.
"""

from __future__ import annotations

import os
import time

import msgspec
from interface import Adapter

from turnlog import Change, Key, Message, Receipt, Session, SessionInfo, Version
from turnlog.values.ids import new_id
from turnlog.values.metadata import EMPTY
from turnlog.values.record import Record


class BareKey(msgspec.Struct, frozen=True, order=True):
    """`turnlog.Key` without its checks."""

    namespace: str
    session: str


class BareChange(msgspec.Struct, frozen=True, kw_only=True):
    """`turnlog.Change` without its checks."""

    id: str
    append: tuple[Record, ...] = ()
    keep: object = None
    retain: object = None
    max_bytes: object = None
    metadata: object = None
    owner: object = None
    ttl: object = None
    expect: object = None
    for_owner: object = None
    first: int = 0
    restored: int = 0
    asked: object = None


class _Log:
    """A session: its records, its counts, and the version and info for readers."""

    __slots__ = ("created", "epoch", "messages", "records", "updated", "version")

    def __init__(self, now: float) -> None:
        self.epoch = os.urandom(16)
        self.version = Version(self.epoch, 0, 0, self.epoch, self.epoch)
        self.records: list[Record] = []
        self.messages = 0
        self.created = self.updated = now


class _Store:
    """The two methods of a turn, and the two coroutines that they await."""

    def __init__(self, key: type, change: type) -> None:
        self.namespace, self.clock = "default", time.time
        self.key, self.change = key, change
        self.logs: dict[object, _Log] = {}

    async def load(self, session_id, *, last=None):
        return (await self.read(self.key(self.namespace, session_id), last=last)).messages

    async def append(self, session_id, messages):
        key, id = self.key(self.namespace, session_id), new_id()
        record = Record(id, 0, False, self.clock(), len(messages), 1, 1, _messages=tuple(messages))
        return await self.commit(key, self.change(id=id, append=(record,)))

    async def read(self, key, *, last=None):
        log = self.logs[key]
        records = log.records
        n = len(records)
        part = tuple(records[max(0, n - last // 2) :] if last is not None else records)
        info = SessionInfo(key, log.version, 0, n, log.messages, 0, log.created, log.updated, "", EMPTY, None, None)
        return Session(info, part)

    async def commit(self, key, change):
        now = self.clock()
        log = self.logs.get(key)
        if log is None:
            log = self.logs[key] = _Log(now)
        previous, records = log.version, log.records
        number = end = len(records)
        for r in change.append:
            log.messages += r.count
            end += 1
            records.append(
                Record(r.id, 0, False, r.time, r.count, 1, 1, end - 1, end, log.messages, _messages=r._messages)
            )
        log.version, log.updated = Version(log.epoch, 0, end, log.epoch, log.epoch), now
        return Receipt(log.version, number, 0, end, log.messages, previous, None)


class SameValues(Adapter):
    name, peer, backend, floor = "floor memory same values", "floor", "memory", True
    key, change = Key, Change

    def convert(self, msgs):
        return [Message.from_dict(m) for m in msgs]

    async def open(self, env):
        self.store = _Store(self.key, self.change)

    async def save(self, sid, msgs):
        for i in range(0, len(msgs), 2):
            await self.store.append(sid, msgs[i : i + 2])

    async def load(self, sid):
        return await self.store.load(sid)

    async def tail(self, sid, k):
        return await self.store.load(sid, last=k)

    async def append(self, sid, msgs):
        await self.store.append(sid, msgs)

    async def fork(self, src, dst):
        await self.save(dst, await self.load(src))

    async def turn(self, sid, msgs):
        await self.store.load(sid, last=20)
        await self.store.append(sid, msgs)


class BareValues(SameValues):
    name = "floor memory bare values"
    key, change = BareKey, BareChange


ADAPTERS = [SameValues, BareValues]

"""Recompressing: what was written before is brought to how it would be written now, behind everyone's back.

A seal takes the place of each record that is written otherwise.  It changes nothing that anyone sees and loses quietly
to whatever is written meanwhile, so this may be stopped and begun again at any time, and run beside the application.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from turnlog import Change, Key, Query, Record
from turnlog.errors import CorruptRecord, SessionNotFound
from turnlog.limits import MAX_SEALED_TURNS
from turnlog.payload import PLAIN, codec_of

from ._sealing import REST, RUN_BYTES, plain_bytes

if TYPE_CHECKING:
    from ._layer import CompressionLayer

_HOME: Final = "turnlog:recompress"
_MESSAGES: Final = 4096  # are read at once
_PASSES: Final = 100  # over the sessions that changed meanwhile


class Recompressed(NamedTuple):
    """What became of one session; at last, without a session, what became of the dictionaries.

    Attributes:
        session: Its id; empty in the last one.
        before: About how many bytes its records took.
        after: How many they take.
        damaged: How many records could not be opened, and were left.
        forgotten: Ids of dictionaries that nothing needs any more, and that are removed.
    """

    session: str
    before: int = 0
    after: int = 0
    damaged: int = 0
    forgotten: tuple[int, ...] = ()


async def recompress(layer: CompressionLayer, *, idle: float | None, rate: float | None) -> AsyncIterator[Recompressed]:
    """As `CompressionLayer.recompress`."""
    store, namespace = layer.inner, layer.namespace
    progress, asked = Key(_HOME, namespace), f"{await layer.codec(namespace)}, idle {idle}"
    cursor, began = await _left_off(layer, progress, asked)
    loop = asyncio.get_running_loop()
    due, since, all_read = loop.time(), 0.0, True
    for _ in range(_PASSES):  # what changed meanwhile is in front of where the pass was: look there again
        changed, reached = False, False
        while not reached:
            page = await store.page(Query(namespace=namespace, limit=100, cursor=cursor))
            for info in page.infos:
                reached = info.updated < since
                if reached:
                    break
                if rate is not None:
                    await asyncio.sleep(due - loop.time())
                    due = max(due, loop.time()) + 1 / rate
                found = await _session(layer, info.key, idle)
                if found is not None:
                    changed, all_read = changed or found.after != found.before, all_read and not found.damaged
                    yield found
            cursor = page.cursor
            if cursor is None:
                break
            await store.commit(
                progress, Change(metadata={"asked": asked, "cursor": cursor, "began": began, "since": since}, ttl=0)
            )
        if not changed:
            break
        cursor, since, began = None, began, layer.clock()
    await store.delete(progress)
    if all_read:
        forgotten = await layer.dictionaries.forget(namespace)
        if forgotten:
            yield Recompressed("", forgotten=tuple(forgotten))


async def _left_off(layer: CompressionLayer, progress: Key, asked: str) -> tuple[str | None, float]:
    """Where the last one stopped, if it was asked for the same, and when that began."""
    try:
        left = (await layer.inner.read(progress, last=0, touch=False)).info.metadata
    except SessionNotFound:
        return None, layer.clock()
    cursor, began = left["cursor"], left["began"]
    if left["asked"] != asked or not isinstance(cursor, str) or not isinstance(began, float):
        return None, layer.clock()
    return cursor, began


async def _session(layer: CompressionLayer, key: Key, idle: float | None) -> Recompressed | None:
    """Bring one session to how it would be written now; None, if it is gone."""
    damaged, before, codec = 0, None, await layer.codec(key.namespace)
    try:
        window = await layer.inner.read(key, last=_MESSAGES, touch=False)
        found = window.info
        whole = idle is not None and layer.clock() - found.updated >= idle
        sealable = found.turns - REST
        if whole and window.records:
            sealable = found.turns - window.records[-1].open
        while window.records:
            for run in _plan(window.records, sealable, whole=whole):
                if (run[-1].after <= sealable and len(run) > 1) or not all(codec.wrote(one.payload) for one in run):
                    damaged += not await _replace(layer, key, run)
            before = window.records[0].number
            if before <= window.info.first:
                break
            window = await layer.inner.read(key, last=_MESSAGES, before=before, touch=False)
        after = (await layer.inner.read(key, last=0, touch=False)).info.bytes
    except SessionNotFound:
        return None
    return Recompressed(key.session, found.bytes, after, damaged)


def _plan(records: Sequence[Record], sealable: int, *, whole: bool) -> Iterator[list[Record]]:
    """The records that one record shall take the place of: those of many turns below `sealable`, of one turn behind it.

    What is sealed already is joined with others only in a whole session, and only as long as it is small.
    """
    run: list[Record] = []
    for turn in _turns(records):
        first, last = turn[0], turn[-1]
        small = plain_bytes(first) < RUN_BYTES // 2 and first.turns < MAX_SEALED_TURNS // 2
        joins = last.after <= sealable and (first.rounds == 1 or (whole and small))
        room = sum(map(plain_bytes, run)) + sum(map(plain_bytes, turn)) <= RUN_BYTES
        room = room and sum(one.turns for one in run) + first.turns <= MAX_SEALED_TURNS
        if run and not (joins and room):
            yield run
            run = []
        if joins:
            run += turn
        else:
            yield turn
    if run:
        yield run


def _turns(records: Sequence[Record]) -> Iterator[list[Record]]:
    turn: list[Record] = []
    for record in records:
        if record.turns and turn:
            yield turn
            turn = []
        turn.append(record)
    if turn:
        yield turn


async def _replace(layer: CompressionLayer, key: Key, run: list[Record]) -> bool:
    """Put one record in place of others; False, if one of them cannot be read."""
    try:
        records = await layer.opened(key, tuple(run))
        for record in records:
            _ = record.messages
    except CorruptRecord:
        return False
    (written,) = await layer.written(key, (Record.seal(records) if len(records) > 1 else records[0],))
    if len(run) > 1 or codec_of(written.payload) != PLAIN or codec_of(run[0].payload) != PLAIN:
        await layer.inner.commit(key, Change(seal=written))
    return True

"""Recompressing: rewrite sessions with the codec that the layer writes now, while applications use them.

Each record with another codec is replaced by a seal.  Messages, turns and versions stay the same.  The backend refuses
a seal if the records have changed since they were read.  Recompressing may therefore be stopped and continued at any
time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from turnlog import Key, Query, Record
from turnlog.errors import CorruptRecord, InvalidInput, SessionNotFound, TooLarge
from turnlog.limits import MAX_PAGE, MAX_SEALED_TURNS
from turnlog.payload import PLAIN, codec_of

from ._codec import Codec
from ._progress import BEAT, Progress
from ._records import CompressedRecords, plain_bytes
from ._sealing import REST, RUN_BYTES

_MESSAGES: Final = 4096  # messages to read at once
_SESSIONS: Final = 100  # sessions between two writes of the progress
_PASSES: Final = 100  # the largest number of passes over sessions that changed during the pass before
_SLACK: Final = 1.0  # seconds: the longest delay from the time of a change to its visibility


class Recompressed(NamedTuple):
    """The result for one session.

    Attributes:
        session: The session's id; empty if the session is damaged and its id cannot be read.
        before: The stored bytes of its payloads before.
        after: The stored bytes of its payloads after.
        damaged: The number of records that cannot be read, or 1 if the session cannot be read at all.  Damaged records
            stay unchanged.
    """

    session: str
    before: int = 0
    after: int = 0
    damaged: int = 0


class _Unsupported(Exception):
    """The backend does not support seals."""


async def recompress(
    layer: CompressedRecords, namespace: str, *, idle: float | None, rate: float | None
) -> AsyncIterator[Recompressed]:
    """See `CompressionLayer.recompress`."""
    backend = layer.inner
    codec = await layer.codec_for(namespace, fresh=True)
    progress = await Progress.begin(backend, namespace, f"{codec}, idle {idle}")
    try:
        async with aclosing(_passes(layer, namespace, progress, idle=idle, rate=rate)) as results:
            async for result in results:
                yield result
        await progress.finish()
    except _Unsupported:
        await progress.finish()
        raise InvalidInput(
            f"{type(backend).__name__} does not support seals: its sessions cannot be recompressed"
        ) from None
    finally:
        await progress.release()


async def _passes(
    layer: CompressedRecords, namespace: str, progress: Progress, *, idle: float | None, rate: float | None
) -> AsyncGenerator[Recompressed]:
    loop = asyncio.get_running_loop()
    due = loop.time()
    for _ in range(_PASSES):
        # A session that changes during a pass moves to the front, where the pass may miss it.  Repeat the pass for the
        # sessions that were updated since its start, until they fit on one page, which is a snapshot, and none changes.
        # During a pass, an import or a copy may store a session with an earlier time: the next call finds it.
        snapshot, changed = progress.cursor is None, False
        if progress.cursor is None:
            await progress.begin_pass()
        while True:
            query = Query(namespace=namespace, limit=MAX_PAGE, cursor=progress.cursor)
            page = await layer.inner.page(query)
            if not progress.since:
                for error in page.damaged:
                    yield Recompressed("" if error.key is None else error.key.session, damaged=1)
            infos = [info for info in page.infos if info.updated >= progress.since]
            for place, info in enumerate(infos, 1):
                if rate is not None:
                    while (left := due - loop.time()) > 0:
                        await asyncio.sleep(min(left, BEAT))
                        await progress.beat()
                    due = max(due, loop.time()) + 1 / rate
                done = await _session(layer, info.key, idle, progress)
                progress.cursor = query.cursor_after(info)
                if done is not None:
                    changed = changed or done.changed
                    if done.changed or not progress.since:  # later passes yield only sessions that changed again
                        yield done.result
                await (progress.beat() if place % _SESSIONS else progress.store())
            if page.cursor is None or len(infos) < len(page.infos):
                break
            snapshot = False
        if snapshot and not changed:
            break
        progress.end_pass(_SLACK)


class _Done(NamedTuple):
    """The outcome for one session.

    Attributes:
        result: The result for the caller.
        changed: Whether a seal was sent, even if the backend refused it.
    """

    result: Recompressed
    changed: bool


async def _session(layer: CompressedRecords, key: Key, idle: float | None, progress: Progress) -> _Done | None:
    """Rewrite one session with the present codec; return None if it was deleted.

    Raises:
        _Unsupported: The backend does not support seals.
    """
    damaged, changed, stored, saved = 0, False, 0, 0
    before, codec = None, await layer.codec_for(key.namespace)
    try:
        window = await layer.inner.read(key, last=_MESSAGES, touch=False)
        found = window.info
        whole = idle is not None and layer.clock() - found.updated >= idle
        left_open = bool(window.records) and window.records[-1].open
        sealable = found.turns - (left_open if whole else REST)
        while window.records:
            stored += _bytes(window.records)
            for run in _plan(window.records, sealable, whole=whole):
                if (run[-1].next_turn <= sealable and len(run) > 1) or not all(codec.wrote(one.payload) for one in run):
                    if left_open and run[-1].next_turn == found.turns:
                        continue  # the backend refuses a seal of an open turn, because more rounds may follow
                    done = await _replace(layer, key, run, codec)
                    damaged, changed, saved = damaged + done.damaged, changed or done.sent, saved + done.saved
                    await progress.beat()
            before = window.records[0].number
            if before <= window.info.first:
                break
            window = await layer.inner.read(key, last=_MESSAGES, before=before, touch=False)
    except SessionNotFound:
        return None
    except CorruptRecord:  # the session cannot be read
        damaged += 1
    return _Done(Recompressed(key.session, stored, stored - saved, damaged), changed)


def _bytes(records: Sequence[Record]) -> int:
    return sum(len(record.payload) for record in records)


def _plan(records: Sequence[Record], sealable: int, *, whole: bool) -> Iterator[list[Record]]:
    """Yield groups of records; each group is to be replaced by one record.

    Turns below `sealable` are grouped; later turns stay single.  A sealed record is joined with others only if it is
    small and the whole session is sealed.
    """
    run: list[Record] = []
    for turn in _turns(records):
        first, last = turn[0], turn[-1]
        small = plain_bytes(first) < RUN_BYTES // 2 and first.turns < MAX_SEALED_TURNS // 2
        joins = last.next_turn <= sealable and (first.rounds == 1 or (whole and small))
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


class _Replaced(NamedTuple):
    """The outcome for one run.

    Attributes:
        damaged: The number of records that cannot be read; if there are any, the run stays unchanged.
        sent: Whether a seal was sent, even if the backend refused it.
        saved: The number of stored bytes that were saved.
    """

    damaged: int = 0
    sent: bool = False
    saved: int = 0


async def _replace(layer: CompressedRecords, key: Key, run: list[Record], codec: Codec) -> _Replaced:
    """Replace a run by one record, if all its records can be read and the record is smaller or has another codec."""
    records = await layer.decode_records(key, tuple(run))
    damaged = sum(map(_damaged, records))
    if damaged:
        return _Replaced(damaged)
    try:
        (written,) = await layer.encode_records(key, (Record.seal(records) if len(records) > 1 else records[0],))
    except TooLarge:  # a seal cannot divide the rounds of one turn
        return _Replaced()
    if len(run) == 1 and codec_of(written.payload) == codec_of(run[0].payload) == PLAIN:
        return _Replaced()
    saved = _bytes(run) - len(written.payload)
    if saved <= 0 and all(codec_of(one.payload) == PLAIN or codec.wrote(one.payload) for one in run):
        return _Replaced()
    done = await layer.inner.seal(key, written)
    if done is None:
        raise _Unsupported
    return _Replaced(sent=True, saved=saved if done else 0)


def _damaged(record: Record) -> bool:
    try:
        return not record.messages
    except CorruptRecord:
        return True

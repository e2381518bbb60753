"""Recompressing: what was written before is brought to how it would be written now, behind everyone's back.

A seal takes the place of each record that is written otherwise.  It changes nothing that anyone sees and loses quietly
to whatever is written meanwhile, so this may be stopped and begun again at any time, and run beside the application.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from turnlog import Backend, Change, Key, Query, Record
from turnlog.errors import CorruptRecord, SessionNotFound
from turnlog.limits import MAX_PAGE, MAX_SEALED_TURNS
from turnlog.payload import PLAIN, codec_of

from ._codec import ZSTD_WITH_DICTIONARY, Codec
from ._records import CompressedRecords, plain_bytes
from ._sealing import REST, RUN_BYTES

_HOME: Final = "turnlog:recompress"
_MESSAGES: Final = 4096  # are read at once
_SESSIONS: Final = 100  # after so many it is noted how far it has come
_PASSES: Final = 100  # over the sessions that changed meanwhile
_SLACK: Final = 1.0  # seconds: a change may be seen so much later than the time that it bears


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


class _Progress(msgspec.Struct):
    """How far it has come, as it is kept in the store.

    Attributes:
        asked: What was asked for.
        since: This pass looks at what was updated since.
        began: When it began, by the store's clock.
        cursor: Where it is; None: at its beginning.
        clean: Whether no record was left that needs another dictionary than the newest, and none can have come since.
    """

    asked: str
    since: float = 0.0
    began: float = 0.0
    cursor: str | None = None
    clean: bool = False


async def recompress(
    layer: CompressedRecords, namespace: str, *, idle: float | None, rate: float | None
) -> AsyncIterator[Recompressed]:
    """As `CompressionLayer.recompress`."""
    store = layer.inner
    home, asked = Key(_HOME, namespace), await _asked(layer, namespace, idle)
    progress = await _left_off(store, home, asked)
    if progress is None:  # what others seal with an older dictionary behind its back would be missed
        progress = _Progress(asked, clean=await layer.dictionaries.settled(namespace))
    loop = asyncio.get_running_loop()
    due = loop.time()
    for _ in range(_PASSES):
        # What changes meanwhile moves to the front, and may be missed: look there again, until all that there is to
        # look at is on one page, which is a snapshot, and is as it should be.
        snapshot, changed = progress.cursor is None, False
        if progress.cursor is None:
            progress.began = await _note(store, home, progress)
        while True:
            query = Query(namespace=namespace, limit=MAX_PAGE, cursor=progress.cursor)
            page = await store.page(query)
            infos = [info for info in page.infos if info.updated >= progress.since]
            for place, info in enumerate(infos, 1):
                if rate is not None:
                    await asyncio.sleep(due - loop.time())
                    due = max(due, loop.time()) + 1 / rate
                seen = await _session(layer, info.key, idle)
                progress.cursor = query.cursor_after(info)
                if seen is not None:
                    changed, progress.clean = changed or seen.changed, progress.clean and not seen.bound
                    if seen.changed or not progress.since:  # it may be met again, and is then old news
                        yield seen.told
                if place % _SESSIONS == 0:
                    await _note(store, home, progress)
            if page.cursor is None or len(infos) < len(page.infos):
                break
            snapshot = False
        if snapshot and not changed:
            break
        progress.since, progress.cursor = progress.began - _SLACK, None
    else:
        progress.clean = False
    await store.delete(home)
    if (
        progress.clean and await _asked(layer, namespace, idle) == asked
    ):  # or the newest dictionary is newer than what was written
        forgotten = await layer.dictionaries.forget(namespace)
        if forgotten:
            yield Recompressed("", forgotten=tuple(forgotten))


async def _asked(layer: CompressedRecords, namespace: str, idle: float | None) -> str:
    return f"{await layer.codec_for(namespace)}, idle {idle}"


async def _left_off(store: Backend, home: Key, asked: str) -> _Progress | None:
    """Where the last one stopped, if it was asked for the same."""
    try:
        left = (await store.read(home, last=0, touch=False)).info.metadata
    except SessionNotFound:
        return None
    progress = msgspec.convert(dict(left), _Progress)
    return progress if progress.asked == asked else None


async def _note(store: Backend, home: Key, progress: _Progress) -> float:
    """Keep how far it has come, and tell the time by the store's clock."""
    await store.commit(home, Change(metadata=msgspec.to_builtins(progress), ttl=0))
    return (await store.read(home, last=0, touch=False)).info.updated


class _Seen(NamedTuple):
    """What was found in a session.

    Attributes:
        told: What became of it.
        changed: Whether something was, or should have been, replaced.
        bound: Whether a record was left that needs another dictionary than the newest.
    """

    told: Recompressed
    changed: bool
    bound: bool


async def _session(layer: CompressedRecords, key: Key, idle: float | None) -> _Seen | None:
    """Bring one session to how it would be written now; None, if it is gone."""
    damaged, changed, bound = 0, False, False
    before, codec = None, await layer.codec_for(key.namespace)
    try:
        window = await layer.inner.read(key, last=_MESSAGES, touch=False)
        found = window.info
        whole = idle is not None and layer.clock() - found.updated >= idle
        left_open = bool(window.records) and window.records[-1].open
        sealable = found.turns - (left_open if whole else REST)
        while window.records:
            for run in _plan(window.records, sealable, whole=whole):
                if (run[-1].next_turn <= sealable and len(run) > 1) or not all(codec.wrote(one.payload) for one in run):
                    if left_open and run[-1].next_turn == found.turns:
                        done = _Replaced()  # more rounds may follow: no seal is let in
                    else:
                        done = await _replace(layer, key, run, codec)
                    damaged, changed = damaged + done.damaged, changed or done.sent
                    bound = bound or (not done.sent and any(_bound(one, codec) for one in run))
            before = window.records[0].number
            if before <= window.info.first:
                break
            window = await layer.inner.read(key, last=_MESSAGES, before=before, touch=False)
        after = (await layer.inner.read(key, last=0, touch=False)).info.bytes
    except SessionNotFound:
        return None
    return _Seen(Recompressed(key.session, found.bytes, after, damaged), changed, bound)


def _bound(record: Record, codec: Codec) -> bool:
    """Whether a record needs another dictionary than the newest."""
    return codec_of(record.payload) == ZSTD_WITH_DICTIONARY and not codec.wrote(record.payload)


def _plan(records: Sequence[Record], sealable: int, *, whole: bool) -> Iterator[list[Record]]:
    """The records that one record shall take the place of: those of many turns below `sealable`, of one turn behind it.

    What is sealed already is joined with others only in a whole session, and only as long as it is small.
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
    """What became of a run.

    Attributes:
        damaged: How many of its records cannot be read: then it stays.
        sent: Whether a seal was asked for.
    """

    damaged: int = 0
    sent: bool = False


async def _replace(layer: CompressedRecords, key: Key, run: list[Record], codec: Codec) -> _Replaced:
    """Put one record in place of others, if all of them can be read."""
    records = await layer.decode_records(key, tuple(run))
    damaged = sum(map(_damaged, records))
    if damaged:
        return _Replaced(damaged)
    (written,) = await layer.encode_records(key, (Record.seal(records) if len(records) > 1 else records[0],))
    if len(run) == 1 and codec_of(written.payload) == codec_of(run[0].payload) == PLAIN:
        return _Replaced()
    saves = len(written.payload) < sum(len(one.payload) for one in run)
    if not saves and all(codec_of(one.payload) == PLAIN or codec.wrote(one.payload) for one in run):
        return _Replaced()
    await layer.inner.seal(key, written)
    return _Replaced(sent=True)


def _damaged(record: Record) -> bool:
    try:
        return not record.messages
    except CorruptRecord:
        return True

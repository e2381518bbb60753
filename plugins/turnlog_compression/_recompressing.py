"""Recompressing: write sessions again with the codec that the layer writes now, while applications go on.

Each record with another codec is replaced by a seal.  Readers see no difference.  The backend refuses a seal if the
records have changed since they were read.  So recompressing may be stopped and continued at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from turnlog import Backend, Change, Key, Query, Record
from turnlog.errors import CorruptRecord, InvalidInput, SessionNotFound
from turnlog.limits import MAX_PAGE, MAX_SEALED_TURNS
from turnlog.payload import PLAIN, codec_of

from ._codec import ZSTD_WITH_DICTIONARY, Codec
from ._records import CompressedRecords, plain_bytes
from ._sealing import REST, RUN_BYTES

_HOME: Final = "turnlog:recompress"
_MESSAGES: Final = 4096  # messages to read at once
_SESSIONS: Final = 100  # sessions between two writes of the progress
_PASSES: Final = 100  # the most passes over sessions that changed meanwhile
_SLACK: Final = 1.0  # seconds: a change may become visible this much later than its time


class Recompressed(NamedTuple):
    """The result for one session; the last one, without a session, is the result for the dictionaries.

    Attributes:
        session: The session's id; empty in the last one.
        before: About how many bytes its records took.
        after: How many bytes they take now.
        damaged: The number of records that cannot be read; they stay as they are.
        forgotten: The ids of the dictionaries that were removed, because no record needs them.
    """

    session: str
    before: int = 0
    after: int = 0
    damaged: int = 0
    forgotten: tuple[int, ...] = ()


class _Progress(msgspec.Struct):
    """The progress, as it is stored.

    Attributes:
        asked: The codec and the arguments.
        since: This pass looks at sessions that were updated since then.
        began: When this pass began, by the backend's clock.
        cursor: The position of this pass; None: at its beginning.
        clean: Whether no record needs another dictionary than the newest, and no writer uses another.
    """

    asked: str
    since: float = 0.0
    began: float = 0.0
    cursor: str | None = None
    clean: bool = False


class _Unsupported(Exception):
    """The backend does not support seals."""


async def recompress(
    layer: CompressedRecords, namespace: str, *, idle: float | None, rate: float | None
) -> AsyncIterator[Recompressed]:
    """See `CompressionLayer.recompress`."""
    backend = layer.inner
    home, asked = Key(_HOME, namespace), await _asked(layer, namespace, idle)
    progress = await _stored_progress(backend, home, asked)
    if progress is None:
        # Until every writer uses the newest dictionary, another process may seal with an older one in a session that
        # this pass has already done, and a seal does not move that session to the front.
        progress = _Progress(asked, clean=await layer.dictionaries.settled(namespace))
    loop = asyncio.get_running_loop()
    due = loop.time()
    for _ in range(_PASSES):
        # A session that changes meanwhile moves to the front, and this pass may miss it.  So repeat the pass for those
        # that were updated since it began, until all of them are on one page, which is a snapshot, and none changes.
        snapshot, changed = progress.cursor is None, False
        if progress.cursor is None:
            progress.began = await _store_progress(backend, home, progress)
        while True:
            query = Query(namespace=namespace, limit=MAX_PAGE, cursor=progress.cursor)
            page = await backend.page(query)
            infos = [info for info in page.infos if info.updated >= progress.since]
            progress.clean = progress.clean and not page.damaged  # nobody can tell which dictionary these need
            for place, info in enumerate(infos, 1):
                if rate is not None:
                    await asyncio.sleep(due - loop.time())
                    due = max(due, loop.time()) + 1 / rate
                try:
                    done = await _session(layer, info.key, idle)
                except _Unsupported:
                    await backend.delete(home)
                    raise InvalidInput(
                        f"{backend!r} does not support seals: its sessions cannot be recompressed"
                    ) from None
                progress.cursor = query.cursor_after(info)
                if done is not None:
                    changed, progress.clean = changed or done.changed, progress.clean and not done.bound
                    if done.changed or not progress.since:  # in later passes only sessions that were changed again
                        yield done.result
                if place % _SESSIONS == 0:
                    await _store_progress(backend, home, progress)
            if page.cursor is None or len(infos) < len(page.infos):
                break
            snapshot = False
        if snapshot and not changed:
            break
        progress.since, progress.cursor = progress.began - _SLACK, None
    else:
        progress.clean = False
    await backend.delete(home)
    if progress.clean and await _asked(layer, namespace, idle) == asked:  # no newer dictionary was trained meanwhile
        removed = await layer.dictionaries.remove_old(namespace)
        if removed:
            yield Recompressed("", forgotten=tuple(removed))


async def _asked(layer: CompressedRecords, namespace: str, idle: float | None) -> str:
    return f"{await layer.codec_for(namespace)}, idle {idle}"


async def _stored_progress(backend: Backend, home: Key, asked: str) -> _Progress | None:
    """Return the progress of an earlier call with the same codec and arguments."""
    try:
        metadata = (await backend.read(home, last=0, touch=False)).info.metadata
    except SessionNotFound:
        return None
    try:
        progress = msgspec.convert(dict(metadata), _Progress)
        Query(namespace=home.session, cursor=progress.cursor)  # checks the cursor
    except (msgspec.ValidationError, InvalidInput):
        return None  # it is damaged: begin anew
    return progress if progress.asked == asked else None


async def _store_progress(backend: Backend, home: Key, progress: _Progress) -> float:
    """Store the progress, and return the time by the backend's clock."""
    await backend.commit(home, Change(metadata=msgspec.to_builtins(progress), ttl=0))
    return (await backend.read(home, last=0, touch=False)).info.updated


class _Done(NamedTuple):
    """The outcome for one session.

    Attributes:
        result: The result for the caller.
        changed: Whether a seal was sent, done or refused.
        bound: Whether a record stays that needs another dictionary than the newest.
    """

    result: Recompressed
    changed: bool
    bound: bool


async def _session(layer: CompressedRecords, key: Key, idle: float | None) -> _Done | None:
    """Write one session again as the layer writes now; return None if it was deleted.

    Raises:
        _Unsupported: The backend does not support seals.
    """
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
                        done = _Replaced()  # more rounds may follow: the backend refuses a seal of an open turn
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
    return _Done(Recompressed(key.session, found.bytes, after, damaged), changed, bound)


def _bound(record: Record, codec: Codec) -> bool:
    """Return whether a record needs another dictionary than the newest."""
    return codec_of(record.payload) == ZSTD_WITH_DICTIONARY and not codec.wrote(record.payload)


def _plan(records: Sequence[Record], sealable: int, *, whole: bool) -> Iterator[list[Record]]:
    """Yield groups of records, each to be replaced by one record: many turns below `sealable`, single turns above.

    A sealed record is joined with others only in a session that is sealed as a whole, and only if it is small.
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
        damaged: How many of its records cannot be read: then it stays as it is.
        sent: Whether a seal was sent, done or refused.
    """

    damaged: int = 0
    sent: bool = False


async def _replace(layer: CompressedRecords, key: Key, run: list[Record], codec: Codec) -> _Replaced:
    """Replace a run by one record if all of it can be read and that saves bytes or changes the codec."""
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
    if await layer.inner.seal(key, written) is None:
        raise _Unsupported
    return _Replaced(sent=True)


def _damaged(record: Record) -> bool:
    try:
        return not record.messages
    except CorruptRecord:
        return True

"""Sealing: join many old turns in one record, which compresses better than single turns.

A run has `RUN` turns.  The number of its first turn is a multiple of `RUN`, so every process chooses the same runs.  A
run is sealed when `REST` turns follow it, so most windows and undos do not read a sealed record.  Messages, turns and
versions stay the same.  The backend refuses a seal if the records have changed since they were read.  Sealing therefore
needs no lock, and some runs may stay unsealed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary

from turnlog import Change, Key, PayloadLayer, Receipt, Record
from turnlog.errors import CorruptRecord, InvalidInput, SessionNotFound, TurnlogError

from ._records import plain_bytes

RUN: Final = 32
"""Usual number of turns in a sealed record."""

REST: Final = 32
"""Number of turns at the end of a session that are not sealed."""

RUN_BYTES: Final = 1024 * 1024
"""Approximate limit of the plain bytes in a sealed record: a reader of one turn decompresses the whole record."""

_LEAST_RETAINED: Final = 8 * RUN  # a sealed run is dropped as a whole: a smaller `retain` would keep too many turns
_MESSAGES: Final = 4 * RUN  # messages to read at once: most runs have no more
_WAITING: Final = 1000  # the largest number of queued runs: a full queue drops the oldest

_log = logging.getLogger("turnlog.compression")


class Sealer:
    """Seals runs in the background, one after the other, in a task of the event loop that has written their turns.

    Args:
        layer: The layer whose sessions are sealed.
    """

    def __init__(self, layer: PayloadLayer) -> None:
        self._layer = layer
        self._supported = True  # until the backend answers otherwise
        self._due: deque[tuple[Key, int]] = deque(maxlen=_WAITING)
        self._tasks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()

    def note(self, key: Key, change: Change, receipt: Receipt) -> None:
        """Queue the runs that are complete after a change."""
        turns = receipt.turns - REST
        appended = sum(record.turns for record in change.append)
        if not self._supported or turns < RUN or turns % RUN >= appended:
            return
        if change.retain is not None and change.retain < _LEAST_RETAINED:
            return
        least = max(turns - appended, receipt.first)
        self._due.extend((key, number) for number in range(least // RUN * RUN, turns // RUN * RUN, RUN))
        loop = asyncio.get_running_loop()
        task = self._tasks.get(loop)
        if task is None or task.done():
            self._tasks[loop] = loop.create_task(self._work())

    async def close(self) -> None:
        """Empty the queue and cancel the tasks."""
        self._due.clear()
        here = asyncio.get_running_loop()
        for loop, task in list(self._tasks.items()):
            if loop is here:
                task.cancel()
                await asyncio.wait([task])
            else:
                with suppress(RuntimeError):  # the loop is closed, and its task has ended
                    loop.call_soon_threadsafe(task.cancel)

    async def _work(self) -> None:
        while True:
            try:
                key, first = self._due.popleft()
            except IndexError:  # a check before is not enough: another thread's task may take the last run after it
                return
            try:
                if not await seal(self._layer, key, first, first + RUN):
                    self._supported = False
                    self._due.clear()
            except SessionNotFound:
                pass
            except CorruptRecord as error:
                _log.warning("not sealed: %s", error)
            except TurnlogError as error:
                _log.info("not sealed: turns from %d of session %s: %s", first, key, error)


async def seal(layer: PayloadLayer, key: Key, first: int, after: int) -> bool:
    """Seal the turns from `first` up to `after` that are not sealed yet.

    Returns:
        False if the backend does not support seals.

    Raises:
        SessionNotFound: The session does not exist.
        CorruptRecord: A turn cannot be read.  It is not sealed: in a damaged sealed record, no turn can be read.
    """
    found = await _unsealed(layer, key, first, after)
    stored = {record.rounds_until: len(record.payload) for record in found}
    for run in runs(await layer.decode_records(key, found)):
        for record in run:
            _ = record.messages  # raises if the turn is damaged
        try:
            sealed = Record.seal(run)
        except InvalidInput:
            return True  # the run was read in two parts, and another writer has cut the session between the reads
        (written,) = await layer.encode_records(key, (sealed,))
        saves = len(written.payload) < sum(stored[record.rounds_until] for record in run)
        if saves and await layer.inner.seal(key, written) is None:
            return False
    return True


def runs(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Yield runs of two or more whole turns, each of at most about `RUN_BYTES`."""
    run: list[Record] = []
    size = 0
    for record in records:
        if record.turns and size + plain_bytes(record) > RUN_BYTES:
            if len(run) > 1:
                yield run
            run, size = [], 0
        run.append(record)
        size += plain_bytes(record)
    if len(run) > 1:
        yield run


async def _unsealed(layer: PayloadLayer, key: Key, first: int, after: int) -> tuple[Record, ...]:
    """Return the records of these turns after the last sealed record."""
    found: tuple[Record, ...] = ()
    while after > first:
        session = await layer.inner.read(key, last=_MESSAGES, before=after, touch=False)
        records = session.records
        for place in range(len(records) - 1, -1, -1):
            record = records[place]
            if record.number < first or record.rounds > 1:
                return records[place + 1 :] + found
        found = records + found
        if not records or records[0].number <= session.info.first:
            break
        after = records[0].number
    return found

"""Sealing: old turns are put together, many in one record, because a codec finds more to leave out in more text.

A run is `RUN` turns whose first is numbered by a multiple of it, so that every process chooses the same ones.  It is
sealed when `REST` turns follow it: what a window loads and what an undo cuts is as a rule not sealed.  A seal changes
nothing that anyone sees, and loses quietly to whatever was written meanwhile: nothing here needs a lock, and a run that
was not sealed is no fault.
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
"""Turns in a sealed record, as a rule."""

REST: Final = 32
"""Turns at the end that stay as they are."""

RUN_BYTES: Final = 1024 * 1024
"""Plain bytes in a sealed record, about: whoever needs one turn of it opens all of it."""

_LEAST_RETAINED: Final = 8 * RUN  # a sealed run is retained whole: with less than this it would keep too many too long
_MESSAGES: Final = 4 * RUN  # how many are read at once: most runs hold no more
_WAITING: Final = 1000  # runs; over it the oldest is not sealed

_log = logging.getLogger("turnlog.compression")


class Sealer:
    """Seals runs behind the reply, one after the other, in a task of the event loop that wrote their turns.

    Args:
        layer: Whose sessions.
    """

    def __init__(self, layer: PayloadLayer) -> None:
        self._layer = layer
        self._supported = True  # until the backend answers otherwise
        self._due: deque[tuple[Key, int]] = deque(maxlen=_WAITING)
        self._tasks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()

    def note(self, key: Key, change: Change, receipt: Receipt) -> None:
        """See whether a change completed a run, and have it sealed."""
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
        """Give up what is under way."""
        self._due.clear()
        here = asyncio.get_running_loop()
        for loop, task in list(self._tasks.items()):
            if loop is here:
                task.cancel()
                await asyncio.wait([task])
            else:
                with suppress(RuntimeError):  # the loop is closed, and the task has ended with it
                    loop.call_soon_threadsafe(task.cancel)

    async def _work(self) -> None:
        while True:
            try:
                key, first = self._due.popleft()
            except IndexError:  # asking first would not do: the task of another thread's loop may be quicker
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
    """Seal the turns from `first` up to `after`, as far as they are not sealed already.

    Returns:
        False if the backend does not support seals.

    Raises:
        SessionNotFound: There is no session.
        CorruptRecord: One of them cannot be read; nothing is sealed that would hide others behind it.
    """
    found = await _unsealed(layer, key, first, after)
    stored = {record.rounds_until: len(record.payload) for record in found}
    for run in runs(await layer.decode_records(key, found)):
        for record in run:
            _ = record.messages  # it must be readable, or the others in its run would not be
        try:
            sealed = Record.seal(run)
        except InvalidInput:
            return True  # it was read in two parts, and cut in between
        (written,) = await layer.encode_records(key, (sealed,))
        if len(written.payload) < sum(stored[record.rounds_until] for record in run):
            supported = await layer.inner.seal(key, written) is not None
            if not supported:
                return False
    return True


def runs(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Whole turns together, up to about a megabyte; nothing that stays alone."""
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
    """The records of these turns behind the last one that is sealed."""
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

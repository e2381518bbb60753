"""Writes that end with a known outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from turnlog import OutcomeUnknown, Receipt, Store

_T = TypeVar("_T")


async def settled(store: Store, write: Coroutine[Any, Any, Receipt]) -> Receipt:
    """Return the receipt of a write; if its answer is lost, send the same change again.

    Raises:
        OutcomeUnknown: The store did not answer for about 25 seconds.
        Conflict: As the write, also after the first answer was lost: nothing was stored.
    """
    try:
        return await write
    except OutcomeUnknown as error:
        return await store.resend(error)


async def completed(work: Coroutine[Any, Any, _T]) -> _T:
    """Await a write until its end.  If the caller is cancelled in the meantime, raise the cancellation after that.

    After a cancellation, the SDK reads the session and writes the items that it does not find.  If the cancelled write
    arrived after this read, the items would be stored twice.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # otherwise asyncio logs an error that nobody has retrieved
    raise cancelled

"""Work that a cancellation does not end."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Wait until work has ended, however often the waiting task is cancelled; then raise the cancellation.

    One `asyncio.shield` is not enough: a cancel scope of anyio, in which Starlette runs a request, cancels again and
    again until its tasks have ended.
    """
    from asyncio import CancelledError, ensure_future, shield  # `import turnlog` does not pay for it

    task = ensure_future(work)
    cancelled: CancelledError | None = None
    while not task.done():
        try:
            await shield(task)
        except CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled

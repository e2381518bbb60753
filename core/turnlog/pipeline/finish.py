"""Work that a cancellation does not end."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def finish(work: Coroutine[Any, Any, _T]) -> _T:
    """Return what work returns.  If the waiting task is cancelled, however often, the work ends first.

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
        except BaseException:  # noqa: BLE001 - `result` raises it, unless there is a cancellation to raise
            break
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # otherwise asyncio logs that nobody has asked for it
        raise cancelled
    return task.result()

"""`finish`: completes work in spite of cancellation."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def finish(work: Coroutine[Any, Any, _T]) -> _T:
    """Await work and return its result; delay a cancellation of the waiting task until the work has ended.

    One `asyncio.shield` is not enough: a cancel scope of anyio, in which Starlette runs a request, repeats the
    cancellation until its tasks have ended.
    """
    from asyncio import CancelledError, ensure_future, shield  # imported late, to keep `import turnlog` fast

    task = ensure_future(work)
    cancelled: CancelledError | None = None
    while not task.done():
        try:
            await shield(task)
        except CancelledError as error:
            cancelled = cancelled or error  # the work may raise one of its own later
        except BaseException:  # noqa: BLE001 - `task.result` raises it below, unless the cancellation is raised
            break
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # otherwise asyncio logs that the exception was never retrieved
        raise cancelled
    return task.result()

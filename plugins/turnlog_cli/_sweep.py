"""`turnlog sweep`."""

from __future__ import annotations

import asyncio

from turnlog.config import open_existing

from ._hooks import Sweeps, lowest
from ._text import Code, counted, line


def sweep(url: str | None) -> int:
    """Remove the sessions of a store that have expired, in all namespaces.

    Args:
        url: Where they are; None: what the configuration names.
    """
    return asyncio.run(_sweep(url))


async def _sweep(url: str | None) -> int:
    store = open_existing(url)
    backend = lowest(store.backend)
    if not isinstance(backend, Sweeps):
        print(line(f"{backend!r} removes expired sessions by itself: nothing to do"))
        return Code.FINE
    async with store:
        count = await backend.sweep()
    print(f"{counted(count, 'expired session')} removed")
    return Code.FINE

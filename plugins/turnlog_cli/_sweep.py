"""`turnlog sweep`."""

from __future__ import annotations

import asyncio

from turnlog.config import masked_url, open_existing
from turnlog.values import Remainder

from ._hooks import Postpones, Sweeps, lowest, scrubbed, unfinished
from ._remains import print_remains
from ._text import Code, Printer, counted, line


def sweep(url: str | None, *, now: bool) -> int:
    """Remove the expired sessions of a store in all namespaces, and print which expired sessions are left.

    Args:
        url: The URL of the store; None: the store in the configuration.
        now: Remove all expired sessions, and the remains of deleted sessions, as `erase` does.
    """
    return asyncio.run(_sweep(url, now=now))


async def _sweep(url: str | None, *, now: bool) -> int:
    store = open_existing(url)
    backend = lowest(store.backend)
    if not isinstance(backend, Sweeps):
        print(line(f"{masked_url(url)} has no sweep: its backend decides when it removes the data of expired sessions"))
        return Code.FINE
    remains: list[Remainder] = []
    async with store:
        count = await backend.sweep(now=now)
        if now:
            remains = await scrubbed(backend)
        elif isinstance(backend, Postpones):
            remains = [*await backend.unswept()]
    print(f"{counted(count, 'expired session')} removed")
    if remains:
        out = Printer()
        out()
        print_remains(out, remains)
    return Code.FAILED if now and unfinished(remains) else Code.FINE

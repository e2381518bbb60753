"""`turnlog migrate`."""

from __future__ import annotations

import asyncio

from turnlog import open_store

from ._tables import HasTables, backend_of
from ._text import Code, line


def migrate(url: str | None) -> int:
    """Make a store's tables, or bring them to this version, and print what was done.

    Args:
        url: Where the store is; None: the one that the configuration names.
    """
    store = backend_of(open_store(url))
    said = asyncio.run(store.bring_up()) if isinstance(store, HasTables) else f"{store!r} has no tables: nothing to do"
    print(line(said))
    return Code.FINE

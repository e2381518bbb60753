"""The namespaces to move, as views of a store."""

from __future__ import annotations

from collections.abc import AsyncIterator

from turnlog import Store


async def views_of(store: Store, *, all_namespaces: bool) -> AsyncIterator[tuple[str | None, Store]]:
    """Yield the store, or a view of each namespace that has sessions, with its name as an argument of `within`.

    Args:
        store: The store.  On a view of a namespace, only the namespaces that are nested in it.
        all_namespaces: Whether to yield all namespaces.
    """
    if not all_namespaces:
        yield None, store
        return
    async for name in store.namespaces():
        yield name, store.within(name)

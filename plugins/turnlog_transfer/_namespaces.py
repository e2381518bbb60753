"""Which namespaces to move, and stores of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, cast

from turnlog import Store


class _Lists(Protocol):
    def namespaces(self) -> AsyncIterator[str]:
        """Yield the names of the namespaces that have sessions."""


async def stores_of(store: Store, *, all_namespaces: bool) -> AsyncIterator[Store]:
    """Yield the store, or one for each namespace that has sessions.

    Args:
        store: The store.
        all_namespaces: Whether to yield all namespaces.
    """
    if not all_namespaces:
        yield store
        return
    async for name in cast("_Lists", store).namespaces():
        yield in_namespace(store, name)


def in_namespace(store: Store, namespace: str) -> Store:
    """Return a store of a namespace, by its whole name, with the options and the owner of another store.

    `Store.within` would nest the name in that of a view.

    Raises:
        InvalidInput: The name breaks a rule.
    """
    found = Store(store.backend, namespace=namespace, retain=store.retain, max_session_bytes=store.max_session_bytes)
    return found if store.owner is None else found.for_owner(store.owner)

"""The stack of a store: its layers and its backend."""

from __future__ import annotations

from collections.abc import Iterator

from ..store import Layer, Store


def stack_of(store: Store) -> Iterator[Store]:
    """Yield the layers of a store, the outermost first, and then its backend."""
    while isinstance(store, Layer):
        yield store
        store = store.inner
    yield store

"""Stores whose opening may make or change tables."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from turnlog import Layer, Store, open_store


@runtime_checkable
class HasTables(Protocol):
    """What a store has that keeps its sessions in tables; any plugin's may (`docs/how-to/databases.md`)."""

    migrate: Literal["auto", "check"]
    """Whether opening makes tables that are missing and brings older ones up, or refuses both; set before it opens."""

    async def bring_up(self) -> str:
        """Make the tables, or bring them to this version, and say what was done.  Nothing stays open."""


def backend_of(store: Store) -> Store:
    """What is under the layers."""
    while isinstance(store, Layer):
        store = store.inner
    return store


def open_existing(url: str | None) -> Store:
    """As `open_store`, for a command that needs what is stored: opening the store makes and changes nothing."""
    store = open_store(url)
    backend = backend_of(store)
    if isinstance(backend, HasTables):
        backend.migrate = "check"
    return store

"""A tenant's view keeps the contract, in a store that is made for another tenant."""

from __future__ import annotations

from typing import Unpack

from turnlog import Layer, Store
from turnlog.testing import BackendContract, BackendOptions
from turnlog_memory import MemoryBackend


class View(Layer):
    """A view that opens and closes the store it is a view of."""

    def __init__(self, store: Store, namespace: str) -> None:
        super().__init__(store.within(namespace))
        self.store = store

    async def open(self) -> None:
        await self.store.open()
        await super().open()

    async def close(self) -> None:
        await super().close()
        await self.store.close()


class TestViewOfMemory(BackendContract):
    """A view of the memory store."""

    def make(self, **options: Unpack[BackendOptions]) -> Store:
        namespace = options.get("namespace", "default")
        options["namespace"] = "landlord"
        return View(MemoryBackend(**options), namespace)

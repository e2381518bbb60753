"""Parts of the contract for further stacks: another way to connect, damage below a layer, and single chapters."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Unpack

from turnlog import Backend, Store
from turnlog.testing import BackendContract, BackendOptions, DamageContract, LayerContract
from turnlog.testing._base import ContractBase
from turnlog_memory import MemoryBackend


class OverMemory(BackendContract):
    """The contract on the memory backend."""

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return MemoryBackend(**options)


class OnBackendOf(ContractBase):
    """Tests on the backend of another contract."""

    below: ClassVar[type[ContractBase]]
    """The contract with `make` and `advance`."""

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return self._below.make(**options)

    async def advance(self, seconds: float) -> None:
        await self._below.advance(seconds)

    @cached_property
    def _below(self) -> ContractBase:
        below = self.below()
        vars(below).update(clock=self.clock, folders=self.folders)
        return below


class FurtherWay(LayerContract):
    """The short contract, without a layer.  A subclass sets `below` to the contract class with the other connection."""

    def layer(self, inner: Backend) -> Backend:
        return inner


class DamagedBelow(LayerContract, DamageContract):
    """The short contract of a layer, and the tests of damaged sessions.  `below` is a `DamageContract`, too."""

    async def damage(self, store: Store, session_id: str) -> None:
        assert isinstance(self._below, DamageContract)
        await self._below.damage(store, session_id)

"""Short contracts: for another way to connect to a server that has full tests, and for a layer over damaged sessions."""

from __future__ import annotations

from turnlog import Backend, Store
from turnlog.testing import DamageContract, LayerContract


class FurtherWay(LayerContract):
    """The short contract, without a layer.  A subclass sets `below` to the contract class with the other connection."""

    def layer(self, inner: Backend) -> Backend:
        return inner


class DamagedBelow(LayerContract, DamageContract):
    """The short contract of a layer, and the tests of damaged sessions.  `below` is a `DamageContract`, too."""

    async def damage(self, store: Store, session_id: str) -> None:
        assert isinstance(self._below, DamageContract)
        await self._below.damage(store, session_id)

"""The contract for another way to connect to a server that has full tests."""

from __future__ import annotations

from turnlog import Backend
from turnlog.testing import LayerContract


class FurtherWay(LayerContract):
    """The short contract, without a layer.  A subclass sets `below` to the contract class with the other connection."""

    def layer(self, inner: Backend) -> Backend:
        return inner

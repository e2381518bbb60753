"""The contract for a further way to a place that is tested by itself."""

from __future__ import annotations

from turnlog import Backend
from turnlog.testing import LayerContract


class FurtherWay(LayerContract):
    """The short contract, without a layer.  A subclass names in `below` the contract that takes the other way."""

    def layer(self, inner: Backend) -> Backend:
        return inner

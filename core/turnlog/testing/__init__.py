"""The kit: tests that every backend must pass, one for each sentence of the contract.

    from turnlog.testing import BackendContract

    class TestAcme(BackendContract):
        shared = True

        def make(self, **options):
            return AcmeBackend(f"acme://{self.folder}/sessions", **options)

This is a whole test module.  It needs pytest and no plugin of it: the tests are async and run in event loops of their
own.  A layer passes the same tests over a backend; `LayerContract` has fewer, for further backends, and
`MessageLayerContract` tests the laws of a message layer.  `DamageContract` has the tests of a session that cannot be
read, for a backend that stores bytes.  A failing test reports the sentence that is broken.
"""

from __future__ import annotations

from pkgutil import iter_modules

import pytest

# a failing assert shows its values, as in a test module
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))

from ._base import BackendOptions, Clock, StoreOptions  # noqa: E402
from ._contract import BackendContract, LayerContract  # noqa: E402
from ._damage import DamageContract  # noqa: E402
from ._message_layer import MessageLayerContract  # noqa: E402

__all__ = [
    "BackendContract",
    "BackendOptions",
    "Clock",
    "DamageContract",
    "LayerContract",
    "MessageLayerContract",
    "StoreOptions",
]

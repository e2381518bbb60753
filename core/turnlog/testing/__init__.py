"""The kit: tests that every backend must pass, one for each sentence of the contract.

    from turnlog.testing import BackendContract

    class TestAcme(BackendContract):
        def make(self, **options):
            return AcmeBackend(f"acme://{self.folder}/sessions", **options)

This is a complete test module.  It needs pytest, but no plugin of pytest: each async test runs in a new event loop.  A
failing test reports the sentence of the contract that the backend breaks.

A layer over a backend must pass the same tests.  `LayerContract` has fewer tests, for the layer over further backends.
`MessageLayerContract` tests the rules of a message layer.  `DamageContract` tests damaged sessions, for a backend that
stores bytes.  `ModelContract` tests a model.

`turnlog.testing.faulty` has a backend with faults on demand.  `turnlog.testing.simulation` and `turnlog.testing.crowd`
run random calls on a stack with faults, and compare it with a small model; `turnlog.testing.machine` does this with
hypothesis.
"""

from __future__ import annotations

from pkgutil import iter_modules

import pytest

# a failing assert shows its values, as in a test module
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))

from ._base import BackendOptions, Clock, ContractBroken, StoreOptions  # noqa: E402
from ._contract import BackendContract, LayerContract  # noqa: E402
from ._damage import DamageContract  # noqa: E402
from ._message_layer import MessageLayerContract  # noqa: E402
from ._models import ModelContract  # noqa: E402

__all__ = [
    "BackendContract",
    "BackendOptions",
    "Clock",
    "ContractBroken",
    "DamageContract",
    "LayerContract",
    "MessageLayerContract",
    "ModelContract",
    "StoreOptions",
]

"""The kit: what every store must pass, one test a sentence of the contract.

    from turnlog.testing import BackendContract

    class TestAcmeStore(BackendContract):
        shared = True

        def make(self, **options):
            return AcmeBackend(f"acme://{self.folder}/sessions", **options)

That is a whole test module, and pytest all it needs: the tests are async, and run in event loops of their own.  Layers
pass the same tests: make the layer over a store.  A test that fails tells which sentence of the contract is broken.
"""

from __future__ import annotations

from pkgutil import iter_modules

import pytest

# so that a failing assert shows its values, as in a test module
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))

from ._base import BackendOptions, Clock  # noqa: E402
from ._contract import BackendContract  # noqa: E402

__all__ = ["BackendContract", "BackendOptions", "Clock"]

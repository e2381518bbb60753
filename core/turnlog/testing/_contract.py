"""The contracts: every test for a backend, and fewer for a layer over a backend that is tested by itself.

pytest runs the tests of the last base class first, so the lists below end with the simplest tests.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import ClassVar, Unpack

from ..backend import Backend
from ._base import BackendOptions, ContractBase
from ._cancelling import Cancelling
from ._concurrency import Concurrency
from ._conditions import Conditions
from ._copying import Copying
from ._counting import Counting
from ._describing import Describing
from ._expecting import Expecting
from ._expiring import Expiring
from ._lifecycle import Lifecycle
from ._limits import Limits
from ._model import Model
from ._moving import Moving
from ._namespace_lists import NamespaceLists
from ._namespaces import Namespaces
from ._naming import Naming
from ._owners import Owners
from ._paging import Paging
from ._reading import Reading
from ._repeating import Repeating
from ._retaining import Retaining
from ._rounds import Rounds
from ._sealing import Sealing
from ._since import Since
from ._undoing import Undoing
from ._values import Values
from ._writing import Writing


class BackendContract(
    Model,
    Cancelling,
    Concurrency,
    Lifecycle,
    Sealing,
    Limits,
    Values,
    Moving,
    Expiring,
    Naming,
    NamespaceLists,
    Namespaces,
    Owners,
    Counting,
    Paging,
    Describing,
    Retaining,
    Copying,
    Undoing,
    Rounds,
    Repeating,
    Conditions,
    Expecting,
    Since,
    Reading,
    Writing,
):
    """Every test of the contract.  A subclass says how to `make` a backend, and whether sessions are `shared`."""


class LayerContract(Model, Cancelling, Concurrency, Sealing):
    """The tests of the contract that depend on how a layer and the backend below work together.

    Run `BackendContract` for the layer over a simple backend and for each backend by itself, and this one for the layer
    over the other backends.  Tests of memory and SQLite are fast enough for `BackendContract`.
    """

    _walks: ClassVar[int] = 4  # each part is tested by itself

    below: ClassVar[type[ContractBase]]
    """The contract of the backend below, a subclass of `BackendContract`: it makes the backend, and knows whether
    sessions are shared and how to let time pass."""

    @abstractmethod
    def layer(self, inner: Backend) -> Backend:
        """Return the layer, or a stack of layers, over a backend."""

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return self.layer(self._below.make(**options))

    async def advance(self, seconds: float) -> None:
        await self._below.advance(seconds)

    @cached_property
    def _below(self) -> ContractBase:
        below = self.below()
        vars(below).update(clock=self.clock, folders=self.folders)
        return below

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "below" in vars(cls):
            cls.shared = cls.below.shared

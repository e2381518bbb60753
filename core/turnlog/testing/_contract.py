"""The contracts: all tests for a backend, and fewer tests for a layer over a backend that is tested by itself.

pytest runs the tests of the last base class first, so the lists below end with the simplest tests.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import ClassVar, Unpack

from ..backend import Backend
from ._all_namespaces import AllNamespaces
from ._bad_input import BadInput
from ._base import BackendOptions, ContractBase
from ._cancelling import Cancelling
from ._closing import Closing
from ._concurrency import Concurrency
from ._conditions import Conditions
from ._copying import Copying
from ._counting import Counting
from ._crashing import Crashing
from ._describing import Describing
from ._editing import Editing
from ._expecting import Expecting
from ._expiring import Expiring
from ._lifecycle import Lifecycle
from ._limits import Limits
from ._model import Model
from ._moving import Moving
from ._namespace_lists import NamespaceLists
from ._namespaces import Namespaces
from ._naming import Naming
from ._opening import Opening
from ._owners import Owners
from ._paging import Paging
from ._prefixes import Prefixes
from ._processes import Processes
from ._reading import Reading
from ._repeating import Repeating
from ._retaining import Retaining
from ._rounds import Rounds
from ._sealing import Sealing
from ._since import Since
from ._threads import Threads
from ._undoing import Undoing
from ._values import Values
from ._writing import Writing


class BackendContract(
    Model,
    Cancelling,
    Concurrency,
    Threads,
    Crashing,
    Processes,
    Opening,
    Closing,
    Lifecycle,
    Sealing,
    Limits,
    BadInput,
    Values,
    Moving,
    Expiring,
    Naming,
    AllNamespaces,
    NamespaceLists,
    Namespaces,
    Owners,
    Counting,
    Prefixes,
    Paging,
    Describing,
    Retaining,
    Copying,
    Editing,
    Undoing,
    Rounds,
    Repeating,
    Conditions,
    Expecting,
    Since,
    Reading,
    Writing,
):
    """All tests of the contract.  A subclass implements `make`."""


class LayerContract(Model, Cancelling, Concurrency, Threads, Sealing):
    """The tests of the contract that depend on the interaction of a layer with the backend below it.

    Run `BackendContract` for each backend by itself, and for the layer over one simple backend.  Run `LayerContract`
    for the layer over the other backends.  With memory and SQLite, `BackendContract` is fast enough for both.
    """

    _walks: ClassVar[int] = 4  # few, because each part is also tested by itself

    below: ClassVar[type[ContractBase]]
    """The contract of the backend below: a subclass of `BackendContract` with `make` and `advance`."""

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

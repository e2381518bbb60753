"""`StateMetrics`: measures the sessions of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import cycle, islice
from time import perf_counter
from typing import Final

from ..errors import CorruptRecord, InvalidInput, SessionNotFound
from ..layers import stack_of
from ..limits import MAX_PAGE
from ..store import Store
from ..values.json_value import check_number
from ..values.session import Query
from .load_times import LoadTimes
from .measurement import HistorySize, Measurement

_WINDOW: Final = 20
"""Messages that a probe reads: as many as a pipeline by default."""


class StateMetrics:
    """Measures the sessions of a store's namespace, and the loads of this process.

    It puts the layer `LoadTimes` over the store's backend, if the store has none.  From then on the layer times the
    loads of the store, and of all views that are made later, in every namespace.

    Args:
        store: The store, or a view of a namespace.
        timer: Returns seconds, from any beginning; it times loads.

    Raises:
        InvalidInput: `store` is no store, or the view of one owner: metrics are of all sessions in a namespace.
    """

    def __init__(self, store: Store, *, timer: Callable[[], float] = perf_counter) -> None:
        if not isinstance(store, Store):
            raise InvalidInput(f"store must be a Store such as open_store(...), not {type(store).__name__}")
        if store.owner is not None:
            raise InvalidInput(f"metrics are of all sessions in a namespace: give the store, not {store!r}")
        times = next((layer for layer in stack_of(store.backend) if isinstance(layer, LoadTimes)), None)
        if times is None:
            times = store.backend = LoadTimes(store.backend, timer=timer)
        self._store = store
        self._times = times

    @property
    def namespace(self) -> str:
        """The namespace that is measured."""
        return self._store.namespace

    @property
    def errors(self) -> Mapping[str, int]:
        """`LoadTimes.errors`: how many calls of this process failed, by the name of the error."""
        return self._times.errors

    async def measure(self) -> Measurement:
        """Return the numbers of this moment.

        Raises:
            Unavailable: The store could not be reached.
        """
        totals = await self._store.backend.totals(self._store.namespace)
        sessions = max(totals.sessions, 1)
        return Measurement(
            active_sessions=totals.sessions,
            avg_history_size=HistorySize(messages=totals.messages / sessions, bytes=totals.bytes / sessions),
            load_latency=self._times.latency(),
            storage_used=totals.stored,
        )

    async def probe(self, reads: int = 100) -> int:
        """Load the last 20 messages of stored sessions, so that `load_latency` has loads; extend no life.

        The sessions are those that were updated last, each as often as it takes.

        Args:
            reads: How many loads, at least 1.

        Returns:
            How many sessions were loaded: fewer if some have just expired or cannot be read, 0 if there are none.

        Raises:
            InvalidInput: `reads` is no such number.
            Unavailable: The store could not be reached.
        """
        check_number(reads, "reads", least=1)
        page = await self._store.backend.page(Query(namespace=self._store.namespace, limit=min(reads, MAX_PAGE)))
        done = 0
        for info in islice(cycle(page.infos), reads):
            with suppress(SessionNotFound, CorruptRecord):
                await self._store.session(info.key.session, last=_WINDOW, touch=False)
                done += 1
        return done

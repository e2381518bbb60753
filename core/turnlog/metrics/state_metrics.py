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
from ..values.checks import check_number
from ..values.query import Query
from .load_times import LoadTimes
from .measurement import HistorySize, Measurement

_WINDOW: Final = 20
"""Number of messages that a probe reads: the default window of a pipeline."""


class StateMetrics:
    """Measures the sessions of a store's namespace, and the loads of this process.

    If the store has no layer `LoadTimes`, the constructor puts one over its backend.  From then on the layer times the
    loads of the store, and of all views that are made later, in every namespace.

    Args:
        store: The store, or a view of a namespace.
        timer: Returns seconds, to time loads; only differences count.

    Raises:
        InvalidInput: `store` is not a store, or is a view of one owner: metrics cover all sessions in a namespace.
    """

    def __init__(self, store: Store, *, timer: Callable[[], float] = perf_counter) -> None:
        if not isinstance(store, Store):
            raise InvalidInput(f"store must be a Store such as open_store(...), not {type(store).__name__}")
        if store.owner is not None:
            raise InvalidInput(f"metrics cover all sessions in a namespace: pass the store, not {store!r}")
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
        """`LoadTimes.errors`: number of failed calls in this process, by the name of the error."""
        return self._times.errors

    async def measure(self) -> Measurement:
        """Return the current metrics.

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
        """Load the last 20 messages of stored sessions, to fill `load_latency`.  This extends no session's life.

        The probe loads the sessions that were updated last, and repeats them until it has made `reads` loads.

        Args:
            reads: Number of loads, at least 1.

        Returns:
            Number of loads that succeeded: fewer than `reads` if sessions have just expired or cannot be read, 0 if
            the namespace has no sessions.

        Raises:
            InvalidInput: `reads` is not a number from 1.
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

"""`LoadTimes`: a layer that times the loads of this process."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from math import ceil
from time import perf_counter
from types import TracebackType
from typing import ClassVar, Final

from ..backend import Backend
from ..errors import AccessError, CorruptRecord, HistoryRegressed, OutcomeUnknown, Unavailable
from ..layers import Layer
from ..values.change import Change, Expect, Receipt
from ..values.key import Key
from ..values.query import Query
from ..values.session import Page, Session
from ..values.totals import Totals
from ..values.version import Version
from .measurement import LoadLatency

_KEPT: Final = 1_000
"""Number of loads whose times are kept: ten of them are slower than the 99th percentile."""

_FAILURES: Final = (AccessError, Unavailable, OutcomeUnknown, CorruptRecord, HistoryRegressed)
"""The errors that count as failures of the store.  Other errors, such as `Conflict`, are answers to the caller."""


class LoadTimes(Layer):
    """A layer that times loads, and counts the calls that fail.

    A load is a read that returns records.  The layer does not time reads of the info alone, or reads that raise.

    Args:
        inner: The backend, with its layers.
        timer: Returns seconds; only differences count.
    """

    portable: ClassVar[bool] = True

    def __init__(self, inner: Backend, *, timer: Callable[[], float] = perf_counter) -> None:
        super().__init__(inner)
        self._timer = timer
        self._loads = 0
        self._seconds = 0.0
        self._last: deque[float] = deque(maxlen=_KEPT)
        self._failures = _Failures()

    @property
    def errors(self) -> Mapping[str, int]:
        """Number of failed calls by the name of the error, such as `Unavailable` or `CorruptRecord`.

        Errors that are answers to the caller, such as `Conflict` or `SessionNotFound`, are not counted.
        """
        return dict(self._failures.counts)

    def latency(self) -> LoadLatency:
        """Return the times of loads."""
        times = sorted(self._last)
        p50, p95, p99 = (times[ceil(share * len(times)) - 1] if times else None for share in (0.50, 0.95, 0.99))
        return LoadLatency(loads=self._loads, seconds=self._seconds, p50=p50, p95=p95, p99=p99)

    def stats(self) -> Mapping[str, float]:
        return {"loads": self._loads, "seconds": self._seconds, "errors": self._failures.counts.total()}

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        begin = self._timer()
        with self._failures:
            session = await self.inner.read(key, last=last, before=before, since=since, touch=touch)
        if last != 0:
            took = self._timer() - begin
            self._loads += 1
            self._seconds += took
            self._last.append(took)
        return session

    async def commit(self, key: Key, change: Change) -> Receipt:
        with self._failures:
            return await self.inner.commit(key, change)

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        with self._failures:
            return await self.inner.delete(key, expect=expect, for_owner=for_owner)

    async def page(self, query: Query) -> Page:
        with self._failures:
            return await self.inner.page(query)

    async def totals(self, namespace: str) -> Totals:
        with self._failures:
            return await self.inner.totals(namespace)

    async def copy(
        self,
        source: Key,
        target: Key,
        *,
        at: int | None,
        change_id: str,
        expect: Expect = None,
        for_owner: str | None = None,
    ) -> Receipt:
        with self._failures:
            return await super().copy(source, target, at=at, change_id=change_id, expect=expect, for_owner=for_owner)


class _Failures:
    """Counts the failures that its `with` blocks raise; tasks may share it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter({failure.__name__: 0 for failure in _FAILURES})

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, _FAILURES):
            self.counts[type(error).__name__] += 1

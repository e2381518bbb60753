"""`TelemetryLayer`: a span and measurements around each method of the wrapped backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider, get_tracer

from turnlog import Backend, Change, Expect, Key, Layer, Page, Query, Receipt, Record, Session, Totals, Version
from turnlog.errors import InvalidInput
from turnlog.layers import Position, stack_of

from . import _conventions as names
from ._failures import Failures
from ._instruments import instruments_of
from ._measured import Measured, Operation, Tools


class TelemetryLayer(Layer):
    """Creates a span and measurements for each operation, and reports the figures of the layers below.

    As the outermost layer, it measures the times that the application waits.  It does not read messages and changes
    nothing.  Errors of OpenTelemetry are not raised: the operation continues, and the first error is logged.

    Args:
        inner: The backend to wrap.
        ids: Whether spans show session ids and owners.  Metrics never contain them.
        tracer_provider: Creates the spans; None: the global one, which may be set later.
        meter_provider: Receives the measurements; None: the global one, which may be set later.
        timer: Returns seconds from an arbitrary start, never decreasing; it measures durations.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    position: ClassVar[Position] = "anywhere"
    portable: ClassVar[bool] = True

    def __init__(
        self,
        inner: Backend,
        *,
        ids: bool = False,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__(inner)
        if ids is not True and ids is not False:
            raise InvalidInput(f"ids must be True or False, not {ids!r}")
        tracer = get_tracer(names.SCOPE, tracer_provider=tracer_provider, schema_url=names.SCHEMA_URL)
        self._instruments = instruments_of(meter_provider)
        self._tools = Tools(tracer, self._instruments.duration, timer, ids, Failures())
        self._operations: dict[tuple[str, str | None], Operation] = {}
        *layers, backend = stack_of(inner)
        self._system = type(backend).__name__.removesuffix("Backend").lower()
        for layer in layers:
            assert isinstance(layer, Layer)
            self._watch(layer)

    # ----------------------------------------------------------------------------------------------------- the methods

    async def read(
        self,
        key: Key,
        *,
        last: int | None = None,
        before: int | None = None,
        since: Version | None = None,
        touch: bool = True,
    ) -> Session:
        with self._measured("read", key) as measured:
            session = await self.inner.read(key, last=last, before=before, since=since, touch=touch)
            measured.answer = session
        return session

    async def commit(self, key: Key, change: Change) -> Receipt:
        with self._measured("commit", key, change) as measured:
            receipt = await self.inner.commit(key, change)
            measured.answer = receipt
        return receipt

    async def delete(self, key: Key, *, expect: Expect = None, for_owner: str | None = None) -> bool:
        with self._measured("delete", key, owner=for_owner):
            return await self.inner.delete(key, expect=expect, for_owner=for_owner)

    async def page(self, query: Query) -> Page:
        with self._measured("page", query, query) as measured:
            page = await self.inner.page(query)
            measured.answer = page
        return page

    async def namespaces(self, *, after: str | None = None, limit: int = 1_000) -> Sequence[str]:
        with self._measured("namespaces", None) as measured:
            names = await self.inner.namespaces(after=after, limit=limit)
            measured.answer = names
        return names

    async def totals(self, namespace: str) -> Totals:
        with self._measured("totals", None, namespace=namespace):
            return await self.inner.totals(namespace)

    async def seal(self, key: Key, record: Record) -> bool | None:
        with self._measured("seal", key, record) as measured:
            done = await self.inner.seal(key, record)
            measured.answer = done
        return done

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
        with self._measured("copy", target, owner=for_owner) as measured:
            receipt = await super().copy(source, target, at=at, change_id=change_id, expect=expect, for_owner=for_owner)
            measured.answer = receipt
        return receipt

    async def open(self) -> None:
        with self._measured("open", None):
            await super().open()

    # -------------------------------------------------------------------------------------------------------- measuring

    def _measured(
        self,
        name: str,
        place: Key | Query | None,
        asked: Change | Query | Record | None = None,
        *,
        owner: str | None = None,
        namespace: str | None = None,
    ) -> Measured:
        """Return the context manager for one operation.

        The arguments are not checked: the backend refuses a key of another type, and the error is measured.

        Args:
            name: The name of the method of the backend.
            place: The key or the query; None: the operation has neither.
            asked: As in `Measured`.
            owner: As in `Measured`.
            namespace: The namespace of an operation without `place`; None: the operation has none.
        """
        if not isinstance(namespace, str):
            namespace = getattr(place, "namespace", None)
        operation = self._operations.get((name, namespace))
        if operation is None:
            operation = self._operation(name, namespace)
        session = getattr(place, "session", None)
        return Measured(self._tools, operation, asked, session, owner)

    def _operation(self, name: str, namespace: str | None) -> Operation:
        kept = self._instruments.has(namespace)
        series = self._instruments.series(self._system, name, namespace if kept else None)
        attributes = {names.DB_SYSTEM_NAME: self._system, names.DB_OPERATION_NAME: name}
        if name in names.MEMORY_OPERATIONS:
            attributes[names.GEN_AI_OPERATION_NAME] = names.MEMORY_OPERATIONS[name]
        if namespace is not None:
            attributes[names.DB_NAMESPACE] = attributes[names.GEN_AI_MEMORY_STORE_ID] = namespace
        span = f"{name} {namespace}" if namespace is not None and kept else name
        operation = Operation(name, span, attributes, series)
        if kept:
            self._operations[name, namespace] = operation
        return operation

    def _watch(self, layer: Layer) -> None:
        try:
            self._instruments.watch(layer, self._system)
        except Exception as failure:  # noqa: BLE001 - a store must work without the figures of a layer
            self._tools.failures.note(failure)

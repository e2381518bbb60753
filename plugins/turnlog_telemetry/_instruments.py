"""`Instruments`: the instruments of a meter provider, and the figures that they report."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final, Literal, TypeAlias
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation, get_meter, get_meter_provider

from turnlog import Layer

from . import _conventions as names

MAX_NAMESPACES: Final = 100
"""Largest number of namespaces with separate figures; it bounds memory and metrics if there are many tenants."""

_Figure: TypeAlias = Literal["messages", "bytes", "repeats"]

_COUNTERS: Final[tuple[tuple[_Figure, str, str, str], ...]] = (
    ("messages", names.TURNLOG_MESSAGES, "{message}", "Messages that were read or stored."),
    ("bytes", names.TURNLOG_BYTES, "By", "Bytes of the records that were read or stored, before compression."),
    ("repeats", names.TURNLOG_REPEATS, "{commit}", "Changes that had been stored before, and were sent again."),
)


class Series:
    """The figures of one operation in one namespace of one kind of database, summed over all layers of this process.

    Args:
        attributes: The attributes of the measurements.
    """

    __slots__ = ("attributes", "bytes", "messages", "repeats")

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self.attributes = attributes
        self.messages = self.bytes = self.repeats = 0

    def add(self, messages: int, size: int, *, repeat: bool) -> None:
        """Add the figures of one operation.  Several threads may call this at once."""
        with _lock:
            self.messages += messages
            self.bytes += size
            self.repeats += repeat


class Instruments:
    """The instruments of one meter provider, for all telemetry layers that use it.

    OpenTelemetry has one instrument for each name, and calls only the callbacks of its first creation.  The figures of
    all layers are therefore collected in one object.

    Args:
        provider: The meter provider; None: the global one.
    """

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = get_meter(names.SCOPE, meter_provider=provider, schema_url=names.SCHEMA_URL)
        self._meter = meter
        self._series: dict[tuple[str, str, str | None], Series] = {}
        self._namespaces: set[str] = set()
        self._watched: dict[str, WeakKeyDictionary[Layer, str]] = {}
        self._reported: set[str] = set()
        self.duration: Histogram = meter.create_histogram(
            names.DB_CLIENT_OPERATION_DURATION,
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=names.DURATION_BUCKETS,
        )
        for figure, name, unit, description in _COUNTERS:
            callbacks = [partial(self._totals, figure)]
            meter.create_observable_counter(name, callbacks, unit=unit, description=description)

    def has(self, namespace: str | None) -> bool:
        """Return whether a namespace has separate figures."""
        if namespace is None or namespace in self._namespaces:
            return True
        with _lock:
            if len(self._namespaces) < MAX_NAMESPACES:
                self._namespaces.add(namespace)
            return namespace in self._namespaces

    def series(self, system: str, operation: str, namespace: str | None) -> Series:
        """Return the figures of an operation.

        Args:
            system: The value of `db.system.name`.
            operation: The value of `db.operation.name`.
            namespace: The value of `db.namespace`; None: no such attribute.
        """
        attributes = {names.DB_SYSTEM_NAME: system, names.DB_OPERATION_NAME: operation}
        if namespace is not None:
            attributes[names.DB_NAMESPACE] = namespace
        return self._series.setdefault((system, operation, namespace), Series(attributes))

    def watch(self, layer: Layer, system: str) -> None:
        """Report the numbers of `Layer.stats` as `turnlog.NAME.STAT`, as long as the layer exists.

        Args:
            layer: The layer.  The class `CacheLayer` has the name `cache`.
            system: The value of `db.system.name`.
        """
        name = type(layer).__name__.removesuffix("Layer").lower()
        with _lock:
            self._watched.setdefault(name, WeakKeyDictionary())[layer] = system
        for stat in layer.stats():
            full = f"turnlog.{name}.{stat}"
            if full not in self._reported:  # without an SDK, the API keeps every instrument that was ever created
                self._reported.add(full)
                self._meter.create_observable_up_down_counter(
                    full, [partial(self._stats, name, stat)], description=f"{stat}, as {type(layer).__name__} counts."
                )

    def _totals(self, figure: _Figure, _: CallbackOptions) -> Iterable[Observation]:
        for series in list(self._series.values()):  # a copy, because a thread of the SDK calls this
            value: int = getattr(series, figure)
            if value:
                yield Observation(value, series.attributes)

    def _stats(self, name: str, stat: str, _: CallbackOptions) -> Iterable[Observation]:
        with _lock:
            layers = list(self._watched[name].items())
        totals: dict[str, float] = {}
        for layer, system in layers:
            totals[system] = totals.get(system, 0) + layer.stats().get(stat, 0)
        for system, value in totals.items():
            yield Observation(value, {names.DB_SYSTEM_NAME: system})


def instruments_of(provider: MeterProvider | None) -> Instruments:
    """Return the instruments of a meter provider; the first call creates them.

    Args:
        provider: The provider; None: the global one, which the application may set later.
    """
    key = None if provider is get_meter_provider() else provider
    with _making:
        found = _global.get(None) if key is None else _given.get(key)
        if found is None:
            found = Instruments(key)
            if key is None:
                _global[None] = found
            else:
                _given[key] = found
        return found


_global: dict[None, Instruments] = {}
_given: WeakKeyDictionary[MeterProvider, Instruments] = WeakKeyDictionary()
_lock = threading.Lock()
_making = threading.Lock()


def _after_fork() -> None:
    """Replace the locks in a forked child, because another thread of the parent may have held one."""
    global _lock, _making
    _lock, _making = threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

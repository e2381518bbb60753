"""The SDK of OpenTelemetry with everything in memory, for the tests of the telemetry layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, MetricsData, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from turnlog import Backend
from turnlog_telemetry import TelemetryLayer
from turnlog_telemetry._conventions import DB_NAMESPACE, DB_OPERATION_NAME, DB_SYSTEM_NAME, ERROR_TYPE

TICK = 0.25
"""Seconds that each operation takes by the timer of `SDK.over`."""


class SDK:
    """Providers of spans and metrics, with the spans and metrics that they received.

    Args:
        sampler: Decides which spans are recorded. None: all.
    """

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    def over(self, inner: Backend, *, ids: bool = False, timer: Callable[[], float] | None = None) -> TelemetryLayer:
        """Return a layer that uses these providers. By its timer each operation takes `TICK` seconds."""
        timer = count(0, TICK).__next__ if timer is None else timer
        return TelemetryLayer(inner, ids=ids, tracer_provider=self.tracers, meter_provider=self.meters, timer=timer)

    def spans(self) -> tuple[ReadableSpan, ...]:
        """Return the spans that have ended since the last call."""
        spans = self.exporter.get_finished_spans()
        self.exporter.clear()
        return spans

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the one span that has ended since the last call."""
        (span,) = self.spans()
        return dict(span.attributes or {})

    def points(self, name: str) -> list[NumberDataPoint | HistogramDataPoint]:
        """Return the data points of one metric now."""
        data = self.reader.get_metrics_data()
        return [
            point
            for metric in metrics_of(data)
            if metric.name == name
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint | HistogramDataPoint)
        ]

    def values(self, name: str, *by: str) -> dict[Any, float]:
        """Return the values of one metric by the values of some attributes. For a histogram, return the counts."""
        found: dict[Any, float] = {}
        for point in self.points(name):
            attributes: Mapping[str, Any] = point.attributes or {}
            key = tuple(attributes.get(one) for one in by)
            value = point.count if isinstance(point, HistogramDataPoint) else point.value
            found[key[0] if len(by) == 1 else key] = value
        return found

    def total(self, name: str) -> float:
        """Return the sum of all values of one metric."""
        return sum(self.values(name, DB_SYSTEM_NAME, DB_NAMESPACE, DB_OPERATION_NAME, ERROR_TYPE).values())


def metrics_of(data: MetricsData | None) -> list[Any]:
    """Return all metrics of a collection."""
    if data is None:
        return []
    return [metric for one in data.resource_metrics for scope in one.scope_metrics for metric in scope.metrics]

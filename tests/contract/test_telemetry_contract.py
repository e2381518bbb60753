"""The telemetry layer meets the contract without an SDK, with an SDK, and with an SDK that always fails."""

from __future__ import annotations

from typing import Unpack

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from further_ways import OverMemory
from redis_places import RedisContract
from turnlog import Backend
from turnlog.testing import BackendContract, BackendOptions, LayerContract
from turnlog_cache import CacheLayer
from turnlog_compression.zstd import ZstdLayer
from turnlog_memory import MemoryBackend
from turnlog_telemetry import TelemetryLayer


class Nowhere(SpanExporter):
    """Exports nothing."""

    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Broken(SimpleSpanProcessor):
    """Raises on every call."""

    def on_start(self, *_: object, **__: object) -> None:
        raise RuntimeError

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError


TRACERS, BROKEN = TracerProvider(shutdown_on_exit=False), TracerProvider(shutdown_on_exit=False)
TRACERS.add_span_processor(SimpleSpanProcessor(Nowhere()))
BROKEN.add_span_processor(Broken(Nowhere()))
METERS = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)


class TestTelemetryOverMemory(BackendContract):
    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return TelemetryLayer(MemoryBackend(**options), ids=True, tracer_provider=TRACERS, meter_provider=METERS)


class TestTelemetryWithoutSDKOverMemory(LayerContract):
    below = OverMemory

    def layer(self, inner: Backend) -> Backend:
        return TelemetryLayer(inner)


class TestBrokenTelemetryOverMemory(LayerContract):
    below = OverMemory

    def layer(self, inner: Backend) -> Backend:
        return TelemetryLayer(inner, tracer_provider=BROKEN, meter_provider=METERS)


class TestTelemetryOverCacheOverZstdOverRedis(LayerContract):
    below = RedisContract

    def layer(self, inner: Backend) -> Backend:
        return TelemetryLayer(CacheLayer(ZstdLayer(inner)), tracer_provider=TRACERS, meter_provider=METERS)

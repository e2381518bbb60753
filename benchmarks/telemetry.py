"""Measure the cost of the layer `telemetry`: python benchmarks/telemetry.py [--rounds 60]

The script measures operations on a memory backend in four variants: without a layer, through the layer without an SDK,
through the layer with an SDK that drops the spans, and through a bare layer.  The bare layer makes a span without
attributes, and one record of a histogram with the attributes of `db.client.operation.duration`.  The script prints the
microseconds that each layer adds, and the ratio of the layer with an SDK to the bare one.

All variants alternate in rounds of a few milliseconds, in an order that changes.  Differences and ratios are computed
within a round, and the script prints the median of all rounds.  In parentheses is the difference between the minima of
all rounds.  The exit status is 1 if a limit is exceeded: 6 µs for the minimum without an SDK, or 2 for the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import random
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from statistics import median
from time import perf_counter

from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Tracer

from turnlog import Backend, Change, Key, Layer, Query, Record, assistant, user
from turnlog_memory import MemoryBackend
from turnlog_telemetry import TelemetryLayer

KEY = Key("default", "s")
TURNS = 50  # 100 messages, so that a window of 20 is a part of the session
REPEATS = 200  # operations of one variant in a round, a few milliseconds
WITHOUT_SDK, WITH_SDK = 6.0, 2.0  # the limits: µs, and times the bare layer
ATTRIBUTES = {"db.system.name": "memory", "db.namespace": "default", "db.operation.name": "read"}


class Dropped(SpanExporter):
    """An exporter that drops all spans."""

    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


Call = Callable[[Backend, int], Awaitable[object]]


def turn(number: int) -> Change:
    messages = user(f"Where is my order {number}?"), assistant("It is on its way and arrives on Thursday.")
    return Change(id=f"{number}", append=(Record.of(messages, id=f"{number}", time=0.0),), retain=TURNS)


CALLS: dict[str, Call] = {
    "read, the last 20 messages": lambda backend, _: backend.read(KEY, last=20),
    "read, all 100": lambda backend, _: backend.read(KEY),
    "commit, a turn": lambda backend, number: backend.commit(KEY, turn(number)),
    "page": lambda backend, _: backend.page(Query(namespace="default")),
}


async def seconds(call: Call, backend: Backend, numbers: range) -> float:
    """Return the mean seconds of one operation."""
    began = perf_counter()
    for number in numbers:
        await call(backend, number)
    return (perf_counter() - began) / len(numbers)


class Bare(Layer):
    """Makes a span without attributes, and records the seconds in a histogram."""

    def __init__(self, inner: Backend, tracer: Tracer, histogram: Histogram) -> None:
        super().__init__(inner)
        self.tracer, self.histogram = tracer, histogram

    async def read(self, key, **options):
        began, span = perf_counter(), self.tracer.start_span("read default", kind=SpanKind.CLIENT)
        session = await self.inner.read(key, **options)
        span.end()
        self.histogram.record(perf_counter() - began, ATTRIBUTES)
        return session

    async def commit(self, key, change):
        began, span = perf_counter(), self.tracer.start_span("commit default", kind=SpanKind.CLIENT)
        receipt = await self.inner.commit(key, change)
        span.end()
        self.histogram.record(perf_counter() - began, ATTRIBUTES)
        return receipt

    async def page(self, query):
        began, span = perf_counter(), self.tracer.start_span("page default", kind=SpanKind.CLIENT)
        page = await self.inner.page(query)
        span.end()
        self.histogram.record(perf_counter() - began, ATTRIBUTES)
        return page


async def measure(call: Call, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of an operation, round by round, for each variant."""
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(Dropped()))
    meters = MeterProvider([InMemoryMetricReader()])
    tracer, histogram = tracers.get_tracer("bare"), meters.get_meter("bare").create_histogram("bare", unit="s")
    variants: dict[str, Backend] = {
        "alone": MemoryBackend(),
        "without an SDK": TelemetryLayer(MemoryBackend()),
        "with an SDK": TelemetryLayer(MemoryBackend(), tracer_provider=tracers, meter_provider=meters),
        "bare": Bare(MemoryBackend(), tracer, histogram),
    }
    for backend in variants.values():
        for number in range(TURNS):
            await backend.commit(KEY, turn(number))
    number, names = TURNS, [*variants]
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            found[name].append(await seconds(call, variants[name], range(number, number + REPEATS)))
        number += REPEATS
    return found


def added(layer: list[float], alone: list[float]) -> tuple[list[float], float]:
    """Return the microseconds that a layer adds in each round, and the difference between the minima."""
    return [1e6 * (one - other) for one, other in zip(layer, alone)], 1e6 * (min(layer) - min(alone))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="rounds for each operation, default 60")
    args = parser.parse_args()
    print(f"CPython {platform.python_version()}, OpenTelemetry {version('opentelemetry-sdk')}, {args.rounds} rounds\n")
    print("| µs an operation | without an SDK | with an SDK | bare | ratio |\n|---|--:|--:|--:|--:|")
    passed = True
    for name, call in CALLS.items():
        alone, *layers = asyncio.run(measure(call, args.rounds)).values()
        (_, least), (sdk, _), (bare, _) = columns = [added(layer, alone) for layer in layers]
        ratio = median(one / other for one, other in zip(sdk, bare))
        print(
            f"| {name} | "
            + " | ".join(f"{median(each):.1f} ({low:.1f})" for each, low in columns)
            + f" | {ratio:.2f} |"
        )
        passed = passed and least <= WITHOUT_SDK and ratio <= WITH_SDK
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()

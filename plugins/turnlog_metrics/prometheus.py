"""An endpoint for Prometheus, with `prometheus-client` (extra `prometheus`)."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from turnlog.errors import InvalidInput
from turnlog.metrics import LoadLatency, Measurement, StateMetrics

__all__ = ["StateCollector", "serving"]

_logger = logging.getLogger("turnlog.metrics")

_UP: Final = (
    "Whether the store could be measured: 1 or 0. If 0, the label error of turnlog_failure is the kind of the error; "
    "the logger turnlog.metrics and the command 'turnlog stats' show its text."
)
_FAILURE: Final = "1 while the store cannot be measured, with the kind of the error, such as Unavailable."


class StateCollector(Collector):
    """A collector for a registry of `prometheus-client`: each scrape measures the store.

    Create it in the event loop that uses the store.  Another thread must collect it, as `start_http_server` does.

    Args:
        metrics: The metrics of the store.
        probes: The number of sessions to load before each scrape (`StateMetrics.probe`); 0 in an application whose own
            loads are timed.
        timeout: Seconds that a scrape waits for the store.
    """

    def __init__(self, metrics: StateMetrics, *, probes: int = 0, timeout: float = 10.0) -> None:
        self._metrics = metrics
        self._probes = probes
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics.

        If the store cannot be measured, `turnlog_up` is 0, and the metrics of the store are left out.
        `turnlog_failure` then shows the kind of the error, and the logger `turnlog.metrics` shows its text.

        Raises:
            RuntimeError: The call is in the event loop that must make the measurement.
        """
        measured, failure = self._measured()
        up = _gauge("up", _UP)
        up.add_metric([self._metrics.namespace], measured is not None)
        yield up
        failed = _gauge("failure", _FAILURE, "error")
        if failure:
            failed.add_metric([self._metrics.namespace, failure], 1)
        yield failed
        yield _errors(self._metrics)
        if measured is not None:
            yield _latency(measured.load_latency)
            yield from _sizes(measured, self._metrics.namespace)

    def describe(self) -> Iterator[Metric]:
        """Yield no metrics, so that the registration of the collector makes no measurement."""
        return iter(())

    def _measured(self) -> tuple[Measurement | None, str]:
        """Return the measurement, or None and the kind of the error."""
        if self._loop.is_closed():
            return None, "Closed"
        if _running_loop() is self._loop:  # a wait in this loop would block the measurement
            raise RuntimeError("a StateCollector must be collected outside the thread of its event loop: use serving()")
        future = asyncio.run_coroutine_threadsafe(self._measure(), self._loop)
        try:
            return future.result(self._timeout), ""
        except Exception as error:  # noqa: BLE001 - a scrape shows any error of a backend as `turnlog_up 0`
            future.cancel()
            said = str(error) or f"no answer within {self._timeout:g} s"
            _logger.warning("the store could not be measured: %s: %s", type(error).__name__, said)
            return None, type(error).__name__

    async def _measure(self) -> Measurement:
        if self._probes:
            await self._metrics.probe(self._probes)
        return await self._metrics.measure()


@asynccontextmanager
async def serving(metrics: StateMetrics, host: str, port: int, *, probes: int = 0) -> AsyncIterator[str]:
    """Serve the metrics over HTTP in a thread, until the block ends; yield the URL.

    Args:
        metrics: The metrics of the store.
        host: The address to listen on, such as 127.0.0.1; the server requires no password.
        port: The port; 0: a free one.
        probes: As in `StateCollector`.

    Raises:
        InvalidInput: The server cannot listen on the address.
    """
    registry = CollectorRegistry()
    registry.register(StateCollector(metrics, probes=probes))
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL:
            raise InvalidInput(
                f"cannot listen on {host}:{port}: this machine has no such address: use one of its addresses, such as "
                "127.0.0.1"
            ) from error
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise InvalidInput(f"cannot listen on {host}:{port}: {reason}: choose another address or port") from error
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"turnlog_{name}", text, labels=["namespace", *labels])


def _errors(metrics: StateMetrics) -> Metric:
    family = CounterMetricFamily("turnlog_errors", "Failed calls of this process.", labels=["error"])
    for name, count in metrics.errors.items():
        family.add_metric([name], count)
    return family


def _latency(found: LoadLatency) -> Metric:
    """Return a summary with quantiles, which the library's metric families do not support."""
    name = "turnlog_load_latency_seconds"
    family = SummaryMetricFamily(name, "Latency of the loads of this process; quantiles of the last 1,000 loads.")
    for quantile, seconds in (("0.5", found.p50), ("0.95", found.p95), ("0.99", found.p99)):
        if seconds is not None:
            family.add_sample(name, {"quantile": quantile}, seconds)
    family.add_sample(f"{name}_count", {}, found.loads)
    family.add_sample(f"{name}_sum", {}, found.seconds)
    return family


def _sizes(measured: Measurement, namespace: str) -> Iterator[Metric]:
    size = measured.avg_history_size
    for name, text, value in (
        ("active_sessions", "Number of unexpired sessions.", measured.active_sessions),
        ("avg_history_messages", "Mean number of messages of a session.", size.messages),
        ("avg_history_bytes", "Mean size of a session in bytes, before compression.", size.bytes),
        ("storage_used_bytes", "Bytes that the backend occupies.", measured.storage_used),
    ):
        if value is not None:
            family = _gauge(name, text)
            family.add_metric([namespace], value)
            yield family

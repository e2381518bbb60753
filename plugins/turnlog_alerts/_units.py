"""Values with their units, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

_SIZES: Final = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
"""Decimal units, as in sizes of the configuration."""


def with_unit(metric: str, value: float) -> str:
    """Return the value of a metric with its unit, such as `214 ms`; without one if the metric is not of `StateMetrics`.

    Args:
        metric: The dotted path of the metric.
        value: Its value, in seconds, bytes, messages or sessions.
    """
    return _SHOWN.get(metric, number)(value)


def number(value: float) -> str:
    """Return a number: whole, or with six significant digits."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1e6 else f"{value:.6g}"


def _seconds(value: float) -> str:
    return f"{number(value)} s" if abs(value) >= 1 else f"{value * 1e3:.6g} ms"


def _bytes(value: float) -> str:
    for unit, size in _SIZES:
        if abs(value) >= size:
            return f"{value / size:.6g} {unit}"
    return f"{number(value)} bytes"


def _sessions(value: float) -> str:
    return f"{number(value)} {'session' if value == 1 else 'sessions'}"


def _messages(value: float) -> str:
    return f"{number(value)} {'message' if value == 1 else 'messages'}"


_SHOWN: Final[Mapping[str, Callable[[float], str]]] = {
    "active_sessions": _sessions,
    "avg_history_size.messages": _messages,
    "avg_history_size.bytes": _bytes,
    "load_latency.p50": _seconds,
    "load_latency.p95": _seconds,
    "load_latency.p99": _seconds,
    "storage_used": _bytes,
}

"""Format values with their units, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

_SIZES: Final = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
"""Decimal units, as in the configuration."""


def with_unit(metric: str, value: float, *, digits: int = 6) -> str:
    """Return the value of a metric with its unit, such as `214 ms`; without a unit if `StateMetrics` lacks the metric.

    Args:
        metric: The dotted path of the metric.
        value: The value in seconds, bytes, messages or sessions.
        digits: The number of significant digits.
    """
    return _SHOWN.get(metric, number)(value, digits)


def number(value: float, digits: int = 6) -> str:
    """Format a number as an integer, or with significant digits."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def _seconds(value: float, digits: int) -> str:
    return f"{number(value, digits)} s" if abs(value) >= 1 else f"{value * 1e3:.{digits}g} ms"


def _bytes(value: float, digits: int) -> str:
    for unit, size in _SIZES:
        if abs(value) >= size:
            return f"{value / size:.{digits}g} {unit}"
    return f"{number(value, digits)} bytes"


def _sessions(value: float, digits: int) -> str:
    return f"{number(value, digits)} {'session' if value == 1 else 'sessions'}"


def _messages(value: float, digits: int) -> str:
    return f"{number(value, digits)} {'message' if value == 1 else 'messages'}"


_SHOWN: Final[Mapping[str, Callable[[float, int], str]]] = {
    "active_sessions": _sessions,
    "avg_history_size.messages": _messages,
    "avg_history_size.bytes": _bytes,
    "load_latency.p50": _seconds,
    "load_latency.p95": _seconds,
    "load_latency.p99": _seconds,
    "storage_used": _bytes,
}

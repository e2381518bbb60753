"""`Measurement`: the metrics of a store at one moment."""

from __future__ import annotations

from typing import Any

import msgspec


class HistorySize(msgspec.Struct, frozen=True, kw_only=True):
    """The mean size of a history; 0 without sessions.

    Attributes:
        messages: Mean number of messages per session.
        bytes: Mean number of bytes per session, before a layer compresses or encrypts them.
    """

    messages: float
    bytes: float


class LoadLatency(msgspec.Struct, frozen=True, kw_only=True):
    """The times of loads in this process, in seconds.

    They include the time in all layers, but not the time to decode messages.

    Attributes:
        loads: Number of loads.
        seconds: Sum of the times of all loads.
        p50: Median of the times of the last 1,000 loads; None without loads.
        p95: 95th percentile of these times.
        p99: 99th percentile of these times.
    """

    loads: int
    seconds: float
    p50: float | None
    p95: float | None
    p99: float | None


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `StateMetrics.measure`.

    Attributes:
        active_sessions: Number of sessions in the namespace that have not expired.
        avg_history_size: The mean size of these sessions.
        load_latency: The times of loads in this process.
        storage_used: `Totals.stored`: the bytes that the backend occupies, after compression; None if unknown.
    """

    active_sessions: int
    avg_history_size: HistorySize
    load_latency: LoadLatency
    storage_used: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement as nested dictionaries of numbers; an unknown number is None."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

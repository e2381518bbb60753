"""`Measurement`: the numbers of one moment."""

from __future__ import annotations

from typing import Any

import msgspec


class HistorySize(msgspec.Struct, frozen=True, kw_only=True):
    """The mean size of a history; 0 if there are no sessions.

    Attributes:
        messages: Messages for each session.
        bytes: Bytes for each session, before a layer compresses or encrypts them.
    """

    messages: float
    bytes: float


class LoadLatency(msgspec.Struct, frozen=True, kw_only=True):
    """How long loads took in this process, in seconds, with all layers; messages are decoded later.

    Attributes:
        loads: How many loads there were; the percentiles are of the last 1,000.
        seconds: How long all of them took together.
        p50: Half of them took at most this long; None if there were no loads.
        p95: The same for 95 of 100.
        p99: The same for 99 of 100.
    """

    loads: int
    seconds: float
    p50: float | None
    p95: float | None
    p99: float | None


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `StateMetrics.measure`.

    Attributes:
        active_sessions: How many sessions of the namespace have not expired.
        avg_history_size: Their mean size.
        load_latency: How long loads took in this process.
        storage_used: `Totals.stored`: the bytes that the backend occupies, after compression; None if it cannot tell.
    """

    active_sessions: int
    avg_history_size: HistorySize
    load_latency: LoadLatency
    storage_used: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the same as dictionaries of numbers; None where a number is not known."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

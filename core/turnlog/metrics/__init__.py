"""Metrics of a store's sessions: how many there are, how large they are, and how fast this process loads them.

    metrics = StateMetrics(store)
    ...
    print((await metrics.measure()).to_dict())

`docs/how-to/metrics.md` says what each number means on each backend.
"""

from __future__ import annotations

from .load_times import LoadTimes
from .measurement import HistorySize, LoadLatency, Measurement
from .state_metrics import StateMetrics

__all__ = ["HistorySize", "LoadLatency", "LoadTimes", "Measurement", "StateMetrics"]

"""Metrics of a store's sessions: their number, their size, and the load times of this process.

    metrics = StateMetrics(store)
    ...
    print((await metrics.measure()).to_dict())

`docs/how-to/metrics.md` explains each number for each backend.
"""

from __future__ import annotations

from .load_times import LoadTimes
from .measurement import HistorySize, LoadLatency, Measurement
from .state_metrics import StateMetrics

__all__ = ["HistorySize", "LoadLatency", "LoadTimes", "Measurement", "StateMetrics"]

"""Output of metrics for people and for Prometheus: the command `turnlog stats`, and `turnlog_metrics.prometheus`.

`turnlog.metrics.StateMetrics` makes the measurements.
"""

from __future__ import annotations

__all__: list[str] = []

"""Alerts on the state of a store: thresholds that are compared with a measurement at an interval.

    alerts = Alerts(measure, read_alerts())
    await alerts.run(every=60)

An alert fires once when its metric crosses the threshold, and is resolved once when the metric returns.
"""

from __future__ import annotations

from ._alert import Alert
from ._alerts import Alerts
from ._configured import read_alerts
from ._event import Event

__all__ = ["Alert", "Alerts", "Event", "read_alerts"]

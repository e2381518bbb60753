"""Alerts on the state of a store: thresholds as data, evaluated against a measurement at an interval.

    alerts = Alerts(measure, read_alerts())
    await alerts.run(every=60)

An alert fires once when its condition begins to hold, and is resolved once when it ends.
"""

from __future__ import annotations

from ._alert import Alert
from ._alerts import Alerts
from ._configured import read_alerts
from ._event import Event

__all__ = ["Alert", "Alerts", "Event", "read_alerts"]

"""`Event`: the report that an alert has fired or was resolved."""

from __future__ import annotations

from typing import Literal

import msgspec

from ._alert import Alert
from ._units import with_unit


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The report that an alert has fired or was resolved.

    Attributes:
        alert: The alert.
        state: `firing` or `resolved`.
        value: The value of the metric.
        since: The time of the first measurement beyond the threshold, in seconds since 1970.
        time: The time of the event, in seconds since 1970.
    """

    alert: Alert
    state: Literal["firing", "resolved"]
    value: float
    since: float
    time: float

    def to_dict(self) -> dict[str, object]:
        """Return the JSON object that a webhook receives (`docs/how-to/alerts.md`)."""
        side, threshold = self.alert.threshold
        return {
            "alert": self.alert.name,
            "state": self.state,
            "metric": self.alert.metric,
            "value": self.value,
            side: threshold,
            "since": self.since,
            "time": self.time,
            "text": str(self),
        }

    def __str__(self) -> str:
        longer = "no longer " if self.state == "resolved" else ""
        alert, value = self.alert, with_unit(self.alert.metric, self.value)
        return f"alert {alert.name!r} is {self.state}: {alert.metric} is {value}, {longer}{alert.condition}"

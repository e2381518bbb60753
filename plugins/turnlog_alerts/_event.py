"""`Event`: the report that an alert fires, or is resolved."""

from __future__ import annotations

from typing import Literal

import msgspec

from ._alert import Alert, shown


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The report that an alert has begun to fire, or has ended.

    Attributes:
        alert: The alert.
        state: `firing` when the alert begins, `resolved` when it ends.
        value: The value of the metric.
        since: When the metric was first measured beyond the threshold, in seconds since 1970.
        time: When the event was made, in seconds since 1970.
    """

    alert: Alert
    state: Literal["firing", "resolved"]
    value: float
    since: float
    time: float

    def to_dict(self) -> dict[str, object]:
        """Return the event as JSON: what a webhook receives (`docs/how-to/alerts.md`)."""
        side, threshold = ("above", self.alert.above) if self.alert.above is not None else ("below", self.alert.below)
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
        return (
            f"alert {self.alert.name!r} is {self.state}: {self.alert.metric} is {shown(self.value)}, "
            f"{longer}{self.alert.condition}"
        )

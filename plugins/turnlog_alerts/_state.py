"""The state of one alert: whether it holds, since when, and when it fired last."""

from __future__ import annotations

from typing import NamedTuple

from ._alert import Alert
from ._event import Event


class _Moment(NamedTuple):
    time: float
    ticks: float


class State:
    """The state of one alert, which lives as long as the process.

    Args:
        alert: The alert.
    """

    def __init__(self, alert: Alert) -> None:
        self._alert = alert
        self._firing = False
        self._since: _Moment | None = None  # when the metric was first beyond the threshold, without interruption
        self._fired: _Moment | None = None  # when the alert fired last

    def step(self, value: float | None, now: float, ticks: float) -> Event | None:
        """Take a measurement into account.

        Args:
            value: The value of the metric; None, if nothing was measured, changes nothing.
            now: The time, in seconds since 1970: events show it.
            ticks: Seconds from any beginning, which never go back: durations are measured by them.

        Returns:
            The event, if the alert has begun to fire or is resolved.
        """
        if value is None:
            return None
        if self._firing:
            return self._resolve(value, now) if self._alert.is_cleared(value) else None
        if not self._alert.is_beyond(value):
            self._since = None
            return None
        if self._since is None:
            self._since = _Moment(now, ticks)
        if ticks - self._since.ticks < self._alert.for_:
            return None
        if self._fired is not None and ticks - self._fired.ticks < self._alert.cooldown:
            return None
        self._firing, self._fired = True, _Moment(now, ticks)
        return Event(alert=self._alert, state="firing", value=value, since=self._since.time, time=now)

    def _resolve(self, value: float, now: float) -> Event:
        assert self._since is not None
        event = Event(alert=self._alert, state="resolved", value=value, since=self._since.time, time=now)
        self._firing, self._since = False, None
        return event

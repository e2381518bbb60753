"""`State`: the state of one alert, with the times of the first measurement beyond the threshold and the last firing."""

from __future__ import annotations

from typing import NamedTuple

from ._alert import Alert
from ._event import Event


class _Moment(NamedTuple):
    time: float
    ticks: float


class State:
    """The state of one alert, in memory.

    Args:
        alert: The alert.
    """

    def __init__(self, alert: Alert) -> None:
        self._alert = alert
        self._firing = False
        self._since: _Moment | None = None  # the time since which the metric is beyond the threshold
        self._fired: _Moment | None = None  # the time of the last firing

    def step(self, value: float | None, now: float, ticks: float) -> Event | None:
        """Update the state with a measurement.

        Args:
            value: The value of the metric; None: no value, and the state stays unchanged.
            now: The time in seconds since 1970, for events.
            ticks: Seconds from an arbitrary start, never decreasing, for durations.

        Returns:
            An event, if the alert fires or is resolved.
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

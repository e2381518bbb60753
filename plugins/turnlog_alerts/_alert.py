"""`Alert`: the definition of an alert."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import Final, Literal

import msgspec

from turnlog import InvalidInput
from turnlog.limits import MAX_NUMBER

from ._destination import check_destination
from ._units import number, with_unit

COOLDOWN: Final = 300.0
"""Default of the shortest time between two firings in seconds.  Prometheus Alertmanager has the same default for
`group_interval`, the time between two notifications about new alerts of one group
(prometheus.io/docs/alerting/latest/configuration, "route")."""

_MAX_NAME: Final = 200  # characters; a message with the name must fit on a line of a log and into a chat
_PATH: Final = re.compile(r"[\w-]+(\.[\w-]+)*")

_set = msgspec.structs.force_setattr


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold for one metric, and the destinations of its events.

    The alert fires when the metric has been beyond the threshold for `for_` seconds, but at most once in `cooldown`
    seconds.  It is resolved when the metric returns to `clear_at`.

    Its `repr` shows only the name, because `to` may contain a secret.

    Attributes:
        metric: The dotted path of a number in the measurement, such as `load_latency.p95`.
        above: The threshold: greater values are beyond it.
        below: The threshold: smaller values are beyond it.  An alert has either `above` or `below`.
        for_: Seconds for which every measurement must be beyond the threshold before the alert fires; 0: a single
            measurement is enough.
        cooldown: The shortest time between two firings, in seconds.  If the metric is still beyond the threshold when
            the time is over, the alert fires then.
        clear_at: The value at which a firing alert is resolved: at most `above`, or at least `below`.  None: the
            threshold.
        to: The destinations: `log`, the URL of a webhook, or `env:NAME` for a URL in the environment variable NAME.
        name: The name of the alert, up to 200 characters; empty: metric and threshold, such as
            `load_latency.p95 above 200 ms`.

    Raises:
        InvalidInput: An attribute breaks a rule.
    """

    metric: str
    above: float | None = None
    below: float | None = None
    for_: float = 0.0
    cooldown: float = COOLDOWN
    clear_at: float | None = None
    to: tuple[str, ...] = ("log",)
    name: str = ""

    def __post_init__(self) -> None:
        _check_text(self.metric, "metric")
        if not _PATH.fullmatch(self.metric):
            raise InvalidInput(f'metric must be a dotted path such as "load_latency.p95", not {self.metric!r}')
        if (self.above is None) == (self.below is None):
            given = "neither" if self.above is None else "both"
            raise InvalidInput(f"an alert needs either above or below, and has {given}: write one, such as above = 0.2")
        for name in ("above", "below", "clear_at"):
            if getattr(self, name) is not None:
                check_number(getattr(self, name), name)
        for name in ("for_", "cooldown"):
            check_number(getattr(self, name), name)
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name} must be a number of seconds, at least 0, not {getattr(self, name)}")
        if self.clear_at is not None and self.is_beyond(self.clear_at):
            side = "at most" if self.above is not None else "at least"
            given = with_unit(self.metric, self.clear_at)
            raise InvalidInput(f"clear_at must be {side} the threshold of the alert ({self.condition}), not {given}")
        if type(self.to) is not tuple:
            raise InvalidInput(f'to must be a tuple of destinations such as ("log",), not {type(self.to).__name__}')
        if not self.to:
            raise InvalidInput('to must have at least one destination, such as "log"')
        for destination in self.to:
            check_destination(destination)
        _check_text(self.name, "name")
        if len(self.name) > _MAX_NAME or not self.name.isprintable():
            raise InvalidInput(f"name must be printable text of up to {_MAX_NAME} characters")
        if not self.name:
            _set(self, "name", f"{self.metric} {self.condition}")

    @property
    def condition(self) -> str:
        """The threshold for people, with its unit: `above 200 ms`."""
        side, threshold = self.threshold
        return f"{side} {with_unit(self.metric, threshold)}"

    @property
    def plain_condition(self) -> str:
        """The threshold for programs, in the unit of the metric: `above 0.2`."""
        side, threshold = self.threshold
        return f"{side} {number(threshold)}"

    @property
    def threshold(self) -> tuple[Literal["above", "below"], float]:
        """The side of the threshold on which values are beyond it, and the threshold."""
        return ("above", self.above) if self.above is not None else ("below", self.below or 0)

    def is_beyond(self, value: float) -> bool:
        """Return whether a value is beyond the threshold."""
        if self.above is not None:
            return value > self.above
        return self.below is not None and value < self.below

    def is_cleared(self, value: float) -> bool:
        """Return whether a value resolves the alert if it is firing."""
        if self.clear_at is None:
            return not self.is_beyond(value)
        return value <= self.clear_at if self.above is not None else value >= self.clear_at

    def value_in(self, measured: Mapping[str, object]) -> float | None:
        """Return the value of the metric in a measurement; None if the value is None, NaN or infinite.

        Raises:
            InvalidInput: The measurement has no such metric, or it is not a number.
        """
        value: object = measured
        for key in self.metric.split("."):
            if value is None:
                return None
            if not isinstance(value, Mapping) or key not in value:
                known = ", ".join(sorted(_paths(measured))) or "none"
                raise InvalidInput(f"the measurement has no metric {self.metric!r}; its metrics are {known}")
            value = value[key]
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidInput(f"the metric {self.metric!r} must be a number or None, not {type(value).__name__}")
        return None if isinstance(value, float) and not isfinite(value) else value

    def __repr__(self) -> str:
        return f"Alert({self.name!r})"


def check_number(value: object, name: str) -> None:
    """Raise InvalidInput if a value is not a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidInput(f"{name} must be a number, not {type(value).__name__}")
    if not abs(value) <= MAX_NUMBER:  # also refuses NaN
        raise InvalidInput(f"{name} must be a number from -2**53 to 2**53")


def _check_text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be text, not {type(value).__name__}")


def _paths(measured: Mapping[str, object], before: str = "") -> list[str]:
    found: list[str] = []
    for key, value in measured.items():
        found += _paths(value, f"{before}{key}.") if isinstance(value, Mapping) else [f"{before}{key}"]
    return found

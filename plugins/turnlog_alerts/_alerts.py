"""`Alerts`: evaluates alerts against measurements, once or at an interval."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from turnlog import InvalidInput

from ._alert import Alert, check_number
from ._delivery import Delivery
from ._event import Event
from ._measure import Measure, metrics_of
from ._sender import Send, sender
from ._state import State

_PATIENCE: Final = 60.0
"""Timeout of a measurement in seconds: twice the default timeout of backends."""

_logger = logging.getLogger("turnlog.alerts")


class Alerts:
    """Evaluates alerts, and delivers an event when an alert fires and when it is resolved.

    The object keeps the state of the alerts in memory.  A new object therefore fires an alert again if its metric is
    still beyond the threshold.  It belongs to one event loop, and `check` and `run` must not run at the same time.

    `Alerts(StateMetrics(store).measure, read_alerts())` evaluates the configured alerts of a store.

    Args:
        measure: Returns a measurement: a mapping, or an object whose `to_dict()` returns a mapping.
        alerts: The alerts, with different names.
        deliver: Receives each event, in addition to the destinations of the alert: an async function, or a function
            that does not block.
        clock: Returns seconds since 1970, for the times in events.
        timer: Returns seconds from an arbitrary start, never decreasing; it measures durations.
        sleep: Waits for a number of seconds.

    Raises:
        InvalidInput: An argument breaks a rule.
        ConfigError: The environment variable of a destination is not set, or is not the URL of a webhook.
        PluginError: A destination is a webhook, and httpx2 is not installed.
    """

    def __init__(
        self,
        measure: Measure,
        alerts: Iterable[Alert],
        *,
        deliver: Send | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if not callable(measure):
            raise InvalidInput(f"measure must be a function, not {type(measure).__name__}")
        if deliver is not None and not callable(deliver):
            raise InvalidInput(f"deliver must be a function, not {type(deliver).__name__}")
        self._measure = measure
        self._clock = clock
        self._timer = timer
        self._sleep = sleep
        self._watched = [(alert, State(alert), _deliveries(alert, deliver, sleep)) for alert in _checked(alerts)]

    async def check(self) -> tuple[Event, ...]:
        """Evaluate all alerts once, wait for the deliveries, and return the events.

        Failed measurements and failed deliveries are logged as errors.
        """
        found = await self._evaluate()
        await asyncio.gather(*(deliver(event) for event, deliveries in found for deliver in deliveries))
        return tuple(event for event, _ in found)

    async def run(self, *, every: float = 60.0) -> None:
        """Evaluate all alerts periodically until cancelled, without waiting for deliveries.

        A cancellation also cancels unfinished deliveries.

        Args:
            every: Seconds from the end of one evaluation to the next.

        Raises:
            InvalidInput: `every` is not greater than 0.
        """
        check_number(every, "every")
        if every <= 0:
            raise InvalidInput(f"every must be a number of seconds greater than 0, not {every}")
        async with asyncio.TaskGroup() as group:
            while True:
                for event, deliveries in await self._evaluate():
                    for deliver in deliveries:
                        group.create_task(deliver(event))
                await self._sleep(every)

    async def _evaluate(self) -> list[tuple[Event, list[Delivery]]]:
        try:
            async with asyncio.timeout(_PATIENCE):
                metrics = await metrics_of(self._measure)
        except TimeoutError:
            _logger.error("the metrics could not be measured: no answer within %g s", _PATIENCE)  # noqa: TRY400
            return []
        except Exception as error:  # noqa: BLE001 - alerts must survive any failure of the measurement
            _logger.error("the metrics could not be measured: %s: %s", type(error).__name__, error)  # noqa: TRY400
            return []
        now, ticks = self._clock(), self._timer()
        found = []
        for alert, state, deliveries in self._watched:
            try:
                event = state.step(alert.value_in(metrics), now, ticks)
            except InvalidInput as error:
                _logger.error("alert %r cannot be evaluated: %s", alert.name, error)  # noqa: TRY400
            else:
                if event is not None:
                    found.append((event, deliveries))
        return found


def _checked(alerts: Iterable[Alert]) -> list[Alert]:
    found: dict[str, Alert] = {}
    for alert in alerts:
        if not isinstance(alert, Alert):
            raise InvalidInput(f"alerts must be Alert objects, not {type(alert).__name__}")
        if alert.name in found:
            raise InvalidInput(f"two alerts are named {alert.name!r}: give one of them another name")
        found[alert.name] = alert
    return list(found.values())


def _deliveries(alert: Alert, deliver: Send | None, sleep: Callable[[float], Awaitable[object]]) -> list[Delivery]:
    senders = [sender(text, sleep) for text in alert.to]
    if deliver is not None:
        senders.append(("the function deliver", deliver))
    return [Delivery(name, send) for name, send in senders]

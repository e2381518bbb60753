"""`Delivery`: delivers the events of one alert to one destination, in order and independently of other deliveries."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Final

from turnlog import TurnlogError

from ._event import Event
from ._sender import Send

MAX_WAITING: Final = 100
"""The maximum number of events of one alert that wait for one destination.  With the default cooldown, waits are short:
an alert has at most two events in 5 minutes, and a delivery to a webhook takes at most 71 seconds."""

_logger = logging.getLogger("turnlog.alerts")


class Delivery:
    """Delivers the events of one alert to one destination, one at a time and in the order of the calls.

    Args:
        name: The name of the destination in messages.
        send: Delivers one event.
    """

    def __init__(self, name: str, send: Send) -> None:
        self._name = name
        self._send = send
        self._lock = asyncio.Lock()  # its waiters continue in order
        self._waiting = 0

    async def __call__(self, event: Event) -> None:
        """Deliver an event, or log an error."""
        if self._waiting >= MAX_WAITING:
            _logger.error("not delivered to %s, %d earlier events wait: %s", self._name, self._waiting, event)
            return
        self._waiting += 1
        try:
            async with self._lock:
                sent = self._send(event)
                if inspect.isawaitable(sent):
                    await sent
        except TurnlogError as error:
            _logger.error("not delivered to %s: %s: %s", self._name, error, event)  # noqa: TRY400 - no traceback needed
        except Exception:
            _logger.exception("not delivered to %s: %s", self._name, event)
        finally:
            self._waiting -= 1

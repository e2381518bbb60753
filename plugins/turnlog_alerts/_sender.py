"""Senders: the functions that deliver events to destinations."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from turnlog import PluginError

from ._destination import LOG, host_of, url_of
from ._event import Event

Send: TypeAlias = Callable[[Event], object]
"""A function that delivers an event.  Its return value is awaited if it is awaitable."""


def sender(destination: str, sleep: Callable[[float], Awaitable[object]]) -> tuple[str, Send]:
    """Return the name of a destination in messages, and its sender.

    Args:
        destination: A destination of an alert.
        sleep: Waits between two attempts.

    Raises:
        ConfigError: The environment variable of the destination is not set, or is not the URL of a webhook.
        PluginError: The destination is a webhook, and httpx2 is not installed.
    """
    if destination == LOG:
        return "the log", _log
    url = url_of(destination)
    try:
        from ._webhook import Webhook
    except ModuleNotFoundError as error:
        raise PluginError(
            f"a webhook needs {error.name}, which is not installed: pip install 'turnlog[alerts]'"
        ) from None
    return f"the webhook at {host_of(url, 'to')}", Webhook(url, sleep=sleep)


def _log(event: Event) -> None:
    # a resolved alert is also logged as a warning: without configuration, Python shows no lower level
    logging.getLogger("turnlog.alerts").warning("%s", event)

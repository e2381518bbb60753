"""`Webhook`: sends events as JSON in POST requests.

The requests use httpx2's transport and not its client.  The client logs the whole URL of each request, and the path or
query of a webhook's URL may be a secret.  The transport does not follow redirects, which could send the event to
another host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import httpx2

from turnlog import ConfigError, TurnlogError

from ._event import Event

TIMEOUT: Final = 10.0
"""Timeout of one attempt in seconds, including the connection, as for GitHub's webhooks
(docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks, "Respond within 10 seconds")."""

WAITS: Final = (1.0, 5.0, 25.0)
"""Seconds before the second, third and fourth attempt.  A delivery takes at most 71 seconds, longer than most restarts
of a receiver."""


class Webhook:
    """Delivers events to a URL.

    Args:
        url: The URL.
        timeout: Timeout of one attempt in seconds.
        sleep: Waits between two attempts.

    Raises:
        ConfigError: The URL is malformed.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        try:
            self._url = httpx2.URL(url)
        except httpx2.InvalidURL:
            # without the cause, which may show the URL
            raise ConfigError("to is a malformed URL of a webhook: check its host") from None
        self._timeout = timeout
        self._sleep = sleep

    async def __call__(self, event: Event) -> None:
        """Deliver an event.  Try again if the server does not answer within the timeout, or with status 429 or 5xx.

        Raises:
            TurnlogError: The event was not delivered.
        """
        failure = ""
        async with httpx2.AsyncHTTPTransport() as transport:
            for wait in (0.0, *WAITS):
                if wait:
                    await self._sleep(wait)
                try:
                    async with asyncio.timeout(self._timeout):
                        status = await self._post(transport, event)
                except Exception as error:  # noqa: BLE001 - the message of the error may show the URL
                    failure = f"with {type(error).__name__}"
                    continue
                if 200 <= status < 300:
                    return
                if 300 <= status < 400:
                    raise TurnlogError(f"the server redirects (status {status}): use the URL of the redirect")
                if status < 500 and status != 429:
                    raise TurnlogError(f"the server refused the event with status {status}: check the URL")
                failure = f"with status {status}"
        raise TurnlogError(f"{1 + len(WAITS)} attempts failed, the last one {failure}")

    async def _post(self, transport: httpx2.AsyncHTTPTransport, event: Event) -> int:
        request = httpx2.Request("POST", self._url, headers={"User-Agent": "turnlog"}, json=event.to_dict())
        response = await transport.handle_async_request(request)
        await response.aclose()  # without reading the body, which may be endless
        return response.status_code

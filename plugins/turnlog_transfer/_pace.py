"""`Pace`: a rate limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pace:
    """A rate limit: the amount per second does not exceed a limit on average.

    Args:
        rate: The limit; None: no limit.
        clock: Returns seconds.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    async def wait(self, amount: float) -> None:
        """Wait until the limit permits another amount."""
        if self._rate is None:
            return
        now = self._clock()
        if self._due > now:
            await self._sleep(self._due - now)
        self._due = max(self._due, now) + amount / self._rate

"""`Pace`: a bound on how much is done in a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pace:
    """Waits so that no more than a given amount is done in a second, on average.

    Args:
        rate: The amount; None: no bound.
        clock: Returns seconds.
        sleep: Waits for some seconds.
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
        """Wait until the amounts before this one are paid for."""
        if self._rate is None:
            return
        now = self._clock()
        if self._due > now:
            await self._sleep(self._due - now)
        self._due = max(self._due, now) + amount / self._rate

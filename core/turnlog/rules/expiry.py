"""`expiry_is_due`: the rule by which a use of a session moves its expiry."""

from __future__ import annotations

from typing import Final

from ..limits import SLIDE

_AGREE: Final = 1.0
"""Difference in seconds below which two clocks count as equal; it also covers the rounding of doubles."""


def expiry_is_due(ttl: float | None, expires_in: float | None, expiry_ttl: float | None = None) -> bool:
    """Return whether a use of a session must move its expiry: more than 1/8 of its time to live has passed.

    A use moves the expiry backwards only if the time to live has become shorter.  If more time is left than the time to
    live that the expiry was computed with, this clock is behind the clock that moved the expiry last.  Such a clock
    moves nothing, because the session would end early by all other clocks.

    Args:
        ttl: The time to live in seconds, of the session or of the backend; None or 0: the session never expires.
        expires_in: Seconds until the current expiry; None: the session does not expire now.
        expiry_ttl: The time to live in seconds that the expiry was computed with; None: unknown.  Then all clocks are
            assumed to be equal, and an expiry that is further away than `ttl` means a shorter time to live.
    """
    if not ttl:
        return expires_in is not None
    if expires_in is None:
        return True
    if expiry_ttl is None:
        return not ttl * SLIDE < expires_in <= ttl
    return expires_in <= latest_due(ttl, expiry_ttl)


def latest_due(ttl: float, expiry_ttl: float) -> float:
    """Return the number of seconds before an expiry from which a use moves it.

    Args:
        ttl: The session's time to live in seconds.
        expiry_ttl: The time to live in seconds that the expiry was computed with.
    """
    return ttl * SLIDE if expiry_ttl <= ttl else expiry_ttl + _AGREE

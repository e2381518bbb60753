"""`Serialize`: the settings for one request at a time on a session."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from ..errors import InvalidInput


class Serialize(msgspec.Struct, frozen=True, kw_only=True):
    """Settings for `Pipeline(concurrency=Serialize(...))`: one request at a time on a session, across processes.

    Attributes:
        lease: Seconds until other requests proceed after the process of a request has died or stopped.
        wait: Maximum seconds that a request waits for other requests; then it raises `Conflict`.

    Raises:
        InvalidInput: A value is not above 0.
    """

    lease: float = 15.0
    wait: float = 120.0

    def __post_init__(self) -> None:
        for name in ("lease", "wait"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < float("inf"):
                raise InvalidInput(f"Serialize({name}) must be a number of seconds above 0, not {value!r}")


Concurrency: TypeAlias = Literal["append", "retry", "raise", "serialize"] | Serialize
"""The behaviour of concurrent requests on one session, as in `Pipeline`."""

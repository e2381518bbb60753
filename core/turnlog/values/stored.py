"""What decoders of stored bytes accept, and what they raise.

Whoever can write to a database can also make the checksums fit.  So a decoder checks the types and bounds of what it
reads, and no forged value reaches a computation.
"""

from __future__ import annotations

from sys import float_info
from typing import Annotated, Final, TypeAlias

from msgspec import Meta, MsgspecError

from ..limits import MAX_NUMBER, MAX_TTL

UNREADABLE: Final = (MsgspecError, TypeError, ValueError, IndexError, OverflowError, RecursionError)
"""The errors of a decoder that was given anything else than what its encoder makes."""

Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
"""A number of turns, rounds or messages, or the place of one."""

Several: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
"""The same, where there is at least one."""

Whole: TypeAlias = Annotated[int, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
"""A sum of sizes in bytes: about right, so no session is refused for it."""

Finite: TypeAlias = Annotated[float, Meta(ge=-float_info.max, le=float_info.max)]
"""Neither NaN nor an infinity."""

Moment: TypeAlias = Annotated[float, Meta(ge=0, le=MAX_NUMBER)]
"""A time of a backend's clock, in seconds since 1970."""

OwnTTL: TypeAlias = Annotated[float, Meta(ge=0, le=MAX_TTL)]
"""A time to live, in seconds; 0: never expires."""

Token: TypeAlias = Annotated[bytes, Meta(max_length=16)]
"""Part of a version: an epoch of 16 bytes, or a chain value of 8."""

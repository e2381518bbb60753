"""The types that decoders of stored bytes accept, and the errors that they raise.

Anyone who can write to a database can also compute valid checksums.  Decoders therefore check the types and bounds of
all stored values, and no forged value reaches a computation.
"""

from __future__ import annotations

from sys import float_info
from typing import Annotated, Final, TypeAlias

from msgspec import Meta, MsgspecError

from ..limits import MAX_NUMBER, MAX_TTL

UNREADABLE: Final = (MsgspecError, TypeError, ValueError, IndexError, OverflowError, RecursionError)
"""The errors of a decoder for bytes that its encoder does not make."""

Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
"""A number of turns, rounds or messages, or the number of a turn."""

Several: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
"""A `Count` of at least one."""

Whole: TypeAlias = Annotated[int, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
"""A sum of sizes in bytes: an estimate, so that even a negative value does not make a session unreadable."""

Finite: TypeAlias = Annotated[float, Meta(ge=-float_info.max, le=float_info.max)]
"""A number that is neither NaN nor an infinity."""

Moment: TypeAlias = Annotated[float, Meta(ge=0, le=MAX_NUMBER)]
"""A time of a backend's clock, in seconds since 1970."""

OwnTTL: TypeAlias = Annotated[float, Meta(ge=0, le=MAX_TTL)]
"""A time to live, in seconds; 0: never expires."""

Token: TypeAlias = Annotated[bytes, Meta(max_length=16)]
"""Part of a version: an epoch of 16 bytes, or a chain value of 8."""

"""`Times`: the times of a session, for tools that move sessions between stores."""

from __future__ import annotations

from typing import Self

import msgspec

from ..errors import InvalidInput
from ..limits import MAX_NUMBER
from .checks import shown
from .session import SessionInfo

_set = msgspec.structs.force_setattr


class Times(msgspec.Struct, frozen=True, gc=False):
    """The times of a session in its original store.

    Attributes:
        created: Time of creation, in seconds since 1970.
        updated: Time of the last write or cut of turns, in seconds since 1970.
        expires: Time of the expiry if the session is not used, in seconds since 1970; None: a commit moves the expiry
            as usual.

    Raises:
        InvalidInput: A time is not a number over 0, up to 2**53 - 1.
    """

    created: float
    updated: float
    expires: float | None = None

    def __post_init__(self) -> None:
        _set(self, "created", _check_time(self.created, "created"))
        _set(self, "updated", _check_time(self.updated, "updated"))
        if self.expires is not None:
            _set(self, "expires", _check_time(self.expires, "expires"))

    @classmethod
    def of(cls, info: SessionInfo, now: float) -> Self:
        """Return the times of a session that was just read.

        Args:
            info: The session.
            now: The time of the read, in seconds since 1970.
        """
        return cls(info.created, info.updated, None if info.expires_in is None else now + info.expires_in)


def _check_time(value: object, name: str) -> float:
    if type(value) not in (int, float) or not 0 < value <= MAX_NUMBER:  # type: ignore[operator]
        raise InvalidInput(f"{name} must be a number of seconds since 1970, over 0, not {shown(value)}")
    return float(value)  # type: ignore[arg-type]

"""`send_again`: repeats a change with an unknown outcome until the backend answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from .backend import Backend
from .errors import AccessError, InvalidInput, OutcomeUnknown, Unavailable
from .event_loop import check_event_loop
from .values.change import Receipt

__all__ = ["DELAYS", "check_resendable", "send_again"]

DELAYS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
"""Seconds before each further attempt: about 25 in total, longer than most fail-overs."""


def check_resendable(error: object) -> None:
    """Refuse an argument of `Store.resend` that holds no change to send.

    Raises:
        InvalidInput: It is not an `OutcomeUnknown`, or has no change or no key.
    """
    if isinstance(error, OutcomeUnknown) and error.change is not None and error.key is not None:
        return
    what = "one without a change" if isinstance(error, OutcomeUnknown) else type(error).__name__
    raise InvalidInput(
        f"resend takes an OutcomeUnknown of a write, not {what}: call the method that failed again, with the same "
        "turn_id if it takes one"
    )


async def send_again(backend: Backend, error: OutcomeUnknown, delays: Sequence[float]) -> Receipt:
    """Commit the change of an error again until the backend answers, and return the receipt.

    Args:
        backend: The backend.
        error: The error, with its key and its change.
        delays: Seconds to wait before each attempt after the first.

    Raises:
        OutcomeUnknown: The same error, if no attempt was answered.
        Conflict: The change was not stored, and the session no longer meets its condition.
    """
    check_event_loop()
    from asyncio import sleep  # imported late, to keep `import turnlog` fast

    assert error.key is not None
    assert error.change is not None
    for delay in delays:
        with suppress(AccessError, OutcomeUnknown, Unavailable):
            return await backend.commit(error.key, error.change)
        await sleep(delay)
    try:
        return await backend.commit(error.key, error.change)
    except (AccessError, OutcomeUnknown, Unavailable) as failed:
        raise error from failed

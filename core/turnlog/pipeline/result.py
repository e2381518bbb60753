"""`Result`: the outcome of one execution of a pipeline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from ..errors import TurnlogError
from ..values.change import Receipt
from ..values.message import Message
from .model import Usage


class Result(msgspec.Struct, frozen=True):
    """The outcome of one execution.

    Attributes:
        response: The model's answer.
        messages: The messages of the last request to the model; empty if an earlier call has stored the turn.
        usage: The tokens of all requests of this execution, as far as the model reports them.
        error: The error that prevented the write of the turn, `AccessError`, `Unavailable`, `OutcomeUnknown` or
            `TooLarge`; None if the turn is stored.
    """

    response: Message
    messages: tuple[Message, ...]
    _receipt: Receipt | None
    usage: Usage | None = None
    error: TurnlogError | None = None
    _again: Callable[[], Awaitable[Receipt]] | None = None

    @property
    def receipt(self) -> Receipt:
        """The receipt of the turn.  If an earlier call has stored the turn, the receipt shows the session as it is now.

        Raises:
            TurnlogError: `error`, if the turn could not be stored.
        """
        if self._receipt is None:
            assert self.error is not None
            raise self.error
        return self._receipt

    async def save(self) -> Receipt:
        """Store the turn, if that has not succeeded yet, and return its receipt.  Repeated calls store it once.

        Raises:
            TurnlogError: The turn could not be stored this time either.
        """
        if self._receipt is not None:
            return self._receipt
        assert self._again is not None
        return await self._again()

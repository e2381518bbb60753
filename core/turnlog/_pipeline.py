"""The pipeline: load the history, choose the window, call the model, save the turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from ._change import Receipt
from ._session import Turn
from ._value import JSON, check_number
from .errors import InvalidInput, SessionNotFound
from .message import Message, as_message
from .store import Store

Model: TypeAlias = "Callable[..., Awaitable[Message]]"
"""What answers, any async callable: `await model(messages, **options) -> Message`, given a list of `Message`."""


class Window(msgspec.Struct, frozen=True):
    """How much of the history a model is given.

    Attributes:
        messages: At most so many messages, in whole turns, from the end; but never less than the last turn.  The system
            prompt and the new message come on top.

    Raises:
        InvalidInput: Not a number from 1.
    """

    messages: int = 20

    def __post_init__(self) -> None:
        check_number(self.messages, "Window(messages)", least=1)

    def cut(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        """The last turns that fit."""
        count, place = 0, len(turns)
        while place:
            count += len(turns[place - 1].messages)
            if count > self.messages and place < len(turns):
                break
            place -= 1
        return turns[place:]


class Result(msgspec.Struct, frozen=True):
    """What one execution did.

    Attributes:
        response: What the model answered.
        messages: What the model was given.
        receipt: Where the turn was stored.
    """

    response: Message
    messages: tuple[Message, ...]
    receipt: Receipt


class Pipeline:
    """A conversation that remembers: each execution adds one turn to a session.

    Args:
        store: Where the sessions are; an open one.
        model: What answers (`Model`).
        window: How much of the history it is given.
        system: The system prompt; without it, the session's metadata `system`.  It is sent first, and once: a system
            message that opens the history gives way to it.  It is not stored.
        options: Passed to the model by keyword.
    """

    def __init__(
        self,
        store: Store,
        model: Model,
        *,
        window: Window | None = None,
        system: str | None = None,
        options: Mapping[str, object] | None = None,
    ) -> None:
        if not callable(model):
            raise InvalidInput(f"model must be an async callable, not {type(model).__name__}")
        self.store = store
        self.model = model
        self.window = Window() if window is None else window
        self.system = system
        self.options = dict(options or {})

    async def execute(self, session_id: str, role: str, content: str | list[JSON]) -> Result:
        """Give the model what is new with the history before it, and store both it and the answer as one turn.

        Nothing is stored if the model raises, or if this is cancelled while it works.  Two executions at once on one
        session both store whole turns, in the order in which they end; neither sees the other's.

        Args:
            session_id: Which session; it is made if it is not there.
            role: Who speaks: `"user"`.
            content: What is said.

        Raises:
            InvalidInput: The message, or what the model answered, is not one.
        """
        message = Message.from_dict({"role": role, "content": content})
        messages = [*await self._context(session_id), message]
        response = as_message(await self.model(messages, **self.options), "the model's answer")
        receipt = await self.store.append(session_id, [message, response])
        return Result(response, tuple(messages), receipt)

    async def _context(self, session_id: str) -> list[Message]:
        try:
            session = await self.store.session(session_id, last=self.window.messages)
        except SessionNotFound:
            return [_system(self.system)] if self.system else []
        turns = self.window.cut(session.turns)
        history = [message for turn in turns for message in turn.messages]
        prompt = self.system or session.info.metadata.get("system")
        if not prompt or not isinstance(prompt, (str, list)):
            return history
        if turns and turns[0].number == 0 and history[0].role == "system":
            del history[0]
        return [_system(prompt), *history]


def _system(content: str | list[JSON]) -> Message:
    return Message.from_dict({"role": "system", "content": content})

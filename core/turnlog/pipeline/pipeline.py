"""The pipeline: load the history, choose the window, call the model, save the turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, TypeGuard

import msgspec

from ..errors import InvalidInput, SessionNotFound
from ..store import Store
from ..values.change import Receipt
from ..values.json_value import JSON, check_mapping, shown
from ..values.message import Message, MessageLike, as_message
from ..values.message import system as system_message
from ..values.session import Session
from .window import Window

Model: TypeAlias = Callable[..., Awaitable[MessageLike]]
"""What answers, any async callable: `await model(messages, **options)`, given a list of `Message`, answers one, or the
dictionary to make it from."""


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
    """A conversation that remembers: each execution adds one turn to a session, a message and the model's one answer.

    Where a model calls tools the application leads the conversation itself, with `Store.load` and `Store.append`
    (`docs/how-to/sessions.md`, round by round).

    Args:
        store: Where the sessions are; an open one.
        model: What answers (`Model`).
        window: How much of the history it is given.
        system: The system prompt, as text or as the provider's list of blocks; without it, the session's metadata
            `system`, if that is one of the two.  It is sent first, and once: the message of role `system` or
            `developer` that opens the session's first turn gives way to it.  It is not stored.
        options: Passed to the model by keyword.

    Raises:
        InvalidInput: An argument breaks a rule.
    """

    def __init__(
        self,
        store: Store,
        model: Model,
        *,
        window: Window | None = None,
        system: str | list[JSON] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> None:
        if not isinstance(store, Store):
            raise InvalidInput(f"store must be a Store, as open_store makes one, not {type(store).__name__}")
        if window is not None and not isinstance(window, Window):
            raise InvalidInput(f"window must be a Window such as Window(messages=20), not {shown(window)}")
        if options is not None:
            check_mapping(options, "options")
        if not callable(model):
            raise InvalidInput(f"model must be an async callable, not {type(model).__name__}")
        if system is not None and not _is_prompt(system):
            raise InvalidInput("system must be text or a list of blocks, and not empty: leave it out to send none")
        self.store = store
        self.model = model
        self.window = Window() if window is None else window
        self.system = None if system is None else system_message(system)
        self.options = dict(options or {})

    async def execute(self, session_id: str, role: str, content: str | list[JSON]) -> Result:
        """Give the model what is new with the history before it, and store both it and the answer as one turn.

        Nothing is stored if the model raises, or if this is cancelled while it works.  Two executions at once on one
        session both store whole turns, in the order in which they end; neither sees the other's.

        A session that was erased, or expired, while the model worked does not come back: the turn belongs to the
        session that was read, and is refused.

        Args:
            session_id: The session; it is made if it is not stored.
            role: Who speaks: `"user"`.
            content: The new message's content.

        Raises:
            Conflict: The session was erased, or expired, while the model worked; nothing was stored.
            SessionNotFound: It belongs to another owner than the store's view.
            InvalidInput: The message, or the model's answer, is not one.
        """
        if type(role) is not str or not role:
            raise InvalidInput(f"role must be a str such as 'user', not {shown(role)}")
        if not isinstance(content, (str, list)):
            raise InvalidInput(f"content must be a str, or a list of blocks, not {shown(content)}")
        message = Message.from_dict({"role": role, "content": content})
        session = await self._session(session_id)
        messages = (*self._context(session), message)
        answer = self.model(list(messages), **self.options)
        if not isinstance(answer, Awaitable):
            raise InvalidInput(
                f"model must be an async callable: it returned {type(answer).__name__}, nothing to await"
            )
        response = as_message(await answer, "the model's answer")
        bound = None if session is None else session.version.session
        receipt = await self.store.append(session_id, [message, response], expect=bound)
        return Result(response, messages, receipt)

    async def _session(self, session_id: str) -> Session | None:
        try:
            return await self.store.session(session_id, last=self.window.messages)
        except SessionNotFound:
            return None

    def _context(self, session: Session | None) -> list[Message]:
        if session is None:
            return [] if self.system is None else [self.system]
        prompt = self.system
        if prompt is None and session.info.metadata.encoded:
            prompt = _prompt_of(session)
        messages, most = session.messages, self.window.messages
        opens = bool(messages) and session.records[0].number == 0 and messages[0].role in ("system", "developer")
        drop = prompt is not None and opens  # the message that opens the session gives way to the prompt
        if len(messages) - drop > most:
            turns = session.turns
            if drop:
                turns = (msgspec.structs.replace(turns[0], messages=turns[0].messages[1:]), *turns[1:])
            messages = [message for turn in self.window.cut(turns) for message in turn.messages]
        elif drop:
            del messages[0]
        return messages if prompt is None else [prompt, *messages]


def _prompt_of(session: Session) -> Message | None:
    prompt = session.info.metadata.get("system")
    return system_message(prompt) if _is_prompt(prompt) else None


def _is_prompt(value: object) -> TypeGuard[str | list[JSON]]:
    return isinstance(value, (str, list)) and bool(value)

"""The pipeline: load the history, choose the window, call the model, save the turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias, TypeGuard

import msgspec

from ..errors import InvalidInput, SessionNotFound
from ..rules.header import is_met
from ..store import Store
from ..values.change import Receipt
from ..values.json_value import JSON, check_mapping, shown
from ..values.key import Key
from ..values.message import Message, MessageLike, as_message
from ..values.message import system as system_message
from ..values.session import Session
from ..values.turn import Turn
from .tokens import TokenCounter, estimate
from .window import Window

_OPENINGS: Final = 4_096
"""The most sessions whose stored system prompts a pipeline remembers."""

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
        window: How much of the history the model is given; None: `Window(messages=20)`.
        counter: Counts tokens, for `Window(tokens=...)`; by default an estimate.
        system: The system prompt, as text or as the provider's list of blocks; without it, the session's metadata
            `system`, if that is one of the two.  It is sent first, and once: the message of role `system` or
            `developer` that opens the session's first turn gives way to it.  It is not stored.  Without any prompt that
            message is sent, also when its turn lies before the window.
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
        counter: TokenCounter = estimate,
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
        self.counter = counter
        self._openings: dict[tuple[Key, bytes, int], Sequence[Message]] = {}
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
        session, turns = await self._read(session_id)
        messages = (*await self._context(session, turns), message)
        answer = self.model(list(messages), **self.options)
        if not isinstance(answer, Awaitable):
            raise InvalidInput(
                f"model must be an async callable: it returned {type(answer).__name__}, nothing to await"
            )
        response = as_message(await answer, "the model's answer")
        bound = None if session is None else session.version.session
        receipt = await self.store.append(session_id, [message, response], expect=bound)
        return Result(response, messages, receipt)

    async def _read(self, session_id: str) -> tuple[Session | None, Sequence[Turn]]:
        """Return the end of a session, and at least the turns that fill the window."""
        try:
            session = await self.store.session(session_id, last=self.window.first_read)
        except SessionNotFound:
            return None, ()
        turns: Sequence[Turn] = session.turns
        while turns and turns[0].number > session.info.first and not self.window.is_filled_by(turns, self._tokens):
            last = sum([len(turn.messages) for turn in turns])
            before = await self._read_before(session, turns[0].number, last)
            if not before or before[-1].number != turns[0].number - 1:
                break
            turns = (*before, *turns)
        return session, turns

    async def _read_before(self, session: Session, number: int, last: int) -> Sequence[Turn]:
        """Return turns before a number; none if another task has erased the session since: the commit will refuse."""
        try:
            found = await self.store.session(session.info.key.session, last=last, before=number, touch=False)
        except SessionNotFound:
            return ()
        return found.turns if is_met(found.version, session.version.session) else ()

    async def _context(self, session: Session | None, turns: Sequence[Turn]) -> list[Message]:
        """Return the system prompt and the turns of the window."""
        if session is None:
            return [] if self.system is None else [self.system]
        prompt: Sequence[Message] = ()
        if self.system is not None:
            prompt = (self.system,)
        elif session.info.metadata.encoded:
            prompt = _prompt_of(session)
        opens = bool(turns) and turns[0].number == 0
        opening = _opening(turns[0]) if opens else ()
        if opening:  # it is sent on top of the window, or gives way to the prompt
            turns = (msgspec.structs.replace(turns[0], messages=turns[0].messages[len(opening) :]), *turns[1:])
        if not prompt:
            prompt = opening if opens else await self._stored_prompt(session)
        window, messages = self.window, list(prompt)
        for turn in turns[window.start(turns, self._tokens) :]:
            messages += window.sound(turn)
        return messages

    async def _stored_prompt(self, session: Session) -> Sequence[Message]:
        """Return the system message that opens the session's first turn, which lies before the window."""
        info = session.info
        if info.first > 0 or not info.turns:
            return ()
        key = (info.key, info.version.epoch, info.version.generation)  # a cut may take the first turn away
        if key not in self._openings:
            first = await self._read_before(session, 1, 1)
            if len(self._openings) >= _OPENINGS:
                self._openings.clear()
            self._openings[key] = _opening(first[0]) if first else ()
        return self._openings[key]

    def _tokens(self, turn: Turn) -> int:
        return self.counter(turn.messages, model=None).tokens


def _prompt_of(session: Session) -> Sequence[Message]:
    prompt = session.info.metadata.get("system")
    return (system_message(prompt),) if _is_prompt(prompt) else ()


def _opening(turn: Turn) -> Sequence[Message]:
    """Return the system message that opens a session's first turn, if there is one."""
    return turn.messages[:1] if turn.messages[0].role in ("system", "developer") else ()


def _is_prompt(value: object) -> TypeGuard[str | list[JSON]]:
    return isinstance(value, (str, list)) and bool(value)

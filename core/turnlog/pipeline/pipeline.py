"""The pipeline: load the history, choose the window, call the model, save the turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Final, TypeAlias, TypeGuard

import msgspec

from ..errors import IdReused, InvalidInput, SessionNotFound
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
        messages: What the model was given; empty if an earlier call has stored the turn.
        receipt: The receipt of the turn.  If an earlier call has stored the turn, it shows the session as it is now.
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
        load_history: Decides for each message whether the history is read; None: always.  If it returns False, the
            model is given the system prompt that is set and the message alone.  The turn is stored in both cases.
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
        load_history: Callable[[Message], bool] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> None:
        if not isinstance(store, Store):
            raise InvalidInput(f"store must be a Store, as open_store makes one, not {type(store).__name__}")
        if window is not None and not isinstance(window, Window):
            raise InvalidInput(f"window must be a Window such as Window(messages=20), not {shown(window)}")
        if options is not None:
            check_mapping(options, "options")
        if load_history is not None and not callable(load_history):
            raise InvalidInput(f"load_history must be a function of a message, not {shown(load_history)}")
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
        self.load_history = load_history
        self.options = dict(options or {})

    async def execute(
        self,
        session_id: str,
        role: str,
        content: str | list[JSON],
        *,
        owner: str | None = None,
        turn_id: str | None = None,
        metadata: Mapping[str, JSON] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Result:
        """Give the model what is new with the history before it, and store both it and the answer as one turn.

        Nothing is stored if the model raises, or if this is cancelled while it works.  Two executions at once on one
        session both store whole turns, in the order in which they end; neither sees the other's.

        A session that was erased, or expired, while the model worked does not come back: the turn belongs to the
        session that was read, and is refused.

        With a `turn_id` this can be called again after any failure.  A turn that is stored is returned, and the model
        is not asked again.  If only rounds of it are stored, the model is given them, and its answer closes the turn.

        Args:
            session_id: The session; it is made if it is not stored.
            role: Who speaks: `"user"`.
            content: The new message's content.
            owner: The owner of a session that this makes; one that is stored must belong to this owner.
            turn_id: The turn's name, 1 to 200 bytes of UTF-8, such as the id of the request.
            metadata: Also merge this into the session's metadata.
            options: Passed to the model by keyword, on top of the pipeline's.

        Raises:
            Conflict: The session was erased, or expired, while the model worked; nothing was stored.  Or another turn
                has interrupted the one with this `turn_id`.
            SessionNotFound: It belongs to another owner.
            InvalidInput: The message, or the model's answer, is not one.
        """
        if type(role) is not str or not role:
            raise InvalidInput(f"role must be a str such as 'user', not {shown(role)}")
        if not isinstance(content, (str, list)):
            raise InvalidInput(f"content must be a str, or a list of blocks, not {shown(content)}")
        message = Message.from_dict({"role": role, "content": content})
        if options is not None:
            check_mapping(options, "options")
        options = {**self.options, **(options or {})}
        if turn_id is not None:
            return await self._execute_once(session_id, message, turn_id, owner, metadata, options)
        session, context = await self._history(session_id, message)
        messages = (*context, message)
        response = await self._answer(messages, options)
        bound = None if session is None else session.version.session
        receipt = await self.store.append(session_id, [message, response], expect=bound, owner=owner, metadata=metadata)
        return Result(response, messages, receipt)

    async def _execute_once(
        self,
        session_id: str,
        message: Message,
        turn_id: str,
        owner: str | None,
        metadata: Mapping[str, JSON] | None,
        options: Mapping[str, object],
    ) -> Result:
        """Execute a turn that may be stored already, whole or in part."""
        for again in (False, True):
            with nullcontext() if again else suppress(IdReused):  # another call has answered meanwhile
                async with self.store.write_turn(session_id, turn_id=turn_id, owner=owner, metadata=metadata) as turn:
                    if turn.finished:
                        assert turn.receipt is not None
                        return Result(turn.messages[-1], (), turn.receipt)
                    _, context = await self._history(session_id, message)
                    said = [] if turn.rounds else [message]
                    messages = (*context, *said)
                    response = await self._answer(messages, options)
                    receipt = await turn.add([*said, response], last=True)
                    return Result(response, messages, receipt)
        raise AssertionError

    async def _answer(self, messages: Sequence[Message], options: Mapping[str, object]) -> Message:
        answer = self.model(list(messages), **options)
        if not isinstance(answer, Awaitable):
            raise InvalidInput(
                f"model must be an async callable: it returned {type(answer).__name__}, nothing to await"
            )
        return as_message(await answer, "the model's answer")

    async def _history(self, session_id: str, message: Message) -> tuple[Session | None, list[Message]]:
        """Return the session, and what the model is given before the message."""
        if self.load_history is None or self.load_history(message):
            session, turns = await self._read(session_id)
            return session, await self._context(session, turns)
        try:
            session = await self.store.session(session_id, last=0)
        except SessionNotFound:
            session = None
        return session, list(self._prompt(session))

    def _prompt(self, session: Session | None) -> Sequence[Message]:
        """Return the system prompt that is set, for all sessions or for this one."""
        if self.system is not None:
            return (self.system,)
        if session is None or not session.info.metadata.encoded:
            return ()
        prompt = session.info.metadata.get("system")
        return (system_message(prompt),) if _is_prompt(prompt) else ()

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
        prompt = self._prompt(session)
        if session is None:
            return list(prompt)
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


def _opening(turn: Turn) -> Sequence[Message]:
    """Return the system message that opens a session's first turn, if there is one."""
    return turn.messages[:1] if turn.messages[0].role in ("system", "developer") else ()


def _is_prompt(value: object) -> TypeGuard[str | list[JSON]]:
    return isinstance(value, (str, list)) and bool(value)

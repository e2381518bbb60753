"""The context of a new message: the system prompt, a summary, and the turns of the window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeGuard

import msgspec

from ..errors import AccessError, CorruptRecord, HistoryRegressed, InvalidInput, SessionNotFound, Unavailable
from ..rules.conditions import is_met
from ..store import Store
from ..values.checks import shown
from ..values.json_value import JSON
from ..values.key import Key
from ..values.message import Message
from ..values.message import system as system_message
from ..values.session import Session
from ..values.turn import Turn
from .model import Usage
from .summaries import Summary, covers
from .tokens import TokenCount, TokenCounter
from .warn import warn
from .window import Window

_SESSIONS: Final = 4_096
"""Maximum number of sessions with a cached system prompt, a checked summary, or a correction of token counts."""

_TURNS: Final = 16_384
"""Maximum number of turns with a cached token count: about 4 MB, measured with tracemalloc."""

_MOST_OFF: Final = 4.0
"""Maximum factor of a correction: a larger factor means that the request held more than the messages."""

UNREADABLE: Final = (AccessError, Unavailable, CorruptRecord, HistoryRegressed)
"""The errors of a history that cannot be read."""


class History(NamedTuple):
    """A session that was read, and its messages for the model.

    Attributes:
        session: The session; None if it is not stored, or could not be read.
        messages: The system prompt, the summary and the turns of the window.
        failed: Whether the session could not be read.
        summary_due: Whether more than `Summaries.threshold` stored messages have no summary.
    """

    session: Session | None
    messages: list[Message]
    failed: bool = False
    summary_due: bool = False


class Context:
    """Reads the history before a new message, and selects the messages for the model.

    Args:
        window: The part of the history that the model receives.
        counter: Counts tokens.
        model: The name of the model, for the counter; None: unknown.
        system: The system prompt for all sessions; None: the prompt of each session.
        load_history: Decides for each message whether the history is read; None: always.
        threshold: `Summaries.threshold`; None: no summaries.
        empty_on_error: Whether a session that cannot be read counts as empty.
        counts: Counts histories that could not be read (`failed_loads`) and last turns that are larger than the window
            (`oversize_turns`).
    """

    def __init__(
        self,
        window: Window,
        counter: TokenCounter,
        *,
        model: str | None,
        system: Message | None,
        load_history: Callable[[Message], bool] | None,
        threshold: int | None,
        empty_on_error: bool,
        counts: Counter[str],
    ) -> None:
        self._window = window
        self._counter = counter
        self._model = model
        self._system = system
        self._load_history = load_history
        self._threshold = threshold
        self.empty_on_error = empty_on_error
        self._counts = counts
        from ..runtime import BoundedMap  # imported late, to keep `import turnlog` fast

        self._openings: BoundedMap[tuple[Key, bytes, int], Sequence[Message]] = BoundedMap(_SESSIONS)
        self._covered: BoundedMap[tuple[Key, bytes, int, int, str], bool] = BoundedMap(_SESSIONS)
        self._factors: BoundedMap[Key, float] = BoundedMap(_SESSIONS)
        self._tokens: BoundedMap[tuple[Key, bytes, str, int], int] = BoundedMap(_TURNS)

    async def read(self, store: Store, session_id: str, message: Message, *, own_turn: str | None = None) -> History:
        """Return the history before a message.

        Args:
            store: The store, or a view of it.
            session_id: The session.
            message: The new message.
            own_turn: The id of the turn that the message begins; its stored rounds are left out.

        Raises:
            TurnlogError: The session cannot be read, and `empty_on_error` is False.
        """
        try:
            return await self._history(store, session_id, message, own_turn)
        except SessionNotFound:
            return History(None, [*self._prompt(None)])
        except UNREADABLE as error:
            if not self.empty_on_error:
                raise
            self._counts["failed_loads"] += 1
            warn("the history of session %r could not be read, the model receives none: %s", session_id, error)
            return History(None, [*self._prompt(None)], failed=True)

    async def _history(self, store: Store, session_id: str, message: Message, own_turn: str | None) -> History:
        if self._load_history is not None and not self._load_history(message):
            session = await store.session(session_id, last=0)
            return History(session, [*self._prompt(session)])
        session = await store.session(session_id, last=self._window.first_read)
        summary = Summary.of(session.info)
        if summary is not None and not await self._covers(store, session, summary):
            summary = None
        until = session.info.first if summary is None else max(summary.until, session.info.first)
        turns = await self._turns(store, session, until)
        due = self._is_due(turns, until)
        if summary is not None:
            turns = [turn for turn in turns if turn.number >= until]
        if own_turn is not None:
            turns = [turn for turn in turns if turn.id != own_turn]
        return History(session, await self._messages(store, session, turns, summary), summary_due=due)

    def _is_due(self, turns: Sequence[Turn], until: int) -> bool:
        if self._threshold is None or not turns:
            return False
        uncovered = sum([len(turn.messages) for turn in turns if turn.number >= until])
        return turns[0].number > until or uncovered > self._threshold

    async def _turns(self, store: Store, session: Session, until: int) -> Sequence[Turn]:
        """Return the turns that were read, and the earlier turns that fit the window and have no summary."""
        turns: Sequence[Turn] = session.turns
        tokens = self._tokens_of(session)
        while turns and turns[0].number > until and not self._window.is_filled_by(turns, tokens):
            last = sum([len(turn.messages) for turn in turns])
            before = await _read_before(store, session, turns[0].number, last)
            if not before or before[-1].number != turns[0].number - 1:
                break
            turns = (*before, *turns)
        return turns

    async def _covers(self, store: Store, session: Session, summary: Summary) -> bool:
        """Return whether the turns that a summary covers are unchanged since it was made."""
        info, version = session.info, session.version
        if summary.is_of_state(version):
            return True
        place = (info.key, version.epoch, version.generation, summary.until, summary.turn)
        covered = self._covered.get(place)  # a cut raises the generation
        if covered is None:
            self._covered[place] = covered = await covers(store, info, summary)
        return covered

    async def _messages(
        self, store: Store, session: Session, turns: Sequence[Turn], summary: Summary | None
    ) -> list[Message]:
        """Return the system prompt, the summary and the turns of the window."""
        prompt = self._prompt(session)
        opens = bool(turns) and turns[0].number == 0
        opening = _opening(turns[0]) if opens else ()
        if opening:  # the window does not count it, and a prompt replaces it
            turns = (msgspec.structs.replace(turns[0], messages=turns[0].messages[len(opening) :]), *turns[1:])
        if not prompt:
            prompt = opening if opens else await self._stored_prompt(store, session)
        messages = list(prompt)
        if summary is not None:
            messages.append(summary.message)
        tokens = self._tokens_of(session)
        if turns and (oversize := self._window.oversize_of(turns[-1], tokens)):
            self._counts["oversize_turns"] += 1
            warn("session %r: %s: it is sent whole", session.info.key.session, oversize)
        return messages + self._window.messages_of(turns, tokens)

    def _prompt(self, session: Session | None) -> Sequence[Message]:
        """Return the system prompt that is set for all sessions or for this session."""
        if self._system is not None:
            return (self._system,)
        if session is None or not session.info.metadata.encoded:
            return ()
        prompt = session.info.metadata.get("system")
        return (system_message(prompt),) if is_prompt(prompt) else ()

    async def _stored_prompt(self, store: Store, session: Session) -> Sequence[Message]:
        """Return the system message that opens the session's first turn, if the window does not include that turn."""
        info = session.info
        if info.first > 0 or not info.turns:
            return ()
        place = (info.key, info.version.epoch, info.version.generation)  # a cut may remove the first turn
        opening = self._openings.get(place)
        if opening is None:
            first = await _read_before(store, session, 1, 1)
            self._openings[place] = opening = _opening(first[0]) if first else ()
        return opening

    # ---------------------------------------------------------------------------------------------------------- tokens

    def _tokens_of(self, session: Session) -> Callable[[Turn], int]:
        """Return a function that counts the tokens of a turn of this session."""

        def tokens(turn: Turn) -> int:
            place = (key, epoch, turn.id, len(turn.messages))  # another session may have a turn with the same id
            count = self._tokens.get(place)
            if count is None:
                self._tokens[place] = count = self._counted(turn.messages).tokens
            return count if factor is None else round(count * factor)

        key, epoch = session.info.key, session.version.epoch
        factor = self._factors.get(key)
        return tokens

    def learn(self, key: Key, messages: Sequence[Message], usage: Usage) -> None:
        """Correct the token estimates of a session by a count of the provider.

        Args:
            key: The session.
            messages: The messages of a request.
            usage: The usage that the provider reported for the request.
        """
        if self._window.tokens is None:
            return
        count = self._counted(messages)
        if not count.exact and count.tokens and usage.input:
            self._factors[key] = min(max(usage.input / count.tokens, 1 / _MOST_OFF), _MOST_OFF)

    def _counted(self, messages: Sequence[Message]) -> TokenCount:
        count = self._counter(messages, model=self._model)
        if not isinstance(count, TokenCount):
            raise InvalidInput(f"a token counter must return TokenCount(tokens, exact), not {shown(count)}")
        return count


async def _read_before(store: Store, session: Session, number: int, last: int) -> Sequence[Turn]:
    """Return turns before a number.

    Another task may have erased the session since it was read.  Then return no turns: the commit raises `Conflict`.
    """
    try:
        found = await store.session(session.info.key.session, last=last, before=number, touch=False)
    except SessionNotFound:
        return ()
    return found.turns if is_met(found.version, session.version.session) else ()


def is_prompt(value: object) -> TypeGuard[str | list[JSON]]:
    """Return whether a value is a system prompt: a text or a list of blocks, not empty."""
    return isinstance(value, (str, list)) and bool(value)


def _opening(turn: Turn) -> Sequence[Message]:
    """Return the system message that opens a session's first turn, if it has one."""
    return turn.messages[:1] if turn.messages[0].role in ("system", "developer") else ()

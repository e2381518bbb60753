"""`TurnWriter`: writes one turn in rounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Self

from .errors import Conflict, InvalidInput, SessionNotFound
from .limits import MAX_TURN_ID_BYTES, REMEMBERED_CHANGES
from .values.change import Expect, Receipt, check_expect
from .values.ids import check_id, new_id
from .values.json_value import JSON
from .values.message import Message, MessageLike, as_turn
from .values.metadata import Metadata
from .values.session import Session
from .values.turn import Turn

__all__ = ["TurnWriter"]


class TurnWriter:
    """A writer of one turn in rounds; `Store.write_turn` makes it for `async with`.

    Each round is stored before `add` returns.  When the block ends, the turn is closed.  When the block raises, the
    turn stays open: a writer with the same turn id continues it, until another turn begins in the session.

    Args:
        read: `Store.session` of the session.
        append: `Store.append` to the session, with the owner.
        turn_id: The turn's id; None: a new one.
        metadata: Merged into the session's metadata with the turn's first round.
        expect: The condition on the session when the turn's first round is stored.

    Attributes:
        turn_id: The turn's id.
        rounds: The messages of each stored round, the rounds of earlier writers included.
        finished: Whether the turn is closed, so that no round can be added.
        receipt: The receipt of the last stored round; None if no round is stored.  If an earlier writer has stored the
            round, the receipt shows the session as it was when the block began.
    """

    def __init__(
        self,
        read: Callable[..., Awaitable[Session]],
        append: Callable[..., Awaitable[Receipt]],
        *,
        turn_id: str | None,
        metadata: Mapping[str, JSON] | None,
        expect: Expect,
    ) -> None:
        check_expect(expect)
        self.turn_id: str = new_id() if turn_id is None else check_id(turn_id, "turn id", limit=MAX_TURN_ID_BYTES)
        self.rounds: tuple[tuple[Message, ...], ...] = ()
        self.finished: bool = False
        self.receipt: Receipt | None = None
        self._read = read
        self._append = append
        self._may_be_stored = turn_id is not None
        self._metadata = None if metadata is None else Metadata.of(metadata)
        self._expect = expect
        self._is_ready = False

    @property
    def messages(self) -> list[Message]:
        """The messages of the turn so far; the list is the caller's own."""
        return [message for one in self.rounds for message in one]

    async def __aenter__(self) -> Self:
        return await self.find()

    def begin(self) -> None:
        """Begin the turn without a read, for a caller that knows that no round is stored and that uses no block."""
        self._is_ready = True

    async def find(self) -> Self:
        """Find the rounds that an earlier writer has stored; entering the block calls this.

        Raises:
            Conflict: Another turn has interrupted this one.
        """
        self.begin()
        try:
            session = await self._read(last=int(self._may_be_stored))
        except SessionNotFound:
            return self
        found = await self._find(session)
        if found is None:
            if self._expect is None:
                self._expect = session.version.session
            return self
        self._expect = session.version.session
        turn, self.rounds = found
        self.receipt = Receipt.of(session.info, turn.number)
        self.finished = not turn.open
        if turn.interrupted:
            raise Conflict(
                f"turn {self.turn_id!r} of session {session.info.key} cannot continue: another turn has begun since; "
                "write the rest under another turn id",
                actual=session.version,
            )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None and self.rounds and not self.finished:
            await self._add((), last=True)

    async def add(self, messages: Sequence[MessageLike], *, last: bool = False, expect: Expect = None) -> Receipt:
        """Store a round.  After a failure the same round can be sent again; it is stored once.

        Args:
            messages: A list or tuple of messages or their dictionaries, at least one.
            last: Whether this round closes the turn, which saves a write at the end of the block.
            expect: The condition on the session for this round; None: the writer's.

        Raises:
            Conflict: The session does not meet the condition, was erased, or another turn has begun in it.
            IdReused: Another writer has stored another round in its place.
            InvalidInput: An argument breaks a rule, the turn is closed, or the writer is used outside `async with`.
            TooLarge: A limit would be passed.
            Unavailable: The store could not be reached; nothing was stored.
            OutcomeUnknown: The answer was lost; the same round can be sent again.
        """
        if not self._is_ready:
            raise InvalidInput(
                "add was called outside the block of the turn: call it inside the 'with' block of "
                "store.write_turn(...), whose end closes the turn"
            )
        if self.finished:
            raise InvalidInput(
                f"turn {self.turn_id!r} is closed: pass last=True only with the last messages of a turn, and write "
                "further messages as a new turn"
            )
        checked = as_turn(messages)
        if not checked:
            raise InvalidInput("a round needs at least one message: pass a list such as [assistant('Hello')]")
        return await self._add(checked, last=last, expect=expect)

    async def _add(self, messages: tuple[Message, ...], *, last: bool, expect: Expect = None) -> Receipt:
        part = len(self.rounds)
        metadata = None if part else self._metadata
        receipt = await self._append(
            messages,
            turn_id=self.turn_id,
            part=part,
            open=not last,
            metadata=metadata,
            expect=self._expect if expect is None else expect,
        )
        self._expect = receipt.version.session
        self.receipt, self.finished = receipt, last
        if messages:
            self.rounds = (*self.rounds, messages)
        return receipt

    async def _find(self, session: Session) -> tuple[Turn, tuple[tuple[Message, ...], ...]] | None:
        """Return the turn and its rounds; None if it is not among the turns whose change ids the session remembers."""
        oldest = max(session.info.first, session.info.turns - REMEMBERED_CHANGES)
        while session.turns:
            for turn in session.turns:
                if turn.id == self.turn_id:
                    parts = [part for record in session.records for part in record.split()]
                    return turn, tuple([part.messages for part in parts if part.number == turn.number and part.count])
            first = session.turns[0].number
            if first <= oldest:
                break
            session = await self._read(last=2 * REMEMBERED_CHANGES, before=first, touch=False)
        return None

"""One execution of a pipeline: read the history, ask the model, run its tools, store the turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..errors import (
    AccessError,
    Conflict,
    IdReused,
    InvalidInput,
    ModelError,
    OutcomeUnknown,
    TooLarge,
    TurnlogError,
    Unavailable,
)
from ..event_loop import check_event_loop
from ..rules.conditions import is_met
from ..rules.dialects import outline_of
from ..rules.header import SURE_TO_FIT
from ..store import Store
from ..values.change import ABSENT, Expect, Receipt
from ..values.json_value import JSON
from ..values.message import Message, assistant
from ..values.metadata import Metadata
from ..values.record import Record
from ..values.version import Version
from .concurrency import Concurrency, Serialize
from .context import UNREADABLE, Context, History
from .finish import finish
from .model import Model, Reply, Usage, ask
from .result import Result
from .surrogates import paired
from .tool_results import add_results, calls_of
from .tools import Tool, run_calls
from .warn import warn

if TYPE_CHECKING:
    from .lease import Lease

_T = TypeVar("_T")


class Setup(NamedTuple):
    """The settings that all executions of a pipeline share."""

    store: Store
    model: Model
    context: Context
    tools: Mapping[str, Tool]
    max_rounds: int
    concurrency: Concurrency
    keep_question: bool
    keep_cut: bool
    counts: Counter[str]


class Execution:
    """One execution of a pipeline, which adds one turn: read all `pieces()`, then `result`.

    Args:
        setup: The settings that all executions of the pipeline share.
        session_id: The session.
        message: The new message.
        owner: The owner, as in `Store.append`.
        turn_id: The turn's id; None: a new one.
        metadata: Merged into the session's metadata.
        options: Passed to the model.
        streamed: Whether to yield pieces while the model answers.

    Attributes:
        result: The outcome; None until all pieces have been yielded.
        history: The history that was read; None if an earlier call has stored the turn.
    """

    def __init__(
        self,
        setup: Setup,
        session_id: str,
        message: Message,
        *,
        owner: str | None,
        turn_id: str | None,
        metadata: Mapping[str, JSON] | None,
        options: Mapping[str, object],
        streamed: bool,
    ) -> None:
        self.result: Result | None = None
        self.history: History | None = None
        self._setup = setup
        self._store = setup.store if owner is None else setup.store.for_owner(owner)
        self._session_id = session_id
        self._message = message
        self._metadata = None if metadata is None else Metadata.of(metadata)
        self._turn = setup.store.write_turn(session_id, turn_id=turn_id, owner=owner, metadata=self._metadata)
        self._turn.begin()
        self._may_be_stored = turn_id is not None
        self._options = {**options, "tools": [*setup.tools.values()]} if setup.tools else options
        self._streamed = streamed
        self._lease: Lease | None = None
        self._expect: Expect = None
        self._texts: list[str] = []  # the pieces of the present answer
        self._usage: Usage | None = None

    @property
    def rounds(self) -> int:
        """Number of stored rounds that this execution has found or written."""
        return len(self._turn.rounds)

    def pieces(self) -> AsyncGenerator[str, None]:
        """Return a generator that yields the model's text while it arrives, and then stores the turn."""
        how = self._setup.concurrency
        if how == "serialize":
            how = Serialize()
        return self._serialized(how) if isinstance(how, Serialize) else self._pieces()

    async def _serialized(self, how: Serialize) -> AsyncGenerator[str, None]:
        from .lease import Lease  # imported late, to keep `import turnlog` fast

        lease = Lease(self._store, self._session_id, seconds=how.lease, wait=how.wait)
        async with lease as self._lease, aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                yield piece

    def may_try_again(self, error: Conflict) -> bool:
        """Return whether another execution may succeed after a conflict.

        It may if other turns were stored in the same session, and no round of this turn is stored.
        """
        seen, now = self._expect, error.actual
        if self._turn.rounds or not isinstance(now, Version):
            return False
        return seen is ABSENT or (isinstance(seen, Version) and is_met(now, seen.session))

    async def _pieces(self) -> AsyncGenerator[str, None]:
        check_event_loop()
        turn = self._turn
        if self._may_be_stored:
            await self._find()
            if turn.rounds and turn.messages[0] != self._message:
                raise IdReused(
                    f"turn id {turn.turn_id!r} is used for another message in session {self._session_id!r}: "
                    "give each message a new turn id"
                )
            if turn.finished:
                assert turn.receipt is not None
                self.result = Result(turn.messages[-1], (), turn.receipt)
                if self._streamed and (text := self.result.response.text):
                    yield text
                return
        self.history = await self._setup.context.read(
            self._store, self._session_id, self._message, own_turn=turn.turn_id if turn.rounds else None
        )
        if not turn.rounds:
            self._check_size(self.history)
        self._expect = self._condition(self.history)
        messages = [*self.history.messages, *(self._stored() if turn.rounds else (self._message,))]
        while True:
            try:
                async with aclosing(ask(self._setup.model, messages, self._options, streamed=self._streamed)) as answer:
                    async for piece in answer:
                        if isinstance(piece, Reply):
                            reply = piece
                        else:
                            self._texts.append(piece)
                            if self._streamed:
                                yield piece
                said, done = await self._round(messages, reply)
            except BaseException as error:
                if isinstance(error, InvalidInput) and error.answer is not None:
                    error.question = self._message
                await self._keep(error)
                raise
            self._texts = []
            new = said if turn.rounds else [self._message, *said]
            if done:
                self.result = await self._whole(self._stored_as(messages, said[0], new))
                return
            try:
                await self._whole(self._add(new))
            except TooLarge as error:
                error.question, error.answer = self._message, said[0]
                raise
            messages = [*messages, *said]

    def _check_size(self, history: History) -> None:
        """Refuse a question or metadata that cannot be stored, before the model is called.

        Raises:
            TooLarge: The question is larger than a record, or the session would have too much metadata.
        """
        question = Record.of((self._message,), id=self._turn.turn_id, time=0.0)
        if question.size > SURE_TO_FIT:
            _ = question.payload  # encodes it, which raises TooLarge over the limit
        if self._metadata is not None and history.session is not None:
            history.session.info.metadata.merge(self._metadata)

    async def _whole(self, write: Coroutine[Any, Any, _T]) -> _T:
        """Write a round.

        If a stream is cancelled during the write, the write still completes: the text has been shown already.
        """
        if not self._streamed:
            return await write
        try:
            return await finish(write)
        except IdReused as error:
            raise Conflict(
                f"another request with turn id {self._turn.turn_id!r} was stored first: "
                "call again with this turn id for its answer"
            ) from error

    async def _find(self) -> None:
        """Find the rounds of this turn that an earlier call has stored."""
        try:
            await self._turn.find()
        except UNREADABLE:
            if not self._setup.context.empty_on_error:
                raise

    def _stored(self) -> list[Message]:
        """Return the stored messages of this turn, without the incomplete answer of a cut stream."""
        messages = self._turn.messages
        while len(messages) > 1 and (last := outline_of(messages[-1])).speaker == "assistant" and not last.calls:
            messages.pop()
        return messages

    def _condition(self, history: History) -> Expect:
        """Return the condition under which the turn's first round is stored."""
        if history.failed:
            return None
        version = None if history.session is None else history.session.version
        if self._lease is not None:
            if version is None:
                raise Conflict(f"session {self._session_id!r} was erased, or has expired, while its lease was held")
            self._lease.bind(version)
            return version
        if self._setup.concurrency == "append":
            return None if version is None else version.session
        return ABSENT if version is None else version

    async def _round(self, messages: Sequence[Message], reply: Reply) -> tuple[list[Message], bool]:
        """Return the model's answer with the results of its tool calls, and whether it ends the turn."""
        setup, answer = self._setup, reply.message
        assert isinstance(answer, Message)
        if reply.usage is not None:
            self._usage = reply.usage if self._usage is None else self._usage + reply.usage
            if self.history is not None and self.history.session is not None:
                setup.context.learn(self.history.session.info.key, messages, reply.usage)
        calls = calls_of(answer)
        if not calls:
            return [answer], True
        if not setup.tools:
            raise ModelError(
                f"the model called {calls[0].name!r}, but the pipeline has no tools: pass Pipeline(tools=[...])"
            )
        if sum(map(_holds_call, self._turn.rounds)) >= setup.max_rounds:
            raise ModelError(
                f"the model called {calls[0].name!r} after {setup.max_rounds} rounds of calls: the finished rounds are "
                f"stored under turn {self._turn.turn_id!r}; to continue, call the pipeline again "
                "with this turn_id= and a greater max_rounds"
            )
        said = [answer]
        add_results(said, await run_calls(calls, setup.tools))
        return said, False

    async def _add(self, messages: Sequence[Message], *, last: bool = False) -> Receipt:
        """Store a round."""
        turn, lease = self._turn, self._lease
        if lease is not None:
            return await lease.commit(lambda expect: turn.add(messages, last=last, expect=expect))
        return await self._add_once(messages, last=last)

    async def _add_once(self, messages: Sequence[Message], *, last: bool) -> Receipt:
        """Store a round without a lease; `_expect` is the condition for the first round."""
        turn = self._turn
        return await turn.add(messages, last=last, expect=None if turn.rounds else self._expect)

    async def _stored_as(self, messages: Sequence[Message], answer: Message, said: Sequence[Message]) -> Result:
        """Store the last round, and return the result.  If the store fails, the result still holds the answer."""
        try:
            receipt = await self._add(said, last=True)
        except (AccessError, Unavailable, OutcomeUnknown, TooLarge) as error:
            self._setup.counts["failed_saves"] += 1
            if isinstance(error, TooLarge):
                error.question, error.answer = self._message, answer
            warn("the answer in session %r could not be stored: %s", self._session_id, error)

            if self._lease is not None:
                self._lease.keep_session()

            async def again() -> Receipt:
                turn = self._turn
                if turn.finished:
                    assert turn.receipt is not None
                    return turn.receipt
                return await self._add_once(said, last=True)  # the lease has ended by then

            return Result(answer, tuple(messages), None, self._usage, error, again)
        return Result(answer, tuple(messages), receipt, self._usage)

    async def _keep(self, error: BaseException) -> None:
        """Store the question and the text so far after a failure or a cut, and leave the turn open."""
        if isinstance(error, ModelError):
            self._texts = []
        cut = self._streamed and (bool(self._texts) or not isinstance(error, Exception))
        if cut:
            self._setup.counts["cut_streams"] += 1
        if not (self._setup.keep_cut if cut else self._setup.keep_question and isinstance(error, Exception)):
            return
        said = [] if self._turn.rounds else [self._message]
        if self._texts:
            said.append(assistant(paired("".join(self._texts))))
        if said:
            await finish(self._kept(said))

    async def _kept(self, said: Sequence[Message]) -> None:
        try:
            await self._add(said)
        except TurnlogError as error:
            self._setup.counts["failed_saves"] += 1
            warn("an unfinished turn of session %r could not be stored: %s", self._session_id, error)


def _holds_call(messages: Sequence[Message]) -> bool:
    return any(outline_of(message).calls for message in messages)

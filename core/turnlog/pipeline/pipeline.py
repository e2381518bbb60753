"""The pipeline: load the history, choose the window, call the model, run its tools, save the turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from inspect import iscoroutinefunction
from typing import Any, Final, Literal

from ..errors import Conflict, IdReused, InvalidInput
from ..store import Store
from ..values.json_value import JSON, check_mapping, check_number, shown
from ..values.message import Message
from ..values.message import system as system_message
from .context import Context, is_prompt, warn
from .execution import Concurrency, Execution, Result, Serialize, Setup
from .model import Model
from .stream import Stream
from .summaries import Summaries, Summary, summarize
from .tokens import TokenCounter, estimate
from .tools import Tool, tools_by_name
from .window import Window

_TRIES: Final = 100
"""How often a model is asked anew, with `concurrency="retry"`, because other requests were first."""

_ROLES: Final = ("user", "human", "system", "developer")
"""The roles of new messages: the user's in all dialects, and those of an application that reports an event."""

_MODES: Final = ("append", "retry", "raise", "serialize")


class Pipeline:
    """A conversation that remembers: each execution adds one turn to a session, a message and what answers it.

    Args:
        store: Where the sessions are; an open one.
        model: What answers (`Model`), whole or streamed.
        window: How much of the history the model is given; None: `Window(messages=20)`.
        counter: Counts tokens, for `Window(tokens=...)`; by default an estimate.  If the model reports its usage,
            estimates are corrected by it.  It is told the option `model`, if that is a text.
        system: The system prompt, as text or as the provider's list of blocks; without it, the session's metadata
            `system`, if that is one of the two.  It is sent first, and once: the message of role `system` or
            `developer` that opens the session's first turn gives way to it.  It is not stored.  Without any prompt that
            message is sent, also when its turn lies before the window.
        load_history: Decides for each message whether the history is read; None: always.  If it returns False, the
            model is given the system prompt that is set and the message alone.  The turn is stored in both cases.
        tools: Functions that the model may call, sync or async.  Each round, an answer with calls and their results, is
            stored before the model is asked again.
        max_rounds: The most rounds of calls in one turn; then `ModelError`.
        summaries: When and how old turns are summarised; None: never.
        concurrency: What happens to several requests at once on one session.  `append`: each stores its turn, and does
            not see the others.  `retry`: a request before which another was stored asks the model again.  `raise`: it
            raises `Conflict`.  `serialize`, or `Serialize(...)` with other times: one request at a time, across
            processes.
        on_error: If the model fails before it says anything: store nothing (`discard`), or the question (`keep`).
        on_cut: If a stream is left, cancelled or fails: store what was said (`keep`), or nothing (`discard`).
        on_load_error: If the history cannot be read: raise, or go on with an empty one, which is logged and counted
            (`empty`).  The turn is then stored without a condition on the session.
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
        tools: Sequence[Callable[..., Any] | Tool] = (),
        max_rounds: int = 10,
        summaries: Summaries | None = None,
        concurrency: Concurrency = "append",
        on_error: Literal["discard", "keep"] = "discard",
        on_cut: Literal["keep", "discard"] = "keep",
        on_load_error: Literal["raise", "empty"] = "raise",
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
        if iscoroutinefunction(load_history):
            raise InvalidInput("load_history must be a function of a message, not an async one")
        if isinstance(model, type):
            raise InvalidInput(f"model must be an object, not a class: write {model.__name__}()")
        if not callable(model):
            raise InvalidInput(
                f"model must be an async callable, not {shown(model)}; turnlog.config.find_model finds one by its name"
            )
        if not callable(counter):
            raise InvalidInput(
                f"counter must be a token counter, not {shown(counter)}; "
                "turnlog.config.find_token_counter finds one by its name"
            )
        if system is not None and not is_prompt(system):
            raise InvalidInput("system must be text or a list of blocks, and not empty: leave it out to send none")
        if summaries is not None and not isinstance(summaries, Summaries):
            raise InvalidInput(f"summaries must be Summaries(model=...), not {shown(summaries)}")
        if not isinstance(concurrency, Serialize):
            _check_word(concurrency, "concurrency", _MODES, ", or Serialize(...)")
        _check_word(on_error, "on_error", ("discard", "keep"))
        _check_word(on_cut, "on_cut", ("keep", "discard"))
        _check_word(on_load_error, "on_load_error", ("raise", "empty"))
        check_number(max_rounds, "max_rounds", least=1)
        self.store = store
        self.model = model
        self.window = Window() if window is None else window
        self.summaries = summaries
        self.options = dict(options or {})
        self._counts: Counter[str] = Counter()
        context = Context(
            self.window,
            counter,
            model=name if isinstance(name := self.options.get("model"), str) else None,
            system=None if system is None else system_message(system),
            load_history=load_history,
            threshold=None if summaries is None else summaries.threshold,
            empty_on_error=on_load_error == "empty",
            counts=self._counts,
        )
        self._setup = Setup(
            store,
            model,
            context,
            tools_by_name(tools),
            max_rounds,
            concurrency,
            on_error == "keep",
            on_cut == "keep",
            self._counts,
        )

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

        Nothing is stored if the model raises, or if this is cancelled while it works, apart from finished rounds of
        tool calls.

        A session that was erased, or expired, while the model worked does not come back: the turn belongs to the
        session that was read, and is refused.

        With a `turn_id` this can be called again after any failure.  A turn that is stored is returned, and the model
        is not asked again.  If only rounds of it are stored, the model is given them, and goes on from there.

        Args:
            session_id: The session; it is made if it is not stored.
            role: Who speaks: `"user"`; or `human`, `system` or `developer`.
            content: The new message's content.
            owner: The owner of a session that this makes; one that is stored must belong to this owner.
            turn_id: The turn's name, 1 to 200 bytes of UTF-8, such as the id of the request.
            metadata: Also merge this into the session's metadata.
            options: Passed to the model by keyword, on top of the pipeline's.

        Returns:
            The answer.  If it could not be stored because the store is unavailable, or the session is full,
            `result.error` says why, and `result.save()` stores it later.

        Raises:
            Conflict: The session was erased, or expired, while the model worked; nothing was stored.  Or another turn
                has interrupted this one, or was stored before it where `concurrency` forbids that.
            SessionNotFound: It belongs to another owner.
            IdReused: The turn id stands for another message.
            ModelError: The model's answer cannot be used.
            InvalidInput: The message, or the model's answer, is not one.
        """
        message, options = _message(role, content), self._options(options)
        found = -1  # how many rounds of this turn another call had stored when this one was last refused
        for _ in range(_TRIES):
            execution = Execution(
                self._setup,
                session_id,
                message,
                owner=owner,
                turn_id=turn_id,
                metadata=metadata,
                options=options,
                streamed=False,
            )
            try:
                async with aclosing(execution.pieces()) as pieces:
                    async for _ in pieces:
                        pass
            except IdReused:
                if turn_id is None or execution.rounds <= found:
                    raise
                found = execution.rounds  # another call under this id was first: go on behind its rounds
            except Conflict as error:
                if self._setup.concurrency != "retry" or not execution.may_try_again(error):
                    raise
            else:
                return await self._done(session_id, execution)
        raise Conflict(f"session {session_id!r}: other requests were first {_TRIES} times")

    def stream(
        self,
        session_id: str,
        role: str,
        content: str | list[JSON],
        *,
        owner: str | None = None,
        turn_id: str | None = None,
        metadata: Mapping[str, JSON] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Stream:
        """Return the answer as a stream: `async with pipeline.stream(...) as reply: async for piece in reply: ...`.

        Arguments and errors are those of `execute`; errors are raised while the pieces are taken.  After the last
        piece, `reply.result` is the outcome.  With `concurrency="retry"` it is refused: a stream cannot take back what
        it has shown.
        """
        if self._setup.concurrency == "retry":
            raise InvalidInput(
                "a stream cannot take back what it has shown: use concurrency 'serialize' and not 'retry'"
            )
        execution = Execution(
            self._setup,
            session_id,
            _message(role, content),
            owner=owner,
            turn_id=turn_id,
            metadata=metadata,
            options=self._options(options),
            streamed=True,
        )
        return Stream(execution, lambda: self._done(session_id, execution))

    async def summarize(self, session_id: str) -> Summary | None:
        """Summarise the turns of a session that no summary covers, but for the last ones; return None if none are due.

        Raises:
            InvalidInput: The pipeline has no `summaries`.
            SessionNotFound: There is no such session.
        """
        if self.summaries is None:
            raise InvalidInput("this pipeline makes no summaries: pass Pipeline(summaries=Summaries(model=...))")
        return await summarize(self.store, session_id, self.summaries)

    def stats(self) -> dict[str, int]:
        """Return how often something went wrong in this process.

        Returns:
            `failed_loads` and `failed_saves`; `cut_streams`; `failed_summaries`; `oversize_turns`, last turns that were
            larger than the window.
        """
        names = ("failed_loads", "failed_saves", "cut_streams", "failed_summaries", "oversize_turns")
        return {name: self._counts[name] for name in names}

    def _options(self, options: Mapping[str, object] | None) -> dict[str, object]:
        if options is not None:
            check_mapping(options, "options")
        return {**self.options, **(options or {})}

    async def _done(self, session_id: str, execution: Execution) -> Result:
        """Return the result, and make a summary if one is due; if that fails, it is due again with the next turn."""
        result, history = execution.result, execution.history
        assert result is not None
        due = history is not None and history.summary_due and result.error is None
        if due and self.summaries is not None and self.summaries.automatic:
            try:
                await self.summarize(session_id)
            except Exception as error:  # noqa: BLE001 - a model may raise anything
                self._counts["failed_summaries"] += 1
                warn("session %r could not be summarised: %s", session_id, error)
        return result


def _message(role: str, content: str | list[JSON]) -> Message:
    if role not in _ROLES:
        raise InvalidInput(f"role must be one of {', '.join(_ROLES)}, not {shown(role)}")
    if not isinstance(content, (str, list)):
        raise InvalidInput(f"content must be a str, or a list of blocks, not {shown(content)}")
    return Message.from_dict({"role": role, "content": content})


def _check_word(value: object, name: str, words: tuple[str, ...], more: str = "") -> None:
    if value not in words:
        raise InvalidInput(f"{name} must be one of {', '.join(words)}{more}, not {shown(value)}")

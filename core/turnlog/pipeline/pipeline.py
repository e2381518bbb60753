"""`Pipeline`: loads the history, selects the window, calls the model, runs its tools and saves the turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from inspect import iscoroutinefunction
from typing import Any, Final, Literal

from ..errors import Conflict, IdReused, InvalidInput
from ..store import Store
from ..values.checks import check_mapping, check_number, shown
from ..values.json_value import JSON
from ..values.message import Message
from ..values.message import system as system_message
from .concurrency import Concurrency, Serialize
from .context import Context, is_prompt
from .execution import Execution, Setup
from .model import Model
from .result import Result
from .stream import Stream
from .summaries import Summaries, Summary, summarize
from .tokens import TokenCounter, estimate
from .tools import Tool, tools_by_name
from .warn import warn
from .window import Window

_TRIES: Final = 100
"""Maximum number of executions for one message while other requests store their turns first."""

_ROLES: Final = ("user", "human", "system", "developer")
"""The roles of new messages: the roles of the user in all dialects, and the roles of events from an application."""

_MODES: Final = ("append", "retry", "raise", "serialize")


class Pipeline:
    """Conversations with a model, kept in the sessions of a store.

    Each execution adds one turn to a session: a new message, and everything that the model does to answer it.

    Args:
        store: The store; it must be open.
        model: The model, an async function or an async generator (`Model`).
        window: The part of the history that the model receives; None: `Window(messages=20)`.
        counter: Counts tokens for `Window(tokens=...)`; by default an estimate.  If the model reports its usage, the
            pipeline corrects estimates by it.  The counter receives the option `model`, if that is a text.
        system: The system prompt, as text or as the provider's list of blocks; None: the value `system` in the
            session's metadata, if it is a text or a list of blocks.  The prompt is sent as the first message, and is
            not stored.  It replaces a message with the role `system` or `developer` that opens the session's first
            turn.  Without a prompt, that message is sent, even if its turn is before the window.
        load_history: Decides for each message whether the history is read; None: always.  If it returns False, the
            model receives only the system prompt and the message.  The turn is stored in both cases.
        tools: Functions that the model may call, sync or async.  A round is an answer with calls, and their results.
            The pipeline stores each round before it calls the model again.
        max_rounds: Maximum number of rounds of calls in one turn; then the pipeline raises `ModelError`.
        summaries: Settings for summaries of old turns; None: no summaries.
        concurrency: Behaviour of concurrent requests on one session.  `append`: each request stores its turn, and does
            not see the others.  `retry`: if another request stores its turn first, the pipeline calls the model again.
            `raise`: if another request stores its turn first, raise `Conflict`.  `serialize`, or `Serialize(...)` with
            other times: one request at a time, across processes.
        on_error: If the model fails before it returns any text, store nothing (`discard`), or the question (`keep`).
        on_cut: If a stream is left, is cancelled or fails, store the question and the text so far (`keep`), or nothing
            (`discard`).
        on_load_error: If the history cannot be read, raise the error (`raise`), or log and count it and continue with
            an empty history (`empty`).  In the second case the turn is stored without a condition on the session.
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
            raise InvalidInput(f"store must be a Store such as open_store(...), not {type(store).__name__}")
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
                f"model must be a model such as OpenAIModel(), or a function that answers messages, not {shown(model)}"
            )
        if not callable(counter):
            raise InvalidInput(
                f"counter must be a token counter, not {shown(counter)}; "
                "to find a counter by its name, call turnlog.config.find_token_counter"
            )
        if system is not None and not is_prompt(system):
            what = shown(system) if system else "empty"
            raise InvalidInput(f"system must be text or a list of blocks, not {what}: to send no prompt, leave it out")
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
        self.window: Window = Window() if window is None else window
        self.summaries = summaries
        self.options: dict[str, object] = dict(options or {})
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
        """Send a new message and the history before it to the model, and store the message and the answer as one turn.

        If the model raises, or this call is cancelled while the model works, only finished rounds of tool calls are
        stored.  With `on_error="keep"`, the question is also stored if the model raises.

        If the session is erased, or expires, while the model works, the turn is refused: it belongs to the session that
        was read.

        With a `turn_id`, the call can be repeated after any failure.  If the turn is stored, it is returned, and the
        model is not called again.  If only some rounds of the turn are stored, the model receives them and continues.

        Args:
            session_id: The session; the first turn makes it.
            role: The role of the message: `"user"`, `"human"`, `"system"` or `"developer"`.
            content: The content of the message.
            owner: The owner of a session that this call makes.  A stored session must belong to this owner.
            turn_id: The turn's name, 1 to 200 bytes of UTF-8, such as the id of the request.
            metadata: Also merge this into the session's metadata.
            options: Passed to the model by keyword, in addition to the pipeline's options.

        Returns:
            The result.  If the turn could not be stored because the store is unavailable, or the session is full,
            `result.error` is the reason, and `result.save()` stores the turn later.

        Raises:
            Conflict: The session was erased, or expired, while the model worked; nothing was stored.  Or another turn
                has interrupted this turn, or was stored first and `concurrency` forbids that.
            SessionNotFound: The session belongs to another owner.
            IdReused: The turn id was used for another message.
            ModelError: The model's answer cannot be used.
            InvalidInput: The message or the model's answer is not a valid message.  If it is the answer, the error has
                both, as `question` and `answer`.
            TooLarge: The message or the metadata are too large; the model was not called.  Or a round with tool calls
                is too large; the error has `question` and `answer`.
        """
        message, options = _message(role, content), self._options(options)
        found = -1  # the number of stored rounds that the last refused execution had found
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
                    await anext(pieces, None)  # yields no piece, and stores the turn
            except IdReused:
                if turn_id is None or execution.rounds <= found:
                    raise
                found = execution.rounds  # another call with this id has stored a round: continue after its rounds
            except Conflict as error:
                if self._setup.concurrency != "retry" or not execution.may_try_again(error):
                    raise
            else:
                return await self._done(session_id, execution)
        raise Conflict(
            f"session {session_id!r}: other requests stored their turns first, {_TRIES} times in a row: "
            "try again later, or use concurrency 'serialize'"
        )

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

        The arguments and errors are those of `execute`; reading the pieces raises the errors.  After the last piece,
        `reply.result` is the outcome.

        Raises:
            InvalidInput: An argument breaks a rule, or `concurrency` is `retry`: a stream cannot replace text that it
                has shown.
        """
        if self._setup.concurrency == "retry":
            raise InvalidInput(
                "a stream cannot replace text that it has shown: use concurrency 'serialize' instead of 'retry'"
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
        """Summarise the turns of a session that no summary covers, except the last ones; return the summary.

        Return None if there are no such turns, or another call has stored a summary first.

        Raises:
            InvalidInput: The pipeline has no `summaries`.
            SessionNotFound: The session does not exist.
        """
        if self.summaries is None:
            raise InvalidInput("this pipeline makes no summaries: pass Pipeline(summaries=Summaries(model=...))")
        return await summarize(self.store, session_id, self.summaries)

    def stats(self) -> dict[str, int]:
        """Return the number of failures in this process, by name.

        Returns:
            `failed_loads`, `failed_saves`, `cut_streams`, `failed_summaries`, and `oversize_turns`, the last turns that
            were larger than the window.
        """
        names = ("failed_loads", "failed_saves", "cut_streams", "failed_summaries", "oversize_turns")
        return {name: self._counts[name] for name in names}

    def _options(self, options: Mapping[str, object] | None) -> dict[str, object]:
        if options is not None:
            check_mapping(options, "options")
        return {**self.options, **(options or {})}

    async def _done(self, session_id: str, execution: Execution) -> Result:
        """Make a summary if one is due, and return the result.  If it fails, it is due again after the next turn."""
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

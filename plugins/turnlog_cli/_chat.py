"""`turnlog chat`: reads lines, and sends them to the model or runs the commands in them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import shlex
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import cast

from turnlog import (
    ConfigError,
    CorruptRecord,
    InvalidInput,
    Key,
    Message,
    Model,
    Pipeline,
    PluginError,
    SessionNotFound,
    Store,
    TurnlogError,
    Window,
    open_store,
)
from turnlog.config import find_model
from turnlog.pipeline import Piece, ask

from ._conversation import Conversation
from ._slash import obey
from ._text import VERIFY, Code, complain, note


class _ModelFailed(TurnlogError):
    """The model raised the error that is the cause of this one."""


def chat(
    url: str | None,
    session_id: str | None,
    model: str,
    system: str | None,
    *,
    namespace: str | None = None,
    latest: bool = False,
) -> int:
    """Read messages and print the replies, until the input ends.

    On a terminal, an error is reported, and the chat continues with the next message.  Otherwise the first error ends
    the chat, because the next lines may depend on the failed one.

    Args:
        url: The URL of the store; None: the store in the configuration.
        session_id: The session; None: a new one.
        model: The model's name.
        system: The system prompt; None: that of the session.
        namespace: The namespace; None: the namespace in the configuration.
        latest: Continue the most recently updated session.
    """
    if latest and session_id is not None:
        raise InvalidInput(
            "--continue and --session cannot be given together: --continue selects the session that was updated last; "
            "leave one of the two out"
        )
    answer = _guarded(_model(model), model)
    store = open_store(url, namespace=namespace)
    first = store.new_session_id() if session_id is None else Key(store.namespace, session_id).session
    pipeline = Pipeline(store, answer, window=Window(messages=20), system=system)
    # The loop runs only while a line is handled: Ctrl-C raises KeyboardInterrupt while the chat waits for a line.
    with asyncio.Runner() as runner:
        runner.run(store.open())
        try:
            if latest:
                first = runner.run(_latest(store))
            conversation = Conversation(pipeline, first, model)
            try:
                runner.run(
                    _begin(conversation, is_named=session_id is not None, is_new=session_id is None and not latest)
                )
                return _talk(runner, conversation)
            finally:
                if conversation.session_id != session_id and not (url or "").startswith("memory:"):
                    note(f"to continue, run: {_again(url, conversation.session_id, model, namespace)}")
        finally:
            runner.run(store.close())


async def _latest(store: Store) -> str:
    info = await anext(store.sessions(), None)
    if info is None:
        raise SessionNotFound(
            f"namespace {store.namespace!r} has no session to continue: to begin a new one, leave out --continue"
        )
    return info.key.session


async def _begin(conversation: Conversation, *, is_named: bool, is_new: bool) -> None:
    if not is_named:
        note(f"session: {conversation.session_id}")
    if conversation.is_interactive:
        note("/help lists the commands; Ctrl-D ends the chat")
        if not is_new:
            try:
                await conversation.show_return()
            except TurnlogError as error:
                complain(error)


def _talk(runner: asyncio.Runner, conversation: Conversation) -> int:
    interactive = conversation.is_interactive
    for text in _typed() if interactive else _piped():
        if not text.strip():
            continue
        try:
            runner.run(_handle(conversation, text))
        except TurnlogError as error:
            complain(f"{error}{_next_step(error)}")
            if not interactive:
                return Code.FAILED if isinstance(error, InvalidInput) else Code.of(error)
        except KeyboardInterrupt:
            runner.run(_stop(conversation))
            raise
        if conversation.is_over:
            break
    return conversation.code


def _next_step(error: TurnlogError) -> str:
    if isinstance(error, SessionNotFound):
        return "; /sessions lists the sessions"
    return f"; {VERIFY}" if type(error) is CorruptRecord and error.key is not None else ""


async def _handle(conversation: Conversation, text: str) -> None:
    """Send a line, or run the command in it.  On a terminal, Ctrl-C cancels this, but does not end the chat."""
    conversation.task = asyncio.current_task()
    _check_utf8(text)
    try:
        if text.startswith("/") and not text.startswith("//"):
            await obey(conversation, text)
        else:
            await conversation.ask(text[1:] if text.startswith("//") else text)
    except asyncio.CancelledError:
        if not conversation.is_interactive:
            raise
        note("stopped")


def _check_utf8(text: str) -> None:
    """Refuse a line that was not UTF-8: Python reads such a byte as a lone surrogate, which no model accepts."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = text[error.start]
        raise InvalidInput(f"the message is not UTF-8: it holds the lone surrogate {found!a}; type it again") from None


async def _stop(conversation: Conversation) -> None:
    """Cancel a line again, if the model or the store has not ended after the first Ctrl-C."""
    task = conversation.task
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # otherwise asyncio would log the exception


def _typed() -> Iterator[str]:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - the import adds editing and history to input()
    while True:
        try:
            yield input("you: ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            raise


def _piped() -> Iterator[str]:
    if sys.stdin is not None:
        for text in iter(sys.stdin.readline, ""):
            yield text.rstrip("\r\n")


def _again(url: str | None, session_id: str, model: str, namespace: str | None) -> str:
    """Return the command that continues the session; a URL that may contain a password is left out."""
    words = ["turnlog", "chat", f"--session={session_id}"]
    if url is not None:
        words.append("--store=..." if "@" in url or "?" in url else f"--store={url}")
    if namespace is not None:
        words.append(f"--namespace={namespace}")
    if model != "offline":
        words.append(f"--model={model}")
    return shlex.join(words)


def _model(name: str) -> Model:
    found = find_model(name)
    if not isinstance(found, type):
        return cast("Model", found)
    try:
        inspect.signature(found).bind()
        return cast("Model", found())
    except ConfigError:  # for example, a missing key
        raise
    except Exception as error:  # a plugin may raise anything
        text = f"model {name!r} cannot be created without options: {type(error).__name__}: {error}"
        raise PluginError(text) from error


def _guarded(model: Model, name: str) -> Model:
    async def answer(messages: Sequence[Message], **options: object) -> AsyncIterator[Piece]:
        try:
            async with contextlib.aclosing(ask(model, messages, options, streamed=True)) as pieces:
                async for piece in pieces:
                    yield piece
        except TurnlogError:
            raise
        except Exception as error:
            raise _ModelFailed(f"model {name!r} failed: {type(error).__name__}: {error}") from error

    return answer

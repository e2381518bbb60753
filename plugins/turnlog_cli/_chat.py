"""`turnlog chat`."""

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
    InvalidInput,
    Key,
    Message,
    Model,
    Pipeline,
    PluginError,
    TurnlogError,
    Window,
    open_store,
)
from turnlog.config import find_model
from turnlog.pipeline import Piece, ask

from ._show import text_of
from ._text import Code, Printer, complain, is_terminal, note


class _ModelFailed(TurnlogError):
    """The model raised something; what, is its cause."""


def chat(
    url: str | None, session_id: str | None, model: str, system: str | None, *, namespace: str | None = None
) -> int:
    """Read messages and print the replies, until there are no more.

    On a terminal a turn that fails is reported, and the next message is asked for.  Otherwise it ends the chat, because
    what follows was written for another conversation.

    Args:
        url: Where the session is; None: in the store that the configuration names.
        session_id: Which session; None: a new one.
        model: The model's name.
        system: The system prompt; None: the session's own.
        namespace: The namespace; None: the one that the configuration names.
    """
    answer = _guarded(_model(model), model)
    store = open_store(url, namespace=namespace)
    session = store.new_session_id() if session_id is None else Key(store.namespace, session_id).session
    pipeline = Pipeline(store, answer, window=Window(messages=20), system=system)
    # The loop runs for each turn alone: where it waits for a line, Ctrl-C must reach it, and nothing else has to go on.
    with asyncio.Runner() as runner:
        runner.run(store.open())
        try:
            if session_id is None:
                note(f"session: {session}")
                if not (url or "").startswith("memory:"):
                    note(f"come back with: {_again(url, session, model, namespace)}")
            return _talk(runner, pipeline, session, model)
        finally:
            runner.run(store.close())


def _talk(runner: asyncio.Runner, pipeline: Pipeline, session_id: str, model: str) -> int:
    out = Printer()
    interactive = out.console is not None and is_terminal(sys.stdin)
    for text in _typed() if interactive else _piped():
        if not text.strip():
            continue
        try:
            with out.console.status("") if interactive and out.console else contextlib.nullcontext():
                result = runner.run(pipeline.execute(session_id, "user", text))
        except TurnlogError as error:
            complain(error)
            if interactive:
                continue
            return Code.FAILED if isinstance(error, InvalidInput) else Code.of(error)
        reply = text_of(result.response)
        if interactive:
            out((f"{model}: ", "bold cyan"), (reply, ""))
        else:
            out((reply, ""))
            sys.stdout.flush()
    return Code.FINE


def _typed() -> Iterator[str]:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() editing and history
    while True:
        try:
            yield input("you: ")
        except EOFError:
            print()
            return


def _piped() -> Iterator[str]:
    if sys.stdin is not None:
        for text in iter(sys.stdin.readline, ""):
            yield text.rstrip("\r\n")


def _again(url: str | None, session_id: str, model: str, namespace: str | None) -> str:
    """The command that goes on with the session; a URL that may hold a password is left out."""
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
    except ConfigError:  # such as a key that is missing
        raise
    except Exception as error:  # whatever a plugin raises
        raise PluginError(f"model {name!r} cannot be made without options: {type(error).__name__}: {error}") from error


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

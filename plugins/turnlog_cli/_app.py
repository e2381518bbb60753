"""The built-in commands and their options.  Each imports the module that does its work when it runs."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Sequence
from traceback import format_exception
from typing import Annotated, Final

from cyclopts import App, CycloptsError, Parameter

from turnlog import TurnlogError
from turnlog.config import mask

from ._advice import next_step, option_in, usage
from ._commands import add_commands
from ._help import HelpFormatter
from ._options import Namespace, StoreURL
from ._output import OutputFailed
from ._text import Code, complain, explain
from ._upkeep import add_upkeep

_DEBUG: Final = "--debug"

_HELP: Final = """\
Keep the conversations of LLM applications: talk, list, show, edit, erase, import, export and copy sessions, and look
after the store.

Without --store it is the store that TURNLOG_STORE_URL or turnlog.toml names, else sqlite:///turnlog.db.  With --store,
a turnlog.toml in the working directory is ignored.

Exit codes: 0 fine, 1 something failed or was not found, 2 the command line or the configuration is wrong, 3 the store
is unavailable, 130 interrupted (Ctrl-C), 141 the reader of the output has gone.  With --debug an error also shows where
it was raised."""


def _version() -> str:
    from importlib.metadata import version

    return version("turnlog")


def chat(
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    session: Annotated[str | None, Parameter(help="The session to continue; without it, a new one.")] = None,
    continue_: Annotated[
        bool, Parameter(name="--continue", help="Continue the session that was updated last.")
    ] = False,
    model: Annotated[str, Parameter(help="The model, by its name among the plugins.")] = "offline",
    system: Annotated[str | None, Parameter(help="The system prompt; without it, the session's own.")] = None,
) -> int:
    """Talk to a model; the session remembers.

    On a terminal it asks for each message until Ctrl-D; Ctrl-C stops an answer.  Otherwise each line of standard input
    is a message, and standard output gets the replies and nothing else.  A line that begins with a slash is a command:
    /help lists them.
    """
    from ._chat import chat

    return chat(store, session, model, system, namespace=namespace, latest=continue_)


def list_(
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    owner: Annotated[str | None, Parameter(help="Only the sessions of this owner.")] = None,
    limit: Annotated[int, Parameter(help="How many at most; 0: all.")] = 100,
    json: Annotated[bool, Parameter(help="One JSON object a line.")] = False,
) -> int:
    """List sessions, the last updated first."""
    from ._list import list_sessions

    return list_sessions(store, owner, limit, namespace=namespace, json=json)


def show(
    session: Annotated[str, Parameter(help="Which session.")],
    /,
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    last: Annotated[
        int | None, Parameter(help="Only the last turns, as few as hold at least so many messages.")
    ] = None,
    json: Annotated[bool, Parameter(help="One JSON document: info, turns and messages, exactly as they are.")] = False,
) -> int:
    """Show a session: its turns, and what was said in them."""
    from ._show import show_session

    return show_session(session, store, last, namespace=namespace, json=json)


def plugins(
    *,
    json: Annotated[bool, Parameter(help="One JSON object a line.")] = False,
) -> int:
    """List the installed stores, layers, models and commands."""
    from ._list import list_plugins

    return list_plugins(json=json)


def _app() -> App:
    app = App(
        name="turnlog",
        help=_HELP,
        help_format="markdown",  # which joins the lines of a paragraph, and wraps it to the terminal
        help_formatter=HelpFormatter(),
        version=_version,
        default_parameter=Parameter(negative=()),  # `--json` without `--no-json`
    )
    for command, name in ((chat, "chat"), (list_, "list"), (plugins, "plugins"), (show, "show")):
        app.command(command, name=name)
    add_upkeep(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name, and print its `TurnlogError` in one line on standard error.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        BrokenPipeError: Nobody reads standard output any more.
        OutputFailed: It cannot be written.
    """
    end = list(arguments).index("--") if "--" in arguments else len(arguments)  # what follows is no option
    words = [word for place, word in enumerate(arguments) if word != _DEBUG or place > end]
    app = _app()
    add_commands(app, words)
    try:
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        code = command(*bound.args, **bound.kwargs)
        if inspect.iscoroutine(code):
            code = _wait(code)
    except CycloptsError as error:
        complain(usage(error))
        return Code.USAGE
    except (OutputFailed, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and people get a sentence
        url = option_in(words, "--store")
        if len(words) < len(arguments):
            explain(mask("".join(format_exception(error)), url))
        said = mask((str(error) or type(error).__name__) + next_step(error, words), url)
        if isinstance(error, TurnlogError):
            complain(said)
            return Code.of(error)
        complain(f"{type(error).__name__}: {said}: this is a fault of turnlog or of a plugin; {_DEBUG} shows where")
        return Code.FAILED
    return code if isinstance(code, int) else Code.FINE


def _wait(command: Coroutine[object, object, object]) -> object:
    import asyncio

    return asyncio.run(command)

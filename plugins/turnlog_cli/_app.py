"""The built-in commands and their options.  Each command imports its implementation when it runs."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Sequence
from traceback import format_exception
from typing import Annotated, Final

from cyclopts import App, CycloptsError, Parameter

from turnlog import TurnlogError
from turnlog.config import mask

from ._advice import next_step, option_in, usage, with_store, without_python
from ._commands import add_commands
from ._help import HelpFormatter
from ._options import Everywhere, Namespace, StoreURL
from ._output import OutputFailed
from ._text import Code, complain, explain
from ._upkeep import add_upkeep

_DEBUG: Final = "--debug"

_HELP: Final = """\
Manage the conversations of LLM applications: chat, list, show, edit, erase, import, export and copy sessions, and
maintain the store.

By default, commands use the store in TURNLOG_STORE_URL or turnlog.toml, otherwise sqlite:///turnlog.db.  With --store,
a turnlog.toml in the working directory is ignored.

Exit codes: 0 success, 1 something failed or was not found, 2 the command line or the configuration is wrong, 3 the
store is unavailable, 130 interrupted (Ctrl-C), 141 the reader has closed the output.  With --debug, errors also show a
traceback."""


def _version() -> str:
    from importlib.metadata import version

    return version("turnlog")


def chat(
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    session: Annotated[str | None, Parameter(help="The session to continue, by default a new one.")] = None,
    continue_: Annotated[
        bool, Parameter(name="--continue", help="Continue the most recently updated session.")
    ] = False,
    model: Annotated[str, Parameter(help="The name of the model's plugin; turnlog plugins lists them.")] = "offline",
    system: Annotated[str | None, Parameter(help="The system prompt, by default that of the session.")] = None,
) -> int:
    """Chat with a model, and store the conversation in a session.

    On a terminal, the command prompts for messages until Ctrl-D, and Ctrl-C stops an answer.  Otherwise each line of
    standard input is a message, and only the replies are written to standard output.  A line that begins with a slash
    is a command: /help lists the commands.
    """
    from ._chat import chat

    return chat(store, session, model, system, namespace=namespace, latest=continue_)


def list_(
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    owner: Annotated[str | None, Parameter(help="Only the sessions of this owner.")] = None,
    prefix: Annotated[str | None, Parameter(help="Only the sessions whose ids begin with this text.")] = None,
    all_namespaces: Everywhere = False,
    limit: Annotated[int, Parameter(help="The largest number of sessions; 0: all.")] = 100,
    json: Annotated[bool, Parameter(help="Print one JSON object per line.")] = False,
) -> int:
    """List sessions, most recently updated first; with --all-namespaces, one namespace after the other."""
    from ._list import list_sessions

    return list_sessions(store, owner, limit, namespace=namespace, prefix=prefix, everywhere=all_namespaces, json=json)


def show(
    session: Annotated[str, Parameter(help="The session id.")],
    /,
    *,
    store: StoreURL = None,
    namespace: Namespace = None,
    last: Annotated[
        int | None, Parameter(help="Show the fewest whole turns at the end that hold at least this many messages.")
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON document: info, turns and unchanged messages.")] = False,
) -> int:
    """Show the turns and messages of a session."""
    from ._show import show_session

    return show_session(session, store, last, namespace=namespace, json=json)


def plugins(
    *,
    json: Annotated[bool, Parameter(help="Print one JSON object per line.")] = False,
) -> int:
    """List the installed backends, layers, models and commands."""
    from ._list import list_plugins

    return list_plugins(json=json)


def _app() -> App:
    app = App(
        name="turnlog",
        help=_HELP,
        help_format="markdown",  # joins the lines of a paragraph, and wraps them to the width of the terminal
        help_formatter=HelpFormatter(),
        version=_version,
        default_parameter=Parameter(negative=()),  # `--json` without `--no-json`
    )
    for command, name in ((chat, "chat"), (list_, "list"), (plugins, "plugins"), (show, "show")):
        app.command(command, name=name)
    add_upkeep(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run the command in the arguments, and print its error as one line on standard error.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        OutputFailed: Standard output cannot be written.
    """
    end = list(arguments).index("--") if "--" in arguments else len(arguments)  # no options follow after "--"
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
    except (OutputFailed, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, and users get one line
        url = option_in(words, "--store")
        if len(words) < len(arguments):
            explain(mask("".join(format_exception(error)), url))
        text = with_store(without_python(error), url)
        said = mask(text + next_step(error, words), url)
        if isinstance(error, TurnlogError):
            complain(said)
            return Code.of(error)
        complain(f"{type(error).__name__}: {said}: this is a bug in turnlog or in a plugin; {_DEBUG} shows a traceback")
        return Code.FAILED
    return code if isinstance(code, int) else Code.FINE


def _wait(command: Coroutine[object, object, object]) -> object:
    import asyncio

    return asyncio.run(command)

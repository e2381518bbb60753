"""Commands of plugins: the entry-point group `turnlog.commands`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Final

from cyclopts import App, Parameter

from turnlog import PluginError, TurnlogError
from turnlog.config import find_command, installed

from ._text import line

_MARKUP: Final = re.compile(r"[\\`*_<\[&]")  # characters that begin markup in the help, which is in Markdown


def add_commands(app: App, arguments: Sequence[str]) -> None:
    """Register the commands of plugins that the arguments may need.

    A built-in command loads no plugin, and starts as fast as without plugins.  A plugin's command loads only this
    plugin.  Help, and an unknown name, load all plugins.

    Args:
        app: The program with its built-in commands.
        arguments: The arguments after the program's name.
    """
    first = arguments[0] if arguments else ""
    if first in app and first not in app.help_flags:
        return
    names = {plugin.name for plugin in installed() if plugin.group == "turnlog.commands"} - set(app)
    for name in sorted({first} & names or names):
        try:
            _register(app, name)
        except TurnlogError as error:
            if name in app:
                del app[name]
            app.command(_failing(error), name=name, help=_MARKUP.sub(r"\\\g<0>", line(str(error))))


def _register(app: App, name: str) -> None:
    register = find_command(name)
    try:
        register(app)
    except Exception as error:
        raise PluginError(f"command {name!r} cannot be registered: {type(error).__name__}: {error}") from error
    if name not in app:
        raise PluginError(f"command {name!r} cannot be registered: its entry point registers no command of this name")


def _failing(error: TurnlogError) -> Callable[..., None]:
    """Return a command that takes any arguments and raises the error."""

    def fail(*_: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]) -> None:
        raise error

    return fail

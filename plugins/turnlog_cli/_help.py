"""`HelpFormatter`: formats the help of the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions


class HelpFormatter:
    """Formats the help like cyclopts, but omits the default of flags, which is always False.

    It is not a subclass, so that commands start without importing the formatter of cyclopts.
    """

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print the arguments, the options or the commands."""
        from cyclopts.help import DefaultFormatter

        entries = [entry.copy(default=None) if entry.metavar is None else entry for entry in panel.entries]
        DefaultFormatter()(console, options, panel.copy(entries=entries))

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:  # noqa: ANN401 - the type in cyclopts
        """Print the first line."""
        from cyclopts.help import DefaultFormatter

        DefaultFormatter().render_usage(console, options, usage)

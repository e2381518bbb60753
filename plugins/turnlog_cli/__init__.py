"""The command line: chat, import, list, show and plugins."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `turnlog --help`).

    Args:
        argv: The arguments after the program's name; None: those of the process, taken as UTF-8 whatever the locale.
    """
    _speak_utf8()
    try:
        import cyclopts  # noqa: F401 - imported here, so that without the extra there is a sentence and no traceback
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        print(
            f"turnlog: the command line needs {error.name}, which is not installed: pip install 'turnlog[cli]'",
            file=sys.stderr,
        )
        return 2
    from ._app import run
    from ._text import Code

    arguments = (
        [os.fsencode(word).decode("utf-8", "surrogateescape") for word in sys.argv[1:]] if argv is None else list(argv)
    )
    try:
        code = run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return Code.INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # or Python complains when it flushes at exit
        return Code.BROKEN_PIPE
    return code


def _speak_utf8() -> None:
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with contextlib.suppress(io.UnsupportedOperation):  # whoever called us has read from it already
                reconfigure(encoding="utf-8", errors=errors)

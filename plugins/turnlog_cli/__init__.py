"""The command line: chat, list, plugins and show, and the commands of installed plugins."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO, cast

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `turnlog --help`).

    Args:
        argv: The arguments after the program's name; None: the arguments of the process, decoded as UTF-8 regardless of
            the locale.
    """
    from ._output import Notes

    _speak_utf8()
    with contextlib.redirect_stderr(cast("TextIO", Notes(sys.stderr))):
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    from ._output import OutputFailed, ReaderGone, Results, drop, tell

    try:
        import cyclopts  # noqa: F401 - imported here to report a missing extra without a traceback
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        tell(f"turnlog: the command line needs {error.name}, which is not installed: pip install 'turnlog[cli]'")
        return 2
    from ._app import run
    from ._text import Code, complain, warnings_as_lines

    if sys.stdout is None:  # reported before anything is stored
        complain("standard output is closed")
        return Code.FAILED
    arguments = (
        [os.fsencode(word).decode("utf-8", "surrogateescape") for word in sys.argv[1:]] if argv is None else list(argv)
    )
    results = Results(sys.stdout)
    try:
        with contextlib.redirect_stdout(cast("TextIO", results)), warnings_as_lines():
            code = run(arguments)
            results.flush()
    except KeyboardInterrupt:
        return Code.INTERRUPTED
    except ReaderGone:  # the reader of the output has closed the pipe
        drop(sys.stdout)
        return Code.BROKEN_PIPE
    except OutputFailed as error:
        drop(sys.stdout)
        complain(str(error))
        return Code.FAILED
    return code


def _speak_utf8() -> None:
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with contextlib.suppress(io.UnsupportedOperation):  # the stream was read before
                reconfigure(encoding="utf-8", errors=errors)

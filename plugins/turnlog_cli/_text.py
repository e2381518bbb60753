"""The output of the commands: stored text cannot control the terminal."""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from turnlog.errors import (
    AccessError,
    ConfigError,
    InvalidInput,
    LayerMissing,
    OutcomeUnknown,
    PluginError,
    SchemaError,
    TurnlogError,
    Unavailable,
)
from turnlog.values import JSON, to_json

from ._output import tell

if TYPE_CHECKING:
    from rich.console import Console

# Characters that can control a terminal, or reorder or hide text on it: Unicode's categories Cc without tab and
# newline, Zl, Zp and Cs, interlinear annotations (U+FFF9 to U+FFFB), and Default_Ignorable_Code_Point (Unicode 16,
# DerivedCoreProperties.txt), which includes Bidi_Control.  Four characters of the last property are excepted, because
# words and emoji need them, and they do not reorder or hide text: U+200C and U+200D join letters, and U+FE0E and U+FE0F
# choose between emoji and text.
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_BREAK: Final = re.compile("[\t\n]")
_PASSWORD: Final = re.compile(
    # a database's user alone, which is not masked; and any other user or password, except in the example of an error
    r"(?:(?<=sql)|(?<=postgres)|(?<=mariadb))://[^\s:/@]*@(?=[^\s@]*(?:\s|$))|(://)(?!(?:user)?:password@)\S*@"
)
_SECRET: Final = re.compile(r"([?&][^=&\s]*(?:pass|secret|token|key)[^=&\s]*=)[^&\s'\"]+", re.IGNORECASE)


VERIFY: Final = "restore a backup, or run 'turnlog verify' with the same options to see all damage"
"""The next step after a damaged session, for a command with the options `--store` and `--namespace`."""


class Code(enum.IntEnum):
    """The exit codes of the program, which `--help` and `docs/how-to/command-line.md` also list."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    INTERRUPTED = 130
    BROKEN_PIPE = 141

    @classmethod
    def of(cls, error: Exception) -> Code:
        """Return the exit code for an error that ends a command."""
        if isinstance(error, AccessError | Unavailable | OutcomeUnknown | SchemaError):
            return cls.UNAVAILABLE
        if isinstance(error, ConfigError | PluginError | InvalidInput | LayerMissing):
            return cls.USAGE
        return cls.FAILED


def safe(text: str) -> str:
    r"""Escape the control and invisible characters of a text, such as `\x1b`; tabs and newlines stay."""
    return _CONTROL.sub(_written, text)


def line(text: str) -> str:
    """Escape a text like `safe`, including tabs and newlines."""
    return _BREAK.sub(_written, safe(text))


def _written(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def as_json(value: object) -> str:
    """Return a value as one line of JSON; the characters of `safe` are escaped.

    Values that JSON lacks have their JSON form (`docs/reference/format.md`).
    """
    text = json.dumps(to_json(cast("JSON", value)), ensure_ascii=False)
    return _CONTROL.sub(_in_json, text)


def _in_json(found: re.Match[str]) -> str:
    code = found[0].encode("utf-16-be", "surrogatepass").hex()  # beyond 16 bits: two escapes (RFC 8259, 7)
    return "".join(f"\\u{code[place : place + 4]}" for place in range(0, len(code), 4))


def time_of(seconds: float) -> str:
    """Return seconds since 1970 as a time in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def minute_of(seconds: float) -> str:
    """Return seconds since 1970 as a time in UTC, without the seconds."""
    return time_of(seconds).rpartition(":")[0] or time_of(seconds)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as `1 session` and `2 sessions`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def title_of(metadata: Mapping[str, object]) -> str:
    """Return the metadata `title` of a session; empty if it is not text."""
    title = metadata.get("title")
    return title if isinstance(title, str) else ""


def without_secrets(text: str) -> str:
    """Replace possible passwords in the URLs of a text by `***`."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(lambda found: f"{found[1]}***@" if found[1] else found[0], text))


def complain(error: TurnlogError | OSError | str, *, where: str = "turnlog") -> None:
    """Print one line on standard error, without passwords."""
    text = error if isinstance(error, str) else str(error) or type(error).__name__
    tell(f"{line(where)}: {line(without_secrets(with_options(text)))}")


def with_options(text: str) -> str:
    """Return the text of an error with the options of the command line in place of the arguments of `open_store`."""
    return text.replace("the argument url", "--store").replace("the argument namespace", "--namespace")


def explain(text: str) -> None:
    """Print a traceback to standard error, without passwords."""
    for row in text.splitlines():
        tell(line(without_secrets(row)))


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print the warnings of turnlog's loggers with `complain`, because they may contain stored text."""
    logger, handler = logging.getLogger("turnlog"), _Lines(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def note(text: str) -> None:
    """Print one line on standard error, for people."""
    tell(line(text))


def is_terminal(stream: object) -> bool:
    """Return whether a standard stream is open and a terminal."""
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and bool(isatty())


class Printer:
    """Standard output: with styles on a terminal, plain otherwise."""

    def __init__(self) -> None:
        self._console: Console | None = None
        if is_terminal(sys.stdout):
            from rich.console import Console

            self._console = Console(highlight=False, markup=False, emoji=False)

    @property
    def console(self) -> Console | None:
        """The terminal; None: standard output is not a terminal."""
        return self._console

    def __call__(self, *pieces: tuple[str, str]) -> None:
        """Print pieces of text, each with its style, and end the line.  The texts are escaped (`safe`)."""
        if self._console is None:
            print("".join(safe(text) for text, _ in pieces))
            return
        from rich.text import Text

        self._console.print(Text.assemble(*((safe(text), style) for text, style in pieces)), soft_wrap=True)

    def wrapped(self, *pieces: tuple[str, str], indent: int = 4) -> None:
        """Print pieces of text like `__call__`; on a terminal, lines wrap between words.

        Args:
            pieces: As in `__call__`.
            indent: The number of spaces before each line except the first.
        """
        if self._console is None:
            self(*pieces)
            return
        from rich.text import Text

        text = Text.assemble(*((safe(text), style) for text, style in pieces))
        for number, row in enumerate(text.wrap(self._console, max(20, self._console.width - indent))):
            row.rstrip()
            self._console.print(Text(" " * indent if number else "").append_text(row), soft_wrap=True)

    def write(self, text: str, style: str = "") -> None:
        """Print a text at once, without ending the line.  The text is escaped (`safe`)."""
        if style and self._console is not None:
            from rich.text import Text

            self._console.print(Text(safe(text), style), soft_wrap=True, end="")
        else:  # rich would remove spaces at the end of a long piece
            sys.stdout.write(safe(text))
        sys.stdout.flush()

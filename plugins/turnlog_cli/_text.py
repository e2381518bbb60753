"""What the commands print: nothing that a message says can control the terminal."""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from turnlog.errors import (
    AccessError,
    ConfigError,
    InvalidInput,
    OutcomeUnknown,
    PluginError,
    SchemaError,
    TurnlogError,
    Unavailable,
)

from ._output import tell

if TYPE_CHECKING:
    from rich.console import Console

# What can control a terminal, or reorder or hide text on it: Unicode's categories Cc without tab and newline, Zl, Zp
# and Cs, interlinear annotations (U+FFF9 to U+FFFB), and Default_Ignorable_Code_Point (Unicode 16,
# DerivedCoreProperties.txt), which includes Bidi_Control.  Four of the latter stay, because words and emoji need them
# and they neither reorder nor hide anything: U+200C and U+200D join letters, U+FE0E and U+FE0F choose an emoji or text.
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_BREAK: Final = re.compile("[\t\n]")
_PASSWORD: Final = re.compile(r"://(?!user:password@)\S*@")  # an example in an error holds no password
_SECRET: Final = re.compile(r"([?&][^=&\s]*(?:pass|secret|token|key)[^=&\s]*=)[^&\s'\"]+", re.IGNORECASE)


class Code(enum.IntEnum):
    """What the process answers to whoever started it; part of `--help` and of `docs/how-to/command-line.md`."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    INTERRUPTED = 130
    BROKEN_PIPE = 141

    @classmethod
    def of(cls, error: Exception) -> Code:
        """The code for an error that ends a command."""
        if isinstance(error, AccessError | Unavailable | OutcomeUnknown | SchemaError):
            return cls.UNAVAILABLE
        if isinstance(error, ConfigError | PluginError | InvalidInput):
            return cls.USAGE
        return cls.FAILED


def safe(text: str) -> str:
    r"""The text with control and invisible characters written out, as `\x1b`; tabs and newlines stay."""
    return _CONTROL.sub(_written, text)


def line(text: str) -> str:
    """The same on one line: tabs and newlines are written out too."""
    return _BREAK.sub(_written, safe(text))


def _written(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def as_json(value: object) -> str:
    """The value as JSON on one line, exactly; the characters of `safe` are escaped, and bytes are `{"base64": ...}`."""
    text = json.dumps(value, ensure_ascii=False, default=_bytes)
    return _CONTROL.sub(_in_json, text)


def _in_json(found: re.Match[str]) -> str:
    code = found[0].encode("utf-16-be", "surrogatepass").hex()  # beyond 16 bits it takes two escapes (RFC 8259, 7)
    return "".join(f"\\u{code[place : place + 4]}" for place in range(0, len(code), 4))


def _bytes(value: object) -> object:
    import base64

    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} is not JSON")


def time_of(seconds: float) -> str:
    """Seconds since 1970 as a time in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def minute_of(seconds: float) -> str:
    """Return the same without seconds."""
    return time_of(seconds).rpartition(":")[0] or time_of(seconds)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as `1 session` and `2 sessions`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def title_of(metadata: Mapping[str, object]) -> str:
    """Return the title of a session: its metadata `title`, if that is text."""
    title = metadata.get("title")
    return title if isinstance(title, str) else ""


def without_secrets(text: str) -> str:
    """Return a text with `***` in place of what looks like a password in a URL."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub("://***@", text))


def complain(error: TurnlogError | OSError | str, *, where: str = "turnlog") -> None:
    """One line on standard error, without passwords."""
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
    """Print the warnings that turnlog logs as `complain` does: they may hold stored text."""
    logger, handler = logging.getLogger("turnlog"), _Lines(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def note(text: str) -> None:
    """One line on standard error, for people."""
    tell(line(text))


def is_terminal(stream: object) -> bool:
    """Whether a standard stream is open and a terminal."""
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
        """The terminal; None where there is none."""
        return self._console

    def __call__(self, *pieces: tuple[str, str]) -> None:
        """Print pieces of text, each with its style, and end the line.  The texts are made safe here."""
        if self._console is None:
            print("".join(safe(text) for text, _ in pieces))
            return
        from rich.text import Text

        self._console.print(Text.assemble(*((safe(text), style) for text, style in pieces)), soft_wrap=True)

    def wrapped(self, *pieces: tuple[str, str], indent: int = 4) -> None:
        """Print the same; on a terminal it wraps between words.

        Args:
            pieces: As in `__call__`.
            indent: Spaces before each line but the first.
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
        """Print text at once, without ending the line.  It is made safe here."""
        if style and self._console is not None:
            from rich.text import Text

            self._console.print(Text(safe(text), style), soft_wrap=True, end="")
        else:  # rich would remove spaces at the end of a long piece
            sys.stdout.write(safe(text))
        sys.stdout.flush()

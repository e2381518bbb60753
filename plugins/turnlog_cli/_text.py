"""What the commands print: nothing that a message says can control the terminal."""

from __future__ import annotations

import enum
import json
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from turnlog.errors import (
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

# Unicode Cc without tab and newline, line separators, bidirectional controls (UAX #9, table 4), lone surrogates
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BREAK: Final = re.compile("[\t\n]")
_PASSWORD: Final = re.compile(r"://\S*@")
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
        if isinstance(error, Unavailable | OutcomeUnknown | SchemaError):
            return cls.UNAVAILABLE
        if isinstance(error, ConfigError | PluginError | InvalidInput):
            return cls.USAGE
        return cls.FAILED


def safe(text: str) -> str:
    r"""The text with control characters written out, as `\x1b`; tabs and newlines stay."""
    return _CONTROL.sub(_written, text)


def line(text: str) -> str:
    """The same on one line: tabs and newlines are written out too."""
    return _BREAK.sub(_written, safe(text))


def _written(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def as_json(value: object) -> str:
    """The value as JSON on one line, exactly; control characters are escaped in it, and bytes are `{"base64": ...}`."""
    text = json.dumps(value, ensure_ascii=False, default=_bytes)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


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


def complain(error: TurnlogError | OSError | str, *, where: str = "turnlog") -> None:
    """One line on standard error, without passwords."""
    text = error if isinstance(error, str) else str(error) or type(error).__name__
    text = _SECRET.sub(r"\1***", _PASSWORD.sub("://***@", text))
    tell(f"{where}: {line(text)}")


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

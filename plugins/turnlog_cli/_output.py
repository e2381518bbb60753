"""Standard output and standard error that may be closed, full or without a reader."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO


class OutputFailed(Exception):
    """Standard output cannot be written.

    It is not an OSError, which commands take for a failure of a file or a store, and not a TurnlogError, after which
    some commands continue.
    """


class ReaderGone(OutputFailed):
    """The program that reads the output has ended.  It is no `BrokenPipeError`, which a store may raise as well."""


class Results:
    """Standard output for commands: a failed write raises `OutputFailed`, or `ReaderGone` if its reader has ended."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text; the stream may buffer it."""
        with _told_apart():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write the buffered text."""
        with _told_apart():
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise OutputFailed(f"standard output cannot be written: {error.strerror or error}") from error


def drop(stream: TextIO) -> None:
    """Discard the buffered and the later output of a stream.

    Otherwise Python would try to write it at exit, print an error, and exit with code 120.
    """
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


class Notes:
    """Standard error for commands: text that cannot be written is dropped, and the command continues."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream: TextIO = _Nowhere() if stream is None else stream

    def write(self, text: str) -> int:
        """Write a text, or drop it.  Standard output is flushed first, which keeps the order if both are one file."""
        if sys.stdout is not None:
            with contextlib.suppress(OSError, OutputFailed, ValueError):  # the last flush reports it
                sys.stdout.flush()
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, or drop its buffered text."""
        with self._dropping():
            self._stream.flush()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            raise ReaderGone from error
        except OSError:
            drop(self._stream)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class _Nowhere(io.StringIO):
    """A closed stream: it drops all text."""

    def write(self, text: str) -> int:
        return len(text)


def tell(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)

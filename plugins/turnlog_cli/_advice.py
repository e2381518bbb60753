"""The next step after an error: the message about a wrong command line, and the command that helps."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote

from cyclopts import CoercionError, CycloptsError, MissingArgumentError, UnknownCommandError, UnusedCliTokensError

from turnlog import CorruptRecord, OutcomeUnknown, SessionNotFound
from turnlog.config import suggestion

_OPTIONS = ("--store", "--namespace")


def usage(error: CycloptsError) -> str:
    """Return the message about a wrong command line, with the command for help."""
    command = " ".join(("turnlog", *(error.command_chain or ())))
    if isinstance(error, UnusedCliTokensError):
        words = ", ".join(map(repr, error.unused_tokens or ()))
        return f"{command} takes no further argument, but {words} was given: '{command} --help' lists its arguments"
    if isinstance(error, UnknownCommandError) and error.unused_tokens and error.app is not None:
        word, known = error.unused_tokens[0], [name for name in error.app if not name.startswith("-")]
        return f"there is no command {word!r}{suggestion(word, known)} ('{command} --help' lists the commands)"
    if isinstance(error, MissingArgumentError) and error.argument is not None and error.keyword is None:
        name = error.argument.name
        return f"{command} needs {name} (for help, run: {command} --help)"
    if isinstance(error, CoercionError) and error.token is not None and error.target_type in (int, float):
        name = error.token.keyword or (error.argument.name if error.argument is not None else "the argument")
        kind = "a whole number" if error.target_type is int else "a number"
        return f"{name} must be {kind}, not {error.token.value!r} (for help, run: {command} --help)"
    return f"{error} (for help, run: {command} --help)"


def next_step(error: BaseException, words: Sequence[str]) -> str:
    """Return the end of an error message: the next command to run, with the given store.

    Args:
        error: The error.
        words: The arguments of the command line.
    """
    options = "".join(f" {name} {quote(value)}" for name in _OPTIONS if (value := option_in(words, name)) is not None)
    if isinstance(error, SessionNotFound) and error.key is not None:
        return f"; 'turnlog list{options}' lists the sessions"
    if isinstance(error, CorruptRecord) and error.key is not None and "damaged" in str(error):
        return f"; restore a backup, or run 'turnlog verify{options}' to see all damage"
    return ""


def without_python(error: BaseException) -> str:
    """Return the text of an error with the next step of a shell in place of a method to call."""
    said = str(error) or type(error).__name__
    if isinstance(error, OutcomeUnknown) and error.key is not None:
        said = said.rpartition(": ")[0] + ": look at the session before you run the command again"
    return said


def with_store(text: str, url: str | None) -> str:
    """Return an error message with the given store in the command `turnlog migrate` that it names.

    Args:
        text: The message.
        url: The URL of the store; None: the store in the configuration, which the command also uses.
    """
    return text.replace(" --store URL", "" if url is None else f" --store {quote(url)}")


def option_in(words: Sequence[str], name: str) -> str | None:
    """Return the value of an option on the command line; None if it is not given."""
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word == "--":
            return None
        if word == name:
            return value
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None

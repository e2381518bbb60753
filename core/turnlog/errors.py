"""The errors that turnlog raises, in one tree.

    TurnlogError
    ├── InvalidInput (ValueError)       not stored: an argument breaks a rule; raised before any I/O
    │   └── TooLarge                    not stored: a value exceeds a limit of `docs/reference/limits.md`
    ├── SessionNotFound (LookupError)   the session does not exist, or has expired
    ├── Conflict                        not stored: the session does not meet `expect`
    ├── IdReused                        not stored: this change id was used for another change
    ├── SplitsSealed                    not stored: the cut falls inside a sealed record
    ├── HistoryRegressed                not stored: the session is older than the caller's version, or has diverged
    ├── Unavailable (ConnectionError)   not stored: the store could not be reached in time
    ├── AccessError                     not stored: the store refuses access, and every further attempt will fail
    ├── OutcomeUnknown                  stored or not stored: send the same change again
    ├── ModelError                      the model's answer cannot be used; finished rounds are stored
    ├── CorruptRecord                   a stored record cannot be read
    │   ├── FormatTooNew                a newer turnlog wrote the record
    │   └── LayerMissing                a layer that the store lacks wrote the record
    ├── ConfigError (ValueError)        a URL, a file or an option is wrong
    ├── PluginError                     a plugin is missing or broken, or two distributions register it
    ├── SchemaError                     the tables of a database do not fit this turnlog
    ├── Unsupported                     the backend lacks an optional method, or the call needs another event loop
    └── Closed                          the store has been closed

The attributes of errors have the type `Any`.  They hold a `Key`, a `Version` or a `Change`; None if it is unknown.

A call that returns has stored its change.  After a cancellation, or a crash of the process, the outcome is unknown, as
after `OutcomeUnknown`.  Sending the same `Change` again is safe.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AccessError",
    "Closed",
    "ConfigError",
    "Conflict",
    "CorruptRecord",
    "FormatTooNew",
    "HistoryRegressed",
    "IdReused",
    "InvalidInput",
    "LayerMissing",
    "ModelError",
    "OutcomeUnknown",
    "PluginError",
    "SchemaError",
    "SessionNotFound",
    "SplitsSealed",
    "TooLarge",
    "TurnlogError",
    "Unavailable",
    "Unsupported",
]


class TurnlogError(Exception):
    """The base class of all errors that turnlog raises.

    Args:
        message: The failure and its place, the expected state, and the next step.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class InvalidInput(TurnlogError, ValueError):
    """A value breaks a rule.  Nothing was sent and nothing was stored.

    Attributes:
        question: The new message of a pipeline's execution, if its model's answer cannot be stored; otherwise None.
        answer: The model's answer, a `Message` or the object that the model returned, if it cannot be stored; otherwise
            None.
    """

    question: object = None
    answer: object = None


class TooLarge(InvalidInput):
    """A value exceeds a limit.  Nothing was stored."""


class SessionNotFound(TurnlogError, LookupError):
    """The session does not exist, or it has expired."""

    key: Any

    def __init__(self, message: str, *, key: Any = None) -> None:
        super().__init__(message)
        self.key = key


class Conflict(TurnlogError):
    """The session does not meet the condition of the change.  Nothing was stored.

    Attributes:
        expected: The condition of the change; None for `ABSENT`, or for no condition.
        actual: The version of the session; None if it does not exist.
    """

    expected: Any
    actual: Any

    def __init__(self, message: str, *, expected: Any = None, actual: Any = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class IdReused(TurnlogError):
    """The change id was used for a change with other contents.  Nothing was stored."""


class SplitsSealed(TurnlogError):
    """A cut would fall inside a sealed record.  Nothing was stored.

    Attributes:
        boundary: The number of the first turn of that record: a cut before it is possible.
    """

    boundary: int

    def __init__(self, message: str, *, boundary: int = 0) -> None:
        super().__init__(message)
        self.boundary = boundary


class HistoryRegressed(TurnlogError):
    """The stored session is older than the caller's version, or has diverged from it.  Nothing was stored.

    A fail-over that lost acknowledged writes causes this error.  turnlog never retries it.

    Attributes:
        seen: The version that the caller holds.
        actual: The version that the store holds.
    """

    seen: Any
    actual: Any

    def __init__(self, message: str, *, seen: Any = None, actual: Any = None) -> None:
        super().__init__(message)
        self.seen = seen
        self.actual = actual


class Unavailable(TurnlogError, ConnectionError):
    """The store could not be reached, or was busy for too long.  Nothing was stored."""


class AccessError(TurnlogError):
    """The store refuses access: a wrong password, database, right, option or certificate.  Nothing was stored.

    Every further attempt fails until a person changes the configuration or the server.  The message names the change.
    """


class OutcomeUnknown(TurnlogError):
    """The answer was lost after the change was sent.  Commit the same change again: it is stored once.

    Attributes:
        key: The session.
        change: The change, to be committed again unchanged; None for a call without a change, such as a deletion.
    """

    key: Any
    change: Any

    def __init__(self, message: str, *, key: Any = None, change: Any = None) -> None:
        super().__init__(message)
        self.key = key
        self.change = change

    def __str__(self) -> str:
        """Return the message; if the session is known, with its key and the next step."""
        if self.key is None:
            return super().__str__()
        what = "call the method again" if self.change is None else "store.resend(error) stores it once"
        return f"session {self.key}: {super().__str__()}: the change may have been stored: {what}"


class ModelError(TurnlogError):
    """A model's answer cannot be used.

    For example, it calls a tool and the pipeline has no tools, or it calls tools for more than `max_rounds`.  A round
    with an unanswered call is never stored.
    """


class CorruptRecord(TurnlogError):
    """A stored record cannot be read.  turnlog does not skip or delete it.  Other records stay readable.

    Attributes:
        key: The session; None if unknown.
        turn: The number of the record's first turn; None if unknown.
    """

    key: Any
    turn: int | None

    def __init__(self, message: str, *, key: Any = None, turn: int | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.turn = turn

    def __str__(self) -> str:
        """Return the message with the session and the turn, if they are known.

        A caller that knows them may set the attributes later.
        """
        place = [] if self.key is None else [f"session {self.key}"]
        if self.turn is not None:
            place.append(f"turn {self.turn}")
        return f"{', '.join(place)}: {super().__str__()}" if place else super().__str__()


class FormatTooNew(CorruptRecord):
    """A newer turnlog wrote a stored record: upgrade turnlog."""


class LayerMissing(CorruptRecord):
    """A layer that the store lacks wrote a stored record: open the store with the layer.  This is no damage."""


class ConfigError(TurnlogError, ValueError):
    """A URL, a configuration file, a variable or an option is wrong."""


class PluginError(TurnlogError):
    """A plugin is missing or cannot be loaded, or two distributions register its name."""


class SchemaError(TurnlogError):
    """The tables of a database are from an older or a newer turnlog, or from another program.

    Attributes:
        missing: Whether the tables, or the database, do not exist.
    """

    missing: bool

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class Unsupported(TurnlogError):
    """The backend lacks an optional method, or the call needs another event loop.  Nothing was done."""


class Closed(TurnlogError):
    """The store has been closed."""

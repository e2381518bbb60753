"""Every error that turnlog raises: one tree.

    TurnlogError
    ├── InvalidInput (ValueError)       not stored: what was passed breaks a rule; raised before any I/O
    │   └── TooLarge                    not stored: over one of the limits of `docs/reference/limits.md`
    ├── SessionNotFound (LookupError)   there is no such session, or it has expired
    ├── Conflict                        not stored: the session is not where `expect` says
    ├── IdReused                        not stored: this change id was used for another change
    ├── SplitsSealed                    not stored: the cut falls inside a sealed record
    ├── HistoryRegressed                not stored: the store is behind, or beside, what this caller saw
    ├── Unavailable (ConnectionError)   not stored: the store could not be reached in time
    ├── OutcomeUnknown                  stored or not: send the same change again
    ├── ModelError                      the model's answer cannot be used; finished rounds are stored
    ├── CorruptRecord                   a stored record cannot be read
    │   └── FormatTooNew                it was written by a newer turnlog
    ├── ConfigError (ValueError)        a URL, a file or an option is wrong
    ├── PluginError                     a plugin is missing, broken or claimed twice
    ├── SchemaError                     the tables of a database do not fit this turnlog
    ├── Unsupported                     the backend has not implemented an optional method
    └── Closed                          the store has been closed

The values that an error carries are typed `Any`: a `Key`, a `Version` or a `Change`, or None where it is not known.

Returned means stored.  Cancellation and the death of the process leave the outcome unknown, as `OutcomeUnknown` does;
sending the same `Change` again is safe.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "Closed",
    "ConfigError",
    "Conflict",
    "CorruptRecord",
    "FormatTooNew",
    "HistoryRegressed",
    "IdReused",
    "InvalidInput",
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
    """The root of all errors that turnlog raises on purpose.

    Args:
        message: What failed and where, what was expected, and what to do next.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class InvalidInput(TurnlogError, ValueError):
    """A value breaks a rule.  Nothing was sent and nothing was stored."""


class TooLarge(InvalidInput):
    """A value is over a limit.  Nothing was stored."""


class SessionNotFound(TurnlogError, LookupError):
    """There is no session under this key, or it has expired."""

    key: Any

    def __init__(self, message: str, *, key: Any = None) -> None:
        super().__init__(message)
        self.key = key


class Conflict(TurnlogError):
    """The session is not where the change expected it.  Nothing was stored.

    Attributes:
        expected: What the change named; None where it was `ABSENT`, or named nothing.
        actual: Where the session is; None where it does not exist.
    """

    expected: Any
    actual: Any

    def __init__(self, message: str, *, expected: Any = None, actual: Any = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class IdReused(TurnlogError):
    """This change id stands for a change with other contents.  Nothing was stored."""


class SplitsSealed(TurnlogError):
    """A cut would fall inside a sealed record.  Nothing was stored.

    Attributes:
        boundary: The number of the first turn of that record, where a cut is possible.
    """

    boundary: int

    def __init__(self, message: str, *, boundary: int = 0) -> None:
        super().__init__(message)
        self.boundary = boundary


class HistoryRegressed(TurnlogError):
    """The store holds less than, or something else than, what this caller was told.  Nothing was stored.

    A fail-over that lost acknowledged writes looks like this.  It is never retried silently.

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


class OutcomeUnknown(TurnlogError):
    """The answer was lost after the change was sent.  Commit the same change again: it is stored once.

    Attributes:
        key: The session.
        change: The change, to be committed again as it is.
    """

    key: Any
    change: Any

    def __init__(self, message: str, *, key: Any = None, change: Any = None) -> None:
        super().__init__(message)
        self.key = key
        self.change = change

    def __str__(self) -> str:
        """Return what happened; if the session is known, also what to do."""
        if self.key is None:
            return super().__str__()
        what = "call the method again" if self.change is None else "store.resend(error) stores it once"
        return f"session {self.key}: {super().__str__()}: the change may have been stored: {what}"


class ModelError(TurnlogError):
    """A model's answer cannot be used: it calls tools that it was not given, or never stops calling them.

    No round with an unanswered call is stored.
    """


class CorruptRecord(TurnlogError):
    """A stored record cannot be read.  It is neither skipped nor deleted, and does not hide the others.

    Attributes:
        key: The session, where it is known.
        turn: The number of the record's first turn, where it is known.
    """

    key: Any
    turn: int | None

    def __init__(self, message: str, *, key: Any = None, turn: int | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.turn = turn

    def __str__(self) -> str:
        """The place, as far as it is known, and what is wrong there: whoever knows more of it sets the attribute."""
        place = [] if self.key is None else [f"session {self.key}"]
        if self.turn is not None:
            place.append(f"turn {self.turn}")
        return f"{', '.join(place)}: {super().__str__()}" if place else super().__str__()


class FormatTooNew(CorruptRecord):
    """A stored record was written by a newer turnlog: upgrade this one."""


class ConfigError(TurnlogError, ValueError):
    """A URL, a configuration file, a variable or an option is wrong."""


class PluginError(TurnlogError):
    """A plugin is missing, cannot be loaded, or two distributions claim one name."""


class SchemaError(TurnlogError):
    """The tables of a database were made by an older or a newer turnlog, or by something else.

    Attributes:
        missing: Whether there are no tables at all, or no database.
    """

    missing: bool

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class Unsupported(TurnlogError):
    """The backend has not implemented an optional method of the contract.  Nothing was done."""


class Closed(TurnlogError):
    """The store has been closed."""

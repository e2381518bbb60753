"""Errors about damaged sessions: join several errors to one, and divide it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from turnlog import CorruptRecord, Key

_SHOWN: Final = 10
"""The largest number of errors in the text of a joined error."""


def named(error: CorruptRecord, key: Key) -> CorruptRecord:
    """Add the session to an error that does not name it, and return the error.

    Args:
        error: The error of a read.
        key: The session that was read.
    """
    if error.key is None:
        error.key = key
    return error


def together(errors: Sequence[CorruptRecord]) -> CorruptRecord:
    """Join several errors to one; `each_of` divides it again."""
    if len(errors) == 1:
        return errors[0]
    shown = "; ".join(map(str, errors[:_SHOWN])) + ("; ..." if len(errors) > _SHOWN else "")
    error = CorruptRecord(f"{len(errors)} sessions cannot be read and are left out: {shown}")
    error.__cause__ = ExceptionGroup("damaged", errors)
    return error


def each_of(error: CorruptRecord) -> list[CorruptRecord]:
    """Return the error of each session from a joined error of a list of sessions or of an export."""
    if not isinstance(error.__cause__, ExceptionGroup):
        return [error]
    return [one for one in error.__cause__.exceptions if isinstance(one, CorruptRecord)]

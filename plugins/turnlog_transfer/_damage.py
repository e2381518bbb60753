"""Errors about damaged sessions: one for each, or one for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from turnlog import CorruptRecord, Key

_SHOWN: Final = 10
"""The most errors to put into the text of one."""


def named(error: CorruptRecord, key: Key) -> CorruptRecord:
    """Return an error that names its session, which a record does not know.

    Args:
        error: The error of a read.
        key: The session that was read.
    """
    if error.key is None:
        error.key = key
    return error


def together(errors: Sequence[CorruptRecord]) -> CorruptRecord:
    """Return one error for several; `each_of` returns them again."""
    if len(errors) == 1:
        return errors[0]
    shown = "; ".join(map(str, errors[:_SHOWN])) + ("; ..." if len(errors) > _SHOWN else "")
    error = CorruptRecord(f"{len(errors)} sessions cannot be read and are left out: {shown}")
    error.__cause__ = ExceptionGroup("damaged", errors)
    return error


def each_of(error: CorruptRecord) -> list[CorruptRecord]:
    """Return the error of each session, from the one error of a list of sessions or of an export."""
    if not isinstance(error.__cause__, ExceptionGroup):
        return [error]
    return [one for one in error.__cause__.exceptions if isinstance(one, CorruptRecord)]

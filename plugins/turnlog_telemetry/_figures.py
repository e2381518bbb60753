"""The figures of an operation: messages, bytes and rows, counted in its input and its output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from turnlog import Change, Page, Query, Receipt, Record, Session

_CAUSES: Final = 8
"""Largest number of causes of an error that are searched for a code."""


class Figures(NamedTuple):
    """The figures of one successful operation.

    Attributes:
        messages: The number of messages that were read or stored; None if the operation has no messages.
        size: The size of their records in bytes, before compression and encryption; None: unknown.
        repeat: Whether the change was a repeat, so that this operation stored nothing.
        rows: The number of sessions on a page, or of names in a list of namespaces; None for all other operations.
    """

    messages: int | None = None
    size: int | None = None
    repeat: bool = False
    rows: int | None = None


_NOTHING: Final = Figures()


def _of_read(_: None, session: Session) -> Figures:
    records, info = session.records, session.info
    if not records:
        return Figures(0, 0)
    first = records[0]
    messages = records[-1].messages_until - first.messages_until + first.count
    if messages == info.messages:  # the whole session, whose size is known
        return Figures(messages, info.bytes)
    return Figures(messages, sum([record.size for record in records]))


def _of_commit(change: Change, receipt: Receipt) -> Figures:
    append = change.append
    if not append:
        return Figures(0, 0)
    if receipt.previous == receipt.version:
        return Figures(0, 0, repeat=True)
    if len(append) == 1:
        return Figures(append[0].count, append[0].size)
    return Figures(sum([record.count for record in append]), sum([record.size for record in append]))


def _of_copy(_: None, receipt: Receipt) -> Figures:
    repeat = receipt.previous == receipt.version
    return Figures(0 if repeat else receipt.messages, repeat=repeat)


def _of_seal(record: Record, done: bool | None) -> Figures:  # noqa: FBT001 - the answer of the operation
    return Figures(record.count, record.size) if done else Figures(0, 0)


def _of_page(_: Query, page: Page) -> Figures:
    return Figures(rows=len(page.infos))


def _of_namespaces(_: None, names: Sequence[str]) -> Figures:
    return Figures(rows=len(names))


_FIGURES: Final[Mapping[str, Callable[[Any, Any], Figures]]] = MappingProxyType(
    {
        "read": _of_read,
        "commit": _of_commit,
        "copy": _of_copy,
        "seal": _of_seal,
        "page": _of_page,
        "namespaces": _of_namespaces,
    }
)


def figures_of(operation: str, asked: object, answer: object) -> Figures:
    """Return the figures of a successful operation.

    Args:
        operation: The name of the method of the backend.
        asked: The `Change` of a commit, the `Query` of a page or the `Record` of a seal; None for all other operations.
        answer: The return value of the method.
    """
    of = _FIGURES.get(operation)
    return _NOTHING if of is None else of(asked, answer)


def status_code_of(error: BaseException) -> str | None:
    """Return the database's code of an error; None if the driver has provided none.

    The code is the SQLSTATE of PostgreSQL, the name of SQLite's error code, or the number of MySQL's error.
    """
    cause = error.__cause__
    for _ in range(_CAUSES):
        if cause is None:
            return None
        code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
        if isinstance(code, str):
            return code
        if not isinstance(cause, OSError) and cause.args and type(cause.args[0]) is int:
            return str(cause.args[0])
        cause = cause.__cause__
    return None

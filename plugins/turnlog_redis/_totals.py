"""Totals: the number and the size of the sessions of a namespace."""

from __future__ import annotations

from typing import Final, NamedTuple

from turnlog import Query, Totals

from . import _layout, _scripts
from ._connection import Argument
from ._retry import RetryingServer

_AT_ONCE: Final = 500
"""Number of sessions that one script counts: other clients wait for one or two milliseconds."""
_EVERY: Final = 16  # the memory of every 16th session is measured


class _Part(NamedTuple):
    """The uncounted part of a bucket's index."""

    bucket: int
    many: int
    """Approximate number of entries that are left."""
    top: Argument = "+inf"
    """The score of the last counted entry."""
    skip: int = 0
    """Number of counted entries with this score."""


async def totals(server: RetryingServer, namespace: str) -> Totals:
    """Return the number and the size of a namespace's unexpired sessions, as `Backend.totals`."""
    namespace, until = Query(namespace=namespace).one_namespace, server.deadline()
    indexes = _layout.indexes_of(namespace, None)
    entries = await server.ask_all([(b"ZCARD", index) for index in indexes], until)
    every = 1 if sum(entries) <= _AT_ONCE else _EVERY
    left = [_Part(bucket, many) for bucket, many in enumerate(entries) if many]
    sums = [0] * 6
    while left:
        parts = [left.pop()]
        while left and sum([part.many for part in parts]) + left[-1].many <= _AT_ONCE:
            parts.append(left.pop())
        commands = []
        for part in parts:
            prefix = _layout.prefix_of(part.bucket, namespace)
            commands.append(_scripts.COUNT.call((indexes[part.bucket],), (prefix, *part[2:], _AT_ONCE, every)))
        for part, (*found, read, last, ties) in zip(parts, await server.ask_all(commands, until), strict=True):
            sums = [before + more for before, more in zip(sums, found, strict=True)]
            if read == _AT_ONCE:
                left.append(_Part(part.bucket, max(1, part.many - read), last, ties))
    sessions, messages, size, sampled, memory, index = sums
    stored = None if sessions and not sampled else index + memory * sessions // max(sampled, 1)
    return Totals(sessions=sessions, messages=messages, bytes=size, stored=stored)

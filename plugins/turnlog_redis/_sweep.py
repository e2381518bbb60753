"""Sweeps: the removal of index entries whose sessions have expired."""

from __future__ import annotations

from typing import Final

from . import _layout, _scripts
from ._retry import RetryingServer

_SWEPT: Final = 100  # the number of entries that one script sweeps, and of indexes in one round trip


async def sweep(server: RetryingServer) -> int:
    """Remove the index entries of expired sessions in all namespaces; return their number."""
    swept, left = 0, dict.fromkeys(range(_layout.BUCKETS), b"")
    while left:
        places = [(after, *_layout.namespaces_of(bucket)) for bucket, after in left.items()]
        commands = [_scripts.NAMESPACES.call((names,), (after, _SWEPT, index)) for after, names, index in places]
        answers = await server.ask_all(commands)
        found = dict(zip(left, answers, strict=True))
        swept += await _sweep(server, [(bucket, name, b"0") for bucket, names in found.items() for name in names])
        left = {bucket: names[-1] for bucket, names in found.items() if len(names) == _SWEPT}
    return swept


async def _sweep(server: RetryingServer, parts: list[tuple[int, bytes, bytes]]) -> int:
    """Sweep indexes and return the number of removed entries.

    Args:
        server: The server.
        parts: The bucket, the namespace and the start cursor of each index.
    """
    swept = 0
    while parts:
        some, parts = parts[:_SWEPT], parts[_SWEPT:]
        commands = []
        for bucket, name, cursor in some:
            namespace = _layout.listed_namespace(name)
            prefixes = _layout.prefix_of(bucket, namespace), _layout.owners_prefix_of(bucket, namespace)
            index = _layout.index_of(bucket, namespace, None)
            commands.append(_scripts.SWEEP.call((index,), (*prefixes, cursor, _SWEPT)))
        answers = await server.ask_all(commands)
        for (bucket, name, _), (cursor, count) in zip(some, answers, strict=True):
            swept += count
            if cursor != b"0":
                parts.append((bucket, name, cursor))
    return swept

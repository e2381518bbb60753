"""`turnlog namespaces`, and the choice of namespaces for other commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from turnlog import InvalidInput, Store
from turnlog.config import open_existing

from ._text import Code, as_json, line, note


def list_namespaces(url: str | None, *, json: bool) -> int:
    """Print the namespaces that have sessions, one per line.

    Args:
        url: The URL of the store; None: the store in the configuration.
        json: Print one JSON string per line.
    """
    return asyncio.run(_list_namespaces(url, json=json))


async def _list_namespaces(url: str | None, *, json: bool) -> int:
    found = False
    async with open_existing(url) as store:
        async for name in store.namespaces():
            found = True
            print(as_json(name) if json else line(name))
    if not found:
        note("turnlog: the store has no sessions")
    return Code.FINE


def check_one(namespace: str | None, *, everywhere: bool) -> None:
    """Refuse a namespace together with all namespaces.

    Raises:
        InvalidInput: Both are given.
    """
    if everywhere and namespace is not None:
        raise InvalidInput("--namespace and --all-namespaces cannot be combined: leave out one of them")


async def stores_of(store: Store, *, everywhere: bool) -> AsyncIterator[Store]:
    """Yield the store, or a view of each namespace that has sessions."""
    if not everywhere:
        yield store
        return
    async for name in store.namespaces():
        yield store.within(name)

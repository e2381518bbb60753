"""`turnlog verify`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from turnlog import CorruptRecord, Query, SessionNotFound, Store
from turnlog.config import open_existing

from ._hooks import Checks, lowest
from ._namespaces import check_one
from ._progress import progress
from ._show import turns_of
from ._text import Code, as_json, counted, is_terminal, line, note


def verify(url: str | None, *, namespace: str | None, everywhere: bool, json: bool) -> int:
    """Read every turn of every session, and have the database check itself; print what is damaged, change nothing.

    Args:
        url: Where; None: the store that the configuration names.
        namespace: The namespace; None: the one that the configuration names.
        everywhere: All namespaces, also those in which layers keep what is theirs.
        json: One object at the end.
    """
    check_one(namespace, everywhere=everywhere)
    return asyncio.run(_verify(url, namespace, everywhere=everywhere, json=json))


async def _verify(url: str | None, namespace: str | None, *, everywhere: bool, json: bool) -> int:
    sessions = turns = 0
    damaged: list[str] = []
    async with open_existing(url, namespace=namespace) as store:
        backend = lowest(store.backend)
        if isinstance(backend, Checks):
            if is_terminal(sys.stderr):
                note("turnlog: the database checks itself")
            damaged += await backend.check()
        with progress("verify") as show:
            async with aclosing(_read(store, everywhere=everywhere)) as found:
                async for one in found:
                    if isinstance(one, CorruptRecord):
                        damaged.append(str(one))
                    else:
                        sessions, turns = sessions + 1, turns + one
                        show(f"{len(damaged)} damaged" if damaged else "")
    if json:
        print(as_json({"sessions": sessions, "turns": turns, "damaged": damaged}))
    else:
        for text in damaged:
            print(line(text))
        read = f"{counted(sessions, 'session')} with {counted(turns, 'turn')} read"
        print(f"{read}, {len(damaged)} of their parts damaged" if damaged else f"{read}, no damage was found")
    return Code.FAILED if damaged else Code.FINE


async def _read(store: Store, *, everywhere: bool) -> AsyncGenerator[int | CorruptRecord, None]:
    """Yield how many turns of each session can be read, and before it an error for each part that cannot."""
    backend = store.backend
    async for namespace in _namespaces(store, everywhere=everywhere):
        cursor: str | None = None
        while True:
            page = await backend.page(Query(namespace=namespace, cursor=cursor))
            for error in page.damaged:
                yield error
            for info in page.infos:
                count = 0
                try:
                    session = await backend.read(info.key, touch=False)
                except SessionNotFound:  # it was erased meanwhile
                    continue
                except CorruptRecord as error:
                    yield error
                else:
                    for turn in turns_of(session):
                        if isinstance(turn, CorruptRecord):
                            yield turn
                        else:
                            count += 1
                yield count
            if page.cursor is None:
                break
            cursor = page.cursor


async def _namespaces(store: Store, *, everywhere: bool) -> AsyncIterator[str]:
    if not everywhere:
        yield store.namespace
        return
    names = await store.backend.namespaces()
    while names:
        for name in names:
            yield name
        names = await store.backend.namespaces(after=names[-1])

"""`turnlog verify`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from shlex import quote

from turnlog import CorruptRecord, LayerMissing, Query, SessionNotFound, Store
from turnlog.config import mask, open_existing

from ._hooks import Checks, lowest
from ._namespaces import check_one
from ._progress import progress
from ._show import turns_of
from ._text import Code, as_json, counted, is_terminal, line, note


def verify(url: str | None, *, namespace: str | None, everywhere: bool, json: bool) -> int:
    """Read every turn of every session, and check the database; print each damaged part, and change nothing.

    Args:
        url: The URL of the store; None: the store in the configuration.
        namespace: The namespace; None: the namespace in the configuration.
        everywhere: Read all namespaces, including the internal namespaces of layers.
        json: Print one JSON object at the end.
    """
    check_one(namespace, everywhere=everywhere)
    return asyncio.run(_verify(url, namespace, everywhere=everywhere, json=json))


class _Found:
    """The result so far."""

    def __init__(self) -> None:
        self.namespace = ""
        self.sessions = self.turns = 0
        self.damaged: list[str] = []
        self.complete = False


async def _verify(url: str | None, namespace: str | None, *, everywhere: bool, json: bool) -> int:
    found = _Found()
    try:
        async with open_existing(url, namespace=namespace) as store:
            found.namespace = store.namespace
            await _look(store, found, everywhere=everywhere)
        found.complete = True
    except LayerMissing:  # no damage: nothing can be said about the records of the layer
        found = _Found()
        raise
    except CorruptRecord as error:  # because of the damage, the rest cannot be read
        found.damaged.append(str(error))
    finally:  # also after Ctrl-C, and if the server is lost
        if found.complete or found.sessions or found.damaged:
            _print(found, everywhere=everywhere, json=json)
        if found.damaged:
            note(mask(_remedy(url, namespace, everywhere=everywhere), url))
    return Code.FAILED if found.damaged else Code.FINE


async def _look(store: Store, found: _Found, *, everywhere: bool) -> None:
    backend = lowest(store.backend)
    if isinstance(backend, Checks):
        if is_terminal(sys.stderr):
            note("turnlog: checking the database")
        try:
            found.damaged += await backend.check()
        except CorruptRecord as error:  # the check stops, but many sessions can still be read
            found.damaged.append(str(error))
    with progress("verify") as show:
        async with aclosing(_read(store, everywhere=everywhere)) as parts:
            async for one in parts:
                if isinstance(one, LayerMissing):
                    raise one
                if isinstance(one, CorruptRecord):
                    found.damaged.append(str(one))
                else:
                    found.sessions, found.turns = found.sessions + 1, found.turns + one
                    show(f"{len(found.damaged)} damaged" if found.damaged else "")


def _print(found: _Found, *, everywhere: bool, json: bool) -> None:
    sessions, turns, damaged = found.sessions, found.turns, found.damaged
    if json:
        print(as_json({"sessions": sessions, "turns": turns, "damaged": damaged, "complete": found.complete}))
    else:
        for text in damaged:
            print(line(text))
        if damaged:
            readable = counted(turns, "readable turn")
            print(
                f"{counted(sessions, 'session')} with {readable} checked, {counted(len(damaged), 'damaged part')} found"
            )
        else:
            print(f"{counted(sessions, 'session')} with {counted(turns, 'turn')} read, no damage was found")
    if not found.complete:
        note("turnlog: the store was not read completely: there may be more damage")
    if found.complete and not sessions and not damaged:
        where = "the store" if everywhere else f"namespace {found.namespace!r}"
        note(f"turnlog: there are no sessions in {where}")


def _remedy(url: str | None, namespace: str | None, *, everywhere: bool) -> str:
    store = "" if url is None else f" --store {quote(url)}"
    one = "" if namespace is None else f" --namespace {quote(namespace)}"
    each, name = (" --all-namespaces", " --namespace NAME") if everywhere else (one, one)
    return (
        f"turnlog: restore a backup. Without a backup, 'turnlog export -o FILE{store}{each}' writes the readable "
        "sessions, and 'turnlog import FILE' stores them in another store. "
        f"'turnlog erase SESSION{store}{name}' removes a damaged session"
    )


async def _read(store: Store, *, everywhere: bool) -> AsyncGenerator[int | CorruptRecord, None]:
    """Yield the number of readable turns of each session, after an error for each damaged part."""
    backend = store.backend
    async for namespace in _namespaces(store, everywhere=everywhere):
        cursor: str | None = None
        while True:
            try:
                page = await backend.page(Query(namespace=namespace, cursor=cursor))
            except CorruptRecord as unreadable:  # the rest of this namespace cannot be listed; go on with the next one
                yield unreadable
                break
            for error in page.damaged:
                yield error
            for info in page.infos:
                count = 0
                try:
                    session = await backend.read(info.key, touch=False)
                except SessionNotFound:  # erased since the list was read
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

"""Lists of sessions and namespaces: `Store.sessions`, `export_owner`, `erase_owner` and `namespaces`, page by page.

A damaged session does not end a list: `sessions` and `export_owner` yield all other sessions and then raise its error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from .backend import Backend
from .errors import Conflict, CorruptRecord, SessionNotFound, Unsupported
from .event_loop import check_event_loop
from .layers import Layer
from .limits import MAX_ID_BYTES
from .rules.window import exact
from .values.key import Key
from .values.namespaces import OWN, nested_name
from .values.query import Query
from .values.session import Erased, Page, Session, SessionInfo, decoded

__all__ = ["erase", "export", "infos", "namespaces"]

_TRIES: Final = 100
"""Maximum number of consecutive passes without a session that can be deleted."""


async def _pages(backend: Backend, query: Query) -> AsyncIterator[Page]:
    """Yield the pages of a query, from the first one on."""
    check_event_loop()
    while True:
        page = await backend.page(query)
        yield page
        if page.cursor is None:
            return
        if page.cursor == query.cursor:  # a faulty backend must not cause an endless loop
            where = "of all namespaces" if query.namespace is None else f"of namespace {query.namespace!r}"
            raise CorruptRecord(f"the list of the sessions {where} repeats pages: check the backend")
        query = replace(query, cursor=page.cursor)


async def infos(backend: Backend, query: Query) -> AsyncIterator[SessionInfo]:
    """Implement `Store.sessions`."""
    damaged: list[CorruptRecord] = []
    async for page in _pages(backend, query):
        for info in page.infos:
            yield info
        damaged += page.damaged
    _report(damaged)


async def export(backend: Backend, query: Query, read: Callable[[Key], Awaitable[Session]]) -> AsyncIterator[Session]:
    """Implement `Store.export_owner`.

    Args:
        backend: The backend.
        query: The query of the owner's sessions.
        read: Returns a session.
    """
    done: set[Key] = set()
    damaged: list[CorruptRecord] = []
    listed: list[CorruptRecord] = []
    found = True
    while found:  # a session that changes meanwhile moves to the front: repeat until a pass finds nothing new
        found, listed = False, []
        async for page in _pages(backend, query):
            listed += page.damaged
            for info in page.infos:
                if info.key in done:
                    continue
                done.add(info.key)
                try:
                    session = exact(await decoded(await read(info.key)), None, None)
                except SessionNotFound:
                    continue
                except CorruptRecord as error:
                    damaged.append(error)
                    continue
                found = True
                if session.info.owner == query.owner:  # another task may have changed it since the page was read
                    yield session
    _report([*listed, *damaged])


async def erase(backend: Backend, query: Query) -> Erased:
    """Implement `Store.erase_owner`.

    Args:
        backend: The backend.
        query: The query of the owner's sessions.
    """
    check_event_loop()
    owner = query.owner
    assert owner is not None  # the caller has checked the owner
    names = {} if query.namespace is None else {query.namespace: None}  # in order
    if query.namespace is None and isinstance(backend, Layer):
        with suppress(Unsupported):  # then the layer describes the data of the namespaces in which sessions are found
            names.update([(name, None) async for name in namespaces(backend, None)])
    erased = tries = 0
    while True:  # a session that changes meanwhile moves to the front: repeat until a pass finds nothing
        before, left, last = erased, [], None
        async for page in _pages(backend, query):
            for info in page.infos:  # `for_owner`: another task may have changed the owner since the page was read
                last = info.key
                names[last.namespace] = None
                erased += await backend.delete(info.key, for_owner=owner)
            for error in page.damaged:
                try:
                    erased += error.key is not None and await backend.delete(error.key, for_owner=owner)
                except CorruptRecord as why:
                    left.append(why)
                else:
                    left += [error] if error.key is None else []
        if last is None:
            traces = [await backend.traces(name, owner) for name in names] if isinstance(backend, Layer) else ()
            return Erased(erased, tuple(trace for found in traces for trace in found), tuple(left))
        tries = 0 if erased > before else tries + 1
        if tries == _TRIES:
            raise Conflict(f"session {last} is listed for owner {owner!r}, but cannot be deleted")


async def namespaces(backend: Backend, view: str | None) -> AsyncIterator[str]:
    """Implement `Store.namespaces`.

    Args:
        backend: The backend.
        view: The namespace of a view that `within` returned; None: list the namespaces of a store.
    """
    check_event_loop()
    shown: set[str] = set()  # `a/b` and `a/b/c` both show `b` within `a`, and `a/b!` may come between them
    after = None if view is None else f"{view}/"
    while after is None or len(after.encode()) < MAX_ID_BYTES:  # a longer namespace has no room for a nested name
        found = await backend.namespaces(after=after)
        for name in found:
            if view is None:
                if not name.startswith(OWN):  # a namespace for the data of layers
                    yield name
                continue
            if not name.startswith(f"{view}/"):
                return  # the nested namespaces are adjacent
            nested = nested_name(view, name)
            if nested is not None and nested not in shown:
                shown.add(nested)
                yield nested
        if not found:
            return
        if after is not None and found[-1] <= after:  # a faulty backend must not cause an endless loop
            raise CorruptRecord("the list of namespaces repeats pages: check the backend")
        after = found[-1]


def _report(damaged: Sequence[CorruptRecord]) -> None:
    """Raise one error for all damaged sessions, if there are any."""
    if len(damaged) == 1:
        raise damaged[0]
    if damaged:
        shown = "; ".join(map(str, damaged[:10])) + ("; ..." if len(damaged) > 10 else "")
        # the group holds each error, for commands that print a line for each
        raise CorruptRecord(f"{len(damaged)} sessions cannot be read: {shown}") from ExceptionGroup("damaged", damaged)

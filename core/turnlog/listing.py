"""Lists of sessions and namespaces: `Store.sessions`, `export_owner`, `erase_owner` and `namespaces`, page by page.

A damaged session does not end a list: `sessions` and `export_owner` yield all other sessions and then raise its error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from .backend import Backend
from .errors import Conflict, CorruptRecord, SessionNotFound
from .event_loop import check_event_loop
from .layers import Layer
from .limits import MAX_ID_BYTES
from .values.ids import OWN, nested_name
from .values.session import Erased, Page, Query, Session, SessionInfo

__all__ = ["erase", "export", "infos", "namespaces", "pages"]

_LIMIT: Final = 100
"""Number of sessions per page."""

_TRIES: Final = 100
"""Maximum number of consecutive pages without a session that can be deleted."""


async def pages(backend: Backend, namespace: str, owner: str | None) -> AsyncIterator[Page]:
    """Yield the pages of a namespace, or of one owner's sessions in it."""
    check_event_loop()
    cursor: str | None = None
    while True:
        page = await backend.page(Query(namespace=namespace, owner=owner, limit=_LIMIT, cursor=cursor))
        yield page
        if page.cursor is None:
            return
        if page.cursor == cursor:  # a faulty backend must not cause an endless loop
            raise CorruptRecord(f"the list of the sessions of namespace {namespace!r} repeats pages: check the backend")
        cursor = page.cursor


async def infos(backend: Backend, namespace: str, owner: str | None) -> AsyncIterator[SessionInfo]:
    """Implement `Store.sessions`."""
    damaged: list[CorruptRecord] = []
    async for page in pages(backend, namespace, owner):
        for info in page.infos:
            yield info
        damaged += page.damaged
    _report(damaged)


async def export(
    backend: Backend, namespace: str, owner: str, read: Callable[[str], Awaitable[Session]]
) -> AsyncIterator[Session]:
    """Implement `Store.export_owner`.

    Args:
        backend: The backend.
        namespace: The tenant.
        owner: The owner.
        read: Returns the session with an id.
    """
    done: set[str] = set()
    damaged: list[CorruptRecord] = []
    listed: list[CorruptRecord] = []
    found = True
    while found:  # a session that changes meanwhile moves to the front: repeat until a pass finds nothing new
        found, listed = False, []
        async for page in pages(backend, namespace, owner):
            listed += page.damaged
            for info in page.infos:
                if info.key.session in done:
                    continue
                done.add(info.key.session)
                try:
                    session = await read(info.key.session)
                except SessionNotFound:
                    continue
                except CorruptRecord as error:
                    damaged.append(error)
                    continue
                found = True
                if session.info.owner == owner:  # another task may have changed the owner since the page was read
                    yield session
    _report([*listed, *damaged])


async def erase(backend: Backend, namespace: str, owner: str) -> Erased:
    """Implement `Store.erase_owner`."""
    check_event_loop()
    erased = tries = 0
    while True:
        page = await backend.page(Query(namespace=namespace, owner=owner, limit=_LIMIT))
        before, left = erased, []
        for info in page.infos:  # `for_owner`: another task may have changed the owner since the page was read
            erased += await backend.delete(info.key, for_owner=owner)
        for error in page.damaged:
            try:
                erased += error.key is not None and await backend.delete(error.key, for_owner=owner)
            except CorruptRecord as why:
                left.append(why)
            else:
                left += [error] if error.key is None else []
        if not page.infos:
            traces = await backend.traces(namespace, owner) if isinstance(backend, Layer) else ()
            return Erased(erased, traces, tuple(left))
        tries = 0 if erased > before else tries + 1
        if tries == _TRIES:
            raise Conflict(f"session {page.infos[0].key} is listed for owner {owner!r}, but cannot be deleted")


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

"""The list of sessions."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from turnlog import CorruptRecord, Page, Query, SessionInfo, Store, Unsupported

from ._visit import Visit

_LIMIT: Final = 50
"""Number of sessions on a page."""

_NAMESPACES: Final = 100
"""The largest number of namespaces to choose from; others can be typed."""

_SCANNED: Final = 20
"""The largest number of pages of the backend that are searched for a prefix."""


async def show_list(visit: Visit) -> Response:
    """Show a page of sessions, most recently updated first."""
    owner, prefix, cursor = visit.text("owner"), visit.text("prefix"), visit.text("cursor")
    page = await _listed(visit.view, owner or None, prefix, cursor or None)
    return visit.page(
        "list.html", page=page, owner=owner, prefix=prefix, cursor=cursor, namespaces=await namespaces_of(visit)
    )


async def namespaces_of(visit: Visit) -> list[str]:
    """Return namespaces to choose from; none if the backend cannot list them, or if the visitor may not choose."""
    found: list[str] = []
    if visit.sees_namespaces:
        try:
            async for name in visit.store.namespaces():
                found.append(name)
                if len(found) == _NAMESPACES:
                    break
        except Unsupported:
            pass
    return found


async def _listed(view: Store, owner: str | None, prefix: str, cursor: str | None) -> Page:
    """Return a page of the sessions of an owner whose ids begin with a prefix."""
    owner = view.owner if view.owner is not None else owner
    if not prefix:
        return await view.backend.page(Query(namespace=view.namespace, owner=owner, limit=_LIMIT, cursor=cursor))
    found: list[SessionInfo] = []
    damaged: list[CorruptRecord] = []
    for _ in range(_SCANNED):
        query = Query(namespace=view.namespace, owner=owner, limit=1_000, cursor=cursor)
        page = await view.backend.page(query)
        damaged += page.damaged
        for info in page.infos:
            if info.key.session.startswith(prefix):
                found.append(info)
                if len(found) == _LIMIT:
                    return Page(tuple(found), query.cursor_after(info), tuple(damaged))
        cursor = page.cursor
        if cursor is None:
            break
    return Page(tuple(found), cursor, tuple(damaged))

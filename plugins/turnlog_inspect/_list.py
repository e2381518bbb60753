"""The list of sessions."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from turnlog import Unsupported

from ._visit import Visit

_LIMIT: Final = 50
"""Number of sessions on a page."""

_NAMESPACES: Final = 100
"""The largest number of namespaces to choose from; others can be typed."""


async def show_list(visit: Visit) -> Response:
    """Show a page of sessions, most recently updated first."""
    owner, prefix, cursor = visit.text("owner"), visit.text("prefix"), visit.text("cursor")
    page = await visit.view.list_sessions(
        owner=owner or None, prefix=prefix or None, limit=_LIMIT, cursor=cursor or None
    )
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

"""Pages of sessions, for backends that have no index."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from ..values.session import Page, Query, SessionInfo


def page(infos: Iterable[SessionInfo], query: Query) -> Page:
    """Return the page of a query.

    Args:
        infos: The infos of all sessions that have not expired, in any order, of any namespace.
        query: The query.
    """
    found = [i for i in infos if i.key.namespace == query.namespace and (query.owner is None or i.owner == query.owner)]
    found.sort(key=_place)
    if query.after is not None:
        updated, session = query.after
        found = found[bisect_right(found, (-updated, session.encode()), key=_place) :]
    shown = tuple(found[: query.limit])
    return Page(shown, query.cursor_after(shown[-1]) if len(found) > query.limit else None)


def _place(info: SessionInfo) -> tuple[float, bytes]:
    return -info.updated, info.key.session.encode()

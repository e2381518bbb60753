"""Pages of sessions, for backends that have no index."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from ..errors import CorruptRecord
from ..values.session import Page, Query, SessionInfo
from .lines import parse_header


def page(infos: Iterable[SessionInfo], query: Query, damaged: Iterable[CorruptRecord] = ()) -> Page:
    """Return the page of a query.

    Args:
        infos: The infos of all sessions that have not expired, in any order, of any namespace.
        query: The query.
        damaged: An error for each session that cannot be read.  Its place is unknown, so the first page reports it.
    """
    found = [i for i in infos if i.key.namespace == query.namespace and (query.owner is None or i.owner == query.owner)]
    found.sort(key=_place)
    if query.after is not None:
        updated, session = query.after
        found = found[bisect_right(found, (-updated, session.encode()), key=_place) :]
    shown = tuple(found[: query.limit])
    cursor = query.cursor_after(shown[-1]) if len(found) > query.limit else None
    return Page(shown, cursor, () if query.cursor else tuple(damaged))


def page_of(query: Query, found: Iterable[SessionInfo | CorruptRecord | None], *, is_last: bool) -> Page | None:
    """Return a page; None if it needs more sessions.

    Args:
        query: The query.
        found: The infos in order, with an error for each damaged session, and None for each removed session.
        is_last: Whether no sessions follow.
    """
    infos: list[SessionInfo] = []
    damaged: list[CorruptRecord] = []
    before = 0
    for one in found:
        if isinstance(one, CorruptRecord):
            damaged.append(one)
        elif one is not None:
            if len(infos) == query.limit:  # the next page reports damage after the last info
                return Page(tuple(infos), query.cursor_after(infos[-1]), tuple(damaged[:before]))
            infos.append(one)
            before = len(damaged)
    return Page(tuple(infos), None, tuple(damaged)) if is_last else None


def page_of_lines(sessions: Mapping[str, Sequence[bytes]], query: Query, now: float) -> Page:
    """Return the page of a query from the lines of sessions (`SessionState.lines`); only the headers are read.

    Args:
        sessions: The lines of each session, by a name for error messages; sessions without lines are left out.
        query: The query.
        now: Seconds since 1970, by the backend's clock.
    """
    infos, damaged = [], []
    for name, lines in sessions.items():
        if lines:
            try:
                header = parse_header(None, lines)
            except CorruptRecord as error:
                damaged.append(CorruptRecord(f"{name}: {error}"))
            else:
                infos += [header.info(now)] if header.alive(now) else []
    return page(infos, query, damaged)


def _place(info: SessionInfo) -> tuple[float, bytes]:
    return -info.updated, info.key.session.encode()

"""Pages of sessions, for backends that have no index, or that list one namespace at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import Final, Protocol

from ..errors import CorruptRecord
from ..values.key import Key
from ..values.namespaces import OWN
from ..values.query import Query
from ..values.session import Page, SessionInfo
from .lines import parse_header

AT_ONCE: Final = 100
"""Largest number of namespaces that one page of all namespaces reads: each takes about one read of the backend."""


class ListNamespaces(Protocol):
    """The type of `Backend.namespaces`."""

    def __call__(self, *, after: str | None = None, limit: int = 1_000) -> Awaitable[Sequence[str]]:
        """Return the next namespaces."""


@lru_cache(4_096)
def listed_key(namespace: str, session: bytes) -> Key:
    """Return the key of a session id from a list of the backend; it is cached, because lists repeat their sessions.

    Raises:
        CorruptRecord: The value is not a session id.
    """
    try:
        return Key(namespace, session.decode())
    except (ValueError, AttributeError):
        raise CorruptRecord(f"a session of namespace {namespace!r} has the damaged id {session!r}") from None


def page(infos: Iterable[SessionInfo], query: Query, damaged: Iterable[CorruptRecord] = ()) -> Page:
    """Return the page of a query.

    Args:
        infos: The infos of all sessions that have not expired, in any order, of any namespace.
        query: The query.
        damaged: An error for each session that cannot be read.  Its place is unknown, so the first page reports it.
    """
    found = [info for info in infos if query.matches(info)]
    found.sort(key=_place)
    if query.position is not None:
        namespace, updated, session = query.position
        time = -updated if session else inf  # without a session, the page begins after all sessions of the namespace
        found = found[bisect_right(found, (namespace, time, session.encode()), key=_place) :]
    shown = tuple(found[: query.limit])
    cursor = query.cursor_after(shown[-1]) if len(found) > query.limit else None
    return Page(shown, cursor, () if query.cursor else tuple(damaged))


async def page_of_all(namespaces: ListNamespaces, page: Callable[[Query], Awaitable[Page]], query: Query) -> Page:
    """Return the page of a query of all namespaces, from the pages of each namespace.

    It reads at most 100 namespaces, so it may have few infos, or none, and a cursor.

    Args:
        namespaces: `Backend.namespaces`.
        page: `Backend.page`, for the query of one namespace.
        query: The query.

    Raises:
        Unsupported: The backend cannot list namespaces.
    """
    infos: list[SessionInfo] = []
    damaged: list[CorruptRecord] = []
    begun, session = (None, "") if query.position is None else query.position[::2]
    following = await namespaces(after=begun, limit=AT_ONCE)
    for name in [*([begun] if begun is not None and session else []), *following]:
        if name.startswith(OWN):  # a namespace for the data of layers
            continue
        found = await page(query.within(name, query.limit - len(infos)))
        infos += found.infos
        damaged += found.damaged
        if found.cursor is not None or len(infos) == query.limit:
            return Page(tuple(infos), query.cursor_after(infos[-1]), tuple(damaged))
    is_last = len(following) < AT_ONCE
    return Page(tuple(infos), None if is_last else query.cursor_after_namespace(following[-1]), tuple(damaged))


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


def _place(info: SessionInfo) -> tuple[str, float, bytes]:
    return info.key.namespace, -info.updated, info.key.session.encode()  # code points sort as UTF-8 does

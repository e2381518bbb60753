"""Totals of a namespace, for backends that do not store them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..errors import CorruptRecord
from ..limits import MAX_PAGE
from ..values.query import Query
from ..values.session import Page
from ..values.totals import Totals


async def totals_of(page: Callable[[Query], Awaitable[Page]], namespace: str) -> Totals:
    """Return the totals of a namespace, counted on its pages; `Totals.stored` is None.

    Args:
        page: `Backend.page`.
        namespace: The tenant.

    Raises:
        InvalidInput: The namespace breaks a rule.
        CorruptRecord: The pages repeat.
    """
    sessions = messages = size = 0
    query = Query(namespace=namespace, limit=MAX_PAGE)
    while True:
        found = await page(query)
        sessions += len(found.infos)
        messages += sum([info.messages for info in found.infos])
        size += sum([info.bytes for info in found.infos])
        if found.cursor is None:
            return Totals(sessions=sessions, messages=messages, bytes=size)
        if found.cursor == query.cursor:
            raise CorruptRecord(f"the list of the sessions of namespace {namespace!r} repeats pages: check the backend")
        query = Query(namespace=namespace, limit=MAX_PAGE, cursor=found.cursor)

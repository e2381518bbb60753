"""Suggestions for a session id that does not exist."""

from __future__ import annotations

from contextlib import suppress
from difflib import get_close_matches
from typing import Final

from turnlog import CorruptRecord, Key, Query, SessionNotFound, Store

_LOOKED_AT: Final = 1_000
"""Sessions whose ids are compared: the ones that were updated last, which are one page of the list."""

_SHOWN: Final = 3
"""Ids that a suggestion names: as many as `get_close_matches` returns by default."""


async def not_found(store: Store, session_id: str, text: str) -> SessionNotFound:
    """Return the error for an id that does not exist; it has a key if no id is close; then the program adds advice."""
    close = await suggested(store, session_id)
    return SessionNotFound(f"{text}{close}", key=None if close else Key(store.namespace, session_id))


async def suggested(store: Store, session_id: str) -> str:
    """Return the end of a sentence about an id that does not exist: the ids that are close to it; empty if none is.

    Close are ids that begin with it, whatever the case of its letters, and otherwise those that differ little.
    """
    known: list[str] = []
    with suppress(CorruptRecord):
        page = await store.backend.page(Query(namespace=store.namespace, limit=_LOOKED_AT))
        known = [info.key.session for info in page.infos]
    begins = [one for one in known if one.casefold().startswith(session_id.casefold())]
    close = (begins or get_close_matches(session_id, known))[:_SHOWN]
    if not close:
        return ""
    return f"; did you mean {' or '.join(map(repr, close))}?"

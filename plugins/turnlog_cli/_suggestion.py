"""Suggestions for a session id that does not exist."""

from __future__ import annotations

from contextlib import suppress
from difflib import get_close_matches
from typing import Final

from turnlog import CorruptRecord, Key, Query, SessionNotFound, Store

_LOOKED_AT: Final = 1_000
"""Number of most recently updated sessions whose ids are compared: one page of the list."""

_SHOWN: Final = 3
"""Largest number of ids in a suggestion: the default of `get_close_matches`."""


async def not_found(store: Store, session_id: str, text: str) -> SessionNotFound:
    """Return the error for an id that does not exist; without a similar id it has a key, for `next_step`."""
    close = await suggested(store, session_id)
    return SessionNotFound(f"{text}{close}", key=None if close else Key(store.namespace, session_id))


async def suggested(store: Store, session_id: str) -> str:
    """Return the end of a message about an id that does not exist: similar ids; empty if there are none.

    Similar ids are those that begin with it, ignoring case; if there are none, those that differ little.
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

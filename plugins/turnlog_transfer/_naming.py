"""Shared by what stores conversations and what restores sessions."""

from __future__ import annotations

from hashlib import sha256

from turnlog import Conflict, Key, SessionInfo, SessionNotFound, Store


class Differs(Conflict):
    """What is stored does not fit what is imported, or cannot be compared with it.  Nothing was changed."""


def name_of(*parts: object) -> str:
    """Return an id that is made of what it stands for: what is imported twice is stored once."""
    return f"import-{sha256(repr(parts).encode()).hexdigest()[:32]}"


async def own_or_none(store: Store, key: Key) -> SessionInfo | None:
    """Return what is known of a session; None if there is none.

    Raises:
        Differs: It belongs to another owner than the store's view.
    """
    try:
        info = (await store.backend.read(key, last=0, touch=False)).info
    except SessionNotFound:
        return None
    if store.owner not in (None, info.owner):
        raise Differs(f"session {key} is there already and belongs to another owner: nothing was changed")
    return info

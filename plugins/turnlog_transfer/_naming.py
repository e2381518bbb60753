"""Ids of imported turns and changes, and the errors of sessions that do not fit."""

from __future__ import annotations

from hashlib import sha256

from turnlog import Conflict, Key, SessionInfo, SessionNotFound, Store


class Differs(Conflict):
    """The stored session does not fit the imported one, or cannot be compared with it.  Nothing was changed."""


def name_of(*parts: object) -> str:
    """Return an id that is the digest of its parts: the same turn or change has the same id in each import."""
    return f"import-{sha256(repr(parts).encode()).hexdigest()[:32]}"


async def own_or_none(store: Store, key: Key) -> SessionInfo | None:
    """Return the info of a session; None if there is none.

    Raises:
        Differs: It belongs to another owner than the store's view.
    """
    try:
        info = (await store.backend.read(key, last=0, touch=False)).info
    except SessionNotFound:
        return None
    if store.owner not in (None, info.owner):
        raise Differs(f"session {key} already exists and belongs to another owner: nothing was changed")
    return info

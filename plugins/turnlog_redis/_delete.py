"""Deletes: the removal of a session."""

from __future__ import annotations

from typing import Final

from turnlog import CorruptRecord, Expect, Key
from turnlog.rules import check_delete

from . import _layout, _scripts
from ._layout import Keys, keys_of
from ._retry import RetryingServer

_NO_CHANGE: Final = b""


async def delete(server: RetryingServer, key: Key, expect: Expect, for_owner: str | None) -> bool | None:
    """Remove a session, as `Backend.delete`; return None if another writer has changed it after `_deletable`."""
    keys, until = keys_of(key.namespace, key.session.encode()), server.deadline()
    raw = b""
    if expect is not None or for_owner is not None:
        found = await _deletable(server, key, keys, until, expect, for_owner)
        if found is None:
            return False
        raw = found
    names, text = (keys.session, keys.listing), (raw, keys.member, keys.owners)
    answer = await server.run(until, _scripts.DELETE, names, *text, writes=True, again=False)
    return None if answer == 2 else bool(answer)


async def _deletable(
    server: RetryingServer, key: Key, keys: Keys, until: float, expect: Expect, for_owner: str | None
) -> bytes | None:
    """Return the element of the header if the session may be deleted; None if it does not exist for the caller.

    Raises:
        CorruptRecord: The session is damaged, so that its version or its owner cannot be compared.
    """
    answer = await server.run(until, _scripts.LOOK, (keys.session,), _NO_CHANGE)
    raw, _, left, _ = answer or (b"", b"", 0, b"")
    try:
        header = _layout.header_from(key, raw, None, left) if answer else None
    except CorruptRecord:
        owners = _layout.owners_of(key, raw)
        if expect is not None or len(owners) > 1:
            raise
        return raw if for_owner is not None and owners == {for_owner.encode()} else None
    return raw if check_delete(key, header, expect, for_owner, 0.0) else None

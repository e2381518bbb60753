"""`turnlog edit`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from turnlog import PRESENT, InvalidInput
from turnlog.config import duration, open_existing
from turnlog.values import JSON

from ._text import Code, line


def edit(
    session_id: str,
    url: str | None,
    *,
    namespace: str | None,
    owner: str | None,
    title: str | None,
    metadata: Sequence[str],
    ttl: str | None,
) -> int:
    """Set what is known of a session besides its turns.

    Args:
        session_id: Which session.
        url: Where it is; None: in the store that the configuration names.
        namespace: The namespace; None: the one that the configuration names.
        owner: The new owner; empty: none.
        title: The metadata `title`; empty: it is removed.
        metadata: Each `name=value`, the value in JSON; null removes the name.
        ttl: Its own time to live as a duration; 0: for ever.

    Raises:
        InvalidInput: Nothing is given, or metadata are not of that form.
    """
    values = dict(map(_value, metadata))
    if title is not None:
        values["title"] = title or None
    if not values and owner is None and ttl is None:
        raise InvalidInput("nothing to set: give --owner, --title, --metadata or --ttl")
    seconds = None if ttl is None else duration(ttl, "--ttl")
    return asyncio.run(_edit(session_id, url, namespace, values, owner, seconds))


async def _edit(
    session_id: str,
    url: str | None,
    namespace: str | None,
    values: dict[str, JSON],
    owner: str | None,
    ttl: float | None,
) -> int:
    async with open_existing(url, namespace=namespace) as store:
        await store.merge_metadata(session_id, values or None, owner=owner, ttl=ttl, expect=PRESENT)
    changed = [*values, *(name for name, value in (("owner", owner), ("ttl", ttl)) if value is not None)]
    print(line(f"session {session_id}: {', '.join(changed)} set"))
    return Code.FINE


def _value(text: str) -> tuple[str, JSON]:
    name, sign, value = text.partition("=")
    why = "" if name and sign else "it has no name, or no ="
    if not why:
        try:
            return name, json.loads(value)
        except ValueError as error:
            why = str(error)
    example = "write name=7, name='\"text\"', or name=null to remove it"
    raise InvalidInput(f"--metadata {text!r} is not NAME=JSON: {why}: {example}")

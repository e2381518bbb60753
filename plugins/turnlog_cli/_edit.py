"""`turnlog edit`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import NamedTuple

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
    """Set the owner, the metadata or the time to live of a session.

    Args:
        session_id: The session.
        url: The URL of the store; None: the store in the configuration.
        namespace: The namespace; None: the namespace in the configuration.
        owner: The new owner; empty: remove the owner.
        title: The metadata `title`; empty: remove it.
        metadata: Items `name=value` with values in JSON; null removes the name.
        ttl: The session's own time to live as a duration; 0: it never expires.

    Raises:
        InvalidInput: Nothing is given, a name is given twice, or an item of `metadata` has another form.
    """
    pairs: list[tuple[str, JSON]] = [*map(_value, metadata), *([] if title is None else [("title", title or None)])]
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(name for name in values if [one for one, _ in pairs].count(name) > 1)
        raise InvalidInput(f"the metadata {twice!r} are given twice, by --metadata or --title: leave out one of them")
    if not values and owner is None and ttl is None:
        raise InvalidInput("nothing to set: add --owner, --title, --metadata or --ttl")
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
        before = await store.info(session_id)
        await store.merge_metadata(session_id, values or None, owner=owner, ttl=ttl, expect=PRESENT)
    steps = [_Step(name, value is None, name in before.metadata) for name, value in values.items()]
    if owner is not None:
        steps.append(_Step("owner", not owner, bool(before.owner)))
    if ttl is not None:
        steps.append(_Step("ttl", removes=False, was_there=True))
    print(line(f"session {session_id}: {_said(steps)}"))
    return Code.FINE


class _Step(NamedTuple):
    """The change of one name."""

    name: str
    removes: bool
    was_there: bool


def _said(steps: Sequence[_Step]) -> str:
    """Return a report of the changes."""
    done = [step.name for step in steps if not step.removes]
    removed = [step.name for step in steps if step.removes and step.was_there]
    missing = [step.name for step in steps if step.removes and not step.was_there]
    parts = [f"{', '.join(names)} {verb}" for names, verb in ((done, "set"), (removed, "removed")) if names]
    return "; ".join([*parts, *([f"there was no {' and no '.join(missing)}"] if missing else [])])


def _value(text: str) -> tuple[str, JSON]:
    name, sign, value = text.partition("=")
    why = "" if name and sign else "the name or the = is missing"
    if not why:
        try:
            return name, json.loads(value)
        except ValueError:
            why = "its value is not JSON"
    example = f"{name or 'name'}='\"text\"', {name or 'name'}=7, or {name or 'name'}=null to remove it"
    raise InvalidInput(f"--metadata {text!r} must be NAME=JSON, but {why}: write {example}")

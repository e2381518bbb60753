"""`Snapshot`: the end of a session for `OpenAIResponsesCompactionSession`, and its atomic replacement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import takewhile
from typing import Any, NamedTuple

from turnlog import Conflict, Message, Session, Store, Turn

from ._writing import settled


class Snapshot(NamedTuple):
    """The end of a session, with the fields of the SDK's `_CompactionSnapshot`.

    Attributes:
        items: The last items.
        complete: Whether these are all items of the session.
        replace_suffix: Replaces the items from an index on; returns False if the session has changed since.
    """

    items: list[Any]
    complete: bool
    replace_suffix: Callable[[int, list[Any]], Awaitable[bool]]


def snapshot_of(store: Store, session: Session, limit: int, expired: Callable[[Any], bool] | None) -> Snapshot:
    """Return the snapshot for the turns that were read.

    Args:
        store: The store, or a view of it.
        session: The turns at the end of the session, at least one.
        limit: The largest number of items in the snapshot.
        expired: Whether an item is expired: the replacement also drops such items at the beginning.  None: no item is.
    """
    name, items = session.info.key.session, session.to_dicts()
    hidden = max(0, len(items) - limit)

    async def replace_suffix(start: int, output: list[Any]) -> bool:
        cut = hidden + start
        if cut >= len(items):
            return False
        old = 0 if expired is None else len(list(takewhile(expired, items[:cut])))
        turn, offset = _place(session.turns, cut)
        first, skipped = _place(session.turns, old)
        kept = turn.messages[skipped if first is turn else 0 : offset]
        try:
            version = session.version
            if old:
                version = (await settled(store, store.trim(name, before=first.number, expect=version))).version
            messages = [*kept, *map(Message.from_dict, output)]
            await settled(store, store.rewrite(name, messages, from_turn=turn.number, expect=version))
        except Conflict:
            return False
        return True

    return Snapshot(items[hidden:], len(items) - hidden == session.info.messages, replace_suffix)


def _place(turns: tuple[Turn, ...], index: int) -> tuple[Turn, int]:
    """Return the turn that holds the message with an index, and its index in the turn."""
    for turn in turns:
        if index < len(turn.messages):
            return turn, index
        index -= len(turn.messages)
    raise AssertionError

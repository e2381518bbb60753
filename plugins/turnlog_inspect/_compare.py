"""Two sessions from the turn where they part, such as a session and its fork."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from starlette.responses import Response

from turnlog import CorruptRecord, Turn
from turnlog.rules import common

from ._conversation import conversation, turns_of
from ._reading import TURNS, parting, whole
from ._session import turns_markup
from ._text import counted
from ._visit import Visit

_Turns: TypeAlias = list[Turn | CorruptRecord]


async def show_comparison(visit: Visit) -> Response:
    """Show the turns of two sessions side by side, after the turns that they share."""
    ids = visit.needed("id"), visit.needed("with")
    sessions = [await whole(visit.view, session_id) for session_id in ids]
    ours, theirs = ([*turns_of(session)] for session in sessions)
    shared = parting(ours, theirs)
    start = visit.number("from")
    begin = shared if start is None else start
    sides = []
    for session, turns in zip(sessions, (ours, theirs), strict=True):
        # from the first turn on, because a call may be in an earlier turn than its result
        shown = await asyncio.to_thread(conversation, turns[: begin + TURNS])
        html = await asyncio.to_thread(turns_markup, None, shown[begin:])
        sides.append({"info": session.info, "turns": html, "count": len(turns)})
    return visit.page(
        "compare.html",
        sides=sides,
        shared=shared,
        summary=_summary(ours, theirs, shared),
        begin=begin,
        next=begin + TURNS if begin + TURNS < max(len(ours), len(theirs)) else None,
        ids=ids,
    )


def _summary(ours: _Turns, theirs: _Turns, shared: int) -> str:
    """Return a text about the place where the sessions part."""
    if shared == len(ours) == len(theirs):
        return "The sessions are equal."
    text = f"The first {counted(shared, 'turn')} are the same."
    if shared < 2:
        text = "The first turn is the same." if shared else "The sessions differ from their first turn on."
    one, other = (turns[shared] if shared < len(turns) else None for turns in (ours, theirs))
    if isinstance(one, Turn) and isinstance(other, Turn) and (count := common(one.messages, other.messages)):
        same = "first message is" if count == 1 else f"first {counted(count, 'message')} are"
        text += f" In the next turn, the {same} the same."
    return text

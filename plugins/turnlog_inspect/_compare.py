"""Two sessions from the turn where they part, such as a session and its fork."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from turnlog import Session, TooLarge

from ._conversation import conversation, turns_of
from ._reading import TURNS, parting
from ._session import turns_markup
from ._visit import Visit

_LARGEST: Final = 64_000_000
"""The largest session that is compared, in bytes: a comparison reads both sessions whole."""


async def show_comparison(visit: Visit) -> Response:
    """Show the turns of two sessions side by side, after the turns that they share."""
    ids = visit.needed("id"), visit.needed("with")
    sessions = [await _whole(visit, session_id) for session_id in ids]
    ours, theirs = ([*turns_of(session)] for session in sessions)
    shared = parting(ours, theirs)
    start = visit.number("from")
    begin = shared if start is None else start
    sides = []
    for session, turns in zip(sessions, (ours, theirs), strict=True):
        shown = conversation(turns[: begin + TURNS])[begin:]  # a call may be in an earlier turn than its result
        sides.append({"info": session.info, "turns": turns_markup(None, shown), "count": len(turns)})
    return visit.page(
        "compare.html",
        sides=sides,
        shared=shared,
        begin=begin,
        next=begin + TURNS if begin + TURNS < max(len(ours), len(theirs)) else None,
        ids=ids,
    )


async def _whole(visit: Visit, session_id: str) -> Session:
    info = await visit.view.info(session_id)
    if info.bytes > _LARGEST:
        raise TooLarge(f"session {session_id!r} has {info.bytes:,} bytes; the limit of a comparison is {_LARGEST:,}")
    return await visit.view.session(session_id, touch=False)

"""A conversation: its page, a part of it for the page, and its raw form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup
from starlette.responses import HTMLResponse, JSONResponse, Response

from turnlog import CorruptRecord, SessionNotFound
from turnlog.values import to_json

from ._conversation import ShownTurn, conversation, turns_of
from ._html import markup
from ._reading import TURNS, Window, beginning_at, newest, number_of, stored_form, whole
from ._visit import Visit

_MOST: Final = 500
"""The largest number of problems on their page."""


async def show_session(visit: Visit) -> Response:
    """Show the last turns of a session, the turns before a turn, or the turns from a turn on."""
    session_id, turn, before = visit.needed("id"), visit.number("turn"), visit.number("before")
    is_whole = turn is not None and bool(visit.text("whole"))
    if turn is None:
        window = await newest(visit.view, session_id, before=before)
    else:
        window = await beginning_at(visit.view, session_id, turn, most=1 if is_whole else TURNS)
    shown, turns = await asyncio.to_thread(_rendered, visit, window, whole=is_whole)
    problems = [problem for one in shown for problem in one.problems]
    return visit.page(
        "session.html",
        info=window.info,
        window=window,
        metadata=to_json(dict(window.info.metadata)),
        earlier=earlier_markup(visit, window),
        turns=turns,
        problems=problems,
        has_more=window.has_earlier or window.next is not None or (not is_whole and any(one.is_long for one in shown)),
        stored=await stored_form(visit.view, window),
        missing=turn if turn is not None and (not window.turns or window.first != turn) else None,
        is_live=turn is None and before is None,
        session_id=session_id,
    )


async def show_turns(visit: Visit) -> Response:
    """Return the turns before a turn, for a page that has the turns from this turn on."""
    window = await newest(visit.view, visit.needed("id"), before=visit.number("before"))
    _, turns = await asyncio.to_thread(_rendered, visit, window)
    return HTMLResponse(Markup("").join([earlier_markup(visit, window), turns]))


def _rendered(visit: Visit, window: Window, *, whole: bool = False) -> tuple[list[ShownTurn], Markup]:
    """Return turns and their HTML.  Large messages take seconds: call this in a thread."""
    shown = conversation(window.turns, whole=whole)
    return shown, turns_markup(visit, shown)


async def show_problems(visit: Visit) -> Response:
    """Show the problems in all turns of a session."""
    session = await whole(visit.view, visit.needed("id"))
    turns = await asyncio.to_thread(lambda: conversation(turns_of(session), whole=True))
    found = [problem for turn in turns for problem in turn.problems]
    return visit.page(
        "problems.html",
        info=session.info,
        problems=found[:_MOST],
        more=max(0, len(found) - _MOST),
        long={turn.number for turn in turns if turn.is_long},
    )


def turns_markup(visit: Visit | None, turns: Sequence[ShownTurn]) -> Markup:
    """Return the HTML of turns.

    Args:
        visit: The visit of the session; None: the page shows the turns without links to other pages.
        turns: The turns.
    """
    return markup("turns.html", visit=visit, turns=turns, write=visit is not None and visit.site.write)


def earlier_markup(visit: Visit, window: Window) -> Markup:
    """Return the link to the turns before a window; nothing if there are none."""
    return markup("earlier.html", visit=visit, window=window)


async def show_raw(visit: Visit) -> Response:
    """Return a turn as JSON, with the messages as they were stored."""
    session_id, turn = visit.needed("id"), visit.number("turn") or 0
    window = await beginning_at(visit.view, session_id, turn, most=1)
    found = next((one for one in window.turns if number_of(one) == turn), None)
    if found is None:
        raise SessionNotFound(f"session {session_id!r} has no turn {turn}")
    if isinstance(found, CorruptRecord):
        raise found
    data = found.to_dict()
    data["messages"] = [to_json(message.to_dict()) for message in found.messages]
    return Indented(data)


class Indented(JSONResponse):
    """JSON for people."""

    def render(self, content: object) -> bytes:
        """Return the body."""
        return json.dumps(content, ensure_ascii=True, indent=2).encode()

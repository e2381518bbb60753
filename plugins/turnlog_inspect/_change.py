"""Changes of sessions: fork, rewind, edit the title, and erase.  Each has a page that asks for confirmation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from turnlog import Conflict, InvalidInput, SessionInfo, Version

from ._text import title_of
from ._visit import Visit, number_in


class _Request(NamedTuple):
    """A change that was confirmed.

    Attributes:
        visit: The visit.
        id: The session.
        version: The version of the session that the visitor saw.
        turn: The turn that the change names.
        text: The text that the visitor has typed.
    """

    visit: Visit
    id: str
    version: Version
    turn: int
    text: str


async def _fork(request: _Request) -> str:
    await request.visit.view.fork(request.id, request.text, at=request.turn, expect=request.version)
    return request.visit.href("/session", id=request.text)


async def _rewind(request: _Request) -> str:
    info = await request.visit.view.info(request.id)
    count = info.turns - request.turn
    await request.visit.view.rewind(request.id, turns=count, expect=request.version)
    return request.visit.href("/session", id=request.id)


async def _title(request: _Request) -> str:
    """Set the title, unless the metadata have changed.  Turns may have been added: the session may be in use."""
    now, seen = (await request.visit.view.info(request.id)).version, request.version
    if (now.epoch, now.stamp) != (seen.epoch, seen.stamp):
        raise Conflict(f"the metadata of session {request.id!r} have changed since the page was loaded: load it again")
    await request.visit.view.merge_metadata(request.id, {"title": request.text or None}, expect=now.exact)
    return request.visit.href("/session", id=request.id)


async def _erase(request: _Request) -> str:
    await request.visit.view.erase(request.id, expect=request.version)
    return request.visit.href("/")


_CHANGES: Final[dict[str, Callable[[_Request], Awaitable[str]]]] = {
    "fork": _fork,
    "rewind": _rewind,
    "title": _title,
    "erase": _erase,
}


async def ask(visit: Visit) -> Response:
    """Show the page that asks for confirmation."""
    if not visit.site.write:
        raise HTTPException(403, "This inspector is read-only. To change sessions, start it with --write.")
    action = _known(visit)
    info = await visit.view.info(visit.needed("id"))
    turn = visit.number("turn")
    last = info.turns - 1 if action == "rewind" else info.turns
    if turn is not None and not info.first <= turn <= last:
        raise InvalidInput(f"session {info.key.session!r} has no turn {turn}: open the page from the conversation")
    return visit.page(
        "change.html",
        action=action,
        info=info,
        turn=info.turns if turn is None else turn,
        text=_suggested(action, info),
    )


async def change(visit: Visit) -> Response:
    """Make a change that was confirmed, and show its result."""
    form = await visit.form()
    session_id, version = form.get("id", ""), Version.parse(form.get("version", ""))
    turn, text = number_in(form.get("turn", "0"), "turn"), form.get("text", "").strip()
    address = await _CHANGES[_known(visit)](_Request(visit, session_id, version, turn, text))
    return RedirectResponse(address, 303)


def _known(visit: Visit) -> str:
    action = str(visit.request.path_params["action"])
    if action not in _CHANGES:
        raise HTTPException(404, "There is no such page.")
    return action


def _suggested(action: str, info: SessionInfo) -> str:
    return f"{info.key.session}-fork" if action == "fork" else title_of(info.metadata)

"""The turns of a session as they are written, as a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from turnlog import HistoryRegressed, Session, SessionInfo, SessionNotFound, TurnlogError, Version

from ._conversation import conversation
from ._parts import Result
from ._reading import TURNS, Window, beginning_at, newest
from ._session import turns_markup
from ._stream import Event, EventStream, pause
from ._text import size_of, time_of
from ._visit import Visit

SECONDS: Final = 1.0
"""Seconds between two reads.  A read of an unchanged session returns only its info."""

_EARLIER: Final = 10
"""Number of turns that are sent again if a result has no call in the new turns: the call may be in one of them."""


async def follow(visit: Visit) -> Response:
    """Send the changed turns of a session after a version, until the browser disconnects."""
    since = Version.parse(visit.request.headers.get("last-event-id") or visit.needed("version"))
    return EventStream(_changes(visit, visit.needed("id"), since))


async def _changes(visit: Visit, session_id: str, since: Version) -> AsyncGenerator[Event, None]:
    while True:
        try:
            visit = await visit.again()
            found = await _after(visit, session_id, since)
            if found.version == since:
                yield Event()  # if the browser has disconnected, this ends the stream
            else:
                since = found.version  # a turn that is written during the next read is sent again
                yield Event("changed", await _change(visit, found), str(since))
        except SessionNotFound:
            yield Event("gone", "The session was erased, or has expired.")
            return
        except HTTPException as error:
            yield Event("gone", error.detail)
            return
        except TurnlogError as error:
            yield Event("failed", f"The session cannot be read now: {type(error).__name__}.")
        if await pause(visit.site.closing, SECONDS):
            return


async def _after(visit: Visit, session_id: str, since: Version) -> Session:
    try:
        return await visit.view.session(session_id, last=0, since=since, touch=False)
    except HistoryRegressed:  # the page shows turns that the storage has lost
        return await visit.view.session(session_id, last=0, touch=False)


async def _change(visit: Visit, found: Session) -> dict[str, object]:
    """Return the whole turns to which the new records belong; the last turns if turns were cut, or many were added."""
    begin = found.records[0].number if found.records else found.info.turns
    if continues := found.continues and found.info.turns - begin <= TURNS:
        window = await beginning_at(visit.view, found.info.key.session, begin)
        if any(isinstance(part, Result) for turn in conversation(window.turns) for part in turn.parts):
            window = await beginning_at(visit.view, found.info.key.session, max(begin - _EARLIER, found.info.first))
    else:
        window = await newest(visit.view, found.info.key.session)
    turns = await asyncio.to_thread(_rendered, visit, window)
    return {"replace": not continues, "turns": turns, "facts": _facts(window.info)}


def _rendered(visit: Visit, window: Window) -> list[tuple[int, str]]:
    """Return the number and the HTML of each turn.  Large messages take seconds: call this in a thread."""
    return [(turn.number, turns_markup(visit, [turn])) for turn in conversation(window.turns)]


def _facts(info: SessionInfo) -> dict[str, str]:
    return {
        "turns": f"{info.turns - info.first:,}",
        "messages": f"{info.messages:,}",
        "bytes": size_of(info.bytes),
        "updated": time_of(info.updated),
    }

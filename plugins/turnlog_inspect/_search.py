"""The search for a text in the messages of all sessions, as a stream of events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from typing import Final, NamedTuple

from starlette.responses import Response

from turnlog import CorruptRecord, InvalidInput, SessionInfo, SessionNotFound, Turn, TurnlogError

from ._conversation import MOST, texts_of, turns_of
from ._html import rendered
from ._list import namespaces_of
from ._stream import Event, EventStream
from ._text import counted
from ._visit import Visit

_MOST: Final = 200
"""The largest number of messages that a search finds."""

_AROUND: Final = 80
"""Number of characters of a snippet on each side of the match."""

_AT_ONCE: Final = 1_000
"""Number of messages that are read at once."""

_STEP: Final = 50
"""Number of sessions between two events about the progress."""


class Hit(NamedTuple):
    """A message that contains the text.

    Attributes:
        turn: The number of its turn.
        is_long: True if the page shows only the first messages of the turn.
        before: The text before the match.
        found: The match.
        after: The text after the match.
    """

    turn: int
    is_long: bool
    before: str
    found: str
    after: str


async def show_search(visit: Visit) -> Response:
    """Show the page on which results arrive."""
    q, owner = visit.text("q").strip(), visit.text("owner")
    return visit.page("search.html", q=q, owner=owner, namespaces=await namespaces_of(visit))


async def search(visit: Visit) -> Response:
    """Send the messages that contain a text, ignoring case."""
    text = visit.needed("q").strip()
    if not text:
        raise InvalidInput("the search text is blank: type the text to search for")
    wanted = re.compile(re.escape(text), re.IGNORECASE)
    return EventStream(_found(visit, wanted, visit.text("owner") or None))


async def _found(visit: Visit, wanted: re.Pattern[str], owner: str | None) -> AsyncGenerator[Event, None]:
    read = count = 0
    note = ""
    try:
        async for info in visit.view.sessions(owner=owner):
            hits: list[Hit] = []
            async for hit in _in_session(visit, info, wanted):
                hits.append(hit)
                if count + len(hits) == _MOST:
                    break
            read, count = read + 1, count + len(hits)
            if hits:
                yield Event("hits", rendered("hits.html", visit=visit, info=info, hits=hits))
            if count == _MOST:
                yield Event("end", f"{_MOST} messages shown, and there may be more: narrow the search.")
                return
            if read % _STEP == 0:
                yield Event("progress", f"{counted(read, 'session')} read, {counted(count, 'message')} found …")
    except CorruptRecord as error:  # some sessions cannot be listed
        note = f" {error}"
    except TurnlogError as error:
        note = f" The search was ended by an error: {type(error).__name__}."
    yield Event("end", f"{counted(count, 'message')} found in {counted(read, 'session')}.{note}")


async def _in_session(visit: Visit, info: SessionInfo, wanted: re.Pattern[str]) -> AsyncGenerator[Hit, None]:
    before: int | None = None
    while before is None or before > info.first:
        await asyncio.sleep(0)  # a backend in memory never waits, and other requests must be answered
        try:
            session = await visit.view.session(info.key.session, last=_AT_ONCE, before=before, touch=False)
        except (CorruptRecord, SessionNotFound):  # damaged, or erased since the list was read
            return
        for turn in turns_of(session):
            if not isinstance(turn, CorruptRecord):
                for hit in await asyncio.to_thread(_in_turn, turn, wanted):
                    yield hit
        if not session.records:
            return
        before = session.records[0].number


def _in_turn(turn: Turn, wanted: re.Pattern[str]) -> list[Hit]:
    """Return a hit for each message with a text that matches.  Large messages take long: call this in a thread."""
    found = (_in_texts(turn, texts_of(message), wanted) for message in turn.messages)
    return [hit for hit in found if hit]


def _in_texts(turn: Turn, texts: Iterator[str], wanted: re.Pattern[str]) -> Hit | None:
    for text in texts:
        if place := wanted.search(text):
            start, end = max(0, place.start() - _AROUND), min(len(text), place.end() + _AROUND)
            before = f"{'… ' if start else ''}{text[start : place.start()]}"
            after = f"{text[place.end() : end]}{' …' if end < len(text) else ''}"
            return Hit(turn.number, len(turn.messages) > MOST, before, place[0], after)
    return None

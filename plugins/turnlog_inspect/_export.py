"""One conversation as a single HTML file, without scripts and without references to other files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from functools import cache
from importlib.resources import files
from typing import Final

from markupsafe import Markup
from starlette.responses import Response, StreamingResponse

from turnlog import Session

from ._conversation import conversation, turns_of
from ._html import rendered
from ._reading import whole
from ._session import turns_markup
from ._visit import Visit

_END: Final = Markup("<!-- the turns -->")


async def export(visit: Visit) -> Response:
    """Return all turns of a session as a file."""
    session = await whole(visit.view, visit.needed("id"))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", session.info.key.session).strip("-.")[:80] or "session"
    headers = {"Content-Disposition": f'attachment; filename="{name}.html"'}
    return StreamingResponse(_pieces(session), media_type="text/html", headers=headers)


async def _pieces(session: Session) -> AsyncGenerator[str, None]:
    """Yield the file in pieces, so that other requests are answered in between."""
    turns = await asyncio.to_thread(lambda: conversation(turns_of(session), whole=True))
    problems = [problem for turn in turns for problem in turn.problems]
    page = rendered("export.html", info=session.info, problems=problems, css=_style(), place=_END)
    begin, _, end = page.partition(_END)
    yield begin
    for turn in turns:
        yield await asyncio.to_thread(turns_markup, None, [turn])
    yield end


@cache
def _style() -> Markup:
    return Markup(files(__package__).joinpath("static/inspect.css").read_text("utf-8"))  # noqa: S704 - our own file

"""`inspector`: the application."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from turnlog import (
    Conflict,
    CorruptRecord,
    HistoryRegressed,
    InvalidInput,
    SessionNotFound,
    SplitsSealed,
    TurnlogError,
    Unsupported,
)

from ._change import ask, change
from ._compare import show_comparison
from ._export import export
from ._headers import Hardened
from ._html import prepare, rendered
from ._list import show_list
from ._live import follow
from ._metrics import follow_metrics, show_metrics
from ._search import search, show_search
from ._session import show_problems, show_raw, show_session, show_turns
from ._visit import Authorize, Site, Visit, visit_of

_STATIC: Final = Path(__file__).with_name("static")

_STATUS: Final = {
    SessionNotFound: 404,
    Conflict: 409,
    InvalidInput: 400,
    SplitsSealed: 409,
    Unsupported: 400,
    CorruptRecord: 500,
    HistoryRegressed: 500,
}
"""The errors whose texts are shown, with the status.  The text of another error may name a host, so it is logged."""

_TITLES: Final = {400: "Wrong address", 403: "Not allowed", 404: "Not found", 409: "The session has changed"}

_logger = logging.getLogger("turnlog.inspect")

_Handler = Callable[[Visit], Awaitable[Response]]


def inspector(*, authorize: Authorize, write: bool = False) -> Starlette:
    """Return an application that shows the sessions of a store.  Mount it below a path of another application.

    The application opens no store: open it before, for example in the lifespan of the outer application.  Reads do not
    restart the time to live of a session.

    Args:
        authorize: Returns the store that a visitor may see: `store`, which also shows its other namespaces;
            `store.within(name)`, one namespace and those nested in it; `store.for_owner(name)`, the sessions of one
            owner; None: nothing (status 403).  It is called for each request, and again for each read of an open page,
            and may be an async function.
        write: Let visitors fork, rewind and erase the sessions that they may see, and edit their titles.
    """
    site = Site(authorize, write)
    prepare()

    def handling(handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            return await handler(await visit_of(request, site))

        return handle

    pages: dict[str, _Handler] = {
        "/": show_list,
        "/session": show_session,
        "/session/turns": show_turns,
        "/session/events": follow,
        "/session/problems": show_problems,
        "/session/raw": show_raw,
        "/session/export": export,
        "/compare": show_comparison,
        "/search": show_search,
        "/search/events": search,
        "/metrics": show_metrics,
        "/metrics/events": follow_metrics,
        "/change/{action}": ask,
    }
    app = Starlette(
        routes=[
            *(Route(path, handling(handler)) for path, handler in pages.items()),
            Route("/change/{action}", handling(change), methods=["POST"]),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(Hardened)],
        exception_handlers={TurnlogError: _refuse, HTTPException: _refuse},
    )
    app.state.site = site
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    """Return the page of an error."""
    if isinstance(error, HTTPException):
        status, text = error.status_code, error.detail
    else:
        status, text = next(
            ((_STATUS[kind], str(error)) for kind in _STATUS if isinstance(error, kind)),
            (503, f"The store could not answer ({type(error).__name__}). The log of the process has the reason."),
        )
        if status >= 500:
            _logger.warning("a page could not be shown: %s: %s", type(error).__name__, error)
    title = _TITLES.get(status, "The page cannot be shown")
    base = request.scope.get("root_path", "")
    return HTMLResponse(rendered("error.html", visit=None, base=base, title=title, text=text, status=status), status)

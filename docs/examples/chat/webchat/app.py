"""A chat application: sessions per visitor, streamed answers, tools, and concurrent browsers."""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Send

from turnlog import ABSENT, Conflict, InvalidInput, Pipeline, SessionNotFound, Store, Stream, TooLarge, open_store
from turnlog.config import find_model

from .model import clock, demo, roll

_STATIC: Final = Path(__file__).with_name("static")
_PAGE: Final = 20  # messages
_LISTED: Final = 100  # sessions
_LONGEST: Final = 64 * 1024  # bytes of a request
_HEADERS: Final = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'"}
_SECRET: Final = os.environ.get("CHAT_SECRET") or secrets.token_hex()  # a random key ends with the process
_STATUS: Final = {TooLarge: 413, InvalidInput: 400, SessionNotFound: 404, Conflict: 409}


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, object]]:
    """Open the store.  Requests on one session run one at a time, so each sees the turns of the earlier ones."""
    name = os.environ.get("CHAT_MODEL")
    model: Any = find_model(name) if name else demo
    async with open_store() as store:
        yield {"store": store, "pipeline": Pipeline(store, model, tools=[clock, roll], concurrency="serialize")}


def owner_of(request: Request) -> str:
    """Return the owner of the visitor's sessions.  A new visitor is a guest, with an id that nobody can guess."""
    return str(request.session.setdefault("owner", f"guest:{Store.new_session_id()}"))


def view_of(request: Request) -> Store:
    """Return a view of the visitor's sessions, in which the sessions of others do not exist."""
    store: Store = request.state.store
    return store.for_owner(owner_of(request))


async def body_of(request: Request, **kinds: type) -> dict[str, Any]:
    """Return the JSON of a request, with these names and types.  Forms on other sites cannot send JSON."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "Content-Type must be application/json")
    if not 0 < int(request.headers.get("content-length", 0)) <= _LONGEST:
        raise HTTPException(413, f"a request must name its length, 1 to {_LONGEST} bytes")
    try:
        data = await request.json()
    except ValueError:
        data = None
    if not isinstance(data, dict) or any(type(data.get(name)) is not kind for name, kind in kinds.items()):
        raise HTTPException(400, f"the request must be JSON with {', '.join(kinds) or 'any names'}")
    return data


async def show_page(request: Request) -> Response:
    """Return the page.  Its cookie makes a new visitor a guest."""
    owner_of(request)
    return FileResponse(_STATIC / "index.html", headers=_HEADERS)


async def show_user(request: Request) -> Response:
    """Return the visitor's name and sessions, most recently updated first."""
    kind, _, name = owner_of(request).partition(":")
    sessions = []
    async for info in view_of(request).sessions():
        sessions.append({"id": info.key.session, "title": info.metadata.get("title")})
        if len(sessions) == _LISTED:
            break
    return JSONResponse({"name": name if kind == "user" else "", "sessions": sessions}, headers=_HEADERS)


async def sign_in(request: Request) -> Response:
    """Accept any name: put a login here.  The user becomes the owner of the guest's sessions.  No name: sign out."""
    name = (await body_of(request, name=str))["name"].strip()
    store, owner = request.state.store, f"user:{name}"
    store.for_owner(owner)  # raises InvalidInput if the name cannot be an owner
    if name and owner_of(request).startswith("guest:"):
        for info in [info async for info in view_of(request).sessions()]:
            await store.merge_metadata(info.key.session, owner=owner, expect=info.version.session)
    request.session.clear()
    if name:
        request.session["owner"] = owner
    return JSONResponse({"name": name})


async def erase_user(request: Request) -> Response:
    """Erase all sessions of the visitor.  The store refuses answers in progress."""
    erased = await request.state.store.erase_owner(owner_of(request))
    request.session.clear()
    return JSONResponse({"erased": erased.sessions})


async def begin(request: Request) -> Response:
    """Create an empty session."""
    await body_of(request)
    session_id = Store.new_session_id()
    await view_of(request).merge_metadata(session_id, {"title": ""}, expect=ABSENT)
    return JSONResponse({"id": session_id})


async def read(request: Request) -> Response:
    """Return the last turns of a session, or the turns before a turn; 304 if the version is that of `If-None-Match`."""
    view, session_id, asked = view_of(request), request.path_params["id"], request.query_params.get("before", "")
    before = int(asked) if asked.isdecimal() else None
    seen = request.headers.get("if-none-match")
    if seen and before is None and seen == f'"{(await view.info(session_id)).version}"':
        return Response(status_code=304)
    session = await view.session(session_id, last=_PAGE, before=before)
    turns = [turn.to_dict() for turn in session.turns]
    older = bool(turns) and session.turns[0].number > session.info.first
    return JSONResponse({"turns": turns, "older": older}, headers={**_HEADERS, "ETag": f'"{session.version}"'})


async def say(request: Request) -> Response:
    """Answer with a stream of JSON lines.  A request that is sent again under its `turn_id` is stored once."""
    data, session_id = await body_of(request, text=str, turn_id=str), request.path_params["id"]
    text, owner, pipeline = data["text"].strip(), owner_of(request), request.state.pipeline
    if not text:
        raise InvalidInput("the text is empty: say something")
    info = await view_of(request).info(session_id)
    title = {} if info.metadata.get("title") else {"title": text[:60]}
    reply = pipeline.stream(session_id, "user", text, owner=owner, turn_id=data["turn_id"], metadata=title)
    return Lines(_lines(reply), media_type="application/x-ndjson", headers=_HEADERS)


class Lines(StreamingResponse):
    """A stream that closes as soon as the browser disconnects, so the pipeline stores the pieces so far."""

    async def stream_response(self, send: Send) -> None:
        """Send the lines."""
        assert isinstance(self.body_iterator, AsyncGenerator)
        async with aclosing(self.body_iterator):
            await super().stream_response(send)


async def _lines(reply: Stream) -> AsyncGenerator[str, None]:
    try:
        async with reply:
            async for piece in reply:
                yield json.dumps({"text": piece}) + "\n"
        receipt = await reply.result.save()  # stores the turn if the store could not be reached before
        yield json.dumps({"turn": receipt.number}) + "\n"
    except Exception as error:  # the response has begun, so its status cannot report the error
        logging.getLogger("uvicorn.error").exception("no answer")
        yield json.dumps({"error": type(error).__name__}) + "\n"


async def fork(request: Request) -> Response:
    """Copy the turns numbered below `at` to a new session, where the visitor can repeat or edit the question."""
    data, session_id = await body_of(request, at=int), Store.new_session_id()
    await view_of(request).fork(request.path_params["id"], session_id, at=data["at"])
    return JSONResponse({"id": session_id})


async def refuse(_: Request, error: Exception) -> Response:
    """Return the status of an error.  A session of another owner gives 404, as a missing one."""
    return JSONResponse({"error": str(error)}, next(_STATUS[kind] for kind in _STATUS if isinstance(error, kind)))


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", show_page),
        Mount("/static", StaticFiles(directory=_STATIC)),
        Route("/api/user", show_user),
        Route("/api/user", sign_in, methods=["POST"]),
        Route("/api/user", erase_user, methods=["DELETE"]),
        Route("/api/sessions", begin, methods=["POST"]),
        Route("/api/sessions/{id}", read),
        Route("/api/sessions/{id}/turns", say, methods=["POST"]),
        Route("/api/sessions/{id}/forks", fork, methods=["POST"]),
    ],
    middleware=[Middleware(SessionMiddleware, secret_key=_SECRET, https_only="CHAT_HTTPS" in os.environ)],
    exception_handlers=dict.fromkeys(_STATUS, refuse),
)

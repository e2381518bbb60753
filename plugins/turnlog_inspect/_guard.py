"""The protection of an inspector on loopback: a token in the first URL, and the name of the host."""

from __future__ import annotations

import secrets
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import URL
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ._headers import HEADERS

_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """Answers only requests to a loopback name, with the token.

    The first URL holds the token.  It is replaced by a cookie, so that no other address holds the token.  A page of
    another name that resolves to 127.0.0.1 (DNS rebinding) sends that name as its host, and is refused.

    Args:
        app: The application.
        token: The token.
        port: The port of the server.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._hosts = {f"{host}:{port}" for host in _HOSTS} | (set(_HOSTS) if port == 80 else set())
        self._cookie = f"turnlog-inspect-{port}"  # browsers send a cookie to all ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._checked(HTTPConnection(scope))
        await (refusal or self._app)(scope, receive, send)

    def _checked(self, request: HTTPConnection) -> Response | None:
        """Return the response to a request that the application must not see; None: it may see it."""
        if request.headers.get("host") not in self._hosts:
            return _refusal("This host name is not that of the inspector. Use the first URL that it printed.")
        given = request.query_params.get("token")
        if given is not None:
            if not self._fits(given):
                return _refusal("The token is wrong. Use the first URL that the inspector printed.")
            response = RedirectResponse(_without_token(request.url), 303, HEADERS)
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return response
        if not self._fits(request.cookies.get(self._cookie, "")):
            return _refusal("The token or its cookie is missing. Open the printed URL in a client that keeps cookies.")
        return None

    def _fits(self, token: str) -> bool:
        return secrets.compare_digest(token.encode("utf-8", "surrogateescape"), self._token.encode())


def _refusal(text: str) -> Response:
    return PlainTextResponse(text, 403, HEADERS)


def _without_token(url: URL) -> str:
    query = urlencode([(name, value) for name, value in parse_qsl(url.query) if name != "token"])
    path = f"/{url.path.lstrip('/')}"  # a browser would read // as the beginning of a host name
    return f"{path}?{query}" if query else path

"""`Site` and `Visit`: the settings of an inspector, and one request to it."""

from __future__ import annotations

import asyncio
import inspect
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from turnlog import InvalidInput, Store
from turnlog.limits import MAX_NUMBER

from ._html import address, rendered

Authorize: TypeAlias = Callable[[Request], Store | Awaitable[Store | None] | None]
"""Returns the store, or the view of it, that a visitor may see; None: the visitor may see nothing."""

_COOKIE: Final = "turnlog-inspect-form"
"""The cookie with the token that each form repeats.  Another site cannot read it."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32}")
"""A token of 24 bytes in base64; a page sets no other cookie."""

_LONGEST: Final = 64 * 1024
"""The largest form, in bytes."""


@dataclass
class Site:
    """The settings of an inspector.

    Attributes:
        authorize: Returns the store that a visitor may see.
        write: Whether visitors may change sessions.
        closing: Set when the server closes, so that streams end.
    """

    authorize: Authorize
    write: bool
    closing: asyncio.Event = field(default_factory=asyncio.Event)


class Visit:
    """One request of a visitor.

    Attributes:
        request: The request.
        site: The settings of the inspector.
        store: The store that the visitor may see.
        view: The store, or its view of the namespace that the request names.
        namespace: The namespace that the request names, as for `store.within`; None: the namespace of `store`.
    """

    def __init__(self, request: Request, site: Site, store: Store) -> None:
        self.request = request
        self.site = site
        self.store = store
        self.namespace = request.query_params.get("namespace") or None
        self.view = store
        if self.namespace is not None:
            if not self.sees_namespaces:
                raise InvalidInput("this page shows the sessions of one owner in one namespace: leave out namespace=")
            self.view = store.within(self.namespace)
        kept = request.cookies.get(_COOKIE, "")
        self._form_token = kept if _TOKEN.fullmatch(kept) else secrets.token_urlsafe(24)

    @property
    def sees_namespaces(self) -> bool:
        """True if the visitor may choose a namespace.  The same owner may be another person in another namespace."""
        return self.store.owner is None

    def text(self, name: str) -> str:
        """Return a parameter of the query; empty if it is missing."""
        return self.request.query_params.get(name, "")

    def needed(self, name: str) -> str:
        """Return a parameter of the query.

        Raises:
            InvalidInput: It is missing.
        """
        if not (found := self.text(name)):
            raise InvalidInput(f"the address has no {name}: open the page from the list of sessions")
        return found

    def number(self, name: str) -> int | None:
        """Return a number in the query; None if it is missing.

        Raises:
            InvalidInput: It is not a number from 0.
        """
        return None if not (text := self.text(name)) else number_in(text, name)

    def href(self, path: str, **query: object) -> str:
        """Return the address of a page in the same namespace, also if the inspector is mounted below a path."""
        base = self.request.scope.get("root_path", "")
        return address(f"{base}{path}", {"namespace": self.namespace, **query})

    def page(self, template: str, **values: object) -> Response:
        """Return a page."""
        values = {
            "visit": self,
            "form_token": self._form_token,
            "write": self.site.write,
            "q": "",
            "base": self.request.scope.get("root_path", ""),
            **values,
        }
        response = HTMLResponse(rendered(template, **values))
        if self.site.write:
            is_secure = self.request.url.scheme == "https"
            response.set_cookie(_COOKIE, self._form_token, httponly=True, samesite="lax", secure=is_secure)
        return response

    async def again(self) -> Visit:
        """Return the same visit, authorized again: a stream may last longer than the permission of its visitor."""
        return await visit_of(self.request, self.site)

    async def form(self) -> dict[str, str]:
        """Return the form of a request, which must come from a page of this inspector.

        Raises:
            HTTPException: Visitors may not write, or the request may come from another site.
        """
        if not self.site.write:
            raise HTTPException(403, "This inspector is read-only. To change sessions, start it with --write.")
        origin, host = self.request.headers.get("origin"), self.request.headers.get("host")
        if origin not in (f"http://{host}", f"https://{host}"):
            raise HTTPException(403, "This request does not come from a page of the inspector.")
        body = b""
        async for piece in self.request.stream():
            body += piece
            if len(body) > _LONGEST:
                raise HTTPException(413, "The form is too long.")
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        sent, kept = form.get("token", ""), self.request.cookies.get(_COOKIE, "")
        if not kept or not secrets.compare_digest(sent.encode(), kept.encode()):
            raise HTTPException(403, "The form is out of date. Go back, and load its page again.")
        return form


def number_in(text: str, name: str) -> int:
    """Return the number in a text.

    Raises:
        InvalidInput: The text is not a number from 0.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_NUMBER):
        raise InvalidInput(f"{name} must be a whole number from 0 to {MAX_NUMBER}")
    return int(text)


async def visit_of(request: Request, site: Site) -> Visit:
    """Return the visit of a request.

    Raises:
        HTTPException: The visitor may see nothing.
        InvalidInput: The namespace in the query is invalid.
    """
    store = site.authorize(request)
    if inspect.isawaitable(store):
        store = await store
    if store is None:
        raise HTTPException(403, "You may not see these sessions.")
    return Visit(request, site, store)

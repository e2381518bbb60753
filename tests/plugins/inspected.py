"""Helpers for the tests of the inspector: a server in a thread, and a visitor without a browser."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message as Headers
from html import unescape
from typing import NamedTuple
from urllib.parse import urlencode

import uvicorn
from starlette.types import ASGIApp

from turnlog import Store, open_store
from turnlog_inspect import inspector
from turnlog_inspect._guard import Guard

TOKEN = "the-token-of-the-tests"  # noqa: S105 - no secret


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: Headers
    text: str


class Place(NamedTuple):
    """A running inspector."""

    port: int
    store: str
    """The URL of the store."""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def first(self) -> str:
        """The first URL, with the token."""
        return f"{self.base}/?token={TOKEN}"

    def change(self, work: Callable[[Store], object]) -> None:
        """Call an async function with the store, as another process would."""

        async def changing() -> None:
            async with open_store(self.store) as store:
                await work(store)  # type: ignore[misc]

        asyncio.run(changing())


@contextmanager
def inspected(url: str, *, write: bool = False, app: Callable[[Store], ASGIApp] | None = None) -> Iterator[Place]:
    """Serve the pages of a store; yield the place.

    Args:
        url: The URL of the store.
        write: As for `inspector`.
        app: Returns another application; None: the application of `turnlog inspect`.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    started, servers, ends = threading.Event(), list[uvicorn.Server](), list[Callable[[], object]]()

    async def serve() -> None:
        async with open_store(url) as store:
            if app is None:
                inner = inspector(authorize=lambda _: store, write=write)
                closing = inner.state.site.closing
                served: ASGIApp = Guard(inner, token=TOKEN, port=port)
            else:
                served, closing = app(store), asyncio.Event()
            server = uvicorn.Server(
                uvicorn.Config(served, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
            )
            servers.append(server)
            loop = asyncio.get_running_loop()
            ends.append(lambda: loop.call_soon_threadsafe(closing.set))
            started.set()
            await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(30)
        yield Place(port, url)
    finally:
        ends[0]()
        servers[0].should_exit = True
        thread.join(30)


class Visitor:
    """An HTTP client that keeps cookies, as a browser does."""

    def __init__(self, place: Place, *, token: str = TOKEN) -> None:
        self.place = place
        self.cookies: dict[str, str] = {}
        if token:
            self.get(f"/?token={token}")

    def open(self, method: str, path: str, body: str | None = None, **headers: str) -> http.client.HTTPResponse:
        """Send a request; return the response when its headers have arrived."""
        connection = http.client.HTTPConnection("127.0.0.1", self.place.port, timeout=30)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {"Cookie": cookie, "Connection": "close"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        for cookie in answer.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        """Return a page."""
        answer = self.open("GET", path, **headers)
        return Answer(answer.status, answer.headers, answer.read().decode())

    def page(self, path: str) -> str:
        """Return the text of a page that exists."""
        answer = self.get(path)
        assert answer.status == 200, answer.text
        return answer.text

    def post(self, path: str, form: dict[str, str], **headers: str) -> Answer:
        """Send a form, by default from a page of the inspector."""
        headers = {"Origin": self.place.base, "Content_Type": "application/x-www-form-urlencoded", **headers}
        answer = self.open("POST", path, urlencode(form), **headers)
        return Answer(answer.status, answer.headers, answer.read().decode())

    def form(self, path: str) -> dict[str, str]:
        """Return the fields of the form on the page that asks for confirmation."""
        page = self.page(path).partition('class="confirm"')[2]
        return {unescape(name): unescape(value) for name, value in re.findall(r'name="([^"]*)" value="([^"]*)"', page)}


def shown(page: str) -> str:
    """Return the text of a page without tags."""
    page = page.partition("<main")[2].partition(">")[2]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())

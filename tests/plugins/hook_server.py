"""A server on the loopback that receives webhooks and fails on demand."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias

Answer: TypeAlias = int | Literal["hang", "drop", "endless"]
"""A status code; no answer until the test ends; a closed connection; or 200 with an endless body."""


class HookServer(ThreadingHTTPServer):
    """The server.

    Attributes:
        answers: The next answers, by path. The default is 204.
        received: The paths and bodies of the requests.
        headers: The headers of the last request, with names in lower case.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.headers: dict[str, str] = {}
        self.changed = threading.Condition()
        self.ended = threading.Event()

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def states(self, path: str) -> list[str]:
        """Return the states that a path has received."""
        return [body["state"] for received, body in self.received if received == path]

    def wait_for(self, path: str, count: int) -> list[str]:
        """Wait until a path has received this many requests, and return their states."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.states(path)) >= count, 30), f"{path}: {self.received}"
        return self.states(path)


@contextmanager
def hooks() -> Iterator[HookServer]:
    """Run a server."""
    with HookServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: HookServer

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Log nothing."""

    def do_POST(self) -> None:
        """Receive an event."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.changed:
            self.server.headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.received.append((self.path, body))
            self.server.changed.notify_all()
        answers = self.server.answers.get(self.path, [])
        answer = answers.pop(0) if answers else 204
        if answer == "hang":
            self.server.ended.wait()
        if isinstance(answer, str) and answer != "endless":
            return
        self.send_response(200 if answer == "endless" else answer)
        if answer == 302:
            self.send_header("Location", self.server.url("/elsewhere"))
        self.end_headers()
        while answer == "endless" and not self.server.ended.is_set():
            try:
                self.wfile.write(b"x" * 65_536)
            except OSError:  # the client has closed the connection
                return

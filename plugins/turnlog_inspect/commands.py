"""The command `turnlog inspect`."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys

import uvicorn
from cyclopts import App

from turnlog import InvalidInput, Store
from turnlog.config import masked_url, open_existing

from ._app import inspector
from ._guard import Guard

__all__ = ["inspect"]


def inspect(app: App) -> None:
    """Register `turnlog inspect`."""
    app.command(_inspect, name="inspect")


async def _inspect(
    *, store: str | None = None, namespace: str | None = None, port: int = 0, write: bool = False
) -> None:
    """Show conversations in a browser on this machine, until Ctrl-C.

    The command prints the URL.  Only this URL opens the pages, because it holds a random token.

    Args:
        store: The URL of the store, such as sqlite:///chat.db.
        namespace: The namespace that is shown first.
        port: The port on 127.0.0.1; 0: a free one.
        write: Also allow changes: fork, rewind and erase sessions, and edit their titles.
    """
    if not 0 <= port <= 65_535:
        raise InvalidInput(f"--port must be a number from 0 to 65535, not {port}")
    opened = open_existing(store, namespace=namespace)
    with _listening(port) as listener:
        async with opened:
            await _serve(opened, listener, masked_url(store), write=write)


async def _serve(store: Store, listener: socket.socket, name: str, *, write: bool) -> None:
    """Serve the pages of a store, until Ctrl-C."""
    port, token = listener.getsockname()[1], secrets.token_urlsafe(24)
    app = inspector(authorize=lambda _: store, write=write)
    guarded = Guard(app, token=token, port=port)
    config = uvicorn.Config(guarded, log_level="warning", access_log=False, lifespan="off")
    server = _Server(config, closing=app.state.site.closing)
    print(f"http://127.0.0.1:{port}/?token={token}", flush=True)
    can = "read and change" if write else "read"
    print(f"turnlog: pages to {can} the sessions of {name}; press Ctrl-C to stop", file=sys.stderr)
    await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that ends the streams of events before it waits for its connections."""

    def __init__(self, config: uvicorn.Config, *, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections."""
        self._closing.set()
        await super().shutdown(sockets)


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # a program that reads the printed URL may connect at once
    except OSError as error:
        listener.close()
        raise InvalidInput(f"cannot listen on 127.0.0.1:{port}: {error.strerror}: choose another --port") from error
    return listener

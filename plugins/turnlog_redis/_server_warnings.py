"""Warnings about servers that may lose sessions or show them to anyone."""

from __future__ import annotations

import logging
from ipaddress import ip_address
from typing import Final

from turnlog import Unavailable

from ._retry import RetryingServer

_log: Final = logging.getLogger("turnlog.redis")


async def warn(server: RetryingServer) -> None:
    """Log a warning for each risk; the user may lack the right to read the server's settings."""
    name, peer = server.location.name, await server.peer()
    if not server.location.authenticates and peer is not None and not ip_address(peer.partition("%")[0]).is_loopback:
        _log.warning("%s asks nobody who they are: set a password, or whoever reaches it reads every session", name)
    try:
        (answer,) = await server.ask_all([(b"CONFIG", b"GET", b"save", b"appendonly", b"maxmemory-policy")])
    except Unavailable:
        return
    settings = dict(zip(answer[::2], answer[1::2], strict=True))
    if settings.get(b"save") == b"" and settings.get(b"appendonly") == b"no":
        _log.warning("%s keeps nothing on disk: set appendonly, or what it holds is lost when it ends", name)
    if settings.get(b"maxmemory-policy", b"").startswith(b"allkeys-"):
        _log.warning("%s drops sessions when its memory is full: set maxmemory-policy to volatile-ttl", name)

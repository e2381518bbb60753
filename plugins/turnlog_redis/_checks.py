"""What is said when a store is opened, of servers that may lose or show what they keep."""

from __future__ import annotations

import logging
from ipaddress import ip_address
from typing import Final

from turnlog import TurnlogError

from ._server import Server

_log: Final = logging.getLogger("turnlog.redis")


async def warn(server: Server) -> None:
    """Log a warning for each; where the server does not let us ask, nothing is said."""
    name, peer = server.place.name, await server.peer()
    if not server.place.authenticates and peer is not None and not ip_address(peer.partition("%")[0]).is_loopback:
        _log.warning("%s asks nobody who they are: set a password, or whoever reaches it reads every session", name)
    if await _setting(server, b"save") == "" and await _setting(server, b"appendonly") == "no":
        _log.warning("%s keeps nothing on disk: set appendonly, or what it holds is lost when it ends", name)
    policy = await _setting(server, b"maxmemory-policy")
    if policy is not None and policy.startswith("allkeys-"):
        _log.warning("%s drops sessions when its memory is full: set maxmemory-policy to volatile-ttl", name)


async def _setting(server: Server, name: bytes) -> str | None:
    """A setting; None: it is not allowed to ask, or there is none of that name."""
    try:
        (answer,) = await server.ask_all([(b"CONFIG", b"GET", name)])
    except TurnlogError:
        return None
    return answer[1].decode() if isinstance(answer, list) and len(answer) == 2 else None

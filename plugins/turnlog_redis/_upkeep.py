"""What is wrong with servers that may lose sessions or show them to anyone, and what deletions leave on them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

from turnlog import Unavailable
from turnlog.values import Finding, Remainder

from ._retry import RetryingServer

_log: Final = logging.getLogger("turnlog.redis")
_KEPT: Final = "; CONFIG REWRITE"  # so that it stays after a restart (redis.io/commands/config-rewrite)


async def warn(server: RetryingServer) -> None:
    """Log a warning for each risk."""
    for risk in await risks(server):
        _log.warning("%s", risk.text)


async def risks(server: RetryingServer) -> list[Finding]:
    """Return what is wrong; the user may lack the right to read the server's settings."""
    name, peer = server.location.name, await server.peer()
    found = []
    if not server.location.authenticates and peer is not None and not ip_address(peer.partition("%")[0]).is_loopback:
        text = f"{name} asks nobody who they are: set a password, or whoever reaches it reads every session"
        found.append(Finding(text, "CONFIG SET requirepass PASSWORD" + _KEPT))
    settings = await _settings(server)
    if settings.get(b"save") == b"" and settings.get(b"appendonly") == b"no":
        text = f"{name} keeps nothing on disk: set appendonly, or what it holds is lost when it ends"
        found.append(Finding(text, "CONFIG SET appendonly yes" + _KEPT))
    if settings.get(b"maxmemory-policy", b"").startswith(b"allkeys-"):
        text = f"{name} drops sessions when its memory is full: set maxmemory-policy to volatile-ttl"
        found.append(Finding(text, "CONFIG SET maxmemory-policy volatile-ttl" + _KEPT))
    return found


async def remainders(server: RetryingServer) -> list[Remainder]:
    """Return where a server keeps deleted sessions, as far as its settings can be read."""
    name, settings = server.location.name, await _settings(server)
    found = []
    if settings.get(b"appendonly") != b"no":
        text = f"the append-only file of {name}, if it has one"
        found.append(Remainder(text, "it is rewritten (auto-aof-rewrite-percentage)", "BGREWRITEAOF"))
    if settings.get(b"save") != b"":
        text = f"the snapshot of {name}, if it has one"
        found.append(Remainder(text, "the next snapshot (save)", "BGSAVE"))
    return found


async def _settings(server: RetryingServer) -> Mapping[bytes, bytes]:
    try:
        (answer,) = await server.ask_all([(b"CONFIG", b"GET", b"save", b"appendonly", b"maxmemory-policy")])
    except Unavailable:
        return {}
    return dict(zip(answer[::2], answer[1::2], strict=True))

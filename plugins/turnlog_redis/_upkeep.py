"""Server settings that put sessions at risk, and the data that remains on servers after deletions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from shlex import quote
from typing import Final

from redis.asyncio.connection import SSLConnection

from turnlog import AccessError, Unavailable
from turnlog.values import Finding, Remainder

from ._encrypted import EncryptedConnection
from ._location import written
from ._retry import RetryingServer

_log: Final = logging.getLogger("turnlog.redis")
_SETTINGS: Final = (b"save", b"appendonly", b"appendfsync", b"maxmemory-policy", b"protected-mode", b"bind", b"port")


async def warn(server: RetryingServer) -> None:
    """Log a warning for each risk."""
    for risk in await risks(server):
        _log.warning("%s", risk.text)


async def risks(server: RetryingServer) -> list[Finding]:
    """Return the settings by which sessions may be lost or read by anyone.

    If the user has no right to read the settings, only the missing password is found.
    """
    name, peer = server.location.name, await server.peer()
    settings = await _settings(server)
    found = []
    if not server.location.authenticates and not _is_near(peer):
        text = f"{name} requires no password: any client that can connect can read every session; set a password"
        found.append(Finding(text, _command(server, peer, settings, "requirepass", "PASSWORD")))
    if settings.get(b"save") == b"" and settings.get(b"appendonly") == b"no":
        text = f"{name} stores nothing on disk: all sessions are lost when the server ends; set appendonly"
        found.append(Finding(text, _command(server, peer, settings, "appendonly", "yes")))
    if settings.get(b"maxmemory-policy", b"").startswith(b"allkeys-"):
        text = f"{name} evicts sessions when its memory is full: set maxmemory-policy to volatile-ttl"
        found.append(Finding(text, _command(server, peer, settings, "maxmemory-policy", "volatile-ttl")))
    return found


async def findings(server: RetryingServer) -> list[Finding]:
    """Return the risks for `turnlog doctor`, including common ones that are not logged as warnings."""
    name, peer = server.location.name, await server.peer()
    settings = await _settings(server)
    found = await risks(server)
    # a server in protected mode refuses other machines until it has a password (redis.io/docs/management/security)
    is_open = settings.get(b"protected-mode") == b"no" and not _binds_near(settings.get(b"bind", b""))
    if not server.location.authenticates and peer is not None and _is_near(peer) and is_open:
        text = f"{name} requires no password and accepts other machines: set a password, or turn on protected-mode"
        found.append(Finding(text, _command(server, peer, settings, "protected-mode", "yes")))
    if settings.get(b"appendonly") == b"yes" and settings.get(b"appendfsync") != b"always":
        how = settings[b"appendfsync"].decode()
        lost = "the turns of the last second" if how == "everysec" else "the turns that the system has not written yet"
        text = f"{name} has appendfsync={how}: a crash of the machine may lose {lost}"
        found.append(Finding(text, _command(server, peer, settings, "appendfsync", "always")))
    if settings.get(b"appendonly") == b"no" and settings.get(b"save"):
        text = f"{name} stores only snapshots: a crash may lose the turns since the last snapshot; set appendonly"
        found.append(Finding(text, _command(server, peer, settings, "appendonly", "yes")))
    return found


def _is_near(peer: str | None) -> bool:
    """Return whether a server is on this machine."""
    return peer is None or ip_address(peer.partition("%")[0]).is_loopback


def _binds_near(bind: bytes) -> bool:
    """Return whether a server accepts connections only from this machine.

    Args:
        bind: The setting `bind`: addresses, separated by spaces; a hyphen marks an optional address.
    """
    with suppress(ValueError):
        addresses = [ip_address(address.decode().removeprefix("-")) for address in bind.split()]
        return bool(addresses) and all(address.is_loopback for address in addresses)
    return False


def _command(server: RetryingServer, peer: str | None, settings: Mapping[bytes, bytes], name: str, value: str) -> str:
    """Return the shell command that changes a setting permanently (redis.io/commands/config-rewrite).

    The command contains no password: `--askpass` prompts for it.
    """
    location = server.location
    path = location.settings.get("path")
    ask = " --askpass" if location.settings.get("password") else ""
    encrypts = issubclass(location.maker, (EncryptedConnection, SSLConnection))
    if location.kind == "cluster":  # the command runs on all nodes
        tool = f"redis-cli{' --tls' if encrypts else ''}{ask} --cluster call {written(location.addresses[0])}"
    elif path is not None:
        tool = f"redis-cli{ask} -s {quote(path)}"
    else:
        is_named = location.kind == "server" or peer is None  # with sentinels, the addresses are those of the sentinels
        host = location.addresses[0] if is_named else (str(peer), int(settings.get(b"port", b"6379")))
        tool = f"redis-cli{ask} -u {'rediss' if encrypts else 'redis'}://{written(host)}"
    return f"{tool} CONFIG SET {name} {value} && {tool} CONFIG REWRITE"


async def remainders(server: RetryingServer) -> list[Remainder]:
    """Return the files of a server that may contain deleted sessions; settings that cannot be read count as enabled."""
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
        (answer,) = await server.ask_all([(b"CONFIG", b"GET", *_SETTINGS)])
    except (AccessError, Unavailable):
        return {}
    return dict(zip(answer[::2], answer[1::2], strict=True))

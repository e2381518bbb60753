"""Detection of lost peers: TCP keepalive, and the timeouts of connections."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Final

REACH: Final = 5.0
"""Seconds within which a running server accepts a connection, and its system acknowledges data.

TCP retransmits after 1, 2 and 4 seconds (RFC 6298), so two packets may be lost."""

IDLE: Final = 30.0
"""Seconds of idleness after which a connection is probed before use.

Firewalls drop idle connections after 60 seconds or more."""

PROBE: Final = 2.0
"""Seconds to wait for the answer to a probe; then the connection is replaced."""

_OPTIONS: Final = {
    "TCP_KEEPIDLE": int(IDLE),  # seconds without traffic before the system's first probe
    "TCP_KEEPINTVL": 5,  # seconds between probes
    "TCP_KEEPCNT": 3,  # the connection ends after this number of unanswered probes
    "TCP_USER_TIMEOUT": int(REACH * 1000),  # or if sent data is not acknowledged for this number of milliseconds
}


def keep_alive(transport: asyncio.BaseTransport | None) -> None:
    """Let the system probe an idle TCP connection, and end it if the peer does not acknowledge.

    Args:
        transport: The transport of the connection.  A closed transport and a Unix socket are left unchanged.
    """
    found = None if transport is None else transport.get_extra_info("socket")
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # the connection may be lost already
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name in _OPTIONS.keys() & vars(socket).keys():  # Linux has all of them
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), _OPTIONS[name])

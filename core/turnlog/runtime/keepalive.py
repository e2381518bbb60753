"""Peers that are gone without a word: keepalive, and the times after which a connection is doubted."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

REACH: Final = 5.0
"""Seconds within which a server that is there accepts a connection, and its system acknowledges what was sent.

The retransmissions of TCP wait 1, 2 and 4 seconds (RFC 6298), so two of them may be lost."""

IDLE: Final = 30.0
"""Seconds; a connection that was idle for longer is probed before it is used: firewalls forget one after 60 or more."""

PROBE: Final = 2.0
"""Seconds to wait for the answer to a probe; then the connection is replaced."""

_OPTIONS: Final = {
    "TCP_KEEPIDLE": int(IDLE),  # seconds without traffic before the system's first probe
    "TCP_KEEPINTVL": 5,  # seconds between probes
    "TCP_KEEPCNT": 3,  # the connection ends after so many probes without an answer
    "TCP_USER_TIMEOUT": int(REACH * 1000),  # or after so many milliseconds in which nothing sent was acknowledged
}


def keep_alive(transport: asyncio.BaseTransport | None) -> None:
    """Have the system probe a connection over TCP while it is idle, and end it if the peer does not acknowledge.

    Args:
        transport: The connection's; nothing is done for one that is closed, or by a socket in the file system.
    """
    found = None if transport is None else transport.get_extra_info("socket")
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        option = getattr(socket, name, None)
        if option is not None:  # Linux has all of them
            found.setsockopt(socket.IPPROTO_TCP, option, value)

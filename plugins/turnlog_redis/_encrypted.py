"""Encrypted connections to Redis."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import SSLConnection

from turnlog.runtime import REACH


class EncryptedConnection(SSLConnection):
    """A connection with a given TLS context; redis-py's own context would also trust the system's authorities.

    Args:
        context: The TLS context.
        settings: As in `SSLConnection`.
    """

    def __init__(self, *, context: ssl.SSLContext, **settings: Any) -> None:  # noqa: ANN401 - redis-py's arguments
        super().__init__(**settings)
        self.ssl_context.context = context

    def _connection_arguments(self) -> Mapping[str, Any]:
        # a server without TLS waits for more of the handshake, and never answers
        return {**super()._connection_arguments(), "ssl_handshake_timeout": REACH / 2}

    async def speaks_plainly(self) -> bool:
        """Return whether the server answers a command without TLS.  The command holds no password."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(REACH / 4):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                try:
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith((b"+", b"-"))
                finally:
                    writer.transport.abort()
        return False

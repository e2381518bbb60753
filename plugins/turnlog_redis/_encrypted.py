"""Encrypted connections to Redis."""

from __future__ import annotations

import ssl
from typing import Any

from redis.asyncio.connection import SSLConnection


class EncryptedConnection(SSLConnection):
    """A connection with a given TLS context; redis-py's own context would also trust the system's authorities.

    Args:
        context: The TLS context.
        settings: As in `SSLConnection`.
    """

    def __init__(self, *, context: ssl.SSLContext, **settings: Any) -> None:  # noqa: ANN401 - redis-py's arguments
        super().__init__(**settings)
        self.ssl_context.context = context

"""Encrypted connections, in the words of PostgreSQL's `sslmode`, as in the stores on other servers."""

from __future__ import annotations

import ssl
from typing import Any, Literal, TypeAlias

from redis.asyncio.connection import SSLConnection

from turnlog.errors import InvalidInput

SSLMode: TypeAlias = Literal["disable", "require", "verify-full"]


class EncryptedConnection(SSLConnection):
    """A connection with a context of ours: redis-py's own would trust the system's authorities beside the one given.

    Args:
        context: What it encrypts with.
        settings: As in `SSLConnection`.
    """

    def __init__(self, *, context: ssl.SSLContext, **settings: Any) -> None:  # noqa: ANN401 - they are redis-py's
        super().__init__(**settings)
        self.ssl_context.context = context


def context(mode: SSLMode, root: str | None) -> ssl.SSLContext | None:
    """What to encrypt with.

    Args:
        mode: `disable`: nothing.  `require`: whoever answers.  `verify-full`: whoever has a certificate for the host's
            name (postgresql.org/docs/current/libpq-ssl.html).
        root: The file with the certificates of those who may sign it; None: the system's.

    Raises:
        InvalidInput: There is no such mode, or no such file.
    """
    if mode not in ("disable", "require", "verify-full"):
        raise InvalidInput(f"sslmode must be disable, require or verify-full, not {mode!r}")
    if root is not None and mode != "verify-full":
        raise InvalidInput(f"sslrootcert is of no use with sslmode {mode}: set sslmode to verify-full")
    if mode == "disable":
        return None
    try:
        made = ssl.create_default_context(cafile=root)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"sslrootcert {root!r} cannot be read: {error}") from None
    if mode == "require":
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made

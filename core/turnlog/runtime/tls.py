"""TLS, configured as PostgreSQL's `sslmode` and `sslrootcert` (postgresql.org/docs/current/libpq-ssl.html)."""

from __future__ import annotations

import ssl
from typing import Literal, TypeAlias

from ..errors import InvalidInput

SSLMode: TypeAlias = Literal["disable", "require", "verify-full"]


def tls_context(mode: SSLMode, root: str | None) -> ssl.SSLContext | None:
    """Return the TLS context of a client; None if the connection is not encrypted.

    Args:
        mode: `disable`: no TLS.  `require`: TLS, with any certificate.  `verify-full`: TLS, with a certificate for the
            name of the host.
        root: The file with the certificate authorities that `verify-full` trusts; None: those of the system.

    Raises:
        InvalidInput: The mode is unknown, the mode does not use `root`, or `root` cannot be read.
    """
    if mode not in ("disable", "require", "verify-full"):
        raise InvalidInput(f"sslmode must be disable, require or verify-full, not {mode!r}")
    if root is not None and mode != "verify-full":
        raise InvalidInput(f"sslrootcert has no effect with sslmode {mode}: set sslmode to verify-full")
    if mode == "disable":
        return None
    try:
        context = ssl.create_default_context(cafile=root)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or error
        raise InvalidInput(
            f"sslrootcert names {root!r}, which cannot be read ({reason}): give the file of a certificate"
        ) from None
    if mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

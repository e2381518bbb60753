"""TLS, configured as PostgreSQL's `sslmode` and `sslrootcert` (postgresql.org/docs/current/libpq-ssl.html)."""

from __future__ import annotations

import ssl
from typing import Final, Literal, TypeAlias, get_args

from ..errors import InvalidInput

SSLMode: TypeAlias = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]

_SYSTEM: Final = "system"
"""The name of the system's authorities in `sslrootcert`, as in libpq from version 16 on."""


def tls_context(mode: SSLMode, root: str | None) -> ssl.SSLContext | None:
    """Return the TLS context of a client; None if the connection is not encrypted.

    Args:
        mode: `disable`: no TLS.  `prefer` and `require`: TLS, with any certificate; with `prefer`, the caller may
            connect without TLS if the server offers none.  `verify-ca`: TLS, with a certificate of an authority in
            `root`, for any host.  `verify-full`: TLS, with such a certificate for the name of the host.
        root: The file with the trusted certificate authorities; None or `system`: those of the system.

    Raises:
        InvalidInput: The mode is unknown, the mode does not use `root`, or `root` cannot be read.
    """
    modes = get_args(SSLMode)
    if mode not in modes:
        raise InvalidInput(f"sslmode must be {', '.join(modes[:-1])} or {modes[-1]}, not {mode!r}")
    verifies = mode in ("verify-ca", "verify-full")
    if root is not None and not verifies:
        default = ", the default" if mode == "disable" else ""
        raise InvalidInput(f"sslrootcert has no effect with sslmode {mode}{default}: set sslmode to verify-full")
    if mode == "disable":
        return None
    try:
        context = ssl.create_default_context(cafile=None if root == _SYSTEM else root)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or error
        raise InvalidInput(
            f"sslrootcert names {root!r}, which cannot be read ({reason}): give the file of a certificate"
        ) from None
    if mode != "verify-full":
        context.check_hostname = False
    if not verifies:
        context.verify_mode = ssl.CERT_NONE
    return context

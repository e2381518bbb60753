"""Reasons for which a database server refuses access, for error messages."""

from __future__ import annotations

from typing import Final

from turnlog.runtime import Reason

CHECK: Final = "check the host and the port in the URL, and that the server runs"
"""The remedy if something else than this kind of server may listen on the port."""

NO_DATABASE: Final = Reason("the database does not exist", "create it, or set another one in the URL", permanent=True)
NO_PERMISSION: Final = Reason(
    "the server denies permission",
    "grant the user in the URL SELECT, INSERT, UPDATE and DELETE on the tables, and the right to create tables "
    "unless they exist",
    permanent=True,
)
READ_ONLY: Final = Reason(
    "the server is read-only",
    "name the server that accepts writes in the URL, or allow them on this one",
    permanent=True,
)
DENIED: Final = Reason(
    "the server denies access", "set the right user and password in the URL, before the host", permanent=True
)
NO_PASSWORD: Final = DENIED._replace(remedy="the URL has no password: write user:password@ before the host")
NO_USER: Final = DENIED._replace(
    remedy="the URL has no user, so a default was tried: write user:password@ before the host"
)
NO_TLS: Final = Reason(
    "the server offers no TLS", "set it up on the server, or leave sslmode out of the URL", permanent=True
)

"""The URLs of databases."""

from __future__ import annotations

from turnlog.config import URL, parse_url
from turnlog.errors import InvalidInput


def parse_database_url(url: str, scheme: str, example: str) -> URL:
    """Return the parts of the URL of a database.

    Args:
        url: The URL, without a query.
        scheme: The scheme that it must have.
        example: A URL of such a database, for error messages.

    Raises:
        InvalidInput: The URL is malformed or does not name a database of this kind.  The message holds no piece of it.
    """
    found = parse_url(url)
    if found.scheme != scheme:
        raise InvalidInput(f"url has another scheme: write {example}")
    if found.query:
        raise InvalidInput("url has a query: give options by keyword, or the whole URL to open_store")
    if not found.database:
        raise InvalidInput(f"the URL names no database: write {example}")
    return found


def host_and_port(url: URL) -> tuple[str | None, int | None]:
    """Return the host and the port in a URL; None for each that it does not name.

    Raises:
        InvalidInput: The URL names several hosts.
    """
    if len(url.hosts) > 1:
        raise InvalidInput("url has several hosts: name one")
    host, port = url.hosts[0] if url.hosts else ("", None)
    return host or None, port

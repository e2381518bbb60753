"""Parse the URLs of databases."""

from __future__ import annotations

from turnlog.config import URL, parse_url
from turnlog.errors import InvalidInput


def parse_database_url(
    url: str, schemes: tuple[str, ...], example: str, *, driver: str = "", password: str | None = None
) -> URL:
    """Return the parts of the URL of a database.

    Args:
        url: The URL, without a query.
        schemes: The expected schemes.
        example: A URL of such a database, for error messages.
        driver: The only driver that it may name, after a `+`.
        password: The password, if the URL has none.

    Raises:
        InvalidInput: The URL is malformed or does not name a database of this kind, or the password is given twice.
            The message does not contain the URL.
    """
    found = parse_url(url)
    if found.scheme not in schemes:
        raise InvalidInput(f"url has another scheme: write {example}")
    if found.driver not in ("", driver):
        only = f"turnlog uses {driver}" if driver else "there are no drivers to choose from"
        raise InvalidInput(f"url names another driver, and {only}: leave the + out of the scheme: {example}")
    if found.query:
        raise InvalidInput("url has a query: pass options by keyword, or pass the whole URL to open_store")
    if not found.database:
        raise InvalidInput(f"the URL names no database: write {example}")
    return found.with_password(password)


def host_and_port(url: URL) -> tuple[str | None, int | None]:
    """Return the host and the port of a URL; None for each one that it does not contain.

    Raises:
        InvalidInput: The URL names several hosts.
    """
    if len(url.hosts) > 1:
        raise InvalidInput("url has several hosts: write only one")
    host, port = url.hosts[0] if url.hosts else ("", None)
    return host or None, port


def check_socket(url: URL, name: str, path: str, mode: str) -> None:
    """Refuse an option for a Unix socket that contradicts others.

    Args:
        url: The URL of the database.
        name: The name of the option.
        path: The value of the option.
        mode: The value of `sslmode`.

    Raises:
        InvalidInput: The path is relative, the URL names a host, or the connection would have to be encrypted.
    """
    if not path.startswith("/"):
        raise InvalidInput(f"{name} must be an absolute path; write the name of a host into the URL")
    if any(host not in ("", "localhost") for host, _ in url.hosts):
        raise InvalidInput(f"{name} and the host in the URL contradict each other: remove one of them")
    if mode not in ("disable", "prefer"):
        raise InvalidInput(f"sslmode {mode} has no effect with {name}, which does not use the network: remove sslmode")

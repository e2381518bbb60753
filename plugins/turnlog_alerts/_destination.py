"""Parse destinations: `log`, the URL of a webhook, or `env:NAME` for a URL in an environment variable.

Messages do not show URLs, because the path or the query may be a secret.
"""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import urlsplit

from turnlog import ConfigError, InvalidInput

LOG: Final = "log"
"""The destination for the log."""

_VARIABLE: Final = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_URL: Final = 'the URL of a webhook such as "https://example.com/hook"'
_FORMS: Final = f'"log", {_URL}, or "env:NAME"'


def check_destination(text: object) -> None:
    """Check that a text is a destination.

    Raises:
        InvalidInput: The text is not a destination.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"to must be text, not {type(text).__name__}: write {_FORMS}")
    if text != LOG and not _VARIABLE.fullmatch(text):
        host_of(text, "to")


def url_of(text: str) -> str:
    """Return the URL of a destination that is a webhook.

    Raises:
        ConfigError: The environment variable of the destination is not set, or is not the URL of a webhook.
    """
    variable = _VARIABLE.fullmatch(text)
    if variable is None:
        return text
    name = variable[1]
    if name not in os.environ:
        raise ConfigError(f'the environment variable {name} is not set: set it to {_URL}, or change to = "env:{name}"')
    try:
        host_of(os.environ[name], f"the environment variable {name}")
    except InvalidInput as error:
        raise ConfigError(str(error)) from None
    return os.environ[name]


def host_of(url: str, where: str) -> str:
    """Return the host of a webhook's URL.

    Raises:
        InvalidInput: The text is not the URL of a webhook.
    """
    forms = _FORMS if where == "to" else _URL
    try:
        parts = urlsplit(url)
        host, user, _ = parts.hostname, parts.username, parts.port
    except ValueError:  # unmatched brackets, or a port that is not a number
        raise InvalidInput(f"{where} is a malformed URL: write {forms}") from None
    if parts.scheme not in ("http", "https") or not host or " " in url or not url.isprintable():
        raise InvalidInput(f"{where} must be {forms}")
    if user is not None:
        raise InvalidInput(f"{where} is a URL with a user, which is not supported: put a secret into its path or query")
    return host

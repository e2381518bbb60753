"""Destinations in text: `log`, the URL of a webhook, or `env:NAME`, where a variable holds that URL.

No message here shows a URL, because its path or query may be a secret.
"""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import urlsplit

from turnlog import ConfigError, InvalidInput

LOG: Final = "log"
"""The destination that is the log."""

_VARIABLE: Final = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_FORMS: Final = '"log", the URL of a webhook such as "https://example.com/hook", or "env:NAME"'


def check_destination(text: object) -> None:
    """Check that a text is a destination.

    Raises:
        InvalidInput: It is not.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"to must hold text, not {type(text).__name__}: write {_FORMS}")
    if text != LOG and not _VARIABLE.fullmatch(text):
        host_of(text, "to")


def url_of(text: str) -> str:
    """Return the URL of a destination that is a webhook.

    Raises:
        ConfigError: The variable of the destination is not set, or holds no URL of a webhook.
    """
    variable = _VARIABLE.fullmatch(text)
    if variable is None:
        return text
    name = variable[1]
    if name not in os.environ:
        raise ConfigError(
            f'the variable {name} is not set, and an alert has to = "env:{name}": set it to the URL of the webhook'
        )
    try:
        host_of(os.environ[name], f"the variable {name}")
    except InvalidInput as error:
        raise ConfigError(str(error)) from None
    return os.environ[name]


def host_of(url: str, where: str) -> str:
    """Return the host of a webhook's URL.

    Raises:
        InvalidInput: It is not the URL of a webhook.
    """
    try:
        parts = urlsplit(url)
        host, user, _ = parts.hostname, parts.username, parts.port
    except ValueError:  # brackets that do not match, or a port that is not a number
        raise InvalidInput(f"{where} is a malformed URL: write {_FORMS}") from None
    if parts.scheme not in ("http", "https") or not host or " " in url or not url.isprintable():
        raise InvalidInput(f"{where} is not a destination: write {_FORMS}")
    if user is not None:
        raise InvalidInput(f"{where} is a URL with a user, which is not supported: use a secret in its path or query")
    return host

"""The key, which only the environment holds."""

from __future__ import annotations

import os
from typing import Final

from turnlog import ConfigError

_VARIABLES: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""The variables that Anthropic's client reads, the first one that is set."""


def check_key() -> None:
    """Check that the environment has a key that a header can hold.

    The HTTP library would quote a key with a line break, as a file of secrets may end in one, in its error.

    Raises:
        ConfigError: There is none, or it has a character that no header holds.
    """
    for variable in _VARIABLES:
        key = os.environ.get(variable, "")
        if key and (not (key.isascii() and key.isprintable()) or " " in key):
            raise ConfigError(
                f"the variable {variable} holds more than a key: a blank, a line break or a character that is not ASCII"
            )
        if key:
            return
    raise ConfigError(
        f"there is no key for Anthropic: set the variable {_VARIABLES[0]}, or {_VARIABLES[1]} for a bearer token"
    )

"""API keys of providers, which are read from the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import ConfigError


def check_api_key(variables: Sequence[str], missing: str) -> None:
    """Check that the environment has an API key that is valid in an HTTP header.

    HTTP libraries quote an invalid header in their errors, and would show the key.  A key that was read from a file may
    end with a line break, for example.

    Args:
        variables: The variables that the provider's client reads; the first that is set is used.
        missing: The error message if no variable is set.

    Raises:
        ConfigError: No key is set, or the key has a character that is invalid in a header.
    """
    for variable in variables:
        key = os.environ.get(variable, "")
        if not key:
            continue
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigError(
                f"the variable {variable} holds more than a key: remove blanks, line breaks and characters that are "
                "not ASCII"
            )
        return
    raise ConfigError(missing)
